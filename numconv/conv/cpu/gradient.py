"""contract_w by its definition: planned, told to the kernels, and run."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..._array import flat
from ..._jit import scratch, workers
from ..._memory import empty
from ..._simd import DOT_TILES, TILES
from ..geometry import ConvGeometry
from . import plan, reduce
from .lattice import axes_y, merged, whole
from .strip import Strip, strip

Array = np.ndarray[Any, Any]

BLOCK_BYTES = 320 << 10  # what is read of x and y together, in a core's own cache
# Pixels to a block of dots: enough that adding up across lanes, some 60 cycles a tile, is little beside 6 for every vector.
# Of outer products: so few that those of a vector of channels stay in the first-level cache.
DOT_PIXELS, OUTER_PIXELS = 1024, 320
PARTIAL_BYTES = 64 << 20  # at most, for the parts of the sum
FIXED_TASKS = 16  # the sum over pixels is split so that there are as many tasks, whatever the number of threads
SHORTER = 1.15  # so much longer than counted do dots take: 1x1, 512 to 128 channels on 14 x 14, 1.67 ms against 1.36
TURNING = 0.6  # machine cycles to bring a number of y from the order of storage into that of pixels


def contract_w(x: Array, y: Array, g: ConvGeometry) -> Array:
    """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i, stride*p + dilation*k - pad_lo]."""
    if x.size == 0:
        return np.zeros(g.w_shape, x.dtype)
    w, s = empty(g.w_shape, x.dtype), sums(g, x.itemsize)
    threads = workers(s.tasks, s.operations)
    memory = scratch(s.partial_bytes + threads * s.scratch_bytes)
    reduce.reduce(threads, x.dtype, s.job, x=flat(x), y=flat(y), w=w, partial=memory, scratch=memory + s.partial_bytes)
    if threads > 1:
        reduce.add_parts(threads, x.dtype, s.job, w=w, partial=memory)
    return w


class Sums:
    """How the sum over pixels is cut into blocks, panels and parts, as the kernels are told it."""

    def __init__(self, g: ConvGeometry, itemsize: int) -> None:
        m = merged(g)
        axes, taps = axes_y(m), m.w_size[0] * m.w_size[1] * m.w_size[2]
        self.outer = outer = _outer(m, taps, itemsize)
        x_panel, y_panel = _panels(g, taps, len(axes[1].residues) * len(axes[2].residues) * len(axes[0].starts), outer)
        images, rows, columns = self.block = _block(m, itemsize, x_panel, y_panel, OUTER_PIXELS if outer else DOT_PIXELS)
        xs = strip(axes, self.block, itemsize, m.x_size, g.groups * g.c_in)
        ys = Strip(
            whole(m.y_size), images, xs.rows, xs.width, itemsize, m.y_size, g.groups * g.c_out,
            tuple(np.zeros(1, np.int64) for _ in range(3)),
        )  # fmt: skip
        self.strips = xs, ys
        self.shape = shape = min(range(len(DOT_TILES)), key=lambda k: _dot_cycles(k, x_panel * taps, y_panel))
        tile_rows, tile_columns = (TILES[0][0], plan.wide(itemsize)) if outer else DOT_TILES[shape]
        row_blocks, column_blocks = -(-x_panel * taps // tile_rows), -(-y_panel // tile_columns)
        row_offset = np.zeros(row_blocks * tile_rows, np.int32)  # rows past the last read sample 0 and are dropped
        offsets = plan.tap_offset(xs, x_panel).ravel()
        row_offset[: offsets.size] = offsets
        place = [np.arange(n) for n in self.block]
        pixels = ((place[0][:, None, None] * xs.rows + place[1][:, None]) * xs.width + place[2]).ravel().astype(np.int32)
        self.tables = row_offset, pixels, np.arange(pixels.size, dtype=np.int32) * plan.wide(itemsize)
        blocks = (m.y_size[0], -(-m.y_size[1] // rows), -(-m.y_size[2] // columns), -(-g.batch // images))
        x_panels, y_panels = -(-g.c_in // x_panel), -(-g.c_out // y_panel)
        task_size = row_blocks * tile_rows * column_blocks * tile_columns
        panels = g.groups * x_panels * y_panels
        most = max(1, PARTIAL_BYTES // (panels * task_size * itemsize))
        parts = min(blocks[0] * blocks[1] * blocks[2] * blocks[3], -(-FIXED_TASKS // panels), most)
        self.tasks, self.operations = panels * parts, g.flops // 2
        self.partial_bytes = -(-self.tasks * task_size * itemsize // 64) * 64
        slack = 64 + plan.lanes(itemsize) * itemsize
        y_plane = pixels.size if outer else ys.plane
        strip_bytes = -(-(x_panel * xs.parts * xs.plane * itemsize + slack) // 64) * 64
        self.scratch_bytes = strip_bytes + -(-(column_blocks * tile_columns * y_plane * itemsize + slack) // 64) * 64
        names = ("row_offset", "pixel_offset", "pixel_step")
        self.job = reduce.JOB.fill(
            x_strip=xs.record, y_strip=ys.record, outer=outer, batch=g.batch, groups=g.groups,
            c_in=g.c_in, c_out=g.c_out, taps=taps, parts=parts, x_panel=x_panel, x_panels=x_panels, y_panel=y_panel,
            y_panels=y_panels, images=images, rows=rows, columns=columns, reach=axes[1].reach, blocks=blocks, outputs=m.y_size,
            shape=shape, row_blocks=row_blocks, column_blocks=column_blocks, task_size=task_size, strip_bytes=strip_bytes,
            scratch_bytes=self.scratch_bytes,
            **{name: table.ctypes.data for name, table in zip(names, self.tables, strict=True)},
        )  # fmt: skip


@lru_cache(256)
def sums(g: ConvGeometry, itemsize: int) -> Sums:
    """Plan contract_w, independent of the number of threads."""
    return Sums(g, itemsize)


def workspace(g: ConvGeometry, itemsize: int, threads: int) -> int:
    """Bytes of scratch memory: strips for each thread, and the parts of the sum."""
    s = sums(g, itemsize)
    return s.partial_bytes + min(threads, s.tasks) * s.scratch_bytes


def tile(g: ConvGeometry, itemsize: int) -> str:
    """Name the shape of tiles in use."""
    s = sums(g, itemsize)
    return "{}x{} pixels".format(*TILES[0]) if s.outer else "{}x{} dots".format(*DOT_TILES[s.shape])


def _outer(g: ConvGeometry, taps: int, itemsize: int) -> bool:
    """Say whether channels of y had better be the vectors of the tile than pixels, by cycles for each pixel."""
    rows, wide, columns = g.c_in * taps, plan.wide(itemsize), axes_y(g)[2]
    by_channel = -(-rows // TILES[0][0]) * -(-g.c_out // wide) * 6 + TURNING * g.c_out * -(-rows // 192)
    shape = min(range(len(DOT_TILES)), key=lambda k: _dot_cycles(k, rows, g.c_out))
    gaps = (columns.outputs + columns.reach) / columns.outputs
    tiles = -(-rows // DOT_TILES[shape][0]) * -(-g.c_out // DOT_TILES[shape][1])
    by_dot = _dot_cycles(shape, rows, g.c_out) / plan.lanes(itemsize) * gaps + 100 * tiles / DOT_PIXELS
    return by_channel < SHORTER * by_dot


def _panels(g: ConvGeometry, taps: int, parts: int, outer: bool) -> tuple[int, int]:
    """Channels of x and y between which one task computes weights: many taps need few channels of x to keep y busy."""
    if outer:
        return plan.even(g.c_in, max(1, 192 // max(taps, parts))), plan.even(g.c_out, 128)
    x_panel = plan.even(g.c_in, max(1, min(96, 192 // parts) if taps < 4 else 96 // parts))
    return x_panel, plan.even(g.c_out, 96 if taps < 4 else 48)


def _block(g: ConvGeometry, itemsize: int, x_panel: int, y_panel: int, pixels: int) -> tuple[int, int, int]:
    """Images, rows and columns of pixels: enough for long sums, no more than fits in cache."""
    depth, rows, columns = axes_y(g)
    tall, long = rows.reach, columns.reach
    planes = x_panel * len(depth.starts) * len(rows.residues) * len(columns.residues) + y_panel

    def fits(i: int, r: int, c: int) -> bool:
        return i * (r + tall) * (c + long) * planes * itemsize <= BLOCK_BYTES

    i, r, c = 1, 1, columns.outputs
    if not fits(1, 1, c) or c > 4 * pixels:
        c = plan.even(c, max(64, BLOCK_BYTES // (planes * itemsize * (1 + tall)) - long, pixels // 2))
    while r < rows.outputs and r * c < 2 * pixels and fits(1, r + 1, c):
        r += 1
    while r == rows.outputs and c == columns.outputs and i < g.batch and i * r * c < pixels and fits(i + 1, r, c):
        i += 1
    return plan.even(g.batch, i), plan.even(rows.outputs, r), c


def _dot_cycles(shape: int, rows: int, columns: int) -> float:
    """Machine cycles of a step over all tiles of a shape: multiply-adds and loads go two at a time, half the loads of x twice."""
    m, n = DOT_TILES[shape]
    return -(-rows // m) * -(-columns // n) * max(m * n / 2, (1.5 * m + n) / 2, 4)
