"""Pooling of dask arrays: a task for each chunk, which reads its neighbours' borders and calls the kernels.

Indices are those within the whole plane, as everywhere; a task translates them to and from the part of the plane that it holds.
Where padding repeats samples, x is continued first, lazily too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device
from dask.base import tokenize

from .. import _border
from .._array import Array
from .._blocks import Axis, Block, Gather, Interval, Tasks, array, blocks, bounds, intervals
from .._extend import extended, extended_adjoint
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
        return self._outward(partial(_max_y, self._drawer), *_continued(x, g))

    def max_with_indices(self, x: Array, g: PoolGeometry) -> tuple[Array, Array]:
        """y[p] = maximum over taps of x[q], and the index in the plane of the first q that reaches it."""
        return self._with_indices(x, g, np.dtype(np.int64))

    def max_with_narrow_indices(self, x: Array, g: PoolGeometry) -> tuple[Array, Array]:
        """`max_with_indices`, in int32 where that holds them."""
        return self._with_indices(x, g, np.dtype(np.int32 if prod(g.x_size) < 2**31 else np.int64))

    def scatter(self, y: Array, indices: Array, g: PoolGeometry) -> Array:
        """x[q] = sum over the p with indices[p] = q of y[p]."""
        return _collected(self._inward(partial(_scatter, self._drawer, g), _continuation(g)[1], y, indices), g)

    def gather(self, x: Array, indices: Array, g: PoolGeometry) -> Array:
        """y[p] = x[indices[p]]."""
        return self._outward(partial(_gather, self._drawer, g), x, g, indices)

    def mean_y(self, x: Array, g: PoolGeometry, include_pad: bool) -> Array:
        """y[p] = mean over taps of x[q]."""
        return self._outward(partial(_mean_y, self._drawer, include_pad), *_continued(x, g))

    def mean_x(self, y: Array, g: PoolGeometry, include_pad: bool) -> Array:
        """x[q] = sum over the p and taps that lie at q of y[p] / the number of taps of p."""
        return _collected(self._inward(partial(_mean_x, self._drawer, include_pad), _continuation(g)[1], y), g)

    def checked(self, indices: Array, g: PoolGeometry) -> Array:
        """Return the indices, of which tasks refuse those that are of no sample in their own window."""
        grid = [intervals(chunks) for chunks in indices.chunks]
        read = Gather(indices, grid)
        name, tasks = f"checked-{tokenize(indices.name, g)}", Tasks()
        for index in blocks(*grid):
            block, parts = read.block(index, tasks)
            part = _under(g, [of_axis[i] for of_axis, i in zip(grid, index, strict=True)])
            tasks[(name, *index)] = partial(_run, partial(_checked, g), part, (block,), (indices._meta,)), parts
        return array(name, tasks, grid, (indices,), indices._meta)

    def _with_indices(self, x: Array, g: PoolGeometry, dtype: Any) -> tuple[Array, Array]:
        both = self._outward(partial(_max_with_indices, self._drawer, g, dtype), *_continued(x, g))
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
    """A part of the planes: its pooling, its first sample and output within the planes, and which samples of it are wanted."""

    g: PoolGeometry
    origin: tuple[int, ...]
    first: tuple[int, ...]
    wanted: tuple[Any, ...]


def _run(
    kernel: Callable[..., Any], part: _Part, blocks: tuple[Block, ...], metas: tuple[Array, ...], *parts: list[Array]
) -> Any:
    return kernel(part, *(block.of(of, meta) for block, of, meta in zip(blocks, parts, metas, strict=True)))


def _max_y(drawer: Choice, part: _Part, x: Array) -> Array:
    return drawer(array_namespace(x), x).max_y(x, part.g)


def _max_with_indices(drawer: Choice, g: PoolGeometry, dtype: Any, part: _Part, x: Array) -> tuple[Array, Array]:
    xp = array_namespace(x)
    y, indices = drawer(xp, x).max_with_indices(x, part.g)

    def sample(axis: int, q: Array) -> Array:
        q, mode = q + part.origin[axis], g.modes[axis]
        return q if mode == "zeros" else _border.repeated(mode, g.x_size[axis], q - g.pad_lo[axis])

    return y, xp.astype(_translated(indices, part.g.x_size, g.x_size, sample), dtype, copy=False)


def _scatter(drawer: Choice, g: PoolGeometry, part: _Part, y: Array, indices: Array) -> Array:
    return drawer(array_namespace(y), y).scatter(y, _here(g, part, indices), part.g)[part.wanted]


def _gather(drawer: Choice, g: PoolGeometry, part: _Part, x: Array, indices: Array) -> Array:
    return drawer(array_namespace(x), x).gather(x, _here(g, part, indices), part.g)


def _mean_y(drawer: Choice, include_pad: bool, part: _Part, x: Array) -> Array:
    return drawer(array_namespace(x), x).mean_y(x, part.g, include_pad)


def _mean_x(drawer: Choice, include_pad: bool, part: _Part, y: Array) -> Array:
    return drawer(array_namespace(y), y).mean_x(y, part.g, include_pad)[part.wanted]


def _checked(g: PoolGeometry, part: _Part, indices: Array) -> Array:
    lo: Any = tuple(lo - first for lo, first in zip(part.g.pad_lo, part.origin, strict=True))
    if not array_namespace(indices).all(under_own_window(indices, part.g._replace(x_size=g.x_size, pad_lo=lo))):
        raise ValueError(
            "indices holds some that are of no sample in their own window; "
            "needed those of max_pool_with_indices with the same arguments"
        )
    return indices


def _here(g: PoolGeometry, part: _Part, indices: Array) -> Array:
    """Return indices in the plane as indices in a part; of a sample repeated, that under the first tap of its window."""
    xp = array_namespace(indices)

    def place(axis: int, q: Array) -> Array:
        if g.modes[axis] == "zeros":
            return q - part.origin[axis]
        p = xp.reshape(xp.arange(part.g.y_size[axis], dtype=xp.int64, device=device(q)), (-1, *(1,) * (2 - axis)))
        found = xp.zeros_like(q)
        for k in reversed(range(g.window[axis])):
            at = g.stride[axis] * (p + part.first[axis]) + g.dilation[axis] * k
            source = _border.repeated(g.modes[axis], g.x_size[axis], at - g.pad_lo[axis])
            found = xp.where(q == source, at - part.origin[axis], found)
        return found

    shape = tuple(indices.shape)
    indices = xp.reshape(indices, (*part.g.lead, *part.g.y_size))
    return xp.reshape(_translated(indices, g.x_size, part.g.x_size, place), shape)


def _translated(indices: Array, source: Sequence[int], target: Sequence[int], along: Callable[[int, Array], Array]) -> Array:
    """Return indices in a plane of one size as indices in another, by what each axis does with its own."""
    xp = array_namespace(indices)
    rest, translated, stride = xp.astype(indices, xp.int64, copy=False), 0, 1
    for axis in (2, 1, 0):
        translated = translated + along(axis, rest % source[axis]) * stride
        rest, stride = rest // source[axis], stride * target[axis]
    return translated


def _continuation(g: PoolGeometry) -> tuple[list[Interval], PoolGeometry]:
    """Return how many samples an axis is continued by on both sides where its padding repeats some, and the pooling of these."""
    pads = [
        (0, 0) if mode == "zeros" else (lo, max(0, g.reach(axis) - lo - size))
        for axis, (mode, lo, size) in enumerate(zip(g.modes, g.pad_lo, g.x_size, strict=True))
    ]
    sizes: Any = tuple(lo + size + hi for size, (lo, hi) in zip(g.x_size, pads, strict=True))
    left: Any = tuple(lo if mode == "zeros" else 0 for mode, lo in zip(g.modes, g.pad_lo, strict=True))
    return pads[3 - g.rank :], g._replace(x_size=sizes, pad_lo=left, modes=("zeros",) * 3)


def _continued(x: Array, g: PoolGeometry) -> tuple[Array, PoolGeometry]:
    """Return x with the samples that its padding repeats, in as many chunks, and the pooling of that."""
    if not g.repeats:
        return x, g
    pads, continued = _continuation(g)
    chunks = [list(of_axis) for of_axis in x.chunks]
    for of_axis, (lo, hi) in zip(chunks[-g.rank :], pads, strict=True):
        of_axis[0] += lo
        of_axis[-1] += hi
    longer = extended(array_namespace(x), x, tuple(pads), g.modes[3 - g.rank :])
    return longer.rechunk(tuple(map(tuple, chunks))), continued


def _collected(x: Array, g: PoolGeometry) -> Array:
    """Return what came upon samples and their repetitions: the adjoint of `_continued`."""
    if not g.repeats:
        return x
    pads, _ = _continuation(g)
    return extended_adjoint(array_namespace(x), x, g.x_size[3 - g.rank :], tuple(pads), g.modes[3 - g.rank :])


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
    origin, of_first = ((*(0,) * first, *(begin for begin, _ in of)) for of in (spans, outputs[-g.rank :]))
    return _Part(g._replace(lead=lead, **sizes), origin, of_first, wanted)


def _axes(g: PoolGeometry) -> list[Axis]:
    """Return the windows along each spatial axis."""
    axes = (Axis(*of_axis) for of_axis in zip(g.x_size, g.window, g.y_size, g.stride, g.dilation, g.pad_lo, strict=True))
    return list(axes)[3 - g.rank :]


def _clipped(interval: Interval, size: int) -> Interval:
    return max(interval[0], 0), min(interval[1], size)
