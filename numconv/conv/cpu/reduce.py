"""contract_w: for every weight, a sum over batch and pixels of samples of a strip times gradients.

Rows of the tile are (input channel, tap) pairs, each an offset in the strip of x. Its vectors are output channels, if there are
enough of them, with gradients turned so that channels come last; else neighbouring pixels, with gradients in a strip of the same
width. The sum is split in a fixed way, not by threads, and its parts are added in order: the same bits every time. Gaps between
rows multiply samples by zero, so a NaN or infinity in x may reach all weights of its channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._jit import Job, kernel, njit_inner
from ..._simd import DOT_TILES, TILES, accumulate, at, dot_tile, int32_pointer, number, outer_tile, pointer
from .strip import STRIP, fill_strip
from .winograd_basis import transpose

R0, V0 = TILES[0]  # names of single numbers are constants to Numba, as the tiles need them
(M0, N0), (M1, N1), (M2, N2) = DOT_TILES

JOB = Job(
    "x y w partial scratch row_offset pixel_offset pixel_step",
    x_strip=STRIP, y_strip=STRIP, outer=1, batch=1, groups=1, c_in=1, c_out=1, taps=1, parts=1,
    x_panel=1, x_panels=1, y_panel=1, y_panels=1, images=1, rows=1, columns=1, reach=1, blocks=4, outputs=3,
    shape=1, row_blocks=1, column_blocks=1, task_size=1, strip_bytes=1, scratch_bytes=1,
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
        add_all(0, 1, job, like)


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
    adds: bool,
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
    if job.outer:
        place = ((begin[0] * ys.size[1] + begin[1]) * ys.size[2]) + begin[2]
        turn_y(job, at(y, place), y_count, images, rows, columns, y_strip)
        pixels = ((images - 1) * rows + rows) * job.columns
        add_outer(job, x_strip, y_strip, x_count * job.taps, y_count, pixels, adds, partial)
    else:
        fill_strip(ys, y, y_count, images, begin, rows, columns, y_strip)
        steps = (((images - 1) * xs.rows + rows - 1) * xs.width + columns + size - 1) // size
        add_dots(job, x_strip, y_strip, x_count * job.taps, y_count, steps, adds, partial)


@njit_inner
def turn_y(job: Any, y: Any, count: int, images: int, rows: int, columns: int, to: Any) -> None:
    """to[block of channels, pixel, channel] = y[channel, pixel] for `count` channels; zero for columns past the last."""
    s, lanes, all_columns = job.y_strip, job.y_strip.lanes, job.columns
    volume, wide, pixels = s.size[0] * s.size[1] * s.size[2], V0 * lanes, job.images * job.rows * all_columns
    runs, length = (1, rows * columns) if columns == s.size[2] else (rows, columns)
    for i in range(images):
        for o in range(0, count, lanes):
            block = at(to, (o // wide * pixels + i * rows * all_columns) * wide + o % wide)
            for r in range(runs):
                take, give = at(y, i * s.image_step + o * volume + r * s.size[2]), at(block, r * all_columns * wide)
                if length >= lanes and o + lanes <= count:
                    for p in range(0, length - lanes, lanes):
                        transpose(at(take, p), volume, at(give, p * wide), wide)
                    transpose(at(take, length - lanes), volume, at(give, (length - lanes) * wide), wide)
                else:
                    for k in range(min(lanes, count - o)):
                        for p in range(length):
                            give[p * wide + k] = take[k * volume + p]
                for p in range(length, all_columns):
                    for k in range(lanes):
                        give[p * wide + k] = number(y, 0)


@njit_inner
def add_outer(job: Any, x: Any, y: Any, rows: int, columns: int, pixels: int, adds: bool, partial: Any) -> None:
    """partial[(c, tap), o] = or += sum over pixels of x[(c, tap), pixel] * y[pixel, o]."""
    wide, pitch, y_block = V0 * job.y_strip.lanes, job.column_blocks * V0 * job.y_strip.lanes, job.images * job.rows * job.columns
    row_offset, pixel_offset, step = int32_pointer(job.row_offset), int32_pointer(job.pixel_offset), int32_pointer(job.pixel_step)
    for n in range((columns + wide - 1) // wide):
        for m in range(0, rows, R0):
            outer_tile(
                x, pixel_offset, at(row_offset, m), at(y, n * y_block * wide), step, at(partial, m * pitch + n * wide), pitch,
                pixels, adds, R0, V0,
            )  # fmt: skip


@njit_inner
def add_dots(job: Any, x: Any, y: Any, rows: int, columns: int, steps: int, adds: bool, partial: Any) -> None:
    """partial[o, (c, tap)] = or += sum over pixels of x[(c, tap), pixel] * y[o, pixel]."""
    row_offset, shape, plane = int32_pointer(job.row_offset), job.shape, job.y_strip.plane
    tile_rows, tile_columns = (M0, N0) if shape == 0 else (M1, N1) if shape == 1 else (M2, N2)
    c_column = job.row_blocks * tile_rows
    for n in range((columns + tile_columns - 1) // tile_columns):
        for m in range((rows + tile_rows - 1) // tile_rows):
            pixels_tile(
                shape, x, at(row_offset, m * tile_rows), at(y, n * tile_columns * plane), plane,
                at(partial, n * tile_columns * c_column + m * tile_rows), c_column, steps, adds,
            )  # fmt: skip


@njit_inner
def pixels_tile(
    shape: int, x: Any, row_offset: Any, y: Any, plane: int, partial: Any, c_column: int, steps: int, adds: bool
) -> None:
    """partial[n, m] = or += sum over pixels of x[row_offset[m] + pixel] * y[n, pixel], in a shape of tile."""
    if shape == 0:
        dot_tile(x, row_offset, y, plane, partial, c_column, steps, adds, M0, N0)
    elif shape == 1:
        dot_tile(x, row_offset, y, plane, partial, c_column, steps, adds, M1, N1)
    else:
        dot_tile(x, row_offset, y, plane, partial, c_column, steps, adds, M2, N2)


@kernel(JOB)
def add_parts(worker: int, workers: int, job: Any, like: Any) -> None:
    """Add up the parts of the sum for one worker's output channels."""
    add_all(worker, workers, job, like)


@njit_inner
def add_all(worker: int, workers: int, job: Any, like: Any) -> None:
    """w[h, o, c, tap] = sum over parts, in order, of what `partial` holds of o and (c, tap) for each panel and part."""
    w, partial, lanes, size = pointer(job.w, like), pointer(job.partial, like), job.y_strip.lanes, job.c_in * job.taps
    x_panels, y_panels, y_panel, unit = job.x_panels, job.y_panels, job.y_panel, job.y_strip.lanes if job.outer else 1
    units = (y_panel + unit - 1) // unit  # of output channels of a panel
    tasks = job.groups * y_panels * units
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        panel, o = task // units, task % units * unit
        h, first = panel // y_panels, panel % y_panels * y_panel + o
        outputs = min(unit, min(y_panel - o, job.c_out - first))
        for p in range(x_panels):
            count = min(job.x_panel, job.c_in - p * job.x_panel) * job.taps
            source = at(partial, (panel * x_panels + p) * job.parts * job.task_size)
            to = at(w, (h * job.c_out + first) * size + p * job.x_panel * job.taps)
            if outputs > 0 and job.outer:
                add_columns(
                    at(source, o), job.parts, job.task_size, job.column_blocks * V0 * lanes, count, lanes, outputs, to, size
                )
            elif outputs > 0:
                tile_rows = M0 if job.shape == 0 else M1 if job.shape == 1 else M2
                add_row(at(source, o * job.row_blocks * tile_rows), job.parts, job.task_size, count, to)


@njit_inner
def add_row(source: Any, parts: int, part_size: int, count: int, to: Any) -> None:
    """to[j] = sum over parts of source[part, j]."""
    for j in range(count):
        to[j] = source[j]
    for part in range(1, parts):
        for j in range(count):
            to[j] += source[part * part_size + j]


@njit_inner
def add_columns(
    source: Any, parts: int, part_size: int, pitch: int, count: int, lanes: int, outputs: int, to: Any, to_pitch: int
) -> None:
    """to[o, j] = sum over parts of source[part, j, o] for a vector of output channels; the sum stays in the first part too."""
    for part in range(1, parts):
        for j in range(count):
            accumulate(at(source, j * pitch), at(source, part * part_size + j * pitch))
    if outputs == lanes and count >= lanes:
        for j in range(0, count - lanes, lanes):
            transpose(at(source, j * pitch), pitch, at(to, j), to_pitch)
        transpose(at(source, (count - lanes) * pitch), pitch, at(to, count - lanes), to_pitch)
    else:
        for o in range(outputs):
            for j in range(count):
                to[o * to_pitch + j] = source[j * pitch + o]
