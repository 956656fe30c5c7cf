"""contract_y and contract_x: for every output, a sum over channels and taps of weights times samples of a strip.

Output channels are the rows of the register tile and neighbouring outputs its vectors: results leave in the order of storage.
"""

from __future__ import annotations

from typing import Any

from ..._jit import njit, njit_inner, njit_parallel, prange
from ..._simd import TILES, at, outer_tile
from .strip import Flat, fill_strip

ROWS = tuple(rows for rows, _ in TILES)
(R0, V0), (R1, V1), (R2, V2), (R3, V3) = TILES  # names of single numbers are constants to Numba, as the tile needs them


@njit
def pack(
    w: Flat, group: int, dst: int, dst_stride: int, src: int, src_stride: int, tap_index: Flat, rows: int, packed: Flat
) -> None:
    """packed[block of dst][src, tap][row] = the weight of a tap between two channels of a group; zero for rows past the last.

    Weights are (groups * c_out, c_in, taps) in memory; strides say which channel index runs over outputs, which over inputs.
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
    tile_shape: int,
    strips: Any,
    sums: Any,
    dst_size: tuple[int, int, int],
    dst_start: tuple[int, int, int],
    dst_step: tuple[int, int, int],
    count: tuple[int, int, int],
    dst: Flat,
) -> None:
    """Give each worker its share of the blocks of outputs; `problems` is (batch, groups, source channels, output channels)."""
    for worker in prange(workers):
        correlate_share(
            worker, workers, src, packed, bias, problems, blocks, block, src_size, src_first, src_step, shape,
            depth_start, row_residues, column_residues, tap_offset, tile_start, tile_shape, strips, sums, dst_size,
            dst_start, dst_step, count, dst,
        )  # fmt: skip


@njit_inner
def correlate_share(
    worker: int,
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
    tile_shape: int,
    strips: Any,
    sums: Any,
    dst_size: tuple[int, int, int],
    dst_start: tuple[int, int, int],
    dst_step: tuple[int, int, int],
    count: tuple[int, int, int],
    dst: Flat,
) -> None:
    """Compute one worker's blocks: fill a strip, slide tiles over it for every block of output channels, store."""
    batch, groups, c_src, c_dst = problems
    rows, length, pitch = tile_rows(tile_shape), tap_offset.size, shape[5]
    row_blocks = (c_dst + rows - 1) // rows
    strip, total = strips[worker], sums[worker]
    row_pitch = total.size // (row_blocks * rows)
    reach = shape[4] - block[0]
    per_image = blocks[0] * blocks[1] * blocks[2]
    tasks = batch * groups * per_image
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        image, place = task // per_image, task % per_image
        h = image % groups
        begin = (place // (blocks[1] * blocks[2]), place // blocks[2] % blocks[1] * block[0], place % blocks[2] * block[1])
        r_count, c_count = min(block[0], count[1] - begin[1]), min(block[1], count[2] - begin[2])
        src_base = image * c_src * src_size[0] * src_size[1] * src_size[2]
        fill_strip(
            src, src_base, src_size, src_first, src_step, shape,
            depth_start, row_residues, column_residues, begin, r_count + reach, strip,
        )  # fmt: skip
        last = (r_count - 1) * pitch + c_count
        for tile in tile_start:
            if tile >= last:
                break
            for m in range(row_blocks):
                weights_tile(
                    tile_shape, at(packed, (h * row_blocks + m) * length * rows), at(strip, tile), at(tap_offset, 0),
                    at(total, m * rows * row_pitch + tile), row_pitch, length,
                )  # fmt: skip
        store(
            total, row_pitch, pitch, bias, h * c_dst, c_dst, r_count, c_count,
            image * c_dst, dst_size, dst_start, dst_step, begin, dst,
        )  # fmt: skip


@njit_inner
def tile_rows(shape: int) -> int:
    """Rows of a shape of tile."""
    return ROWS[shape]


@njit_inner
def weights_tile(shape: int, packed: Any, strip: Any, tap_offset: Any, total: Any, row_pitch: int, length: int) -> None:
    """total[m, lanes] = sum over i of packed[i, m] * strip[tap_offset[i] + lanes], in the shape of tile chosen by the plan."""
    if shape == 0:
        outer_tile(packed, R0, 1, strip, tap_offset, total, row_pitch, length, False, R0, V0)
    elif shape == 1:
        outer_tile(packed, R1, 1, strip, tap_offset, total, row_pitch, length, False, R1, V1)
    elif shape == 2:
        outer_tile(packed, R2, 1, strip, tap_offset, total, row_pitch, length, False, R2, V2)
    else:
        outer_tile(packed, R3, 1, strip, tap_offset, total, row_pitch, length, False, R3, V3)


@njit_inner
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
