"""Blocks of dask arrays: which samples each task reads, beyond the chunk it is named by, and the graph that brings them to it.

Nothing is computed here, and no array is rechunked: a task depends on its own chunk and on thin parts of the neighbours.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise, product
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from array_api_compat import array_namespace, device
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from . import _border
from ._array import Array

Tasks = dict[Any, Any]
Index = tuple[int, ...]
Interval = tuple[int, int]


class Axis(NamedTuple):
    """Windows along one axis: tap k of the window at output p lies at q = stride*p + dilation*k - lo."""

    size: int
    taps: int
    windows: int
    stride: int
    dilation: int
    lo: int

    @property
    def span(self) -> int:
        """How many samples lie from a window's first tap to its last."""
        return self.dilation * (self.taps - 1) + 1

    def outputs(self, bounds: Sequence[int]) -> list[Interval]:
        """Cut the outputs where the chunks of x are cut: each goes to the chunk in which the middle of its window lies."""
        return cut([-(-q // self.stride) + self._shift for q in bounds[1:-1]], self.windows)

    def inputs(self, bounds: Sequence[int]) -> list[Interval]:
        """Cut the inputs where the chunks of y are cut: the inverse of `outputs`, where chunks are multiples of the stride."""
        return cut([self.stride * (p - self._shift) for p in bounds[1:-1]], self.size)

    def seen(self, outputs: Interval) -> Interval:
        """Return the samples that some outputs see, from the first to the last, those beyond the borders too."""
        return self.stride * outputs[0] - self.lo, self.stride * (outputs[1] - 1) - self.lo + self.span

    def seeing(self, samples: Interval) -> Interval:
        """Return the outputs that see some samples; at least one, and the first starts no later than the samples do."""
        first, last = samples[0] + self.lo, samples[1] - 1 + self.lo
        begin = min(-(-(first - self.span + 1) // self.stride), first // self.stride)
        begin = min(max(begin, 0), self.windows - 1)
        return begin, min(max(last // self.stride, begin), self.windows - 1) + 1

    @property
    def _shift(self) -> int:
        return -(-(self.lo - (self.span - 1) // 2) // self.stride)


class Run(NamedTuple):
    """Places of a block, one after the other, that hold samples of one chunk; a single sample stands for all of them."""

    places: slice
    chunk: int
    samples: slice


class Gather:
    """Blocks of an array, put together from parts of its chunks: along each axis, one interval of samples per block.

    What an interval has beyond the borders is zero, or repeats samples as the axis' padding mode says.
    """

    def __init__(self, a: Array, intervals: Sequence[Sequence[Interval]], modes: Sequence[str] = ()) -> None:
        modes = ("zeros",) * (a.ndim - len(modes)) + tuple(modes)
        self._a, self._intervals = a, intervals
        self._runs = [
            [list(_runs(bounds(chunks), interval, mode)) for interval in of_axis]
            for chunks, of_axis, mode in zip(a.chunks, intervals, modes, strict=True)
        ]
        self._name = f"part-{tokenize(a.name, intervals, modes)}"

    def block(self, index: Index, tasks: Tasks) -> tuple[Block, list[Any]]:
        """Return how one block is put together, and the keys of its parts, whose tasks are added to `tasks`."""
        shape = tuple(end - begin for (begin, end) in (of[i] for of, i in zip(self._intervals, index, strict=True)))
        places, keys = [], []
        for number, runs in enumerate(product(*(of[i] for of, i in zip(self._runs, index, strict=True)))):
            key = (self._a.name, *(run.chunk for run in runs))
            samples = tuple(run.samples for run in runs)
            if any(s != slice(0, of[c], 1) for s, of, c in zip(samples, self._a.chunks, key[1:], strict=True)):
                tasks[(self._name, *index, number)] = (partial(_part, samples), key)
                key = (self._name, *index, number)
            places.append(tuple(run.places for run in runs))
            keys.append(key)
        return Block(shape, tuple(places)), keys


class Block(NamedTuple):
    """How a block is put together: parts at their places, and zeros elsewhere."""

    shape: tuple[int, ...]
    places: tuple[tuple[slice, ...], ...]

    def of(self, parts: Sequence[Array], like: Array) -> Array:
        """Return the block, in the library of `like`; a lone part that fills it is the block itself."""
        if len(parts) == 1 and tuple(parts[0].shape) == self.shape:
            return parts[0]
        xp = array_namespace(like)
        block = xp.zeros(self.shape, dtype=like.dtype, device=device(like))
        for places, part in zip(self.places, parts, strict=True):
            block[places] = part
        return block


def bounds(chunks: Sequence[int]) -> list[int]:
    """Return where chunks begin, and where the last one ends."""
    return [0, *accumulate(chunks)]


def intervals(chunks: Sequence[int]) -> list[Interval]:
    """Return the samples of each chunk that has any."""
    return cut(bounds(chunks), sum(chunks))


def cut(at: Iterable[int], size: int) -> list[Interval]:
    """Return the intervals between cuts, and the borders; at least one, be it empty."""
    return list(pairwise(sorted({0, size, *(min(max(q, 0), size) for q in at)}))) or [(0, 0)]


def sizes(of: Sequence[Interval]) -> tuple[int, ...]:
    """Return the chunks that intervals make."""
    return tuple(end - begin for begin, end in of)


def array(name: str, tasks: Tasks, grid: Sequence[Sequence[Interval]], read: Sequence[Array | None], meta: Array) -> Array:
    """Return the dask array of blocks on a grid; meta is an empty array like them, so that no task need be tried out."""
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[a for a in read if a is not None])
    return da.Array(graph, name, tuple(map(sizes, grid)), dtype=meta.dtype, meta=meta)


def blocks(*grid: Sequence[Interval]) -> Iterator[Index]:
    """Visit the blocks of a grid."""
    return product(*(range(len(of_axis)) for of_axis in grid))


def _part(samples: tuple[slice, ...], chunk: Array) -> Array:
    """Return a part of a chunk, copied if it is thin, so that it does not keep the whole chunk in memory."""
    part = chunk[samples]
    return array_namespace(part).asarray(part, copy=True) if 2 * part.size < chunk.size else part


def _runs(chunk_bounds: Sequence[int], interval: Interval, mode: str) -> Iterator[Run]:
    """Yield the runs of an interval: of samples inside the borders, and of those repeated beyond them."""
    (begin, end), size = interval, chunk_bounds[-1]
    inside = max(begin, 0), min(end, size)
    chunk = bisect_right(chunk_bounds, inside[0]) - 1
    q = inside[0]
    while q < inside[1]:
        stop, start = min(chunk_bounds[chunk + 1], inside[1]), chunk_bounds[chunk]
        if q < stop:
            yield Run(slice(q - begin, stop - begin), chunk, slice(q - start, stop - start, 1))
        q, chunk = max(q, stop), chunk + 1
    if mode != "zeros":
        for out_begin, out_end in ((begin, min(end, 0)), (max(begin, size), end)):
            for first, last, source, step in repeats(mode, size, (out_begin, out_end), chunk_bounds):
                chunk = bisect_right(chunk_bounds, source) - 1
                source -= chunk_bounds[chunk]
                last_source = source + step * (last - first - 1)
                low, high = min(source, last_source), max(source, last_source)
                samples = slice(low, high + 1, 1) if step >= 0 else slice(high, low - 1 if low else None, -1)
                yield Run(slice(first - begin, last - begin), chunk, samples)


def repeats(mode: str, size: int, beyond: Interval, chunk_bounds: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield (first, last, source, step): from first up to last, positions beyond the borders that repeat samples of one chunk.

    They are source, source + step, ..., with a step of 1, 0 or -1.
    """
    if beyond[0] >= beyond[1]:
        return
    source = _border.repeated(mode, size, np.arange(*beyond)).tolist()
    chunk = [bisect_right(chunk_bounds, q) for q in source]
    first = 0
    while first < len(source):
        last, step = first + 1, 0
        if last < len(source) and chunk[last] == chunk[first]:
            step = source[last] - source[first]
        step = step if abs(step) <= 1 else 0
        while last < len(source) and chunk[last] == chunk[first] and source[last] - source[last - 1] == step:
            last += 1
        yield beyond[0] + first, beyond[0] + last, source[first], step
        first = last
