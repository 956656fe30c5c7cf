"""Whose kernels compute the three contractions, and by which method."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from .. import _array
from .._array import Array
from .geometry import ConvGeometry

METHODS = ("auto", "direct", "winograd", "fft")
PRECISIONS = ("default", "highest")


class Contractions(Protocol):
    """What a device provides. Arrays arrive checked, of one dtype and in the shapes that `g` names; `b` is a bias per channel.

    With `rectify`, what is below 0 in the end becomes 0: relu of the result, without another visit to memory.
    """

    def contract_y(self, x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i,q], plus b[o]."""

    def contract_x(self, y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """x[n,i,q] = sum over o,p,k of w[o,i,k] * y[n,o,p], plus b[i]."""

    def contract_w(self, x: Array, y: Array, g: ConvGeometry) -> Array:
        """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i,q]."""


class Step(NamedTuple):
    """How one contraction is computed."""

    method: str
    tile: str
    workspace: int  # bytes
    error: float | None


def drawer(xp: Any, dtype: Any, method: str = "auto", precision: str = "default") -> Contractions:
    """Choose the kernels by where the arrays live. Imported on first use, so that `import numconv` stays cheap.

    Raises
    ------
    ValueError
        If `method` or `precision` is no such word, or these arrays have no choice of methods.
    """
    method, device = _method(method, precision), _array.device(xp, dtype)
    if device == "cpu":
        return _room("cpu").by(method)  # type: ignore[no-any-return]
    if method not in ("auto", "direct"):
        raise ValueError(f"method={method!r} is for NumPy arrays of float32 or float64; got {dtype} of {xp.__name__}")
    return _room(device)  # type: ignore[no-any-return]


@lru_cache(64)
def _method(method: str, precision: str) -> str:
    for name, value, words in (("method", method, METHODS), ("precision", precision, PRECISIONS)):
        if value not in words:
            raise ValueError(f"{name}={value!r}; needed one of {', '.join(map(repr, words))}")
    if precision == "highest":
        if method not in ("auto", "direct"):
            raise ValueError(f"method={method!r} rounds more than precision='highest' allows; needed 'auto' or 'direct'")
        return "direct"
    return method


@cache
def _room(device: str) -> Any:
    return import_module(f".{device}", __package__)
