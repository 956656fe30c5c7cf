"""Pooling in Numba, float32 and float64: planes are shared out over threads, and no two threads write to one plane.

Every sum and maximum is taken in the order of `generic`, tap by tap, so maxima have its bits, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._array import flat
from .._jit import njit_inner, njit_parallel, prange, workers
from .geometry import PoolGeometry, Triple

Array = np.ndarray[Any, Any]
Sizes = tuple[int, ...]  # six triples in a row: parallel kernels take no tuples of tuples

_NO_INDICES = np.empty(0, np.int64)


def max_y(x: Array, g: PoolGeometry) -> Array:
    """y[p] = maximum over taps of x[q]."""
    y = np.empty(g.y_shape, x.dtype)
    _maxima(workers(g.planes), flat(x), y.reshape(-1), _NO_INDICES, g.planes, _sizes(g))
    return y


def max_with_indices(x: Array, g: PoolGeometry) -> tuple[Array, Array]:
    """y[p] = maximum over taps of x[q], and the index in the plane of the first q that reaches it. NaN is above all numbers."""
    y, indices = np.empty(g.y_shape, x.dtype), np.empty(g.y_shape, np.int64)
    _maxima(workers(g.planes), flat(x), y.reshape(-1), indices.reshape(-1), g.planes, _sizes(g))
    return y, indices


def scatter(y: Array, indices: Array, g: PoolGeometry) -> Array:
    """x[q] = sum over the p with indices[p] = q of y[p]."""
    x = np.empty(g.x_shape, y.dtype)
    _scatter(workers(g.planes), flat(y), flat(indices), x.reshape(-1), g.planes)
    return x


def gather(x: Array, indices: Array, g: PoolGeometry) -> Array:
    """y[p] = x[indices[p]]: the adjoint of `scatter`."""
    y = np.empty(g.y_shape, x.dtype)
    _gather(workers(g.planes), flat(x), flat(indices), y.reshape(-1), g.planes)
    return y


def mean_y(x: Array, g: PoolGeometry, include_pad: bool) -> Array:
    """y[p] = sum over taps of x[q] / the number of taps, or of taps inside the plane."""
    y = np.empty(g.y_shape, x.dtype)
    _means(workers(g.planes), flat(x), y.reshape(-1), *_counts(g, include_pad, x.dtype), g.planes, _sizes(g))
    return y


def mean_x(y: Array, g: PoolGeometry, include_pad: bool) -> Array:
    """x[q] = sum over the p and taps that lie at q of y[p] / the number of taps of p: the adjoint of `mean_y`."""
    x = np.empty(g.x_shape, y.dtype)
    _spread_means(workers(g.planes), flat(y), x.reshape(-1), *_counts(g, include_pad, y.dtype), g.planes, _sizes(g))
    return x


def _sizes(g: PoolGeometry) -> Sizes:
    return (*g.x_size, *g.y_size, *g.window, *g.stride, *g.dilation, *g.pad_lo)


def _counts(g: PoolGeometry, include_pad: bool, dtype: Any) -> tuple[Array, Array]:
    """Return the numbers of taps to divide by: one per position of the first two axes, times one per position of the last."""
    if include_pad:
        a, b, c = (np.full(n, k, dtype) for n, k in zip(g.y_size, g.window, strict=True))
    else:
        a, b, c = (np.asarray([n for _, n in g.inside(axis)], dtype) for axis in range(3))
    return np.repeat(a, b.size) * np.tile(b, a.size), c


# Each kernel hands every worker its planes; the loops stand in functions of their own, which the parallel twins compile faster.


@njit_parallel
def _maxima(workers: int, x: Array, y: Array, indices: Array, planes: int, sizes: Sizes) -> None:
    for worker in prange(workers):
        _maxima_of(worker * planes // workers, (worker + 1) * planes // workers, x, y, indices, sizes)


@njit_inner
def _maxima_of(first: int, last: int, x: Array, y: Array, indices: Array, sizes: Sizes) -> None:
    """Raise each row of y, from -inf, to the samples under one tap after another; note where they lie if `indices` has room."""
    x_size, y_size, window, stride, _, _ = _split(sizes)
    volume, length = x_size[0] * x_size[1] * x_size[2], y_size[2]
    reach, rows = _reach(sizes), np.empty(window[0] * window[1], np.int64)
    for i in range(first, last):
        for p in range(y_size[0] * y_size[1]):
            to = (i * y_size[0] * y_size[1] + p) * length
            _fill(y, to, to + length, -np.inf)
            if indices.size:
                _fill(indices, to, to + length, -1)
            for r in range(_rows_under(p, sizes, rows)):
                for k in range(window[2]):
                    begin, end, index = to + reach[k, 0], to + reach[k, 1], rows[r] + reach[k, 2]
                    if indices.size and begin < end:
                        _raise_indexed(
                            x[i * volume + index : (i + 1) * volume], stride[2], index, y[begin:end], indices[begin:end]
                        )
                    elif begin < end:
                        _raise(x[i * volume + index : (i + 1) * volume], stride[2], y[begin:end])


@njit_parallel
def _means(workers: int, x: Array, y: Array, row_counts: Array, counts: Array, planes: int, sizes: Sizes) -> None:
    for worker in prange(workers):
        _means_of(worker * planes // workers, (worker + 1) * planes // workers, x, y, row_counts, counts, sizes)


@njit_inner
def _means_of(first: int, last: int, x: Array, y: Array, row_counts: Array, counts: Array, sizes: Sizes) -> None:
    """Add up the samples under one tap after another in each row of y, and divide."""
    x_size, y_size, window, stride, _, _ = _split(sizes)
    volume, length = x_size[0] * x_size[1] * x_size[2], y_size[2]
    reach, rows = _reach(sizes), np.empty(window[0] * window[1], np.int64)
    for i in range(first, last):
        for p in range(y_size[0] * y_size[1]):
            to = (i * y_size[0] * y_size[1] + p) * length
            _fill(y, to, to + length, 0)
            for r in range(_rows_under(p, sizes, rows)):
                for k in range(window[2]):
                    begin, end, index = to + reach[k, 0], to + reach[k, 1], rows[r] + reach[k, 2]
                    if begin < end:
                        _add(x[i * volume + index : (i + 1) * volume], stride[2], y[begin:end])
            for j in range(length):
                y[to + j] /= row_counts[p] * counts[j]


@njit_parallel
def _spread_means(workers: int, y: Array, x: Array, row_counts: Array, counts: Array, planes: int, sizes: Sizes) -> None:
    for worker in prange(workers):
        _spread_means_of(worker * planes // workers, (worker + 1) * planes // workers, y, x, row_counts, counts, sizes)


@njit_inner
def _spread_means_of(first: int, last: int, y: Array, x: Array, row_counts: Array, counts: Array, sizes: Sizes) -> None:
    """Divide each row of y, and add it to the samples under one tap after another."""
    x_size, y_size, window, stride, _, _ = _split(sizes)
    volume, length = x_size[0] * x_size[1] * x_size[2], y_size[2]
    reach, rows, shares = _reach(sizes), np.empty(window[0] * window[1], np.int64), np.empty(length, y.dtype)
    for i in range(first, last):
        _fill(x, i * volume, (i + 1) * volume, 0)
        for p in range(y_size[0] * y_size[1]):
            for j in range(length):
                shares[j] = y[(i * y_size[0] * y_size[1] + p) * length + j] / (row_counts[p] * counts[j])
            for r in range(_rows_under(p, sizes, rows)):
                for k in range(window[2]):
                    begin, end, index = reach[k, 0], reach[k, 1], rows[r] + reach[k, 2]
                    if begin < end:
                        _spread(shares[begin:end], stride[2], x[i * volume + index : (i + 1) * volume])


@njit_parallel
def _scatter(workers: int, y: Array, indices: Array, x: Array, planes: int) -> None:
    for worker in prange(workers):
        for i in range(worker * planes // workers, (worker + 1) * planes // workers):
            size, volume = y.size // planes, x.size // planes
            _fill(x, i * volume, (i + 1) * volume, 0)
            for p in range(i * size, (i + 1) * size):
                x[i * volume + indices[p]] += y[p]


@njit_parallel
def _gather(workers: int, x: Array, indices: Array, y: Array, planes: int) -> None:
    for worker in prange(workers):
        for i in range(worker * planes // workers, (worker + 1) * planes // workers):
            size, volume = y.size // planes, x.size // planes
            for p in range(i * size, (i + 1) * size):
                y[p] = x[i * volume + indices[p]]


@njit_inner
def _split(sizes: Sizes) -> tuple[Triple, Triple, Triple, Triple, Triple, Triple]:
    return sizes[:3], sizes[3:6], sizes[6:9], sizes[9:12], sizes[12:15], sizes[15:]  # type: ignore[return-value]


@njit_inner
def _reach(sizes: Sizes) -> Array:
    """Return for each tap of the last axis the first position whose sample is inside, one past the last, and that sample."""
    x_size, y_size, window, stride, dilation, pad_lo = _split(sizes)
    reach = np.empty((window[2], 3), np.int64)
    for k in range(window[2]):
        offset = pad_lo[2] - dilation[2] * k
        reach[k, 0] = max(0, -(-offset // stride[2]))
        reach[k, 1] = min(y_size[2], (x_size[2] - 1 + offset) // stride[2] + 1)
        reach[k, 2] = stride[2] * reach[k, 0] - offset
    return reach


@njit_inner
def _rows_under(p: int, sizes: Sizes, rows: Array) -> int:
    """Fill `rows` with where in a plane the rows under the windows of output row p begin, tap by tap; return their number."""
    x_size, y_size, window, stride, dilation, pad_lo = _split(sizes)
    first0, first1 = stride[0] * (p // y_size[1]) - pad_lo[0], stride[1] * (p % y_size[1]) - pad_lo[1]
    count = 0
    for k0 in range(window[0]):
        for k1 in range(window[1]):
            q0, q1 = first0 + dilation[0] * k0, first1 + dilation[1] * k1
            if 0 <= q0 < x_size[0] and 0 <= q1 < x_size[1]:
                rows[count] = (q0 * x_size[1] + q1) * x_size[2]
                count += 1
    return count


@njit_inner
def _fill(a: Array, begin: int, end: int, value: float) -> None:
    for j in range(begin, end):
        a[j] = value


# The innermost loops over one row. Strides 1 and 2 are written out, so that the compiler knows them and makes vectors.


@njit_inner
def _raise(x: Array, stride: int, y: Array) -> None:
    if stride == 1:
        for j in range(y.size):
            y[j] = _larger(x[j], y[j])
    elif stride == 2:
        for j in range(y.size):
            y[j] = _larger(x[2 * j], y[j])
    else:
        for j in range(y.size):
            y[j] = _larger(x[stride * j], y[j])


@njit_inner
def _larger(new: Any, old: Any) -> Any:
    return new if (new > old) | ((new != new) & (old == old)) else old


@njit_inner
def _raise_indexed(x: Array, stride: int, index: int, y: Array, indices: Array) -> None:
    if stride == 1:
        for j in range(y.size):
            y[j], indices[j] = _first_larger(x[j], y[j], index + j, indices[j])
    elif stride == 2:
        for j in range(y.size):
            y[j], indices[j] = _first_larger(x[2 * j], y[j], index + 2 * j, indices[j])
    else:
        for j in range(y.size):
            y[j], indices[j] = _first_larger(x[stride * j], y[j], index + stride * j, indices[j])


@njit_inner
def _first_larger(new: Any, old: Any, new_index: int, old_index: int) -> Any:
    above = (new > old) | ((new != new) & (old == old)) | (old_index < 0)  # a first sample counts even if it is -inf
    return new if above else old, new_index if above else old_index


@njit_inner
def _add(x: Array, stride: int, y: Array) -> None:
    if stride == 1:
        for j in range(y.size):
            y[j] += x[j]
    elif stride == 2:
        for j in range(y.size):
            y[j] += x[2 * j]
    else:
        for j in range(y.size):
            y[j] += x[stride * j]


@njit_inner
def _spread(y: Array, stride: int, x: Array) -> None:
    if stride == 1:
        for j in range(y.size):
            x[j] += y[j]
    elif stride == 2:
        for j in range(y.size):
            x[2 * j] += y[j]
    else:
        for j in range(y.size):
            x[stride * j] += y[j]
