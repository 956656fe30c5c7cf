"""contract_w: for every weight, a sum over batch and pixels of samples of a strip times gradients.

Rows of the register tile are (input channel, tap) pairs, each an offset in the strip; vectors are output channels, whose
gradients are turned pixel by pixel. The sum is split in a fixed way, not by threads, and its parts are added in order: the same
bits every time.
"""

from __future__ import annotations

from typing import Any

from ..._jit import njit, njit_inner, njit_parallel, prange
from ..._simd import TILES, at, outer_tile
from .strip import Flat, fill_strip

ROWS, VECTORS = TILES[0]


@njit_parallel
def reduce(
    workers: int,
    x: Flat,
    y: Flat,
    problems: tuple[int, int, int, int],
    parts: int,
    lanes: int,
    blocks: tuple[int, int, int],
    block: tuple[int, int],
    x_size: tuple[int, int, int],
    x_first: tuple[int, int, int],
    x_step: tuple[int, int, int],
    shape: tuple[int, int, int, int, int, int],
    depth_start: Flat,
    row_residues: Flat,
    column_residues: Flat,
    row_offset: Flat,
    strips: Any,
    turned: Any,
    pixel_offsets: Any,
    y_size: tuple[int, int, int],
    partial: Flat,
) -> None:
    """Give each worker its share of the sums; `problems` is (batch, groups, c_in, c_out)."""
    for worker in prange(workers):
        reduce_share(
            worker, workers, x, y, problems, parts, lanes, blocks, block, x_size, x_first, x_step, shape, depth_start,
            row_residues, column_residues, row_offset, strips, turned, pixel_offsets, y_size, partial,
        )  # fmt: skip


@njit_inner
def reduce_share(
    worker: int,
    workers: int,
    x: Flat,
    y: Flat,
    problems: tuple[int, int, int, int],
    parts: int,
    lanes: int,
    blocks: tuple[int, int, int],
    block: tuple[int, int],
    x_size: tuple[int, int, int],
    x_first: tuple[int, int, int],
    x_step: tuple[int, int, int],
    shape: tuple[int, int, int, int, int, int],
    depth_start: Flat,
    row_residues: Flat,
    column_residues: Flat,
    row_offset: Flat,
    strips: Any,
    turned: Any,
    pixel_offsets: Any,
    y_size: tuple[int, int, int],
    partial: Flat,
) -> None:
    """Compute one worker's sums: a task is a group, a panel of `lanes` output channels and a part of all blocks of pixels."""
    batch, groups, c_in, c_out = problems
    panels, row_blocks = (c_out + lanes - 1) // lanes, row_offset.size // ROWS
    per_image = blocks[0] * blocks[1] * blocks[2]
    all_blocks = batch * per_image
    x_volume, y_volume = x_size[0] * x_size[1] * x_size[2], y_size[0] * y_size[1] * y_size[2]
    reach = shape[4] - block[0]
    strip, panel, pixels, steps = strips[worker], turned[worker], pixel_offsets[worker, 0], pixel_offsets[worker, 1]
    tasks = groups * panels * parts
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        h, o, part = task // (panels * parts), task // parts % panels * lanes, task % parts
        to = task * row_offset.size * lanes
        first_block = part * all_blocks // parts
        for b in range(first_block, (part + 1) * all_blocks // parts):
            image, place = b // per_image * groups + h, b % per_image
            begin = (place // (blocks[1] * blocks[2]), place // blocks[2] % blocks[1] * block[0], place % blocks[2] * block[1])
            r_count, c_count = min(block[0], y_size[1] - begin[1]), min(block[1], y_size[2] - begin[2])
            fill_strip(
                x, image * c_in * x_volume, x_size, x_first, x_step, shape,
                depth_start, row_residues, column_residues, begin, r_count + reach, strip,
            )  # fmt: skip
            turn(y, (image * c_out + o) * y_volume, min(lanes, c_out - o), lanes, y_size, begin, r_count, c_count, panel)
            for r in range(r_count):
                for j in range(c_count):
                    pixels[r * c_count + j] = r * shape[5] + j
                    steps[r * c_count + j] = (r * c_count + j) * lanes
            for m in range(row_blocks):
                outer_tile(
                    at(strip, 0), at(pixels, 0), at(row_offset, m * ROWS), at(panel, 0), at(steps, 0),
                    at(partial, to + m * ROWS * lanes), lanes, r_count * c_count, b > first_block, ROWS, VECTORS,
                )  # fmt: skip


@njit_inner
def turn(
    y: Flat,
    base: int,
    channels: int,
    lanes: int,
    y_size: tuple[int, int, int],
    begin: tuple[int, int, int],
    rows: int,
    columns: int,
    panel: Flat,
) -> None:
    """panel[pixel, channel] = y[channel, pixel] for a block of pixels; zero for lanes past the last channel."""
    for c in range(lanes):
        for r in range(rows):
            start = base + ((c * y_size[0] + begin[0]) * y_size[1] + begin[1] + r) * y_size[2] + begin[2]
            to = r * columns * lanes + c
            if c < channels:
                for j in range(columns):
                    panel[to + j * lanes] = y[start + j]
            else:
                for j in range(columns):
                    panel[to + j * lanes] = 0


@njit
def add_parts(partial: Flat, groups: int, parts: int, lanes: int, padded_rows: int, c_out: int, length: int, w: Flat) -> None:
    """w[h, o, row] = sum over parts, in order, of partial[h, panel of o, part, row, lane of o]."""
    panels = (c_out + lanes - 1) // lanes
    for h in range(groups):
        for o in range(c_out):
            first = ((h * panels + o // lanes) * parts * padded_rows) * lanes + o % lanes
            to = (h * c_out + o) * length
            for r in range(length):
                total = partial[first + r * lanes]
                for part in range(1, parts):
                    total += partial[first + (part * padded_rows + r) * lanes]
                w[to + r] = total
