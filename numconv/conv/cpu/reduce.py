"""contract_w: for every weight, a sum over batch and pixels of samples of a strip times gradients.

Vectors run along neighbouring pixels: rows of the tile are (input channel, tap) pairs, each an offset in the strip of x, and
columns are output channels, whose gradients lie in a strip of the same width. The sum is split in a fixed way, not by threads,
and its parts are added in order: the same bits every time. Gaps between rows multiply samples by zero, so a NaN or infinity in x
reaches all weights of its channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._jit import Job, kernel, njit_inner
from ..._simd import DOT_TILES, at, dot_tile, int32_pointer, pointer
from .strip import STRIP, fill_strip

(M0, N0), (M1, N1), (M2, N2) = DOT_TILES

JOB = Job(
    "x y w partial scratch row_offset",
    x_strip=STRIP, y_strip=STRIP, batch=1, groups=1, c_in=1, c_out=1, taps=1, parts=1,
    x_panel=1, x_panels=1, y_panel=1, y_panels=1, images=1, rows=1, columns=1, reach=1, blocks=4, outputs=3,
    shape=1, row_blocks=1, task_size=1, strip_bytes=1, scratch_bytes=1,
)  # fmt: skip


@kernel(JOB)
def reduce(worker: int, workers: int, job: Any, like: Any) -> None:
    """Compute one worker's sums: a task is a group, a panel of channels of x and of y, and a part of all blocks of pixels.

    A worker without others adds up the parts too, which spares small problems a call.
    """
    parts, x_panels, y_panels = job.parts, job.x_panels, job.y_panels
    blocks0, blocks1, blocks2 = job.blocks[0], job.blocks[1], job.blocks[2]
    all_blocks = job.blocks[3] * blocks0 * blocks1 * blocks2
    partial = pointer(job.partial, like)
    tasks = job.groups * y_panels * x_panels * parts
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        part, place = task % parts, task // parts
        first_in, place = place % x_panels * job.x_panel, place // x_panels
        first_out, h = place % y_panels * job.y_panel, place // y_panels
        first_block = part * all_blocks // parts
        for b in range(first_block, (part + 1) * all_blocks // parts):
            begin = (b // (blocks1 * blocks2) % blocks0, b // blocks2 % blocks1 * job.rows, b % blocks2 * job.columns)
            image = b // (blocks0 * blocks1 * blocks2) * job.images
            add_block(job, like, worker, h, first_in, first_out, image, begin, b > first_block, at(partial, task * job.task_size))
    if workers == 1:
        add_rows(0, 1, job, like)


@njit_inner
def add_block(
    job: Any,
    like: Any,
    worker: int,
    h: int,
    first_in: int,
    first_out: int,
    image: int,
    begin: Any,
    accumulate: bool,
    partial: Any,
) -> None:
    """Add what a block of pixels gives to the weights between two panels of channels: partial[column, row]."""
    xs, ys, size, rows = job.x_strip, job.y_strip, job.x_strip.lanes, min(job.rows, job.outputs[1] - begin[1])
    memory = job.scratch + np.uint64(worker * job.scratch_bytes)
    x_strip, y_strip = pointer(memory, like), pointer(memory + np.uint64(job.strip_bytes), like)
    images, columns = min(job.images, job.batch - image), min(job.columns, job.outputs[2] - begin[2])
    x_count, y_count = min(job.x_panel, job.c_in - first_in), min(job.y_panel, job.c_out - first_out)
    x = at(pointer(job.x, like), image * xs.image_step + (h * job.c_in + first_in) * xs.size[0] * xs.size[1] * xs.size[2])
    y = at(pointer(job.y, like), image * ys.image_step + (h * job.c_out + first_out) * ys.size[0] * ys.size[1] * ys.size[2])
    fill_strip(xs, x, x_count, images, begin, rows + job.reach, xs.width, x_strip)
    fill_strip(ys, y, y_count, images, begin, rows, columns, y_strip)
    steps = (((images - 1) * xs.rows + rows - 1) * xs.width + columns + size - 1) // size
    row_offset, shape, plane, row_blocks = int32_pointer(job.row_offset), job.shape, ys.plane, job.row_blocks
    tile_rows, tile_columns = (M0, N0) if shape == 0 else (M1, N1) if shape == 1 else (M2, N2)
    c_column = row_blocks * tile_rows
    used = (x_count * job.taps + tile_rows - 1) // tile_rows
    for n in range((y_count + tile_columns - 1) // tile_columns):
        for m in range(used):
            pixels_tile(
                shape, x_strip, at(row_offset, m * tile_rows), at(y_strip, n * tile_columns * plane), plane,
                at(partial, n * tile_columns * c_column + m * tile_rows), c_column, steps, accumulate,
            )  # fmt: skip


@njit_inner
def pixels_tile(
    shape: int, x: Any, row_offset: Any, y: Any, plane: int, partial: Any, c_column: int, steps: int, accumulate: bool
) -> None:
    """partial[n, m] = or += sum over pixels of x[row_offset[m] + pixel] * y[n, pixel], in a shape of tile."""
    if shape == 0:
        dot_tile(x, row_offset, y, plane, partial, c_column, steps, accumulate, M0, N0)
    elif shape == 1:
        dot_tile(x, row_offset, y, plane, partial, c_column, steps, accumulate, M1, N1)
    else:
        dot_tile(x, row_offset, y, plane, partial, c_column, steps, accumulate, M2, N2)


@kernel(JOB)
def add_parts(worker: int, workers: int, job: Any, like: Any) -> None:
    """Add up the parts of the sum for one worker's output channels."""
    add_rows(worker, workers, job, like)


@njit_inner
def add_rows(worker: int, workers: int, job: Any, like: Any) -> None:
    """w[h, o, c, tap] = sum over parts, in order, of partial[h, panel of o, panel of c, part, o, (c, tap)]."""
    w, partial = pointer(job.w, like), pointer(job.partial, like)
    parts, taps, c_in, c_out, x_panel, y_panel = job.parts, job.taps, job.c_in, job.c_out, job.x_panel, job.y_panel
    task_size, shape = job.task_size, job.shape
    c_column = job.row_blocks * (M0 if shape == 0 else M1 if shape == 1 else M2)
    for row in range(worker * job.groups * c_out // workers, (worker + 1) * job.groups * c_out // workers):
        h, o = row // c_out, row % c_out
        for p in range(job.x_panels):
            count = min(x_panel, c_in - p * x_panel) * taps
            task = ((h * job.y_panels + o // y_panel) * job.x_panels + p) * parts
            source = at(partial, task * task_size + o % y_panel * c_column)
            to = at(w, (row * c_in + p * x_panel) * taps)
            for j in range(count):
                to[j] = source[j]
            for part in range(1, parts):
                for j in range(count):
                    to[j] += source[part * task_size + j]
