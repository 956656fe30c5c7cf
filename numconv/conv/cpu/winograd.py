"""Convolution by Winograd's method, F(4x4, 3x3) and its kin: 36 products for 144, in tiles that `winograd_tiles` cuts.

A task takes a chunk of tiles of outputs, changes the samples under them to the basis of `winograd_basis`, multiplies them with
the weights in that basis, a matrix product for each of its elements f, and changes the sums back. contract_x is contract_y with
channels swapped and taps turned round.

In float32, of normal numbers, the largest error over the largest result was measured as 2e-7 to 5e-7 for tiles of 4 elements a
side, 5e-7 to 2.3e-6 for 5 and 7e-7 to 2.6e-6 for 6 (direct sums: up to 8e-7), with 16 to 512 channels, all three contractions; in
float64 4e-15 and 6e-16 for 6 and 4. A NaN or an infinity in x reaches all outputs of the tiles whose windows of m + r - 1 samples
hold it: up to m - 1 samples further than it should.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ..._array import flat
from ..._jit import kernel, njit_inner, scratch, workers
from ..._memory import empty
from ..._simd import VECTOR_BYTES, at, copy, int32_pointer, number, outer_tile, pointer, take_vector, zero
from ..geometry import ConvGeometry
from . import winograd_gradient, winograd_tiles
from .winograd_basis import from_y, from_y_plus, to_w, transpose
from .winograd_plan import FEW, JOB, SHAPES, plan_of
from .winograd_samples import place_of, samples_to_basis
from .winograd_tiles import fits, tiling

__all__ = ["contract_w", "contract_x", "contract_y", "fits", "speedup", "tile", "ulps", "workspace"]

Array = np.ndarray[Any, Any]

(R0, V0), (R1, V1) = SHAPES  # names of single numbers are constants to Numba, as the tile needs them


def contract_y(x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False, m: int | None = None) -> Array:
    """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i, stride*p + dilation*k - pad_lo], plus b[o]; m, if given, of F(m, r)."""
    return _run(x, w, b, empty(g.y_shape, x.dtype), g, False, rectify, m)


def contract_x(y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False, m: int | None = None) -> Array:
    """x[n,i,q] = sum over the o,p,k with stride*p + dilation*k - pad_lo = q of w[o,i,k] * y[n,o,p], plus b[i]; m as above."""
    return _run(y, w, b, empty(g.x_shape, y.dtype), g, True, rectify, m)


def contract_w(x: Array, y: Array, g: ConvGeometry, m: int | None = None) -> Array:
    """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i, stride*p + dilation*k - pad_lo]; m as above."""
    return winograd_gradient.contract_w(x, y, g, m)


def tile(g: ConvGeometry, contraction: str) -> str:
    """Name the algorithm of a contraction."""
    return tiling(g, contraction == "contract_x").name


def ulps(g: ConvGeometry, contraction: str, m: int | None = None) -> float:
    """Return how many times the error of direct sums to expect."""
    n = max(axis.n for axis in tiling(g, contraction == "contract_x", m).axes)
    return {4: 1.0, 5: 2.2, 6: 2.8}[n]


def workspace(g: ConvGeometry, itemsize: int, contraction: str, threads: int) -> int:
    """Bytes of scratch memory that a contraction takes."""
    if not g.batch:
        return 0
    if contraction == "contract_w":
        return winograd_gradient.plan_of(g, itemsize, None, threads).bytes
    plan = plan_of(g, itemsize, contraction == "contract_x", threads, None)
    return plan.bytes(min(threads, plan.tasks))


def speedup(g: ConvGeometry, contraction: str) -> float:
    """Estimate how many times as long direct sums take; 0 where no gain is known."""
    return winograd_tiles.speedup(g, contraction, (SHAPES[0][0], SHAPES[0][1] * VECTOR_BYTES // 4))


def _run(
    src: Array, w: Array, b: Array | None, dst: Array, g: ConvGeometry, adjoint: bool, rectify: bool, m: int | None
) -> Array:
    if dst.size:
        plan = plan_of(g, src.itemsize, adjoint, numba.get_num_threads(), m, rectify)
        threads, preparing = workers(plan.tasks, g.flops / 8), workers(plan.kept, w.size * 8)
        memory = scratch(plan.bytes(max(threads, preparing)))
        arrays = {"src": flat(src), "w": flat(w), "bias": None if b is None else flat(b), "dst": dst, "scratch": memory}
        if plan.kept:
            prepare(preparing, dst.dtype, plan.job, **arrays)
        correlate(threads, dst.dtype, plan.job, **arrays)
    return dst


@kernel(JOB)
def prepare(worker: int, workers: int, job: Any, like: Any) -> None:
    """Transform the weights of all groups, panels and slices of channels, for all tasks to use."""
    u, slices, panels = pointer(job.scratch, like), job.slices, job.panels
    stage = at(u, job.u_all + worker * job.worker_size + job.stage_at)
    parts = job.groups * panels * slices
    for part in range(worker * parts // workers, (worker + 1) * parts // workers):
        _weights(job, like, part // (panels * slices), part // slices % panels, part % slices, stage, at(u, part * job.u_size))


@kernel(JOB)
def correlate(worker: int, workers: int, job: Any, like: Any) -> None:
    """Compute one worker's tasks: a chunk of tiles of a group, for some of the panels of its output channels."""
    memory, t = pointer(job.scratch, like), job.tiling
    own = at(memory, job.u_all + worker * job.worker_size)
    v, sums = at(own, job.v_at), at(own, job.sum_at)
    splits, panels, slices, done = job.splits, job.panels, job.slices, -1
    chunks, tile_rows = job.row_chunks * job.column_chunks, job.images * t.tiles[0]
    tasks = job.groups * chunks * splits
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        split, part = task % splits, task // splits
        h, chunk = part // chunks, part % chunks
        r, c = chunk // job.column_chunks, chunk % job.column_chunks
        row, column = r * tile_rows // job.row_chunks, c * t.tiles[1] // job.column_chunks
        rows = (r + 1) * tile_rows // job.row_chunks - row
        columns = (c + 1) * t.tiles[1] // job.column_chunks - column
        if done != part:
            for k in range(rows):
                place, first = place_of(t, (row + k) // t.tiles[0]), ((row + k) % t.tiles[0], column)
                samples_to_basis(
                    t, pointer(job.src, like), job.c_src, job.groups, h, place, first, columns, job.lanes, at(own, job.strip_at),
                    at(v, k * columns * job.v_row), (job.v_step, job.v_row),
                )  # fmt: skip
            done = part
        for panel in range(split * panels // splits, (split + 1) * panels // splits):
            for s in range(slices):
                u = at(memory, ((h * panels + panel) * slices + s) * job.u_size) if job.kept else own
                if not job.kept:
                    _weights(job, like, h, panel, s, at(own, job.stage_at), u)
                _multiply(job, at(v, s * job.channels), u, sums, rows * columns, panel, s)
            _outputs(job, like, h, panel, row, rows, column, columns, own)


@njit_inner
def _weights(job: Any, like: Any, h: int, panel: int, s: int, stage: Any, u: Any) -> None:
    """u[f, block, c, lane] = (G w G')[f] for the outputs of a panel and a slice of the inputs, parts and all."""
    t, block, lanes, u_row, channels, c_src, taps = job.tiling, job.block, job.lanes, job.u_row, job.channels, job.c_src, job.taps
    parts, all_parts, per_block = t.dst_parts[0] * t.dst_parts[1], t.src_parts[0] * t.src_parts[1], block // lanes
    w, window = at(pointer(job.w, like), h * c_src * job.c_dst * taps), t.r[0] * t.r[1]
    first, end = s * channels, min((s + 1) * channels, job.all_src)
    begin, stop = panel * job.panel * per_block, min((panel + 1) * job.panel * per_block, job.vectors)
    for p in range((stop - begin + per_block - 1) // per_block):
        c = first
        while c < end:  # a few channels, whose weights may follow each other in memory: a line of u is whole before it leaves L1
            src_part, channel = c // c_src, c % c_src
            run = min(FEW, min(end - c, c_src - channel)) if job.w_src == taps else 1
            for k in range(begin + p * per_block, min(begin + (p + 1) * per_block, stop)):
                o, dst_part = k // parts * lanes, k % parts
                part = src_part // all_parts * (parts * all_parts) + (dst_part if parts > 1 else src_part % all_parts)
                to = at(u, p * channels * u_row + k % per_block * lanes)
                _bring(at(w, channel * job.w_src), o, min(lanes, job.c_dst - o), job.w_dst, run * taps, lanes, stage)
                for i in range(run):
                    _to_basis(
                        t, at(stage, i * taps * lanes), at(int32_pointer(job.taps_of), part * window), lanes,
                        at(stage, FEW * taps * lanes), at(to, (c + i - first) * u_row), block,
                    )  # fmt: skip
            c += run


@njit_inner
def _bring(w: Any, first: int, outputs: int, step: int, count: int, lanes: int, to: Any) -> None:
    """to[j, lane] = w[step * o + j] for a vector of outputs o from `first`, those missing repeating the first."""
    w = at(w, first * step)
    if outputs == lanes and count >= lanes:
        for j in range(0, count - lanes, lanes):
            transpose(at(w, j), step, at(to, j * lanes), lanes)
        transpose(at(w, count - lanes), step, at(to, (count - lanes) * lanes), lanes)
    else:
        for j in range(count):
            for lane in range(lanes):
                to[j * lanes + lane] = w[(lane if lane < outputs else 0) * step + j]


@njit_inner
def _to_basis(t: Any, w: Any, taps: Any, lanes: int, window: Any, to: Any, step: int) -> None:
    """to[f] = (G window G')[f] for the window of these taps of w, 0 where there is none."""
    kind0, kind1, r0, r1, n0, n1 = t.kind[0], t.kind[1], t.r[0], t.r[1], t.n[0], t.n[1]
    half = at(window, r0 * r1 * lanes)
    for j in range(r0 * r1):
        if taps[j] < 0:
            zero(at(window, j * lanes), lanes)
        else:
            take_vector(at(w, taps[j] * lanes), 1, 0, 0, lanes, at(window, j * lanes))
    for j in range(r1):
        to_w(kind0, at(window, j * lanes), r1 * lanes, at(half, j * lanes), r1 * lanes)
    for i in range(n0):
        to_w(kind1, at(half, i * r1 * lanes), lanes, at(to, i * n1 * step), step)


@njit_inner
def _multiply(job: Any, v: Any, u: Any, sums: Any, tiles: int, panel: int, s: int) -> None:
    """sums[f, tile, o] = or += sum over a slice of the channels c of v[f, tile, c] * u[f, o, c]."""
    shape, block, channels, v_row, sum_row = job.shape, job.block, job.channels, job.v_row, job.sum_row
    v_step, u_row, sum_step = job.v_step, job.u_row, job.sum_step
    a_row, b_step, length = int32_pointer(job.a_row), int32_pointer(job.b_step), min(channels, job.all_src - s * channels)
    blocks = min(job.panel, (job.vectors * job.lanes + block - 1) // block - panel * job.panel)
    for f in range(job.elements):
        for p in range(blocks):
            b, to = at(u, p * channels * u_row + f * block), at(sums, f * sum_step + p * block)
            if shape == 0:
                for t in range(0, tiles, R0):
                    a = at(v, f * v_step + t * v_row)
                    outer_tile(a, 1, a_row, b, b_step, at(to, t * sum_row), sum_row, length, s > 0, R0, V0)
            else:
                for t in range(0, tiles, R1):
                    a = at(v, f * v_step + t * v_row)
                    outer_tile(a, 1, a_row, b, b_step, at(to, t * sum_row), sum_row, length, s > 0, R1, V1)


@njit_inner
def _outputs(job: Any, like: Any, h: int, panel: int, row: int, rows: int, column: int, columns: int, own: Any) -> None:
    """dst[p] = (A' sums A)[p] + bias for a panel of outputs, as far as tiles lie in dst; parts of rows one by one."""
    t, lanes, c_dst, per_block, out_row = job.tiling, job.lanes, job.c_dst, job.block // job.lanes, job.out_row
    parts0, parts1, depth = t.dst_parts[0], t.dst_parts[1], t.dst_size[0]
    parts, plane = parts0 * parts1, depth * t.dst_size[1] * t.dst_size[2]
    vectors = (min((panel + 1) * job.panel * per_block, job.vectors) - panel * job.panel * per_block) // parts
    first = panel * job.panel * per_block // parts * lanes
    sums, bias, out = at(own, job.sum_at), at(own, job.bias_at), at(own, job.out_at)
    turned, half = at(out, out_row * lanes), at(out, 2 * out_row * lanes)
    for o in range(vectors * lanes):
        bias[o] = pointer(job.bias, like)[h * c_dst + first + o] if job.bias != 0 and first + o < c_dst else number(like, 0)
    floor = number(like, 0 if job.rectify else -np.inf)
    line = max(1, 64 // VECTOR_BYTES // parts)  # vectors whose sums share a line of cache
    for begin in range(0, vectors, line):
        for r in range(rows):
            n, z, row_residue, column_residue = place_of(t, (row + r) // t.tiles[0])
            top = t.dst_step[0] * ((row + r) % t.tiles[0] * t.m[0]) + t.dst_first[0] + row_residue
            dst = at(pointer(job.dst, like), ((n * job.groups + h) * c_dst + first) * plane + z * t.dst_size[1] * t.dst_size[2])
            for k in range(columns):
                left = t.dst_step[1] * ((column + k) * t.m[1]) + t.dst_first[1] + column_residue
                for o in range(begin, min(begin + line, vectors)):
                    source = at(sums, (r * columns + k) * job.sum_row + o * parts * lanes)
                    for i in range(parts0):
                        for j in range(parts1):
                            _restore(
                                t, at(source, (i * parts1 + j) * lanes), job.sum_step, half, at(bias, o * lanes),
                                floor, at(out, j * lanes), parts1 * lanes, lanes,
                            )  # fmt: skip
                        for p in range(0, out_row, lanes):
                            transpose(at(out, p * lanes), lanes, at(turned, p), out_row)
                        count = min(lanes, c_dst - first - o * lanes)
                        _store(t, turned, out_row, count, top + i, left, at(dst, o * lanes * plane), plane)


@njit_inner
def _restore(t: Any, source: Any, step: int, half: Any, bias: Any, floor: Any, out: Any, out_step: int, lanes: int) -> None:
    """out[i, j] = (A' source A)[i, j] + bias, but not less than `floor`, for the outputs of a tile, `out_step` apart."""
    kind0, kind1, n1, m0, m1 = t.kind[0], t.kind[1], t.n[1], t.m[0], t.m[1]
    for j in range(n1):
        from_y(kind0, at(source, j * step), n1 * step, at(half, j * lanes), n1 * lanes)
    for i in range(m0):
        from_y_plus(kind1, at(half, i * n1 * lanes), lanes, at(out, i * m1 * out_step), out_step, bias, floor)


@njit_inner
def _store(t: Any, tile: Any, row: int, count: int, top: int, left: int, dst: Any, plane: int) -> None:
    """Write the tiles of `count` channels, as far as they lie in their planes."""
    height, width, down, across, wide = t.dst_size[1], t.dst_size[2], t.dst_step[0], t.dst_step[1], t.m[1] * t.dst_parts[1]
    low, high = max(0, -(top // down)), min(t.m[0], -((top - height) // down))
    begin, end = max(0, -left), min(wide, width - left)
    whole, pitch = begin == 0 and end == wide, down * width
    for c in range(count):
        source, to = at(tile, c * row), at(dst, c * plane + top * width + left)
        if across != t.dst_parts[1]:  # neighbours in the tile are not neighbours in the plane
            for i in range(low, high):
                for j in range(min(wide, -((left - width) // across))):
                    to[i * pitch + j * across] = source[i * wide + j]
        elif whole and wide == 4:
            for i in range(low, high):
                copy(at(to, i * pitch), at(source, i * wide), 4)
        elif whole and wide == 8:
            for i in range(low, high):
                copy(at(to, i * pitch), at(source, i * wide), 8)
        else:
            for i in range(low, high):
                copy_few(at(to, i * pitch + begin), at(source, i * wide + begin), end - begin)


@njit_inner
def copy_few(to: Any, source: Any, count: int) -> None:
    """Copy a few numbers, by fours, twos and ones."""
    done = 0
    while done + 4 <= count:
        copy(at(to, done), at(source, done), 4)
        done += 4
    if done + 2 <= count:
        copy(at(to, done), at(source, done), 2)
        done += 2
    if done < count:
        at(to, done)[0] = source[done]
