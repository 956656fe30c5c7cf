"""Pooling of dask arrays: a task for each chunk, which reads its neighbours' borders and calls the kernels.

Indices are those within the whole plane, as everywhere; a task translates them to and from the part of the plane that it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace
from dask.base import tokenize

from .._array import Array
from .._blocks import Axis, Block, Gather, Interval, Tasks, array, blocks, bounds, intervals
from .generic import under_own_window
from .geometry import PoolGeometry

if TYPE_CHECKING:
    from . import Pools

Choice = Callable[[Any, Array], "Pools"]
Grid = list[list[Interval]]


class Dask:
    """Pooling of dask arrays by what `drawer(xp, x)` chooses for arrays like their chunks."""

    def __init__(self, drawer: Choice) -> None:
        self._drawer = drawer

    def max_y(self, x: Array, g: PoolGeometry) -> Array:
        """y[p] = maximum over taps of x[q]."""
        return self._outward(partial(_max_y, self._drawer), x, g)

    def max_with_indices(self, x: Array, g: PoolGeometry) -> tuple[Array, Array]:
        """y[p] = maximum over taps of x[q], and the index in the plane of the first q that reaches it."""
        return self._with_indices(x, g, np.dtype(np.int64))

    def max_with_narrow_indices(self, x: Array, g: PoolGeometry) -> tuple[Array, Array]:
        """`max_with_indices`, in int32 where that holds them."""
        return self._with_indices(x, g, np.dtype(np.int32 if prod(g.x_size) < 2**31 else np.int64))

    def scatter(self, y: Array, indices: Array, g: PoolGeometry) -> Array:
        """x[q] = sum over the p with indices[p] = q of y[p]."""
        return self._inward(partial(_scatter, self._drawer), g, y, indices)

    def gather(self, x: Array, indices: Array, g: PoolGeometry) -> Array:
        """y[p] = x[indices[p]]."""
        return self._outward(partial(_gather, self._drawer), x, g, indices)

    def mean_y(self, x: Array, g: PoolGeometry, include_pad: bool) -> Array:
        """y[p] = mean over taps of x[q]."""
        return self._outward(partial(_mean_y, self._drawer, include_pad), x, g)

    def mean_x(self, y: Array, g: PoolGeometry, include_pad: bool) -> Array:
        """x[q] = sum over the p and taps that lie at q of y[p] / the number of taps of p."""
        return self._inward(partial(_mean_x, self._drawer, include_pad), g, y)

    def checked(self, indices: Array, g: PoolGeometry) -> Array:
        """Return the indices, of which tasks refuse those that are of no sample in their own window."""
        grid = [intervals(chunks) for chunks in indices.chunks]
        read = Gather(indices, grid)
        name, tasks = f"checked-{tokenize(indices.name, g)}", Tasks()
        for index in blocks(*grid):
            block, parts = read.block(index, tasks)
            part = _under(g, [of_axis[i] for of_axis, i in zip(grid, index, strict=True)])
            tasks[(name, *index)] = partial(_run, _checked, part, (block,), (indices._meta,)), parts
        return array(name, tasks, grid, (indices,), indices._meta)

    def _with_indices(self, x: Array, g: PoolGeometry, dtype: Any) -> tuple[Array, Array]:
        both = self._outward(partial(_max_with_indices, self._drawer, dtype), x, g)
        grid = [intervals(chunks) for chunks in both.chunks]
        metas = x._meta, array_namespace(x._meta).astype(x._meta, dtype)
        y, indices = (
            array(name, {(name, *i): (itemgetter(which), (both.name, *i)) for i in blocks(*grid)}, grid, (both,), meta)
            for which, (name, meta) in enumerate(zip((f"max-{both.name}", f"winner-{both.name}"), metas, strict=True))
        )
        return y, indices

    def _outward(self, kernel: Callable[..., Any], x: Array, g: PoolGeometry, indices: Array | None = None) -> Array:
        """Make each block of y of the part of x under its windows, and of its block of indices, if there are any."""
        axes = _axes(g)
        if indices is None:
            lead, outs = x.chunks[: -g.rank], [a.outputs(bounds(c)) for a, c in zip(axes, x.chunks[-g.rank :], strict=True)]
        else:
            lead, outs = indices.chunks[: -g.rank], [intervals(c) for c in indices.chunks[-g.rank :]]
        grid = [*map(intervals, lead), *outs]
        under = [[_clipped(axis.seen(p), axis.size) for p in of_axis] for axis, of_axis in zip(axes, outs, strict=True)]
        reads = [Gather(x, [*grid[: -g.rank], *under]), *([] if indices is None else [Gather(indices, grid)])]
        given = [x, *([] if indices is None else [indices])]
        name, tasks = f"pool-{tokenize(kernel, g, *(a.name for a in given))}", Tasks()
        for index in blocks(*grid):
            read, parts = zip(*(of.block(index, tasks) for of in reads), strict=True)
            part = _under(g, [of_axis[i] for of_axis, i in zip(grid, index, strict=True)])
            tasks[(name, *index)] = partial(_run, kernel, part, read, tuple(a._meta for a in given)), *parts
        return array(name, tasks, grid, given, x._meta)

    def _inward(self, kernel: Callable[..., Any], g: PoolGeometry, *given: Array) -> Array:
        """Make each block of x of the part of y, and of other arrays of its shape, whose windows touch it."""
        axes, y = _axes(g), given[0]
        ins = [axis.inputs(bounds(chunks)) for axis, chunks in zip(axes, y.chunks[-g.rank :], strict=True)]
        grid = [*map(intervals, y.chunks[: -g.rank]), *ins]
        over = [[axis.seeing(q) for q in of_axis] for axis, of_axis in zip(axes, ins, strict=True)]
        reads = [Gather(a, [*grid[: -g.rank], *over]) for a in given]
        name, tasks = f"unpool-{tokenize(kernel, g, *(a.name for a in given))}", Tasks()
        for index in blocks(*grid):
            read, parts = zip(*(of.block(index, tasks) for of in reads), strict=True)
            outputs = [of_axis[i] for of_axis, i in zip([*grid[: -g.rank], *over], index, strict=True)]
            part = _under(g, outputs, [of_axis[i] for of_axis, i in zip(ins, index[-g.rank :], strict=True)])
            tasks[(name, *index)] = partial(_run, kernel, part, read, tuple(a._meta for a in given)), *parts
        return array(name, tasks, grid, given, y._meta)


class _Part(NamedTuple):
    """A part of the planes: its pooling, where it begins and of how large a plane, and which samples of it are wanted."""

    g: PoolGeometry
    origin: tuple[int, ...]
    plane: tuple[int, ...]
    wanted: tuple[Any, ...]


def _run(
    kernel: Callable[..., Any], part: _Part, blocks: tuple[Block, ...], metas: tuple[Array, ...], *parts: list[Array]
) -> Any:
    return kernel(part, *(block.of(of, meta) for block, of, meta in zip(blocks, parts, metas, strict=True)))


def _max_y(drawer: Choice, part: _Part, x: Array) -> Array:
    return drawer(array_namespace(x), x).max_y(x, part.g)


def _max_with_indices(drawer: Choice, dtype: Any, part: _Part, x: Array) -> tuple[Array, Array]:
    xp = array_namespace(x)
    y, indices = drawer(xp, x).max_with_indices(x, part.g)
    return y, xp.astype(_moved(indices, part.g.x_size, part.plane, part.origin), dtype, copy=False)


def _scatter(drawer: Choice, part: _Part, y: Array, indices: Array) -> Array:
    return drawer(array_namespace(y), y).scatter(y, _here(part, indices), part.g)[part.wanted]


def _gather(drawer: Choice, part: _Part, x: Array, indices: Array) -> Array:
    return drawer(array_namespace(x), x).gather(x, _here(part, indices), part.g)


def _mean_y(drawer: Choice, include_pad: bool, part: _Part, x: Array) -> Array:
    return drawer(array_namespace(x), x).mean_y(x, part.g, include_pad)


def _mean_x(drawer: Choice, include_pad: bool, part: _Part, y: Array) -> Array:
    return drawer(array_namespace(y), y).mean_x(y, part.g, include_pad)[part.wanted]


def _checked(part: _Part, indices: Array) -> Array:
    lo: Any = tuple(lo - first for lo, first in zip(part.g.pad_lo, part.origin, strict=True))
    whole: Any = part.plane
    if not array_namespace(indices).all(under_own_window(indices, part.g._replace(x_size=whole, pad_lo=lo))):
        raise ValueError(
            "indices holds some that are of no sample in their own window; "
            "needed those of max_pool_with_indices with the same arguments"
        )
    return indices


def _here(part: _Part, indices: Array) -> Array:
    return _moved(indices, part.plane, part.g.x_size, tuple(-first for first in part.origin))


def _moved(indices: Array, source: Sequence[int], target: Sequence[int], shift: Sequence[int]) -> Array:
    """Return indices in a plane of one size as those of the same samples, moved by `shift`, in a plane of another."""
    xp = array_namespace(indices)
    rest, moved, stride = xp.astype(indices, xp.int64, copy=False), 0, 1
    if tuple(source) == tuple(target) and not any(shift):
        return rest
    for axis in (2, 1, 0):
        moved = moved + (rest % source[axis] + shift[axis]) * stride
        rest, stride = rest // source[axis], stride * target[axis]
    return moved


def _under(g: PoolGeometry, outputs: Sequence[Interval], inputs: Sequence[Interval] | None = None) -> _Part:
    """Return the part of the planes under the windows of some outputs, and over `inputs`, which alone are wanted, if given."""
    lead, axes = tuple(end - begin for begin, end in outputs[: -g.rank]), _axes(g)
    spans = [_clipped(axis.seen(p), axis.size) for axis, p in zip(axes, outputs[-g.rank :], strict=True)]
    wanted: tuple[Any, ...] = ()
    if inputs is not None:
        spans = [(min(s[0], q[0]), max(s[1], q[1])) for s, q in zip(spans, inputs, strict=True)]
        wanted = (..., *(slice(q[0] - s[0], q[1] - s[0]) for s, q in zip(spans, inputs, strict=True)))
    first = 3 - g.rank
    lo = [a.lo + s[0] - a.stride * p[0] for a, s, p in zip(axes, spans, outputs[-g.rank :], strict=True)]
    sizes: Any = {
        "x_size": (*(1,) * first, *(end - begin for begin, end in spans)),
        "y_size": (*(1,) * first, *(end - begin for begin, end in outputs[-g.rank :])),
        "pad_lo": (*(0,) * first, *lo),
    }
    origin = (*(0,) * first, *(begin for begin, _ in spans))
    return _Part(g._replace(lead=lead, **sizes), origin, g.x_size, wanted)


def _axes(g: PoolGeometry) -> list[Axis]:
    """Return the windows along each spatial axis."""
    axes = (Axis(*of_axis) for of_axis in zip(g.x_size, g.window, g.y_size, g.stride, g.dilation, g.pad_lo, strict=True))
    return list(axes)[3 - g.rank :]


def _clipped(interval: Interval, size: int) -> Interval:
    return max(interval[0], 0), min(interval[1], size)
