"""Linear maps along one axis, such as interpolation and averages over bins, and their adjoints: in array API, or a kernel.

The matrix of such a map has few entries in a row, and only those are kept: a row reads nothing else, so a NaN spreads no further
than the windows it is in.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from . import _lend
from ._array import Array, library

Matrix = np.ndarray[Any, Any]


class AxisMap(NamedTuple):
    """y[p] = sum over k of weight[k, p] * x[source[k, p]] and its transpose, as the same kind of lists."""

    source: Matrix
    weight: Matrix
    back_source: Matrix
    back_weight: Matrix

    @property
    def adjoint(self) -> AxisMap:
        """The transposed map."""
        return AxisMap(self.back_source, self.back_weight, self.source, self.weight)


def axis_map(size: int, source: Matrix, weight: Matrix) -> AxisMap:
    """Return the map from `size` samples whose rows are the columns of `source` and `weight`, both of shape (entries, out)."""
    row = np.broadcast_to(np.arange(source.shape[1]), source.shape)[weight != 0]
    column, entry = source[weight != 0], weight[weight != 0]
    order = np.argsort(column, kind="stable")
    row, column, entry = row[order], column[order], entry[order]
    count = np.bincount(column, minlength=size)
    start = np.cumsum(count) - count
    back_source, back_weight = np.zeros((count.max(), size), int), np.zeros((count.max(), size))
    # Places past a column's last entry repeat its first, with weight zero.
    back_source[:] = np.where(count > 0, row[np.minimum(start, row.size - 1)], 0)
    rank = np.arange(row.size) - start[column]
    back_source[rank, column], back_weight[rank, column] = row, entry
    return AxisMap(source, weight, back_source, back_weight)


def apply(m: AxisMap, x: Array, axis: int) -> Array:
    """Return x with the map applied along one axis, counted from the front."""
    xp = array_namespace(x)
    if (kernel := _lend.native(xp, x, _apply, _apply_on_gpu)) is not None:
        return kernel(m, x, axis)
    y: Array = None
    for source, weight in zip(m.source, m.weight, strict=True):
        factor = xp.asarray(weight, dtype=x.dtype, device=device(x))
        index = source if library(xp) == "dask" else xp.asarray(source, device=device(x))
        term = xp.take(x, index, axis=axis)
        term = term * xp.reshape(factor, (-1, *(1,) * (x.ndim - axis - 1)))
        y = term if y is None else y + term
    return y


def _apply(m: AxisMap, x: Array, axis: int) -> Array:
    from . import _axis_map

    return _axis_map.apply(m.source, m.weight, x, axis)


def _apply_on_gpu(m: AxisMap, x: Array, axis: int) -> Array:
    from . import _axis_map_cuda

    return _axis_map_cuda.apply(m.source, m.weight, x, axis)


def apply_trailing(maps: tuple[AxisMap | None, ...], x: Array) -> Array:
    """Return a new array: x with one map applied along each of its trailing axes. None leaves an axis alone."""
    if all(m is None for m in maps):
        return array_namespace(x).asarray(x, copy=True)
    for axis, m in enumerate(maps, x.ndim - len(maps)):
        x = x if m is None else apply(m, x, axis)
    return x


def adjoint(maps: tuple[AxisMap | None, ...]) -> tuple[AxisMap | None, ...]:
    """Return the maps whose joint application is the adjoint."""
    return tuple(m if m is None else m.adjoint for m in maps)
