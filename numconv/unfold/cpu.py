"""Unfolding and folding of NumPy arrays of any dtype: one strided copy, or addition, for each tap of the window."""

from __future__ import annotations

import numpy as np

from .._array import Array
from .._memory import empty
from .._window import taps
from .geometry import UnfoldGeometry


def unfold(x: Array, g: UnfoldGeometry) -> Array:
    """columns[k, p] = x[stride*p + dilation*k - pad_lo], 0 outside x. Every number is written once."""
    columns: Array = empty(g.columns_shape, x.dtype)
    for k in taps(g.window):
        inside, samples = _under(k, g)
        column = columns[(*(slice(None),) * len(g.lead), *k)]
        for axis, along in enumerate(inside):
            before = *(slice(None),) * len(g.lead), *inside[:axis]
            column[(*before, slice(0, along.start))] = 0
            column[(*before, slice(along.stop, None))] = 0
        column[(..., *inside)] = x[(..., *samples)]
    return columns


def fold(columns: Array, g: UnfoldGeometry) -> Array:
    """x[q] = sum over the p and k with stride*p + dilation*k - pad_lo = q of columns[k, p]: the adjoint."""
    x: Array = np.zeros(g.x_shape, columns.dtype)
    for k in taps(g.window):
        inside, samples = _under(k, g)
        x[(..., *samples)] += columns[(*(slice(None),) * len(g.lead), *k)][(..., *inside)]
    return x


def _under(tap: tuple[int, ...], g: UnfoldGeometry) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the output positions whose tap lies inside x, and where it lies."""
    inside, samples = [], []
    for axis, k in enumerate(tap):
        first, end, start = g.inside(axis, k)
        inside.append(slice(first, end))
        samples.append(slice(start, start + g.stride[axis] * (end - first), g.stride[axis]) if end > first else slice(0, 0))
    return tuple(inside), tuple(samples)
