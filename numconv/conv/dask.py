"""The three contractions of dask arrays: a task for each chunk, which reads its neighbours' borders and calls the kernels.

Blocks of the result follow the chunks of the argument. Every task knows from shapes alone which samples it reads, so the graph is
exact at chunk borders for any stride, dilation and padding, its size is that of the grid of chunks, and building it computes
nothing. Channels that are summed over come together in one task; with groups, a task has whole groups of its own.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import partial, reduce
from itertools import product
from operator import add
from typing import Any, NamedTuple

from array_api_compat import array_namespace, device
from dask.base import tokenize

from .._array import Array
from .._blocks import Axis, Block, Gather, Interval, Tasks, array, blocks, bounds, cut, intervals, repeats, sizes
from .contractions import Contractions, Step, drawer
from .finish import finished
from .geometry import ConvGeometry

_FEW = 8  # partial sums of a weight gradient that one task adds up


class Dask:
    """The three contractions of dask arrays, with one mode per spatial axis for what is beyond x."""

    def __init__(self, method: str, modes: tuple[str, ...]) -> None:
        self._method, self._modes = method, modes

    def contract_y(self, x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i,q], plus b[o]."""
        kernels, axes = self._kernels(x, g), _axes(g)
        batch, groups = intervals(x.chunks[0]), _whole_groups(x.chunks[1], g.c_in)
        outs = [axis.outputs(bounds(chunks)) for axis, chunks in zip(axes, x.chunks[2:], strict=True)]
        seen = [[axis.seen(p) for p in of_axis] for axis, of_axis in zip(axes, outs, strict=True)]
        read = Gather(x, [batch, _channels(groups, g.c_in), *seen], self._modes)
        w, b = _by_groups(groups, g.c_out, w), _by_groups(groups, g.c_out, b)
        name, tasks = f"contract_y-{tokenize(x.name, w.name, _name(b), g, self._method, self._modes, rectify)}", Tasks()
        for index in blocks(batch, groups, *outs):
            block, parts = read.block(index, tasks)
            local = _local(g, block, groups[index[1]], y_size=_at(outs, index[2:]), pad_lo=(0,) * len(axes))
            task = partial(_contract_y, kernels, block, local, rectify)
            tasks[(name, *index)] = task, parts, _key(w, index[1]), _key(b, index[1])
        chunks = batch, _channels(groups, g.c_out), *outs
        return array(name, tasks, chunks, (x, w, b), x._meta)

    def contract_x(self, y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """x[n,i,q] = sum over o,p,k of w[o,i,k] * y[n,o,p], plus b[i]; what falls beyond x falls on the sample repeated there."""
        kernels, axes = self._kernels(y, g), _axes(g)
        batch, groups = intervals(y.chunks[0]), _whole_groups(y.chunks[1], g.c_out)
        ins = [axis.inputs(bounds(chunks)) for axis, chunks in zip(axes, y.chunks[2:], strict=True)]
        shares = [_shares(axis, of_axis, mode) for axis, of_axis, mode in zip(axes, ins, self._modes, strict=True)]
        read = Gather(y, [batch, _channels(groups, g.c_out), *([share.outputs for share in of_axis] for of_axis in shares)])
        of_block = [_by_block(of_axis, len(blocks_of_axis)) for of_axis, blocks_of_axis in zip(shares, ins, strict=True)]
        w, b = _by_groups(groups, g.c_out, w), _by_groups(groups, g.c_in, b)
        name, tasks = f"contract_x-{tokenize(y.name, w.name, _name(b), g, self._method, self._modes, rectify)}", Tasks()
        for index in blocks(batch, groups, *ins):
            pieces, parts = [], []
            for mine in product(*(of_axis[j] for of_axis, j in zip(of_block, index[2:], strict=True))):
                block, keys = read.block((*index[:2], *mine), tasks)
                share = [of_axis[i] for of_axis, i in zip(shares, mine, strict=True)]
                size = [s.samples[1] - s.samples[0] for s in share]
                local = _local(g, block, groups[index[1]], x_size=size, pad_lo=[s.lo for s in share])
                pieces.append(_Piece(block, local, tuple(s.places for s in share), tuple(s.step for s in share)))
                parts.append(keys)
            shape = (pieces[0].block.shape[0], pieces[0].g.x_shape[1], *_at(ins, index[2:]))
            task = partial(_contract_x, kernels, tuple(pieces), shape, rectify)
            tasks[(name, *index)] = task, parts, _key(w, index[1]), _key(b, index[1])
        chunks = batch, _channels(groups, g.c_in), *ins
        return array(name, tasks, chunks, (y, w, b), y._meta)

    def contract_w(self, x: Array, y: Array, g: ConvGeometry) -> Array:
        """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i,q]: a sum for each chunk of y, and a tree of their sums in fixed order."""
        if x.dtype.name in ("float16", "bfloat16"):  # sums of sums, to be rounded once
            return self.contract_w(x.astype("float32"), y.astype("float32"), g).astype(x.dtype)
        kernels, axes = self._kernels(x, g), _axes(g)
        batch, groups = intervals(y.chunks[0]), _whole_groups(y.chunks[1], g.c_out)
        outs = [intervals(chunks) for chunks in y.chunks[2:]]
        seen = [[axis.seen(p) for p in of_axis] for axis, of_axis in zip(axes, outs, strict=True)]
        read_x = Gather(x, [batch, _channels(groups, g.c_in), *seen], self._modes)
        read_y = Gather(y, [batch, _channels(groups, g.c_out), *outs])
        name, tasks = f"contract_w-{tokenize(x.name, y.name, g, self._method, self._modes)}", Tasks()
        summands: list[list[Any]] = [[] for _ in groups]
        for index in blocks(batch, groups, *outs):
            (block_x, parts_x), (block_y, parts_y) = read_x.block(index, tasks), read_y.block(index, tasks)
            local = _local(g, block_x, groups[index[1]], y_size=block_y.shape[2:], pad_lo=(0,) * len(axes))
            tasks[(f"{name}-part", *index)] = partial(_contract_w, kernels, block_x, block_y, local), parts_x, parts_y
            summands[index[1]].append((f"{name}-part", *index))
        for i, keys in enumerate(summands):
            tasks[(name, i, *(0,) * (g.rank + 1))] = _sum(name, i, keys, tasks)
        return array(name, tasks, (_channels(groups, g.c_out), *([(0, n)] for n in g.w_shape[1:])), (x, y), x._meta)

    def explain(self, contraction: Any, g: ConvGeometry, dtype: Any) -> Step:
        """Say what is known before chunks are: a method of their own for each."""
        return Step("dask", "a task per chunk", 0, None)

    def _kernels(self, a: Array, g: ConvGeometry) -> _Kernels:
        kernels = _Kernels(self._method, g.rank, a._meta)
        kernels.of(a._meta)  # refuses what has no such method
        return kernels


class _Kernels(NamedTuple):
    """How tasks compute: by the kernels for the arrays that chunks are."""

    method: str
    rank: int
    meta: Array

    def of(self, a: Array) -> Contractions:
        return drawer(array_namespace(a), a, self.method, rank=self.rank)


class _Share(NamedTuple):
    """Positions along one axis whose samples are those of one block of x, and the outputs that see them."""

    block: int
    samples: Interval  # positions, those beyond the borders too
    places: slice  # the samples in the block
    step: int  # how samples follow one another: forward, backward, or not at all
    outputs: Interval
    lo: int  # position of the first window, before the first sample


class _Piece(NamedTuple):
    """A contraction that adds to a block of x."""

    block: Block
    g: ConvGeometry
    places: tuple[slice, ...]
    steps: tuple[int, ...]


def _contract_y(
    kernels: _Kernels, block: Block, g: ConvGeometry, rectify: bool, parts: list[Array], w: Array, b: Array | None
) -> Array:
    x = block.of(parts, kernels.meta)
    return kernels.of(x).contract_y(x, w, g, b, rectify)


def _contract_x(
    kernels: _Kernels,
    pieces: tuple[_Piece, ...],
    shape: tuple[int, ...],
    rectify: bool,
    parts: list[list[Array]],
    w: Array,
    b: Array | None,
) -> Array:
    ys = [piece.block.of(mine, kernels.meta) for piece, mine in zip(pieces, parts, strict=True)]
    on, xp = kernels.of(ys[0]), array_namespace(ys[0])
    if len(pieces) == 1:  # the block itself
        return on.contract_x(ys[0], w, pieces[0].g, b, rectify)
    x = xp.zeros(shape, dtype=ys[0].dtype, device=device(ys[0]))
    for y, (_, g, places, steps) in zip(ys, pieces, strict=True):
        dx = on.contract_x(y, w, g)
        dx = xp.flip(dx, axis=tuple(axis for axis, step in enumerate(steps, 2) if step < 0))
        for axis, step in enumerate(steps, 2):
            dx = dx if step else xp.sum(dx, axis=axis, keepdims=True, dtype=dx.dtype)
        x[(..., *places)] += dx
    return finished(x, b, rectify)


def _contract_w(
    kernels: _Kernels, block_x: Block, block_y: Block, g: ConvGeometry, parts_x: list[Array], parts_y: list[Array]
) -> Array:
    x, y = block_x.of(parts_x, kernels.meta), block_y.of(parts_y, kernels.meta)
    return kernels.of(x).contract_w(x, y, g)


def _sum(name: str, i: int, keys: list[Any], tasks: Tasks) -> Any:
    """Return the task that adds up what lies at `keys`, few at a time."""
    add_up, level = partial(reduce, add), 0
    while len(keys) > _FEW:
        few = [keys[first : first + _FEW] for first in range(0, len(keys), _FEW)]
        keys = [(f"{name}-{level}", i, j) for j in range(len(few))]
        tasks.update(zip(keys, ((add_up, some) for some in few), strict=True))
        level += 1
    return add_up, keys


def _shares(axis: Axis, ins: list[Interval], mode: str) -> list[_Share]:
    """Return what each block of x gets: at its own positions, and at those beyond the borders that repeat its samples."""
    shares = []

    def share(block: int, samples: Interval, places: slice, step: int) -> None:
        outputs = axis.seeing(samples)
        shares.append(_Share(block, samples, places, step, outputs, axis.lo + samples[0] - axis.stride * outputs[0]))

    for block, (begin, end) in enumerate(ins):
        share(block, (begin, end), slice(0, end - begin), 1)
    if mode != "zeros":
        starts = [begin for begin, _ in ins]
        for beyond in ((-axis.lo, 0), (axis.size, axis.seen((0, axis.windows))[1])):
            for first, last, source, step in repeats(mode, axis.size, beyond, [*starts, axis.size]):
                block = bisect_right(starts, source) - 1
                low = min(source, source + step * (last - first - 1)) - starts[block]
                share(block, (first, last), slice(low, low + (last - first if step else 1)), step)
    return shares


def _by_block(shares: list[_Share], count: int) -> list[list[int]]:
    """Return the numbers of the shares of each block."""
    numbers: list[list[int]] = [[] for _ in range(count)]
    for number, share in enumerate(shares):
        numbers[share.block].append(number)
    return numbers


def _axes(g: ConvGeometry) -> list[Axis]:
    """Return the windows along each spatial axis."""
    axes = (Axis(*of_axis) for of_axis in zip(g.x_size, g.w_size, g.y_size, g.stride, g.dilation, g.pad_lo, strict=True))
    return list(axes)[len(g.x_size) - g.rank :]


def _local(g: ConvGeometry, block: Block, groups: Interval, **spatial: Sequence[int]) -> ConvGeometry:
    """Return the geometry of one task, which reads `block`; its sizes are given for the spatial axes there are."""
    read = "x_size" if "y_size" in spatial else "y_size"
    sizes_of = {read: block.shape[2:], **spatial}
    lifted: Any = {name: (*getattr(g, name)[: len(g.x_size) - g.rank], *of_axes) for name, of_axes in sizes_of.items()}
    return g._replace(batch=block.shape[0], groups=groups[1] - groups[0], **lifted)


def _whole_groups(chunks: Sequence[int], per_group: int) -> list[Interval]:
    """Cut the groups where chunks of channels are cut."""
    of = bounds(chunks)
    return cut([channel // per_group for channel in of], of[-1] // per_group)


def _channels(groups: list[Interval], per_group: int) -> list[Interval]:
    return [(first * per_group, last * per_group) for first, last in groups]


def _by_groups(groups: list[Interval], per_group: int, a: Array | None) -> Array | None:
    """Return weights or bias with a chunk for each of `groups`, channels being the first axis."""
    return a if a is None else a.rechunk((sizes(_channels(groups, per_group)), *((n,) for n in a.shape[1:])))


def _key(a: Array | None, group: int) -> Any:
    return a if a is None else (a.name, group, *(0,) * (a.ndim - 1))


def _name(a: Array | None) -> Any:
    return a if a is None else a.name


def _at(intervals_of: list[list[Interval]], index: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes of one block."""
    return tuple(of_axis[i][1] - of_axis[i][0] for of_axis, i in zip(intervals_of, index, strict=True))
