"""contract_y and contract_x: for every output, a sum over channels and taps of weights times samples of a strip.

Output channels, or neighbouring rows of one output channel, are the rows of the register tile and neighbouring outputs its
vectors: results leave in the order of storage.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._jit import Job, kernel, njit_inner
from ..._simd import TILES, add_to_part, add_vector, at, int32_pointer, int64_pointer, number, outer_tile, pointer
from .strip import STRIP, fill_strip
from .winograd_basis import turn

(R0, V0), (R1, V1), (R2, V2), (R3, V3) = TILES  # names of single numbers are constants to Numba, as the tile needs them

# One pass over the block: tiles of one shape sum some of the taps. Rows of a tile are `rows` output channels, or for `shifted`
# passes `rows` neighbouring rows of one output channel. Tables begin at an index of their own in the job's.
PASS = np.dtype(
    [(name, np.int64) for name in ("shape", "rows", "shifted", "taps", "offset", "index", "start", "starts", "weights")]
)

JOB = Job(
    "src w packed bias dst scratch passes tap_offset tap_index tile_start pixel_offset weight_step",
    strip=STRIP, pixels=1, pass_count=1, batch=1, groups=1, c_src=1, c_dst=1, taps=1, taps_of_phase=1,
    dst_stride=1, src_stride=1, packed_size=1, channels=1, panel=1, panels=1, images=1, rows=1, columns=1,
    reach=1, blocks=4, outputs=3,
    row_pitch=1, strip_bytes=1, scratch_bytes=1, dst_size=3, dst_start=3, dst_step=3,
)  # fmt: skip


@kernel(JOB)
def pack(worker: int, workers: int, job: Any, like: Any) -> None:
    """Bring the weights of one worker's groups into the order in which tiles read them."""
    pack_groups(worker, workers, job, like)


@njit_inner
def pack_groups(worker: int, workers: int, job: Any, like: Any) -> None:
    """packed[group, pass, row block, c, tap, row] = the weight of a tap between two channels; zero for rows past the last.

    Weights are (groups, c_out, c_in, taps) in memory; strides say which channel index runs over outputs, which over inputs.
    """
    w, packed, passes = pointer(job.w, like), pointer(job.packed, like), int64_pointer(job.passes)
    index = int64_pointer(job.tap_index)
    c_src, c_dst, dst_stride, src_stride = job.c_src, job.c_dst, job.dst_stride, job.src_stride
    for h in range(worker * job.groups // workers, (worker + 1) * job.groups // workers):
        source = at(w, h * c_dst * c_src * job.taps)
        for p in range(job.pass_count):
            rows, shifted, taps = passes[p * 9 + 1], passes[p * 9 + 2], passes[p * 9 + 3]
            taps_of = at(index, passes[p * 9 + 5])
            to = at(packed, h * job.packed_size + passes[p * 9 + 8])
            for m in range(row_blocks(c_dst, rows, shifted)):
                for c in range(c_src):
                    for t in range(taps):
                        for r in range(rows):
                            d = m if shifted else m * rows + r
                            value = (
                                source[d * dst_stride + c * src_stride + taps_of[t * rows + r]] if d < c_dst else number(like, 0)
                            )
                            to[((m * c_src + c) * taps + t) * rows + r] = value


@kernel(JOB)
def correlate(worker: int, workers: int, job: Any, like: Any) -> None:
    """Compute one worker's blocks: a task is a block of outputs of some images and a panel of output channels.

    A worker without others packs the weights too, which spares small problems a call.
    """
    if workers == 1:
        pack_groups(0, 1, job, like)
    blocks0, blocks1, blocks2, image_blocks = job.blocks[0], job.blocks[1], job.blocks[2], job.blocks[3]
    groups, panels = job.groups, job.panels
    tasks = image_blocks * groups * blocks0 * blocks1 * blocks2 * panels
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        panel, place = task % panels, task // panels
        r, c = place // blocks2 % blocks1 * job.rows, place % blocks2 * job.columns
        place //= blocks1 * blocks2
        begin = (place % blocks0, r, c)
        h, image = place // blocks0 % groups, place // (blocks0 * groups) * job.images
        block_of(job, like, worker, h, image, begin, panel * job.panel)


@njit_inner
def block_of(job: Any, like: Any, worker: int, h: int, image: int, begin: Any, first: int) -> None:
    """Sum a block of outputs for a panel of output channels from `first`, some input channels at a time, and store it."""
    memory = job.scratch + np.uint64(worker * job.scratch_bytes)
    strip, total = pointer(memory, like), pointer(memory + np.uint64(job.strip_bytes), like)
    s, passes, starts = job.strip, int64_pointer(job.passes), int64_pointer(job.tile_start)
    offsets, c_src, c_dst, channels, row_pitch = int32_pointer(job.tap_offset), job.c_src, job.c_dst, job.channels, job.row_pitch
    images, rows = min(job.images, job.batch - image), min(job.rows, job.outputs[1] - begin[1])
    columns, panel, width = min(job.columns, job.outputs[2] - begin[2]), min(job.panel, c_dst - first), s.width
    last = ((images - 1) * s.rows + rows - 1) * width + columns
    src = at(pointer(job.src, like), image * s.image_step + h * c_src * s.size[0] * s.size[1] * s.size[2])
    for c in range(0, c_src, channels):
        count = min(channels, c_src - c)
        fill_strip(s, at(src, c * s.size[0] * s.size[1] * s.size[2]), count, images, begin, rows + job.reach, width, strip)
        if job.pixels:
            sum_pixels(job, like, h, first, panel, c, count, images * rows * columns, strip, total)
            continue
        for p in range(job.pass_count):
            shape, tile_rows, shifted, taps = passes[p * 9], passes[p * 9 + 1], passes[p * 9 + 2], passes[p * 9 + 3]
            offset, start = at(offsets, passes[p * 9 + 4]), at(starts, passes[p * 9 + 6])
            blocks, step = row_blocks(panel, tile_rows, shifted), 1 if shifted else tile_rows
            packed = pointer(job.packed, like)
            weights = at(packed, h * job.packed_size + passes[p * 9 + 8] + (first // step * c_src + c) * taps * tile_rows)
            for t in range(passes[p * 9 + 7]):
                tile = start[t]
                if tile >= last:
                    break
                for m in range(blocks):
                    weights_tile(
                        shape, at(weights, m * c_src * taps * tile_rows), at(strip, tile), offset,
                        at(total, m * step * row_pitch + tile), width if shifted else row_pitch, count * taps, c + p > 0,
                    )  # fmt: skip
    if job.pixels:
        store_pixels(job, like, total, h * c_dst + first, panel, image, images, begin, rows)
    else:
        store(job, like, total, h * c_dst + first, panel, image, images, begin, rows, columns)


@njit_inner
def sum_pixels(
    job: Any, like: Any, h: int, first: int, panel: int, c: int, count: int, pixels: int, strip: Any, total: Any
) -> None:
    """total[pixel, o] = or += the sums of some input channels: pixels of the block, wherever they lie, are the rows."""
    width, taps, c_src, pitch = V0 * job.strip.lanes, job.taps_of_phase, job.c_src, job.row_pitch
    offset, step, place = int32_pointer(job.tap_offset), int32_pointer(job.weight_step), int32_pointer(job.pixel_offset)
    weights = at(pointer(job.packed, like), h * job.packed_size + (first // width * c_src + c) * taps * width)
    for p in range(0, pixels, R0):
        for m in range((panel + width - 1) // width):
            outer_tile(
                strip, offset, at(place, p), at(weights, m * c_src * taps * width), step, at(total, p * pitch + m * width), pitch,
                count * taps, c > 0, R0, V0,
            )  # fmt: skip


@njit_inner
def store_pixels(
    job: Any, like: Any, total: Any, channel: int, panel: int, image: int, images: int, begin: Any, rows: int
) -> None:
    """Write a block of sums that lie pixel by pixel, plus bias: squares of neighbouring pixels and channels are turned."""
    dst, bias, lanes, pitch, columns = (
        pointer(job.dst, like),
        pointer(job.bias, like),
        job.strip.lanes,
        job.row_pitch,
        job.columns,
    )
    size0, size1, size2, step = job.dst_size[0], job.dst_size[1], job.dst_size[2], job.dst_step[2]
    volume, whole = size0 * size1 * size2, step == 1 and job.dst_step[1] == 1 and columns == size2
    runs, length = (1, rows * columns) if whole else (rows, columns)
    if job.bias:
        for p in range(images * rows * columns):
            for o in range(panel):
                total[p * pitch + o] += bias[channel + o]
    for i in range(images):
        plane = ((image + i) * job.groups * job.c_dst + channel) * volume
        for r in range(runs):
            q0 = job.dst_start[0] + job.dst_step[0] * begin[0]
            q1 = job.dst_start[1] + job.dst_step[1] * (begin[1] + r)
            to = at(dst, plane + (q0 * size1 + q1) * size2 + job.dst_start[2])
            take = at(total, (i * rows * columns + r * length) * pitch)
            for o in range(0, panel, lanes):
                if step == 1 and length >= lanes and o + lanes <= panel:
                    for p in range(0, length - lanes + 1, lanes):
                        turn(at(take, p * pitch + o), pitch, at(to, o * volume + p), volume)
                    p = length - lanes  # the last square overlaps its neighbour
                    turn(at(take, p * pitch + o), pitch, at(to, o * volume + p), volume)
                else:
                    for k in range(o, min(o + lanes, panel)):
                        for p in range(length):
                            to[k * volume + step * p] = take[p * pitch + k]


@njit_inner
def row_blocks(c_dst: int, rows: int, shifted: int) -> int:
    """Blocks of rows that output channels make."""
    return c_dst if shifted else (c_dst + rows - 1) // rows


@njit_inner
def weights_tile(
    shape: int, packed: Any, strip: Any, tap_offset: Any, total: Any, row_pitch: int, length: int, accumulate: bool
) -> None:
    """total[m, lanes] = or += sum over i of packed[i, m] * strip[tap_offset[i] + lanes], in a shape of tile."""
    if shape == 0:
        outer_tile(packed, R0, 1, strip, tap_offset, total, row_pitch, length, accumulate, R0, V0)
    elif shape == 1:
        outer_tile(packed, R1, 1, strip, tap_offset, total, row_pitch, length, accumulate, R1, V1)
    elif shape == 2:
        outer_tile(packed, R2, 1, strip, tap_offset, total, row_pitch, length, accumulate, R2, V2)
    else:
        outer_tile(packed, R3, 1, strip, tap_offset, total, row_pitch, length, accumulate, R3, V3)


@njit_inner
def store(
    job: Any, like: Any, total: Any, channel: int, panel: int, image: int, images: int, begin: Any, rows: int, columns: int
) -> None:
    """Write a block of sums, plus bias, where its outputs belong."""
    dst, bias, width, plane_rows = pointer(job.dst, like), pointer(job.bias, like), job.strip.width, job.strip.rows
    size0, size1, size2, step = job.dst_size[0], job.dst_size[1], job.dst_size[2], job.dst_step[2]
    q0, q2 = job.dst_start[0] + job.dst_step[0] * begin[0], job.dst_start[2] + step * begin[2]
    for m in range(panel):
        add = bias[channel + m] if job.bias else number(like, 0)
        for i in range(images):
            plane = (image + i) * job.groups * job.c_dst + channel + m
            for r in range(rows):
                q1 = job.dst_start[1] + job.dst_step[1] * (begin[1] + r)
                to = at(dst, ((plane * size0 + q0) * size1 + q1) * size2 + q2)
                take = at(total, m * job.row_pitch + (i * plane_rows + r) * width)
                if step == 1:
                    add_row(take, add, columns, job.strip.lanes, to)
                else:
                    for j in range(columns):
                        to[step * j] = take[j] + add


@njit_inner
def add_row(take: Any, add: Any, columns: int, lanes: int, to: Any) -> None:
    """to[j] = take[j] + add, by vectors; the last one overlaps its neighbour."""
    if columns < lanes:
        add_to_part(take, add, columns, to)
    else:
        for j in range(0, columns - lanes + 1, lanes):
            add_vector(at(take, j), add, at(to, j))
        add_vector(at(take, columns - lanes), add, at(to, columns - lanes))
