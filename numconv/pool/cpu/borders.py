"""Padding that repeats samples: x is continued a box of outputs at a time, in memory that stays in cache.

Each box, some planes and a range of positions along each axis, is a pooling of its own without that padding; its adjoint is added
to what the others give.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..._border import sources
from ..._extend import collect, extended
from ..._window import Pads
from ..geometry import PoolGeometry, triple
from . import maxima, means
from .window import Array

# Samples of x continued at a time. Maxima of 3x3 windows over (8, 32, 112, 112) float32 took 25, 15, 14 and 7.6 ms with blocks of
# 2**16 to 2**19 on one thread, 7.0 ms with one copy of all of x, and 13 ms with only the outputs at the border from thin slabs.
_BLOCK = 1 << 19


class Slab(NamedTuple):
    """A box of outputs, (planes, three ranges), and the pooling of x continued by `pads` that computes them."""

    box: tuple[slice, ...]
    pads: Pads
    g: PoolGeometry


def max_y(x: Array, g: PoolGeometry) -> Array:
    """y[p] = maximum over taps of x[q]."""
    if not g.repeats:
        return maxima.max_y(x, g)
    y = np.empty(g.y_shape, x.dtype)
    for slab in _slabs(g):
        _boxed(y, g)[slab.box] = maxima.max_y(_cut(x, g, slab), slab.g)
    return y


def max_with_indices(x: Array, g: PoolGeometry, narrow: bool = False) -> tuple[Array, Array]:
    """y[p] = maximum over taps of x[q], and the index in the plane of the first q that reaches it. NaN is above all numbers."""
    kernel = maxima.max_with_narrow_indices if narrow else maxima.max_with_indices
    if not g.repeats:
        return kernel(x, g)
    narrow = narrow and prod(g.x_size) < 2**31
    y, indices = np.empty(g.y_shape, x.dtype), np.empty(g.y_shape, np.int32 if narrow else np.int64)
    for slab in _slabs(g):
        _boxed(y, g)[slab.box], winners = kernel(_cut(x, g, slab), slab.g)
        _boxed(indices, g)[slab.box] = _own(g, slab.pads)[winners]
    return y, indices


def max_with_narrow_indices(x: Array, g: PoolGeometry) -> tuple[Array, Array]:
    """`max_with_indices`, in int32 where that holds them: half as much to write and to read again."""
    return max_with_indices(x, g, narrow=True)


def mean_y(x: Array, g: PoolGeometry, include_pad: bool) -> Array:
    """y[p] = mean over taps of x[q]."""
    if not g.repeats:
        return means.mean_y(x, g, include_pad)
    y = np.empty(g.y_shape, x.dtype)
    for slab in _slabs(g):
        _boxed(y, g)[slab.box] = means.mean_y(_cut(x, g, slab), slab.g, include_pad)
    return y


def mean_x(y: Array, g: PoolGeometry, include_pad: bool) -> Array:
    """x[q] = sum over the p and taps that lie at q, or repeat it, of y[p] / the number of taps of p: the adjoint of `mean_y`."""
    if not g.repeats:
        return means.mean_x(y, g, include_pad)
    x = np.zeros(g.x_shape, y.dtype)
    for slab in _slabs(g):
        share = means.mean_x(_boxed(y, g)[slab.box], slab.g, include_pad)
        collect(share, x.reshape(g.planes, *g.x_size)[slab.box[0]], slab.pads, g.modes)
    return x


@lru_cache(64)
def _slabs(g: PoolGeometry) -> tuple[Slab, ...]:
    """Cut the outputs into boxes that read about `_BLOCK` samples each: planes first, then along the first axes."""
    if not g.planes:
        return ()
    reach = [g.x_size[axis] if g.modes[axis] == "zeros" else g.reach(axis) for axis in range(3)]
    room, counts = _BLOCK, [max(1, _BLOCK // prod(reach))]
    for axis, mode in enumerate(g.modes):
        overlap = g.dilation[axis] * (g.window[axis] - 1)
        fitting = (room // prod(reach[axis + 1 :]) - overlap - 1) // g.stride[axis] + 1
        count = g.y_size[axis] if mode == "zeros" else min(g.y_size[axis], max(1, fitting))
        counts.append(count)
        room //= reach[axis] if mode == "zeros" else g.stride[axis] * (count - 1) + overlap + 1
    steps = (range(0, n, count) for n, count in zip((g.planes, *g.y_size), counts, strict=True))
    return tuple(_slab(g, tuple(slice(a, a + n) for a, n in zip(first, counts, strict=True))) for first in product(*steps))


def _slab(g: PoolGeometry, box: tuple[slice, ...]) -> Slab:
    """Return the slab under a box of outputs; an axis of zeros is there in whole, with its padding."""
    y_size, x_size, pads, pad_lo = list(g.y_size), list(g.x_size), [(0, 0)] * 3, list(g.pad_lo)
    for axis, along in enumerate(box[1:]):
        if g.modes[axis] == "zeros":
            continue
        end = min(along.stop, g.y_size[axis])
        low = g.stride[axis] * along.start
        high = g.stride[axis] * (end - 1) + g.dilation[axis] * (g.window[axis] - 1) + 1
        pads[axis] = g.pad_lo[axis] - low, high - g.pad_lo[axis] - g.x_size[axis]
        x_size[axis], y_size[axis], pad_lo[axis] = high - low, end - along.start, 0
    planes = min(box[0].stop, g.planes) - box[0].start
    sizes = {"x_size": triple(x_size), "y_size": triple(y_size), "pad_lo": triple(pad_lo)}
    return Slab(box, tuple(pads), g._replace(rank=3, lead=(planes,), modes=("zeros",) * 3, **sizes))


def _boxed(y: Array, g: PoolGeometry) -> Array:
    return y.reshape(g.planes, *g.y_size)


def _cut(x: Array, g: PoolGeometry, slab: Slab) -> Any:
    return extended(np, x.reshape(g.planes, *g.x_size)[slab.box[0]], slab.pads, g.modes)


@lru_cache(8)
def _own(g: PoolGeometry, pads: Pads) -> Any:
    """For each sample of a plane continued by `pads`, the index in the plane of x of the one it repeats."""
    axes = zip(g.modes, g.x_size, pads, strict=True)
    q0, q1, q2 = np.ix_(*(sources(mode, size, *pad) for mode, size, pad in axes))
    return ((q0 * g.x_size[1] + q1) * g.x_size[2] + q2).reshape(-1)
