"""Softmax, its logarithm and their pullbacks on a GPU: one launch each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from .. import _cuda, _rows_cuda
from .._array import Array

SOURCE = Path(__file__).with_suffix(".cu")


def softmax(xp: ModuleType, x: Array, axis: int) -> Array:
    """exp(x) / sum of exp(x) along an axis, both scaled by exp(-max(x))."""
    return _run("softmax", axis, x)


def softmax_pullback(xp: ModuleType, y: Array, dy: Array, axis: int) -> Array:
    """Return dx = y * (dy - sum of y * dy)."""
    return _run("softmax_pullback", axis, y, dy)


def log_softmax(xp: ModuleType, x: Array, axis: int) -> Array:
    """Return x - log of the sum of exp(x) along an axis, both less max(x)."""
    return _run("log_softmax", axis, x)


def log_softmax_pullback(xp: ModuleType, y: Array, dy: Array, axis: int) -> Array:
    """Return dx = dy - exp(y) * sum of dy."""
    return _run("log_softmax_pullback", axis, y, dy)


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    names = ("softmax", "softmax_pullback", "log_softmax", "log_softmax_pullback")
    yield from _rows_cuda.programs(SOURCE, names, _cuda.DTYPES)


def _run(name: str, axis: int, *given: Array) -> Array:
    first = given[0]
    with _cuda.on(first):
        y = _cuda.empty(tuple(first.shape), first.dtype, what=f"the values of {name}")
        _rows_cuda.launch(SOURCE, name, _rows_cuda.rows(y.shape, axis), y, (*map(_cuda.contiguous, given), y))
    return y
