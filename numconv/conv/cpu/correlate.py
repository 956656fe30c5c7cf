"""contract_y and contract_x: for every output, a sum over channels and taps of weights times samples of a strip.

Pairs of output channel and phase are the rows of the register tile and neighbouring outputs its vectors; or pixels of a phase are
its rows and output channels its vectors, where maps are small. All phases of a block are summed from one strip.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._jit import Job, kernel, njit_inner
from ..._simd import TILES, at, copy, int32_pointer, int64_pointer, number, outer_tile, pointer, zero
from .store import store, store_channels, turn
from .strip import STRIP, fill_strip
from .winograd_basis import transpose

(R0, V0), (R1, V1), (R2, V2), (R3, V3) = TILES  # names of single numbers are constants to Numba, as the tile needs them

# One pass over the block: tiles of one shape, of `rows` pairs of output channel and phase, sum some of the taps. Tables begin at
# an index of their own in the job's.
PASS = np.dtype(
    [
        (name, np.int64)
        for name in ("shape", "rows", "phase", "phases", "adds", "taps", "offset", "index", "start", "starts", "weights")
    ]
)

JOB = Job(
    "src w packed bias floor dst scratch passes tap_offset tap_index tile_start pixel_offset weight_step",
    strip=STRIP, pixels=1, pass_count=1, blank=1, batch=1, groups=1, c_src=1, c_dst=1, taps=1,
    dst_stride=1, src_stride=1, packed_size=1, channels=1, panel=1, panels=1, images=1, rows=1, columns=1,
    reach=1, blocks=4, outputs=3, phases=3, sums=1,
    row_pitch=1, pixel_rows=1, strip_bytes=1, sums_bytes=1, scratch_bytes=1, dst_size=3, dst_start=3, dst_step=3,
)  # fmt: skip


@kernel(JOB)
def pack(worker: int, workers: int, job: Any, like: Any) -> None:
    """Bring one worker's share of the weights into the order in which tiles read them."""
    pack_rows(worker, workers, job, like)


@njit_inner
def pack_rows(worker: int, workers: int, job: Any, like: Any) -> None:
    """packed[group, pass, row block, c, tap, row] = the weight of a tap between two channels; zero for rows past the last.

    Weights are (groups, c_out, c_in, taps) in memory; strides say which channel index runs over outputs, which over inputs.
    """
    w, packed, passes = pointer(job.w, like), pointer(job.packed, like), int64_pointer(job.passes)
    index = int64_pointer(job.tap_index)
    c_src, c_dst, dst_stride, src_stride = job.c_src, job.c_dst, job.dst_stride, job.src_stride
    for p in range(job.pass_count):
        rows, phases, taps = passes[p * 11 + 1], passes[p * 11 + 3], passes[p * 11 + 5]
        weight_of, blocks = at(index, passes[p * 11 + 7]), row_blocks(c_dst * phases, rows)
        units = job.groups * blocks
        for unit in range(worker * units // workers, (worker + 1) * units // workers):
            h, m = unit // blocks, unit % blocks
            source, first = at(w, h * c_dst * c_src * job.taps), m * rows // phases
            to = at(packed, h * job.packed_size + passes[p * 11 + 10] + m * c_src * taps * rows)
            if phases == 1 and (m + 1) * rows <= c_dst:
                pack_whole(
                    at(source, first * dst_stride), dst_stride, src_stride, c_src, weight_of, taps, rows, job.strip.lanes, to
                )
                continue
            for c in range(c_src):
                for t in range(taps):
                    for r in range(rows):
                        pair = m * rows + r
                        d, f = pair // phases, pair % phases
                        place = d * dst_stride + c * src_stride + weight_of[t * phases + f]
                        to[(c * taps + t) * rows + r] = source[place] if d < c_dst else number(like, 0)


@njit_inner
def pack_whole(
    source: Any, dst_stride: int, src_stride: int, c_src: int, weight_of: Any, taps: int, rows: int, lanes: int, to: Any
) -> None:
    """to[c, tap, row] = source[row * dst_stride + c * src_stride + weight_of[tap]]."""
    steps, done = c_src * taps, 0
    if src_stride == taps and dst_stride == steps and rows % lanes == 0:  # rows of a matrix: by squares, twice as fast
        while done + lanes <= steps:
            for r in range(0, rows, lanes):
                transpose(at(source, r * dst_stride + done), dst_stride, at(to, done * rows + r), rows)
            done += lanes
    for i in range(done, steps):
        take = at(source, i // taps * src_stride + weight_of[i % taps])
        if dst_stride == 1:
            copy(at(to, i * rows), take, rows)
        else:
            for r in range(rows):
                to[i * rows + r] = take[r * dst_stride]


@kernel(JOB)
def correlate(worker: int, workers: int, job: Any, like: Any) -> None:
    """Compute one worker's blocks: a task is a block of outputs of some images and a panel of output channels.

    A worker without others packs the weights too, which spares small problems a call.
    """
    if workers == 1:
        pack_rows(0, 1, job, like)
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
    s, c_src, c_dst, channels = job.strip, job.c_src, job.c_dst, job.channels
    images, rows = min(job.images, job.batch - image), min(job.rows, job.outputs[1] - begin[1])
    columns, panel, width = min(job.columns, job.outputs[2] - begin[2]), min(job.panel, c_dst - first), s.width
    last = ((images - 1) * s.rows + rows - 1) * width + columns
    src = at(pointer(job.src, like), image * s.image_step + h * c_src * s.size[0] * s.size[1] * s.size[2])
    if job.blank:  # a phase that no tap reaches, where the stride is larger than the window
        zero(total, job.sums)
    for c in range(0, c_src, channels):
        count = min(channels, c_src - c)
        fill_strip(s, at(src, c * s.size[0] * s.size[1] * s.size[2]), count, images, begin, rows + job.reach, width, strip)
        for p in range(job.pass_count):
            if job.pixels:
                sum_pixels(job, like, p, h, first, panel, c, count, images * rows * columns, strip, total)
            else:
                sum_rows(job, like, p, h, first, panel, c, count, last, strip, total)
    place, extent = (image, begin), (images, rows, columns)
    if job.pixels and job.dst_size[0] * job.dst_size[1] * job.dst_size[2] == 1:
        store_channels(job, like, total, h * c_dst + first, panel, image, images)
    elif job.pixels:
        planes = pointer(memory + np.uint64(job.strip_bytes + job.sums_bytes), like)
        count = job.phases[0] * job.phases[1] * job.phases[2]
        for o in range(0, panel, s.lanes):
            turn(at(total, o), job.row_pitch, count, job.pixel_rows, images * rows * columns, s.lanes, planes)
            layout = (job.pixel_rows, rows, columns)
            store(job, like, planes, layout, h * c_dst + first + o, min(s.lanes, panel - o), place, extent)
    else:
        store(job, like, total, (job.row_pitch, s.rows, width), h * c_dst + first, panel, place, extent)


@njit_inner
def sum_rows(
    job: Any, like: Any, p: int, h: int, first: int, panel: int, c: int, count: int, last: int, strip: Any, total: Any
) -> None:
    """total[o, phase, place] = or += what a pass sums of some input channels: pairs of output channel and phase are the rows."""
    passes = at(int64_pointer(job.passes), p * 11)
    shape, rows, phase, phases, adds, taps = passes[0], passes[1], passes[2], passes[3], passes[4], passes[5]
    offset, start, starts = at(int32_pointer(job.tap_offset), passes[6]), at(int64_pointer(job.tile_start), passes[8]), passes[9]
    packed, c_src, row_pitch = pointer(job.packed, like), job.c_src, job.row_pitch
    weights = at(packed, h * job.packed_size + passes[10] + (first * phases // rows * c_src + c) * taps * rows)
    spacing = job.phases[0] * job.phases[1] * job.phases[2] // phases * row_pitch
    for t in range(starts):
        tile = start[t]
        if tile >= last:
            break
        for m in range(row_blocks(panel * phases, rows)):
            weights_tile(
                shape, at(weights, m * c_src * taps * rows), at(strip, tile), offset,
                at(total, phase * row_pitch + m * rows * spacing + tile), spacing, count * taps, c + adds > 0,
            )  # fmt: skip


@njit_inner
def sum_pixels(
    job: Any, like: Any, p: int, h: int, first: int, panel: int, c: int, count: int, pixels: int, strip: Any, total: Any
) -> None:
    """total[phase, pixel, o] = or += what a pass sums of some input channels: pixels, wherever they lie, are the rows."""
    passes = at(int64_pointer(job.passes), p * 11)
    width, phase, taps, c_src, pitch = V0 * job.strip.lanes, passes[2], passes[5], job.c_src, job.row_pitch
    offset, step, place = (
        at(int32_pointer(job.tap_offset), passes[6]),
        int32_pointer(job.weight_step),
        int32_pointer(job.pixel_offset),
    )
    weights = at(pointer(job.packed, like), h * job.packed_size + passes[10] + (first // width * c_src + c) * taps * width)
    sums = at(total, phase * job.pixel_rows * pitch)
    for q in range(0, pixels, R0):
        for m in range((panel + width - 1) // width):
            outer_tile(
                strip, offset, at(place, q), at(weights, m * c_src * taps * width), step, at(sums, q * pitch + m * width), pitch,
                count * taps, c > 0, R0, V0,
            )  # fmt: skip


@njit_inner
def row_blocks(rows: int, tile_rows: int) -> int:
    """Tiles that so many rows make."""
    return (rows + tile_rows - 1) // tile_rows


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
