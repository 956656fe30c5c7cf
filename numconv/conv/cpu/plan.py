"""How to walk through one contraction on a CPU: blocks, tiles, passes and offset tables; a pure function of the geometry."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import product
from math import lcm
from typing import Any, NamedTuple

import numpy as np

from ..._simd import TILES, VECTOR_BYTES
from ..geometry import ConvGeometry, Triple
from .lattice import Axes, axes_x, axes_y, merged
from .strip import LINE, Strip, strip

Table = np.ndarray[Any, Any]

BLOCK_BYTES = (
    256 << 10
)  # a strip and the sums of its block stay in a core's own cache: 512 KiB on Zen 3, 1 to 2 MiB on newer cores
NEAR_BYTES = 24 << 10  # what one tile reads again for the next output channels stays in the first-level cache, of 32 KiB or more


TURNING = 0.5  # machine cycles to bring a sum from pixel order into that of storage


class Pass(NamedTuple):
    """Tiles of one shape that sum some of the taps for all outputs, or for every `rows`-th row of them."""

    shape: int  # number in TILES
    shifted: bool  # rows of the tile are neighbouring rows of one output channel, not output channels
    offset: Table  # int32 (channels, taps): where in the strip a tap of a channel lies
    weight: Table  # int64 (taps, rows): which weight it is, for each row of the tile
    starts: Table  # int64: where in the strip tiles start

    @property
    def rows(self) -> int:
        """Rows of a tile."""
        return TILES[self.shape][0]


class Walk(NamedTuple):
    """One output phase, ready for a kernel."""

    axes: Axes
    strip: Strip
    block: tuple[int, int, int]  # images, rows and columns of outputs computed from one strip
    channels: int  # of the source, summed at a time
    panel: int  # output channels of a block
    passes: tuple[Pass, ...]
    pixels: Table | None  # int32: where in the strip the outputs of a block lie, where pixels are the rows of tiles

    @property
    def blocks(self) -> tuple[int, int, int]:
        """Number of blocks along each axis."""
        return self.axes[0].outputs, -(-self.axes[1].outputs // self.block[1]), -(-self.axes[2].outputs // self.block[2])

    @property
    def row_pitch(self) -> int:
        """Numbers from one output channel's sums to the next one's, as far as tiles write; or from one pixel's to the next."""
        if self.pixels is not None:
            return even_up(self.panel, wide(self.strip.itemsize))
        pitch = self.strip.width
        ends = [
            int(p.starts[-1]) + (p.rows - 1) * pitch * p.shifted + TILES[p.shape][1] * lanes(self.strip.itemsize)
            for p in self.passes
        ]
        return -(-max(ends, default=0) // 16) * 16

    @property
    def strip_size(self) -> int:
        """Numbers in a strip, with room for what tiles read past its end."""
        most_rows, most_vectors = max(r for r, _ in TILES), max(v for _, v in TILES)
        slack = most_rows * self.strip.width + (most_vectors + 1) * lanes(self.strip.itemsize)
        return -(-(self.channels * self.strip.parts * self.strip.plane + slack) // 16) * 16

    @property
    def sums(self) -> int:
        """Numbers in the sums of a block."""
        if self.pixels is not None:
            return self.pixels.size * self.row_pitch
        most_rows = max((p.rows for p in self.passes if not p.shifted), default=1)
        return -(-self.panel // most_rows) * most_rows * self.row_pitch


def wide(itemsize: int) -> int:
    """Numbers in the vectors of the tallest tile."""
    return TILES[0][1] * lanes(itemsize)


def even_up(n: int, unit: int) -> int:
    """Return n rounded up to whole units."""
    return -(-n // unit) * unit


def lanes(itemsize: int) -> int:
    """Numbers in a vector."""
    return VECTOR_BYTES // itemsize


@lru_cache(512)
def walks_y(g: ConvGeometry, itemsize: int, threads: int) -> tuple[Walk, ...]:
    """Plan contract_y: one phase over all outputs."""
    g = merged(g)
    return (_walk(axes_y(g), g.batch, g.groups, g.c_in, g.c_out, g.x_size, g.w_size, itemsize, threads),)


@lru_cache(512)
def walks_x(g: ConvGeometry, itemsize: int, threads: int) -> tuple[Walk, ...]:
    """Plan contract_x: one phase for every residue of the stride."""
    g = merged(g)
    return tuple(_walk(axes, g.batch, g.groups, g.c_out, g.c_in, g.y_size, g.w_size, itemsize, threads) for axes in axes_x(g))


def _walk(
    axes: Axes, batch: int, groups: int, c_src: int, c_dst: int, size: Triple, w_size: Triple, itemsize: int, threads: int
) -> Walk:
    index = _tap_index(axes, w_size)
    *block, panel = _block(axes, batch, groups, c_src, c_dst, itemsize, threads)
    images, rows, columns = block
    shift = _shift(axes, c_dst, itemsize)
    shapes = () if shift is None else (shift, len(TILES) - 1)
    covered = max((_covered(columns, TILES[k][1], itemsize) for k in shapes), default=0)
    s = strip(axes, (images, rows, columns), itemsize, size, groups * c_src, covered)
    channels, whole = _channels(s, c_src, max(len(index), 1), itemsize), (images, rows, columns)
    pixels = None
    if shift is None:
        plain, cycles = _plain(s, whole, channels, panel, index)
        passes: Iterable[Pass] = [plain]
        count, turned = images * rows * columns, even_up(panel, wide(itemsize)) // wide(itemsize)
        by_pixel = -(-count // TILES[0][0]) * turned * _tile_cycles(0, plain.offset.size) + TURNING * count * panel
        if columns == axes[2].outputs and len(index) and by_pixel < 0.95 * cycles:
            pixels = _pixels(s, whole)
            passes = [plain._replace(weight=np.repeat(index[:, None], wide(itemsize), axis=1))]
    else:
        passes = _shifted(s, whole, channels, shift, index)
    return Walk(axes, s, whole, channels, panel, tuple(p for p in passes if p.weight.size), pixels)


def _pixels(s: Strip, block: tuple[int, int, int]) -> Table:
    """Where the outputs of a block lie in the strip, image by image and row by row, filled up to whole tiles."""
    images, rows, columns = (np.arange(n) for n in block)
    place = ((images[:, None, None] * s.rows + rows[:, None]) * s.width + columns).ravel()
    return np.pad(place, (0, -place.size % TILES[0][0]), mode="edge").astype(np.int32)


def _block(axes: Axes, batch: int, groups: int, c_src: int, c_dst: int, itemsize: int, threads: int) -> tuple[int, int, int, int]:
    """Images, rows, columns and channels of a block: what fits in cache, then less if threads would go without work."""
    depth, rows, columns = axes
    parts = len(depth.taps) * len(rows.residues) * len(columns.residues)
    across, tall, long = wide(itemsize), rows.reach, columns.reach

    def fits(i: int, r: int, c: int, d: int) -> bool:
        width = c + long
        strip, sums = i * (r + tall) * width, ((i - 1) * (r + tall) + r) * width
        return (min(c_src, 64) * parts * strip + d * sums) * itemsize <= BLOCK_BYTES

    c, r, i, panel = columns.outputs, 1, 1, c_dst
    while not fits(1, 1, c, panel) and (c > 8 * across or panel > 64):
        if panel > 64:
            panel = -(-panel // 2)
        else:
            c = max(8 * across, -(-c // (2 * across)) * across)
    while r < rows.outputs and fits(1, r + 1, c, panel):
        r += 1
    while r < min(rows.outputs, 2 * tall) and c > 8 * across:  # a tall window would copy the rows it shares again and again
        c = -(-c // (2 * across)) * across
        while r < rows.outputs and fits(1, r + 1, c, panel):
            r += 1
    while r == rows.outputs and c == columns.outputs and i < batch and fits(i + 1, r, c, panel):
        i += 1

    def tasks() -> int:
        return -(-batch // i) * groups * depth.outputs * -(-rows.outputs // r) * -(-columns.outputs // c) * -(-c_dst // panel)

    while tasks() < threads and (i > 1 or r > 1 or panel > 24):
        if i > 1:
            i = -(-i // 2)
        elif r > 1 and r * c > 4 * across:
            r = -(-r // 2)
        elif panel > 24:
            panel = -(-panel // 2)
        else:
            break
    r, i = even(rows.outputs, r), even(batch, i)
    return i, r, c, min(c_dst, even_up(panel, _WHOLE))


_WHOLE = lcm(*(rows for rows, _ in TILES), TILES[0][1] * VECTOR_BYTES // 4)  # so many channels are whole for every shape of tile


def even(total: int, most: int) -> int:
    """Return the size of equal parts, none larger than `most`."""
    return -(-total // -(-total // most)) if total else 1


def _channels(s: Strip, c_src: int, taps: int, itemsize: int) -> int:
    """Source channels to sum at a time: what a tile reads of them, and their weights for a block of rows, stay near."""
    rows, vectors = TILES[0]
    tile_lines = (vectors * VECTOR_BYTES + s.axes[2].reach * itemsize) // LINE + 1
    per_plane = len(set(s.axes[1].places)) * tile_lines * LINE
    per_channel = per_plane * len(s.axes[0].taps) * len(s.axes[2].residues) + taps * rows * itemsize
    return even(c_src, max(1, NEAR_BYTES // max(per_channel, 1)))


def _cycles(shape: int) -> float:
    """Machine cycles of a step of a tile: its multiply-adds and loads go two at a time, and a sum takes four cycles.

    Half of the loads of vectors, which start anywhere, straddle two cache lines and count twice.
    """
    m, v = TILES[shape]
    return max(m * v / 2, (m + 1.5 * v + 1) / 2, 4)


def _tile_cycles(shape: int, steps: int) -> float:
    """Machine cycles of a tile: its steps, and storing the sums."""
    m, v = TILES[shape]
    return steps * _cycles(shape) + 10 + 2 * m * v


def _plain(s: Strip, block: tuple[int, int, int], channels: int, panel: int, index: Table) -> tuple[Pass, float]:
    """One pass with output channels on the rows of the tile, in the shape that takes the fewest cycles, and those cycles."""
    offset = tap_offset(s, channels)
    best: tuple[float, Pass] | None = None
    for shape, (m, v) in enumerate(TILES):
        starts = _starts(s, block, range(block[1]), v)
        cost = len(starts) * -(-panel // m) * _tile_cycles(shape, offset.size)
        if best is None or cost < best[0]:
            best = cost, Pass(shape, False, offset, np.repeat(index[:, None], m, axis=1), starts)
    assert best is not None
    return best[1], best[0]


def _starts(s: Strip, block: tuple[int, int, int], rows: Iterable[int], vectors: int) -> Table:
    """Where tiles start: over each of some rows by itself, or across all rows as if they were one, if that takes fewer.

    Across, the few samples between rows are computed for nothing. Row by row, tiles must end before the next row starts: what
    two tiles add to one sum would count twice.
    """
    images, block_rows, columns = block
    step = vectors * lanes(s.itemsize)
    first = np.add.outer(np.arange(images) * s.rows, np.array(rows)).ravel() * s.width
    row_by_row = np.add.outer(first, np.arange(0, columns, step)).ravel()
    if len(first) == images * block_rows:
        across = np.arange(0, ((images - 1) * s.rows + block_rows - 1) * s.width + columns, step)
        if len(across) < len(row_by_row) or _covered(columns, vectors, s.itemsize) > s.width:
            return np.asarray(across, np.int64)
    return np.asarray(row_by_row, np.int64)


def _covered(columns: int, vectors: int, itemsize: int) -> int:
    """Return how many samples the tiles over a row of `columns` outputs cover."""
    step = vectors * lanes(itemsize)
    return -(-columns // step) * step


def _shift(axes: Axes, c_dst: int, itemsize: int) -> int | None:
    """Shape whose rows are best spent on neighbouring rows of one output channel; None where output channels fill them.

    Decided without looking at blocks, which depend on the number of threads: the order of a sum must not.
    """
    if c_dst >= 4 or axes[1].outputs < 8 or axes[2].outputs < 4 * lanes(itemsize):
        return None
    places, along = axes[1].places, len(axes[2].taps)
    single = len(TILES) - 1
    best = min(-(-c_dst // m) * _tile_cycles(k, len(places) * along) / v for k, (m, v) in enumerate(TILES))
    chosen = None
    for shape, (m, v) in enumerate(TILES[:single]):
        common = len(_common(places, m))
        ends = _tile_cycles(single, (len(places) - common) * along) / TILES[single][1]
        cost = c_dst * (_tile_cycles(shape, common * along) / (m * v) + ends)
        if common and cost < 0.9 * best:
            best, chosen = cost, shape
    return chosen


def _common(places: tuple[tuple[int, int], ...], rows: int) -> list[tuple[int, int]]:
    """Places in the strip, seen from the first of some neighbouring output rows, that all of them read."""
    known = set(places)
    return [(p, o) for p, o in places if all((p, o - m) in known for m in range(rows))]


def _shifted(s: Strip, block: tuple[int, int, int], channels: int, shape: int, index: Table) -> Iterable[Pass]:
    """Yield passes for few output channels: the rows of strip that neighbouring output rows share, then what each has beyond.

    Nothing is multiplied by zero, so a NaN goes no further than its windows.
    """
    m, places = TILES[shape][0], s.axes[1].places
    common, number = _common(places, m), {place: k for k, place in enumerate(places)}
    shared = set(common)
    table = index.reshape(len(s.axes[0].taps), len(places), len(s.axes[2].taps))

    def taps_of(chosen: Iterable[int]) -> Table:
        return table[:, list(chosen), :].ravel()

    shifted = np.stack([taps_of(number[p, o - row] for p, o in common) for row in range(m)], axis=1)
    starts = _starts(s, block, range(0, block[1], m), TILES[shape][1])
    yield Pass(shape, True, tap_offset(s, channels, common), shifted, starts)
    single = len(TILES) - 1
    for row in range(min(m, block[1])):
        rest = [k for k, (p, o) in enumerate(places) if (p, o + row) not in shared]
        offset = tap_offset(s, channels, [places[k] for k in rest])
        starts = _starts(s, block, range(row, block[1], m), TILES[single][1])
        yield Pass(single, True, offset, taps_of(rest)[:, None], starts)


def tap_offset(s: Strip, channels: int, down: Iterable[tuple[int, int]] | None = None) -> Table:
    """Where in the strip the samples under each tap of each channel lie, for the first output; rows of taps given or all."""
    depth, rows, columns = s.axes
    column_parts, row_parts = len(columns.residues), len(rows.residues)
    places = rows.places if down is None else list(down)
    z = np.arange(len(depth.taps)) * (row_parts * column_parts * s.plane)
    r = np.array([p * column_parts * s.plane + offset * s.width for p, offset in places], np.int64)
    c = np.array([p * s.plane + offset for p, offset in columns.places], np.int64)
    channel = np.arange(channels) * (s.parts * s.plane)
    return (channel[:, None, None, None] + z[:, None, None] + r[:, None] + c).reshape(channels, -1).astype(np.int32)


def _tap_index(axes: Axes, w_size: Triple) -> Table:
    """Return which weights the taps of a phase are."""
    return np.array([(a * w_size[1] + b) * w_size[2] + c for a, b, c in product(*(axis.taps for axis in axes))], np.int64)
