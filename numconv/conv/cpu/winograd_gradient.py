"""The gradient of a convolution in its weights, in the basis of `winograd_basis`: w = G' (sum over tiles of x * y) G.

Tiles are taken in chunks that the geometry fixes. Of a chunk, `transform` changes all x and y to the basis; then each task of
`reduce` owns a block of the weights and sums over the tiles in order. So results are the same for any number of threads.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np

from ..._array import flat
from ..._jit import Job, address_of, kernel, njit_inner, scratch, workers
from ..._memory import empty
from ..._simd import VECTOR_BYTES, at, int32_pointer, outer_tile, pointer
from ..geometry import ConvGeometry
from .winograd_basis import from_w
from .winograd_plan import SHAPES
from .winograd_samples import place_of, row_to_basis, samples_to_basis, strip_size, whole_lines
from .winograd_tiles import TILING, Tiling, tiling

Array = np.ndarray[Any, Any]

R0, V0 = SHAPES[0]  # names of single numbers are constants to Numba, as the tile needs them

# Bytes of x and y in the basis: as many as the weights in the basis twice over, which a chunk reads and writes, in these limits
# (56 x 56 with 64 channels on one thread: 4.8 ms in chunks of 4 MiB, 6.5 ms in 16).
CHUNK_LEAST, CHUNK_MOST = 4 << 20, 16 << 20
TILES_AT_ONCE = 128  # summed in registers, so that their channels stay in L1
SUMS_BYTES = 256 << 10  # of a block of weights in the basis: they fit L2

JOB = Job(
    "x y w scratch v_offset d_offset taps_of",
    tiling=TILING, lanes=1, groups=1, c_in=1, all_in=1, c_out=1, taps=1, elements=1, first=1, rows=1, begins=1, ends=1,
    v_row=1, v_step=1, d_row=1, d_step=1, d_at=1, parts_in=1, parts_out=1, sum_row=1, sum_step=1, sum_size=1, kept=1,
    sum_at=1, strip_at=1, strip_size=1,
)  # fmt: skip


def contract_w(x: Array, y: Array, g: ConvGeometry, m: int | None) -> Array:
    """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i, stride*p + dilation*k - pad_lo], in tiles of m if given."""
    if not x.size * y.size:
        return np.zeros(g.w_shape, x.dtype)
    w = empty(g.w_shape, x.dtype)
    plan = plan_of(g, x.itemsize, m, numba.get_num_threads())
    arrays = {"x": flat(x), "y": flat(y), "w": w, "scratch": scratch(plan.bytes)}
    for job, rows in plan.chunks:
        transform(workers(2 * g.groups * rows, g.flops / 8), x.dtype, job, **arrays)
        reduce(workers(plan.tasks, g.flops / 8), x.dtype, job, **arrays)
    return w


class Plan(NamedTuple):
    """The job of each chunk and its rows of tiles, the tables jobs point to, tasks that reduce, and bytes of scratch memory."""

    chunks: tuple[tuple[Array, int], ...]
    tables: tuple[Array, ...]
    tasks: int
    bytes: int


@lru_cache(256)
def plan_of(g: ConvGeometry, itemsize: int, m: int | None, threads: int) -> Plan:
    """Return what contract_w is to do; the order of its sums does not depend on the threads."""
    t, lanes = tiling(g, False, m), VECTOR_BYTES // itemsize
    elements, across = t.elements, t.axes[1].tiles
    blocks = _blocks(t, g, lanes)
    fewest = min(g.c_in, g.c_out)  # less than a vector: the last one written reaches beyond them
    v_row, d_row = (whole_lines(count * size + lanes * (fewest < lanes), itemsize) for count, size in blocks)
    all_rows = t.images * t.axes[0].tiles
    chunk_bytes = max(CHUNK_LEAST, min(CHUNK_MOST, 2 * g.groups * elements * g.c_in * t.src_parts * g.c_out * itemsize))
    chunks = -(-all_rows // max(1, chunk_bytes // (g.groups * elements * (v_row + d_row) * across * itemsize)))
    rows = -(-all_rows // chunks)
    starts = range(0, all_rows, rows)
    v_step, d_step = (whole_lines(rows * across * row, itemsize) for row in (v_row, d_row))
    parts, (part_in, part_out) = _parts(g, blocks, elements * itemsize, threads)
    sum_row = part_out * V0 * lanes
    sum_step = whole_lines(part_in * R0 * sum_row, itemsize)
    kept, tasks = len(starts) > 1, g.groups * parts[0] * parts[1]
    down, side = t.axes
    sum_size = elements * sum_step + whole_lines((down.r * (side.n + side.r)) * lanes, itemsize)
    strip = strip_size(t, across, itemsize)
    d_at = g.groups * elements * v_step
    sum_at = d_at + g.groups * elements * d_step
    strip_at = sum_at + (tasks if kept else threads) * sum_size
    tables = (
        np.arange(TILES_AT_ONCE, dtype=np.int32) * v_row, np.arange(TILES_AT_ONCE, dtype=np.int32) * d_row,
        t.taps(g.w_size[1] * g.w_size[2], g.w_size[2]),
    )  # fmt: skip
    jobs = tuple(
        JOB.fill(
            tiling=t.record, lanes=lanes, groups=g.groups, c_in=g.c_in, all_in=g.c_in * t.src_parts, c_out=g.c_out,
            taps=g.w_size[0] * g.w_size[1] * g.w_size[2], elements=elements, first=start, rows=min(rows, all_rows - start),
            begins=start == 0, ends=start == starts[-1], v_row=v_row, v_step=v_step, d_row=d_row, d_step=d_step, d_at=d_at,
            parts_in=parts[0], parts_out=parts[1], sum_row=sum_row, sum_step=sum_step, sum_size=sum_size, kept=kept,
            sum_at=sum_at, strip_at=strip_at, strip_size=strip,
            **{name: address_of(table) for name, table in zip(("v_offset", "d_offset", "taps_of"), tables, strict=True)},
        )
        for start in starts
    )  # fmt: skip
    return Plan(
        tuple((job, min(rows, all_rows - start)) for job, start in zip(jobs, starts, strict=True)),
        tables,
        tasks,
        (strip_at + threads * strip) * itemsize,
    )


Blocks = tuple[tuple[int, int], tuple[int, int]]


def _blocks(t: Tiling, g: ConvGeometry, lanes: int) -> Blocks:
    """Return how many register tiles the channels of x make, parts and all, and of what size, and the channels of y."""
    return (-(-g.c_in * t.src_parts // R0), R0), (-(-g.c_out // (V0 * lanes)), V0 * lanes)


def _parts(g: ConvGeometry, blocks: Blocks, number_of: int, threads: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return into how many parts the channels of x and of y are cut, and how many register tiles the largest of them have."""
    (blocks_in, rows), (blocks_out, width) = blocks
    parts_out = -(-blocks_out // max(1, 64 // width))
    part_out = -(-blocks_out // parts_out)
    parts_in = -(-blocks_in // max(1, SUMS_BYTES // (number_of * rows * part_out * width)))
    while g.groups * parts_in * parts_out % threads and g.groups * parts_in * parts_out < 4 * threads and parts_in < blocks_in:
        parts_in += 1
    return (parts_in, parts_out), (-(-blocks_in // parts_in), part_out)


@kernel(JOB)
def transform(worker: int, workers: int, job: Any, like: Any) -> None:
    """v[group, f, tile, c] = (B' x B)[f] and d[group, f, tile, c] = (A y A')[f] for the tiles of a chunk."""
    memory, t, rows, lanes, across = pointer(job.scratch, like), job.tiling, job.rows, job.lanes, job.tiling.tiles[1]
    strip = at(memory, job.strip_at + worker * job.strip_size)
    layout_v, layout_d = (job.v_step, job.v_row), (job.d_step, job.d_row)
    depth, height, width = t.dst_size[0], t.dst_size[1], t.dst_size[2]
    plane, step = height * width, (t.dst_step[0], t.dst_step[1])
    for task in range(worker * job.groups * rows // workers, (worker + 1) * job.groups * rows // workers):
        h, r = task // rows, task % rows
        place, top = place_of(t, (job.first + r) // t.tiles[0]), (job.first + r) % t.tiles[0]
        n, z, row, column = place
        to = at(memory, h * job.elements * job.v_step + r * across * job.v_row)
        src = pointer(job.x, like)
        samples_to_basis(t, src, job.c_in, job.groups, h, place, (top, 0), across, lanes, strip, to, layout_v)
        src = at(pointer(job.y, like), ((n * job.groups + h) * job.c_out * depth + z) * plane)
        to = at(memory, job.d_at + h * job.elements * job.d_step + r * across * job.d_row)
        first = (top * t.m[0] * step[0] + row, column)
        row_to_basis(t, True, src, (depth * plane, height, width), first, step, 1, across, job.c_out, lanes, strip, to, layout_d)


@kernel(JOB)
def reduce(worker: int, workers: int, job: Any, like: Any) -> None:
    """Sum over the tiles of a chunk for one worker's blocks of weights; after the last chunk change them back."""
    memory, parts_in, parts_out, lanes = pointer(job.scratch, like), job.parts_in, job.parts_out, job.lanes
    blocks_in, blocks_out, elements = (job.all_in + R0 - 1) // R0, (job.c_out + V0 * lanes - 1) // (V0 * lanes), job.elements
    tasks = job.groups * parts_in * parts_out
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        h, p, q = task // (parts_in * parts_out), task // parts_out % parts_in, task % parts_out
        i, i_end = p * blocks_in // parts_in * R0, (p + 1) * blocks_in // parts_in * R0
        o, o_end = q * blocks_out // parts_out * V0 * lanes, (q + 1) * blocks_out // parts_out * V0 * lanes
        sums = at(memory, job.sum_at + (task if job.kept else worker) * job.sum_size)
        v, d = at(memory, h * elements * job.v_step + i), at(memory, job.d_at + h * elements * job.d_step + o)
        _sum(job, v, d, sums, i_end - i, o_end - o)
        if job.ends:
            _restore(job, like, h, i, min(i_end, job.all_in), o, min(o_end, job.c_out), sums)


@njit_inner
def _sum(job: Any, v: Any, d: Any, sums: Any, rows: int, columns: int) -> None:
    """sums[f, i, o] = or += sum over tiles of v[f, tile, i] * d[f, tile, o]."""
    tiles, width, sum_row, begins = job.rows * job.tiling.tiles[1], V0 * job.lanes, job.sum_row, job.begins
    v_row, d_row, v_step, d_step, sum_step = job.v_row, job.d_row, job.v_step, job.d_step, job.sum_step
    v_offset, d_offset = int32_pointer(job.v_offset), int32_pointer(job.d_offset)
    for f in range(job.elements):
        for t in range(0, tiles, TILES_AT_ONCE):
            count, adds = min(TILES_AT_ONCE, tiles - t), t > 0 or begins == 0
            for o in range(0, columns, width):
                b = at(d, f * d_step + t * d_row + o)
                for i in range(0, rows, R0):
                    a, to = at(v, f * v_step + t * v_row + i), at(sums, f * sum_step + i * sum_row + o)
                    outer_tile(a, v_offset, 1, b, d_offset, to, sum_row, count, adds, R0, V0)


@njit_inner
def _restore(job: Any, like: Any, h: int, i: int, i_end: int, o: int, o_end: int, sums: Any) -> None:
    """w[o, i] = G' sums G for a block of channels, each tap from the part of its channel that meets it."""
    t, lanes, step, c_in, all_taps = job.tiling, job.lanes, job.sum_step, job.c_in, job.taps
    kind0, kind1, r0, r1, n1 = t.kind[0], t.kind[1], t.r[0], t.r[1], t.n[1]
    half = at(sums, job.elements * step)
    whole = at(half, r0 * n1 * lanes)
    for c in range(i, i_end):
        taps = at(int32_pointer(job.taps_of), c // c_in * r0 * r1)
        for first in range(o, o_end, lanes):
            source = at(sums, (c - i) * job.sum_row + first - o)
            for j in range(n1):
                from_w(kind0, at(source, j * step), n1 * step, at(half, j * lanes), n1 * lanes)
            for k in range(r0):
                from_w(kind1, at(half, k * n1 * lanes), lanes, at(whole, k * r1 * lanes), lanes)
            w = at(pointer(job.w, like), ((h * job.c_out + first) * c_in + c % c_in) * all_taps)
            for lane in range(min(lanes, o_end - first)):
                for k in range(r0 * r1):
                    if taps[k] >= 0:
                        w[lane * c_in * all_taps + taps[k]] = whole[k * lanes + lane]
