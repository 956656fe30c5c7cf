"""Sums on their way home: planes of one output channel and phase each, plus bias, woven into the rows of the result."""

from __future__ import annotations

from typing import Any

from ..._jit import njit_inner
from ..._simd import add_vector, at, number, pointer
from .interleave import weave2, weave4
from .winograd_basis import transpose


@njit_inner
def turn(sums: Any, pitch: int, phases: int, pixel_rows: int, pixels: int, lanes: int, planes: Any) -> None:
    """planes[channel, phase, pixel] = sums[phase, pixel, channel] for a vector of channels, by squares."""
    for f in range(phases):
        for p in range(0, pixels, lanes):
            transpose(at(sums, (f * pixel_rows + p) * pitch), pitch, at(planes, f * pixel_rows + p), phases * pixel_rows)


@njit_inner
def store_channels(job: Any, like: Any, sums: Any, channel: int, channels: int, image: int, images: int) -> None:
    """Write sums that lie image by image, plus bias, where outputs are single pixels: no need to turn them."""
    dst, bias, pitch, of_image = pointer(job.dst, like), pointer(job.bias, like), job.row_pitch, job.groups * job.c_dst
    floor = pointer(job.floor, like)[0]
    for i in range(images):
        to, take = at(dst, (image + i) * of_image + channel), at(sums, i * pitch)
        for o in range(channels):
            to[o] = raised(take[o] + bias[channel + o] if job.bias else take[o], floor)


@njit_inner
def raised(value: Any, floor: Any) -> Any:
    """Return the larger number, NaN where `value` is NaN."""
    return floor if value < floor else value


@njit_inner
def store(job: Any, like: Any, planes: Any, layout: Any, channel: int, channels: int, place: Any, extent: Any) -> None:
    """Write a block of sums, plus bias but not less than `floor`, where its outputs belong.

    `layout` is (pitch of planes, rows of an image, width); plane (channel, phase) holds images, rows, columns of outputs. `place`
    is the first image and the first output on each axis, `extent` the images, rows and columns of this block.
    """
    pitch, plane_rows, width = layout
    image, begin = place
    images, rows, columns = extent
    dst, bias, lanes = pointer(job.dst, like), pointer(job.bias, like), job.strip.lanes
    size0, size1, size2, row = job.dst_size[0], job.dst_size[1], job.dst_size[2], job.dst_size[2]
    step1, step2, phases0, phases1, phases2 = job.dst_step[1], job.dst_step[2], job.phases[0], job.phases[1], job.phases[2]
    first0, first1 = job.dst_start[0] + job.dst_step[0] * begin[0], job.dst_start[1] + step1 * begin[1]
    q2, of_image = job.dst_start[2] + step2 * begin[2], job.groups * job.c_dst
    if phases0 * phases1 == 1 and step1 == 1 and step2 == 1 and width == columns and columns == size2:
        rows, columns, size2 = 1, rows * columns, size1 * size2  # one run over all rows
    low, count = max(0, -q2), min(step2 * columns, size2 - q2) - max(0, -q2)
    top, bottom = max(0, first1), min(size1, first1 + step1 * (rows - 1) + phases1)
    whole = count == row and phases1 == step1 and phases2 == step2  # rows follow each other without a gap
    floor = pointer(job.floor, like)[0]
    for i in range(images):  # planes of one image are neighbours: writing one after the other, memory keeps up
        for m in range(channels):
            add = bias[channel + m] if job.bias else number(like, 0)
            plane = (image + i) * of_image + channel + m
            for f0 in range(phases0):
                q0 = first0 + f0
                if q0 < 0 or q0 >= size0:
                    continue
                to = at(dst, (plane * size0 + q0) * size1 * row + q2 + low)
                take = at(planes, (m * phases0 + f0) * phases1 * phases2 * pitch + i * plane_rows * width)
                for r in range(rows):
                    for f1 in range(phases1):
                        q1 = first1 + step1 * r + f1
                        if top <= q1 < bottom:
                            here, room = at(take, f1 * phases2 * pitch + r * width), (bottom - q1) * row if whole else count
                            if step2 == 1:
                                add_row(here, add, floor, count, room, lanes, at(to, q1 * row))
                            else:
                                weave_row(here, pitch, phases2, step2, add, floor, low, count, room, lanes, at(to, q1 * row))


@njit_inner
def add_row(take: Any, add: Any, floor: Any, count: int, room: int, lanes: int, to: Any) -> None:
    """to[j] = take[j] + add for j < count, but not less than floor.

    What lies beyond, up to `room`, may be overwritten: it is the rows that are stored next. (Masked stores instead, of some 40
    cycles each, took 100 cycles for a row of 14.)
    """
    j = 0
    while j < count and j + lanes <= room:
        add_vector(at(take, j), add, floor, at(to, j))
        j += lanes
    if j < count and count >= lanes:  # the last vector overlaps its neighbour
        add_vector(at(take, count - lanes), add, floor, at(to, count - lanes))
    elif j < count:
        for j in range(count):
            to[j] = raised(take[j] + add, floor)


@njit_inner
def weave_row(
    take: Any, pitch: int, phases: int, step: int, add: Any, floor: Any, low: int, count: int, room: int, lanes: int, to: Any
) -> None:
    """to[step * j + f - low] = take[f * pitch + j] + add for the phases f, as far as that is in 0..count, or up to `room`."""
    j = 0
    if phases == step and (step == 2 or step == 4):
        while step * j < count and step * (j + lanes) <= room:
            weave_vectors(take, pitch, step, add, floor, low, j, at(to, step * j))
            j += lanes
    if step * j < count:
        for f in range(phases):
            here = at(take, f * pitch)
            u, k = step * j + f - low, j
            while u < count:
                if u >= 0:
                    to[u] = raised(here[k] + add, floor)
                u, k = u + step, k + 1


@njit_inner
def weave_vectors(take: Any, pitch: int, step: int, add: Any, floor: Any, low: int, j: int, to: Any) -> None:
    """to[step * lane + f - low] = take[f * pitch + j + lane] + add; phases before `low` come from the next output."""
    if step == 2:
        weave2(at(take, low * pitch + j), at(take, pitch + j) if low == 0 else at(take, j + 1), add, floor, to)
    else:
        weave4(
            at(take, low * pitch + j),
            at(take, (low + 1) % 4 * pitch + (low + 1) // 4 + j),
            at(take, (low + 2) % 4 * pitch + (low + 2) // 4 + j),
            at(take, (low + 3) % 4 * pitch + (low + 3) // 4 + j),
            add,
            floor,
            to,
        )
