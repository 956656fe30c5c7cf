"""contract_y and contract_x: for every output, a sum over channels and taps of weights times samples of a strip.

Output channels are the rows of the register tile and neighbouring outputs its vectors, so results leave in the order they are stored.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ..._jit import ParallelKernel, njit, njit_parallel, prange
from ..._simd import at, outer_tile
from .strip import Flat, fill_strip


@njit
def pack(
    w: Flat, group: int, dst: int, dst_stride: int, src: int, src_stride: int, tap_index: Flat, rows: int, packed: Flat
) -> None:
    """packed[block of dst][src, tap][row] = the weight of a tap between two channels of a group; zero for rows past the last channel.

    Weights are (groups * c_out, c_in, taps) in memory; the strides say which channel index runs over outputs and which over inputs.
    """
    taps = tap_index.size
    blocks = (dst + rows - 1) // rows
    for b in range(blocks):
        for c in range(src):
            for t in range(taps):
                to = ((b * src + c) * taps + t) * rows
                for m in range(rows):
                    d = b * rows + m
                    packed[to + m] = w[group + d * dst_stride + c * src_stride + tap_index[t]] if d < dst else 0


@cache
def kernel(rows: int, vectors: int) -> ParallelKernel:
    """Return the kernel for one shape of tile; the two numbers are constants in its code."""

    @njit_parallel
    def correlate(
        workers: int,
        src: Flat,
        packed: Flat,
        bias: Flat,
        problems: tuple[int, int, int, int],
        blocks: tuple[int, int, int],
        block: tuple[int, int],
        src_size: tuple[int, int, int],
        src_first: tuple[int, int, int],
        src_step: tuple[int, int, int],
        shape: tuple[int, int, int, int, int, int],
        depth_start: Flat,
        row_residues: Flat,
        column_residues: Flat,
        tap_offset: Flat,
        tile_start: Flat,
        strips: Any,
        sums: Any,
        dst_size: tuple[int, int, int],
        dst_start: tuple[int, int, int],
        dst_step: tuple[int, int, int],
        count: tuple[int, int, int],
        dst: Flat,
    ) -> None:
        batch, groups, c_src, c_dst = problems
        length, pitch = tap_offset.size, shape[5]
        per_image = blocks[0] * blocks[1] * blocks[2]
        tasks = batch * groups * per_image
        row_blocks = (c_dst + rows - 1) // rows
        for worker in prange(workers):
            strip, total = strips[worker], sums[worker]
            row_pitch = total.size // (row_blocks * rows)
            for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
                image, place = task // per_image, task % per_image
                n, h = image // groups, image % groups
                begin = (
                    place // (blocks[1] * blocks[2]),
                    place // blocks[2] % blocks[1] * block[0],
                    place % blocks[2] * block[1],
                )
                r_count, c_count = min(block[0], count[1] - begin[1]), min(block[1], count[2] - begin[2])
                src_base = (n * groups + h) * c_src * src_size[0] * src_size[1] * src_size[2]
                reach = shape[4] - block[0]
                fill_strip(
                    src, src_base, src_size, src_first, src_step, shape,
                    depth_start, row_residues, column_residues, begin, r_count + reach, strip,
                )  # fmt: skip
                last = (r_count - 1) * pitch + c_count
                for tile in tile_start:
                    if tile >= last:
                        break
                    for m in range(row_blocks):
                        outer_tile(
                            at(packed, (h * row_blocks + m) * length * rows), rows, 1, at(strip, tile), at(tap_offset, 0),
                            at(total, m * rows * row_pitch + tile), row_pitch, length, False, rows, vectors,
                        )  # fmt: skip
                dst_base = (n * groups + h) * c_dst
                store(
                    total,
                    row_pitch,
                    pitch,
                    bias,
                    h * c_dst,
                    c_dst,
                    r_count,
                    c_count,
                    dst_base,
                    dst_size,
                    dst_start,
                    dst_step,
                    begin,
                    dst,
                )

    return correlate


@njit
def store(
    total: Flat,
    row_pitch: int,
    pitch: int,
    bias: Flat,
    bias_base: int,
    channels: int,
    rows: int,
    columns: int,
    dst_base: int,
    dst_size: tuple[int, int, int],
    dst_start: tuple[int, int, int],
    dst_step: tuple[int, int, int],
    begin: tuple[int, int, int],
    dst: Flat,
) -> None:
    """Write a block of sums, plus bias, where its outputs belong."""
    q0 = dst_start[0] + dst_step[0] * begin[0]
    q2, step = dst_start[2] + dst_step[2] * begin[2], dst_step[2]
    for m in range(channels):
        add = bias[bias_base + m] if bias.size else bias.dtype.type(0)
        for r in range(rows):
            q1 = dst_start[1] + dst_step[1] * (begin[1] + r)
            to = (((dst_base + m) * dst_size[0] + q0) * dst_size[1] + q1) * dst_size[2] + q2
            take = m * row_pitch + r * pitch
            if step == 1:
                for j in range(columns):
                    dst[to + j] = total[take + j] + add
            else:
                for j in range(columns):
                    dst[to + step * j] = total[take + j] + add
