"""Unfolding and folding in plain array API: definition, fallback for other libraries, oracle."""

from __future__ import annotations

from array_api_compat import array_namespace

from .._array import Array
from .._window import extent, filled, spread, taps, under
from .geometry import UnfoldGeometry


def unfold(x: Array, g: UnfoldGeometry) -> Array:
    """columns[k, p] = x[stride*p + dilation*k - pad_lo], 0 outside x."""
    xp = array_namespace(x)
    padded = filled(xp, x, g.pad_lo, _padded_size(g))
    first = len(g.lead)
    columns = xp.stack([padded[under(k, g.out, g.stride, g.dilation)] for k in taps(g.window)], axis=first)
    return xp.reshape(columns, g.columns_shape)


def fold(columns: Array, g: UnfoldGeometry) -> Array:
    """x[q] = sum over the p and k with stride*p + dilation*k - pad_lo = q of columns[k, p]: the adjoint."""
    xp = array_namespace(columns)
    x: Array = 0
    for k in taps(g.window):
        x = x + spread(xp, columns[(*(slice(None),) * len(g.lead), *k, ...)], k, _padded_size(g), g.stride, g.dilation)
    return x[(..., *(slice(lo, lo + n) for lo, n in zip(g.pad_lo, g.size, strict=True)))]


def _padded_size(g: UnfoldGeometry) -> tuple[int, ...]:
    reach = extent(g.window, g.out, g.stride, g.dilation)
    return tuple(max(lo + n, e) for lo, n, e in zip(g.pad_lo, g.size, reach, strict=True))
