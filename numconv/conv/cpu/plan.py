"""How to walk through one contraction on a CPU: lattices, blocks, tiles and offset tables; a pure function of the geometry.

Convolution reads its input at stride * p + dilation * k - pad_lo. Seen from one output phase, that sums, over taps, the
samples `start + step * t`:

    contract_y  one phase:  dst p = t                         src q = stride * t + (dilation * k - pad_lo)
    contract_x  a phase r:  dst q = stride * j + r - pad_lo   src p = j - (dilation * k - r) / stride, for k where it divides

Samples are copied into a strip of memory where those of one residue modulo `step` lie side by side. After that, stride is gone:
every tap is an offset, and neighbouring outputs read neighbouring samples.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..._simd import TILES, VECTOR_BYTES
from ..geometry import ConvGeometry, Triple

# A strip and its sums should stay in a core's own cache (512 KiB on Zen 3, 1 to 2 MiB on newer cores) beside the packed weights.
STRIP_BYTES = 256 << 10
BLOCK_PIXELS = 256  # pixels that contract_w sums before it adds to its block of dw: their gradients fill half of L1
FIXED_TASKS = 16  # contract_w splits its sum over pixels so, whatever the number of threads: the same bits on every machine


class Axis(NamedTuple):
    """One axis of one output phase: output `dst_start + dst_step * t` sums taps at `src_start[.] + src_step * t`."""

    dst_start: int
    dst_step: int
    outputs: int
    src_step: int
    taps: tuple[int, ...]
    src_start: tuple[int, ...]

    @property
    def first(self) -> int:
        """First source sample of the strip, for t = 0."""
        return min(self.src_start, default=0)

    @property
    def residues(self) -> tuple[int, ...]:
        """Residues modulo `src_step` that any tap reads: each has its own part of the strip."""
        return tuple(sorted({(s - self.first) % self.src_step for s in self.src_start}))

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Part of the strip and offset in it of each tap."""
        return tuple(
            (self.residues.index((s - self.first) % self.src_step), (s - self.first) // self.src_step) for s in self.src_start
        )

    @property
    def reach(self) -> int:
        """Samples of a part of the strip beyond the first that one output reads."""
        return max((offset for _, offset in self.places), default=0)


class Walk(NamedTuple):
    """One output phase, ready for a kernel. Sizes in samples; tables are int32 and int64 arrays."""

    axes: tuple[Axis, Axis, Axis]
    block: tuple[int, int]  # rows and columns of outputs computed from one strip
    strip_shape: tuple[int, int, int, int, int, int]  # channels, depth taps, row parts, column parts, rows, columns
    strip_size: int
    depth_start: np.ndarray[Any, Any]
    residues: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
    tap_offset: np.ndarray[Any, Any]  # in the strip, for channel and tap
    tap_index: np.ndarray[Any, Any]  # in the weights, for tap
    tile_start: np.ndarray[Any, Any]  # in the strip, for the tiles of a whole block
    tile: int  # number of its shape in TILES

    @property
    def blocks(self) -> tuple[int, int, int]:
        """Number of blocks along each axis."""
        rows, columns = self.block
        return self.axes[0].outputs, -(-self.axes[1].outputs // rows), -(-self.axes[2].outputs // columns)


def lanes(itemsize: int) -> int:
    """Numbers in a vector."""
    return VECTOR_BYTES // itemsize


@lru_cache(512)
def walks_y(g: ConvGeometry, itemsize: int, threads: int) -> tuple[Walk, ...]:
    """Plan contract_y: one phase over all outputs."""
    axes = _axes_y(g)
    return (_walk(axes, g.c_in, g.c_out, g.batch * g.groups, g.w_size, itemsize, threads),)


@lru_cache(512)
def walks_x(g: ConvGeometry, itemsize: int, threads: int) -> tuple[Walk, ...]:
    """Plan contract_x: a dense, stride-1 problem for every phase of the stride, so that no zero is multiplied."""
    per_axis = [_phases_x(*sizes) for sizes in zip(g.x_size, g.w_size, g.y_size, g.stride, g.dilation, g.pad_lo, strict=True)]
    return tuple(
        _walk((a, b, c), g.c_out, g.c_in, g.batch * g.groups, g.w_size, itemsize, threads) for a, b, c in product(*per_axis)
    )


@lru_cache(512)
def walk_w(g: ConvGeometry, itemsize: int) -> Walk:
    """Plan contract_w: strips of x as contract_y reads them, in blocks of few pixels, independent of the number of threads."""
    return _walk(_axes_y(g), g.c_in, g.c_out, g.batch * g.groups, g.w_size, itemsize, 0)


def _axes_y(g: ConvGeometry) -> tuple[Axis, Axis, Axis]:
    a, b, c = (
        Axis(0, 1, o, s, tuple(range(k)), tuple(d * j - lo for j in range(k)))
        for k, o, s, d, lo in zip(g.w_size, g.y_size, g.stride, g.dilation, g.pad_lo, strict=True)
    )
    return a, b, c


def _phases_x(x: int, k: int, y: int, stride: int, dilation: int, pad_lo: int) -> list[Axis]:
    phases = []
    for r in range(min(stride, x + pad_lo)):
        j0 = max(0, -((r - pad_lo) // stride))  # first j with stride * j + r - pad_lo >= 0
        count = (x - 1 - (r - pad_lo)) // stride - j0 + 1
        if count > 0:
            taps = tuple(t for t in range(k) if (dilation * t - r) % stride == 0)
            starts = tuple(j0 - (dilation * t - r) // stride for t in taps)
            phases.append(Axis(stride * j0 + r - pad_lo, stride, count, 1, taps, starts))
    return phases


def _walk(
    axes: tuple[Axis, Axis, Axis], c_src: int, c_dst: int, problems: int, w_size: Triple, itemsize: int, threads: int
) -> Walk:
    depth, rows, columns = axes
    parts = len(depth.taps), len(rows.residues), len(columns.residues)
    block_rows, block_columns = _block(axes, c_src * prod(parts), c_dst, problems, itemsize, threads)
    shape = (c_src, *parts, block_rows + rows.reach, block_columns + columns.reach)
    tile, starts = _tiles(c_dst, block_rows, block_columns, shape[5], itemsize)
    slack = (TILES[tile][1] + 1) * lanes(itemsize)  # tiles read past the last sample they need, never past this
    return Walk(
        axes,
        (block_rows, block_columns),
        shape,
        prod(shape) + slack,
        np.array(depth.src_start, np.int64),
        (np.array(rows.residues, np.int64), np.array(columns.residues, np.int64)),
        _tap_offset(axes, shape),
        _tap_index(axes, w_size),
        starts,
        tile,
    )


def _block(
    axes: tuple[Axis, Axis, Axis], c_strip: int, c_dst: int, problems: int, itemsize: int, threads: int
) -> tuple[int, int]:
    """Rows and columns of outputs per strip: as many as fit in cache, then fewer if threads would go without work."""
    depth, rows, columns = axes

    def fits(r: int, c: int) -> bool:
        strip, sums = c_strip * (r + rows.reach) * (c + columns.reach), c_dst * r * (c + columns.reach)
        return (strip + sums) * itemsize <= STRIP_BYTES and (threads > 0 or r * c <= BLOCK_PIXELS)

    wide = TILES[0][1] * lanes(itemsize)
    c, r = columns.outputs, 1
    while not fits(1, c) and c > wide:
        c = max(wide, -(-c // (2 * wide)) * wide)
    while r < rows.outputs and fits(r + 1, c):
        r += 1
    while r > 1 and problems * depth.outputs * -(-rows.outputs // r) * -(-columns.outputs // c) < threads:
        r = -(-r // 2)
    row_blocks = -(-rows.outputs // r)
    return -(-rows.outputs // row_blocks), c


def _tiles(c_dst: int, rows: int, columns: int, pitch: int, itemsize: int) -> tuple[int, np.ndarray[Any, Any]]:
    """Choose the tile and where tiles start, by the machine cycles that the block takes.

    Tiles run over whole rows one by one, or across the rows of the strip as if they were one, computing the few samples between
    them for nothing. A step of the tile takes its multiply-adds at two a cycle, its loads at two a cycle, or the four cycles of
    one sum.
    """
    best: tuple[float, int, np.ndarray[Any, Any]] | None = None
    for shape, (m, v) in enumerate(TILES):
        width, cycles = v * lanes(itemsize), max(m * v / 2, (m + v + 1) / 2, 4)
        across = np.arange(0, (rows - 1) * pitch + columns, width)
        row_by_row = np.add.outer(np.arange(rows) * pitch, np.arange(0, columns, width)).ravel()
        starts = min(across, row_by_row, key=len)
        cost = len(starts) * -(-c_dst // m) * cycles
        if best is None or cost < best[0]:
            best = cost, shape, starts.astype(np.int64)
    assert best is not None
    return best[1], best[2]


def _tap_offset(axes: tuple[Axis, Axis, Axis], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    channels, _, row_parts, column_parts, rows, columns = shape
    part = rows * columns
    depth = np.arange(len(axes[0].taps)) * (row_parts * column_parts * part)
    down = np.array([p * column_parts * part + offset * columns for p, offset in axes[1].places], np.int64)
    along = np.array([p * part + offset for p, offset in axes[2].places], np.int64)
    channel = np.arange(channels) * (shape[1] * row_parts * column_parts * part)
    total = channel[:, None, None, None] + depth[:, None, None] + down[:, None] + along
    return total.ravel().astype(np.int32)


def _tap_index(axes: tuple[Axis, Axis, Axis], w_size: Triple) -> np.ndarray[Any, Any]:
    a, b, c = (np.array(axis.taps, np.int64) for axis in axes)
    return ((a[:, None, None] * w_size[1] + b[:, None]) * w_size[2] + c).ravel()
