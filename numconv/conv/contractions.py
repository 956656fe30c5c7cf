"""Whose kernels compute the three contractions, and by which method."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import _array, _border, _lend
from .._array import Array
from .._border import PaddingMode
from .._window import frozen
from .geometry import ConvGeometry

METHODS = ("auto", "direct", "winograd", "fft")
PRECISIONS = ("default", "highest", "tf32", "ieee")  # on the CPU the third is the first, and the fourth the second


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


def drawer(
    xp: Any, x: Array, method: str = "auto", precision: str = "default", padding_mode: PaddingMode = "zeros", rank: int = 1
) -> Contractions:
    """Choose the kernels for arrays like `x`. Imported on first use, so that `import numconv` stays cheap.

    Raises
    ------
    ValueError
        If `method`, `precision` or `padding_mode` is no such word, or these arrays have no choice of methods.
    """
    padding_mode = padding_mode if isinstance(padding_mode, str) else frozen(padding_mode)
    if type(x) is np.ndarray:
        return _stack(x.dtype, method, precision, padding_mode, rank)  # type: ignore[no-any-return]
    method, modes = _method(method, precision), _border.modes(padding_mode, rank)
    if (found := _lend.loan(xp, x)) is not None:
        by = _for_cuda(found.dtype, method, precision, modes) if found.on_gpu else _for_numpy(found.dtype, method, modes)
        return _lend.lent(by, found)  # type: ignore[no-any-return]
    library = _array.library(xp)
    if library == "jax" and _lend.is_traced(x):
        return _room("traced").Traced(method, modes)  # type: ignore[no-any-return]
    if library == "dask":
        return _room("dask").Dask(method, modes)  # type: ignore[no-any-return]
    if library == "cupy" and x.dtype.kind not in "iu":
        return _for_cuda(x.dtype, method, precision, modes)  # type: ignore[no-any-return]
    if method not in ("auto", "direct"):
        raise ValueError(f"method={method!r} is for arrays on the CPU that kernels can read; got {x.dtype} of {xp.__name__}")
    return _with_border(_room("generic"), modes)


@lru_cache(128)
def _stack(dtype: Any, method: str, precision: str, padding_mode: PaddingMode, rank: int) -> Any:
    return _for_numpy(dtype, _method(method, precision), _border.modes(padding_mode, rank))


@lru_cache(64)
def _for_numpy(dtype: Any, method: str, modes: tuple[str, ...]) -> Any:
    """Stack what stands between NumPy's arrays of this dtype and the kernels."""
    by = _room("leading").Leading(_room("cpu").by(method)) if len(modes) > 3 else _room("cpu").by(method)
    if dtype.kind == "c" and dtype.itemsize <= 16:
        by = _room("complexes").Complex(by)
    elif dtype.kind in "iu":
        if method not in ("auto", "direct"):
            raise ValueError(f"method={method!r} rounds, and integers are exact: needed 'auto' or 'direct'")
        direct = _room("cpu").by("direct")
        by = _room("integers").Integers(_room("leading").Leading(direct) if len(modes) > 3 else direct)
    elif dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        if (found := _lend.loan(np, np.empty(0, dtype))) is not None:
            return _lend.lent(_for_numpy(found.dtype, method, modes), found)
        if method not in ("auto", "direct"):
            raise ValueError(f"method={method!r} is for float32, float64, and what is made of them; got {dtype}")
        by = _room("generic")
    return _with_border(by, modes)


@lru_cache(64)
def _for_cuda(dtype: Any, method: str, precision: str, modes: tuple[str, ...]) -> Any:
    """Stack what stands between arrays on a GPU and the kernels, which know three axes."""
    if method not in ("auto", "direct"):
        raise ValueError(f"method={method!r} is for arrays on the CPU that kernels can read; got {dtype} on a GPU")
    by = _room("cuda").by(precision)
    by = _room("leading").Leading(by) if len(modes) > 3 else by
    return _with_border(_room("complexes").Complex(by) if dtype.kind == "c" else by, modes)


def _with_border(within: Contractions, modes: tuple[str, ...]) -> Contractions:
    return within if set(modes) == {"zeros"} else _room("halo").Halo(within, modes)


@lru_cache(64)
def _method(method: str, precision: str) -> str:
    for name, value, words in (("method", method, METHODS), ("precision", precision, PRECISIONS)):
        if value not in words:
            raise ValueError(f"{name}={value!r}; needed one of {', '.join(map(repr, words))}")
    if precision in ("highest", "ieee"):
        if method not in ("auto", "direct"):
            raise ValueError(f"method={method!r} rounds more than precision={precision!r} allows; needed 'auto' or 'direct'")
        return "direct"
    return method


@cache
def _room(device: str) -> Any:
    return import_module(f".{device}", __package__)
