"""Pooling in plain array API: definition, fallback for other libraries and dtypes, oracle of the kernels.

Each tap of the window sees a strided slice of padded x, and the window is the maximum or the sum over its taps. Where padding
repeats samples, x is continued first.
"""

from __future__ import annotations

from math import inf
from types import ModuleType
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from .._array import Array
from .._extend import extended, extended_adjoint
from .._window import Pads, filled, spread, taps, under
from .geometry import PoolGeometry


def max_y(x: Array, g: PoolGeometry) -> Array:
    """y[p] = maximum over taps of x[q]."""
    return max_with_indices(x, g)[0]


def max_with_indices(x: Array, g: PoolGeometry) -> tuple[Array, Array]:
    """y[p] = maximum over taps of x[q], and the index in the plane of the first q that reaches it. NaN is above all numbers."""
    xp = array_namespace(x)
    padded = _padded(xp, x, g, -inf)
    y = xp.full((g.planes, *g.y_size), -inf, dtype=x.dtype, device=device(x))
    # The first tap that has a sample, as a tap on the padding would win where all samples are -inf.
    first = [[k for k, _ in g.inside(axis)] for axis in range(3)]
    indices = xp.broadcast_to(_index(xp, first, g, device(x)), y.shape)
    for k in taps(g.window):
        x_k = padded[under(k, g.y_size, g.stride, g.dilation)]
        above = xp.logical_or(x_k > y, xp.logical_and(xp.isnan(x_k), xp.logical_not(xp.isnan(y))))
        y, indices = xp.where(above, x_k, y), xp.where(above, _index(xp, k, g, device(x)), indices)
    return xp.reshape(y, g.y_shape), xp.reshape(indices, g.y_shape)


max_with_narrow_indices = max_with_indices


def scatter(y: Array, indices: Array, g: PoolGeometry) -> Array:
    """x[q] = sum over the p with indices[p] = q of y[p]."""
    xp = array_namespace(y)
    y, indices = xp.reshape(y, (g.planes, *g.y_size)), xp.reshape(indices, (g.planes, *g.y_size))
    x: Array = 0
    taken = indices < 0
    for k in taps(g.window):
        here = xp.logical_and(indices == _index(xp, k, g, device(y)), xp.logical_not(taken))
        taken = xp.logical_or(taken, here)  # several taps may repeat one sample; the first has it all
        x = x + spread(xp, xp.where(here, y, 0.0), k, _padded_size(g), g.stride, g.dilation)
    return _inner(xp, x, g)


def gather(x: Array, indices: Array, g: PoolGeometry) -> Array:
    """y[p] = x[indices[p]]: the adjoint of `scatter`."""
    xp = array_namespace(x)
    flat = xp.reshape(x, (g.planes, g.x_size[0] * g.x_size[1] * g.x_size[2]))
    index = xp.reshape(indices, (g.planes, g.y_size[0] * g.y_size[1] * g.y_size[2]))
    return xp.reshape(xp.take_along_axis(flat, index, axis=1), g.y_shape)


def mean_y(x: Array, g: PoolGeometry, include_pad: bool) -> Array:
    """y[p] = sum over taps of x[q] / the number of taps, or of taps inside the plane."""
    xp = array_namespace(x)
    padded = _padded(xp, x, g, 0.0)
    y: Array = 0
    for k in taps(g.window):
        y = y + padded[under(k, g.y_size, g.stride, g.dilation)]
    return xp.reshape(y / _counts(xp, g, include_pad, x), g.y_shape)


def mean_x(y: Array, g: PoolGeometry, include_pad: bool) -> Array:
    """x[q] = sum over the p and taps that lie at q of y[p] / the number of taps of p: the adjoint of `mean_y`."""
    xp = array_namespace(y)
    y = xp.reshape(y, (g.planes, *g.y_size)) / _counts(xp, g, include_pad, y)
    x: Array = 0
    for k in taps(g.window):
        x = x + spread(xp, y, k, _padded_size(g), g.stride, g.dilation)
    return _inner(xp, x, g)


def under_own_window(indices: Array, g: PoolGeometry) -> Array:
    """Say of each index whether it is that of a tap of its own window, inside the plane."""
    xp = array_namespace(indices)
    indices = xp.reshape(indices, (g.planes, *g.y_size))
    rest, fits = indices, indices >= 0
    for axis in (2, 1, 0):
        q = rest % g.x_size[axis]
        rest = rest // g.x_size[axis]
        p = xp.reshape(xp.arange(g.y_size[axis], dtype=indices.dtype, device=device(indices)), _facing(axis))
        reach = q + g.pad_lo[axis] - g.stride[axis] * p
        span = g.dilation[axis] * (g.window[axis] - 1)
        fits = xp.logical_and(fits, xp.logical_and(reach >= 0, reach <= span))
        fits = xp.logical_and(fits, reach % g.dilation[axis] == 0)
    return xp.logical_and(fits, rest == 0)


def _index(xp: ModuleType, tap: Any, g: PoolGeometry, on: Any) -> Array:
    """Index in the plane of the sample under a tap at every output position, -1 for none; `tap` is an int or ints per axis."""
    along = (g.samples(axis)[k, np.arange(g.y_size[axis])] for axis, k in enumerate(tap))
    q0, q1, q2 = np.ix_(*along)
    index = (q0 * g.x_size[1] + q1) * g.x_size[2] + q2
    return xp.asarray(np.where((q0 < 0) | (q1 < 0) | (q2 < 0), -1, index), dtype=xp.int64, device=on)


def _facing(axis: int) -> tuple[int, ...]:
    return tuple(-1 if a == axis else 1 for a in range(3))


def _counts(xp: ModuleType, g: PoolGeometry, include_pad: bool, like: Array) -> Array:
    if include_pad:
        return float(g.window[0] * g.window[1] * g.window[2])
    count: Array = 1
    for axis in range(3):
        inside = xp.asarray([n for _, n in g.inside(axis)], dtype=like.dtype, device=device(like))
        count = count * xp.reshape(inside, _facing(axis))
    return count


def _padded_size(g: PoolGeometry) -> tuple[int, ...]:
    return tuple(max(lo + n, g.reach(axis)) for axis, (lo, n) in enumerate(zip(g.pad_lo, g.x_size, strict=True)))


def _pads(g: PoolGeometry) -> Pads:
    return tuple((lo, to - lo - n) for lo, n, to in zip(g.pad_lo, g.x_size, _padded_size(g), strict=True))


def _padded(xp: ModuleType, x: Array, g: PoolGeometry, value: float) -> Array:
    x = xp.reshape(x, (g.planes, *g.x_size))
    return extended(xp, x, _pads(g), g.modes, value) if g.repeats else filled(xp, x, g.pad_lo, _padded_size(g), value)


def _inner(xp: ModuleType, x: Array, g: PoolGeometry) -> Array:
    """Take what lies in the plane, with what its repetitions got."""
    return xp.reshape(extended_adjoint(xp, x, g.x_size, _pads(g), g.modes), g.x_shape)
