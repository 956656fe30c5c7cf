"""Pooling on CuPy arrays: one launch for each function of the room, one thread per element of the answer.

Winners that stay with us are the number of their tap, in one byte for windows of up to 256 taps: an eighth of an index in the
plane. By bytes, the predicted bound of all of these, 2x2 maxima of float32 read and write 21 for every four samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ... import _cuda
from ..._array import Array
from ..._border import MODES
from ..geometry import PoolGeometry, Triple

SOURCE = Path(__file__).with_name("windows.cu")

_BY_TAP = ((256, np.dtype(np.uint8)), (1 << 15, np.dtype(np.int16)), (1 << 31, np.dtype(np.int32)))  # all that DLPack hands on
_IN_PLANE = np.dtype(np.int64)


class Windows(NamedTuple):
    """What the kernels read of a geometry, and how to divide by its numbers without a division."""

    planes: int
    x_size: Triple
    y_size: Triple
    window: Triple
    stride: Triple
    dilation: Triple
    pad_lo: Triple
    mode: Triple
    by_x: Triple
    by_y: Triple
    by_stride: Triple
    by_dilation: Triple
    include_pad: int
    index_bytes: int


def max_y(x: Array, g: PoolGeometry) -> Array:
    """y[p] = maximum over taps of x[q]."""
    with _cuda.on(x):
        y = _cuda.empty(g.y_shape, x.dtype, what="maxima of windows")
        _launch("maxima", y, g, (_cuda.contiguous(x), y, None))
    return y


def max_with_indices(x: Array, g: PoolGeometry) -> tuple[Array, Array]:
    """y[p] = maximum over taps of x[q], and the index in the plane of the first q that reaches it. NaN is above all numbers."""
    return _with_winners(x, g, _IN_PLANE)


def max_with_narrow_indices(x: Array, g: PoolGeometry) -> tuple[Array, Array]:
    """`max_with_indices`, but the number of the tap that won, in as few bytes as hold it."""
    return _with_winners(x, g, winner_dtype(g))


def scatter(y: Array, indices: Array, g: PoolGeometry) -> Array:
    """x[q] = sum over the p with indices[p] = q, or whose tap of that number lies at q, of y[p]."""
    with _cuda.on(y):
        x = _cuda.empty(g.x_shape, y.dtype, what="what goes back from maxima")
        winners = _bytes(_cuda.contiguous(indices))
        _launch("scatter", x, g, (_cuda.contiguous(y), winners, x), index_bytes=indices.dtype.itemsize)
    return x


def gather(x: Array, indices: Array, g: PoolGeometry) -> Array:
    """y[p] = x[indices[p]]: the adjoint of `scatter`."""
    with _cuda.on(x):
        y = _cuda.empty(g.y_shape, x.dtype, what="samples at indices")
        _launch("gather", y, g, (_cuda.contiguous(x), _cuda.contiguous(indices), y))
    return y


def mean_y(x: Array, g: PoolGeometry, include_pad: bool) -> Array:
    """y[p] = sum over taps of x[q] / the number of taps, or of taps inside the plane."""
    with _cuda.on(x):
        y = _cuda.empty(g.y_shape, x.dtype, what="means of windows")
        _launch("mean_y", y, g, (_cuda.contiguous(x), y), include_pad=include_pad)
    return y


def mean_x(y: Array, g: PoolGeometry, include_pad: bool) -> Array:
    """x[q] = sum over the p and taps that lie at q of y[p] / the number of taps of p: the adjoint of `mean_y`."""
    with _cuda.on(y):
        x = _cuda.empty(g.x_shape, y.dtype, what="what goes back from means")
        _launch("mean_x", x, g, (_cuda.contiguous(y), x), include_pad=include_pad)
    return x


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in _cuda.DTYPES:
        for name in ("maxima", "scatter", "gather", "mean_y", "mean_x"):
            for wide in (True, False) if name != "gather" else (True,):
                yield _program(name, dtype, wide), "sm_80"


def winner_dtype(g: PoolGeometry) -> np.dtype[Any]:
    """Return what holds the number of any tap; the dtype of indices in the plane if nothing smaller does."""
    taps = prod(g.window)
    return next((dtype for most, dtype in _BY_TAP if taps <= most), _IN_PLANE)


def program(name: str, g: PoolGeometry, dtype: Any) -> _cuda.Program:
    """Return the kernel for a geometry: with indices of 32 bits wherever they hold all there is to count."""
    longest = max(g.reach(axis) + g.pad_lo[axis] + 2 * g.x_size[axis] for axis in range(3))
    short = max(prod(g.x_shape), prod(g.y_shape), prod(g.window)) < 1 << 31 and longest < 1 << 30
    return _program(name, dtype, not short or name == "gather")


@lru_cache(1024)
def windows(g: PoolGeometry, include_pad: bool, index_bytes: int) -> Windows:
    """Return what the kernels read."""
    first, second, third = (MODES.index(word) for word in g.modes)
    by_x, by_y, by_stride, by_dilation = (_reciprocals(of) for of in (g.x_size, g.y_size, g.stride, g.dilation))
    sizes = (g.planes, g.x_size, g.y_size, g.window, g.stride, g.dilation, g.pad_lo, (first, second, third))
    return Windows(*sizes, by_x, by_y, by_stride, by_dilation, int(include_pad), index_bytes)


def _with_winners(x: Array, g: PoolGeometry, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    with _cuda.on(x):
        y = _cuda.empty(g.y_shape, x.dtype, what="maxima of windows")
        winners = _cuda.empty(g.y_shape, dtype, what="which samples are maxima")
        _launch("maxima", y, g, (_cuda.contiguous(x), y, _bytes(winners)), index_bytes=dtype.itemsize)
    return y, winners


def _launch(
    name: str, answer: Array, g: PoolGeometry, arrays: tuple[Any, ...], *, include_pad: bool = False, index_bytes: int = 0
) -> None:
    grid, block = _cuda.spread(answer.size)
    args = (*arrays, windows(g, include_pad, index_bytes))
    chosen = program(name, g, answer.dtype)
    _cuda.launch(program=chosen, device=_cuda.device(answer), grid=grid, block=block, args=args)


def _program(name: str, dtype: Any, wide: bool) -> _cuda.Program:
    return _cuda.Program(SOURCE, name, (*_cuda.types(dtype), ("WIDE", int(wide))))


def _reciprocals(sizes: Triple) -> Triple:
    a, b, c = map(_cuda.reciprocal, sizes)
    return a, b, c


def _bytes(winners: Array) -> Array:
    return winners.reshape(-1).view(np.uint8)
