"""How to walk through one contraction on a CPU: phases, blocks, passes; a pure function of the geometry."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import lcm, prod
from typing import Any, NamedTuple

import numpy as np

from ..._simd import TILES, VECTOR_BYTES
from ..geometry import ConvGeometry, Triple
from .lattice import Axes, axes_x, axes_y, joined, merged
from .passes import Pass, cycles_of, pass_of, shares, taps_of, tile_cycles
from .passes import lanes as lanes
from .passes import tap_offset as tap_offset
from .strip import LINE, Strip, strip

Table = np.ndarray[Any, Any]

BLOCK_BYTES = 256 << 10  # a strip and its sums stay in a core's own cache: 512 KiB on Zen 3, 1 to 2 MiB on newer cores
NEAR_BYTES = 24 << 10  # what one tile reads again for the next output channels stays in the first-level cache, of 32 KiB or more
MOST_PHASES = 64  # summed from one strip
FEW = 4  # output channels that leave rows of a tile empty
TURNING = 0.5  # machine cycles to bring a sum from pixel order into that of storage


class Walk(NamedTuple):
    """Output phases that are computed together, ready for a kernel."""

    axes: Axes
    strip: Strip
    block: tuple[int, int, int]  # images, rows and columns of outputs of each phase, computed from one strip
    channels: int  # of the source, summed at a time
    panel: int  # output channels of a block
    passes: tuple[Pass, ...]
    pixels: Table | None  # int32: where in the strip the outputs of a block lie, where pixels are the rows of tiles

    @property
    def phases(self) -> Triple:
        """Number of phases along each axis."""
        a, b, c = (len(axis.phases) for axis in self.axes)
        return a, b, c

    @property
    def blank(self) -> bool:
        """Whether there are phases that no tap reaches, where the stride is larger than the window."""
        return sum(p.phases for p in self.passes if not p.adds) < prod(self.phases)

    @property
    def blocks(self) -> tuple[int, int, int]:
        """Number of blocks along each axis."""
        return self.axes[0].outputs, -(-self.axes[1].outputs // self.block[1]), -(-self.axes[2].outputs // self.block[2])

    @property
    def row_pitch(self) -> int:
        """Numbers from one plane of sums, of a channel and phase, to the next one, as far as tiles write; or of pixels."""
        if self.pixels is not None:
            return even_up(self.panel, wide(self.strip.itemsize))
        images, rows, columns = self.block
        woven = ((images - 1) * self.strip.rows + rows - 1) * self.strip.width + columns + lanes(self.strip.itemsize)
        ends = [int(p.starts[-1]) + TILES[p.shape][1] * lanes(self.strip.itemsize) for p in self.passes]
        return even_up(max(woven, *ends, 0), 16)

    @property
    def pixel_rows(self) -> int:
        """Pixels of a phase in the sums: whole tiles, and whole vectors when they are turned."""
        return 0 if self.pixels is None else even_up(self.pixels.size, lanes(self.strip.itemsize))

    @property
    def strip_size(self) -> int:
        """Numbers in a strip, with room for what tiles read past its end."""
        most_vectors = max(v for _, v in TILES)
        slack = (most_vectors + 1) * lanes(self.strip.itemsize)
        return even_up(self.channels * self.strip.parts * self.strip.plane + slack, 16)

    @property
    def sums(self) -> int:
        """Numbers in the sums of a block."""
        count = prod(self.phases)
        if self.pixels is not None:
            return even_up(count * self.pixel_rows * self.row_pitch, 16)
        planes = max(
            (even_up(self.panel * p.phases, p.rows) * count // p.phases for p in self.passes), default=self.panel * count
        )
        return planes * self.row_pitch

    @property
    def turned(self) -> int:
        """Numbers in the sums of a vector of channels, pixels turned into planes."""
        size = lanes(self.strip.itemsize)
        return 0 if self.pixels is None else even_up((prod(self.phases) * self.pixel_rows + 1) * size, 16)


def wide(itemsize: int) -> int:
    """Numbers in the vectors of the tallest tile."""
    return TILES[0][1] * lanes(itemsize)


def even_up(n: int, unit: int) -> int:
    """Return n rounded up to whole units."""
    return -(-n // unit) * unit


@lru_cache(512)
def walks(g: ConvGeometry, itemsize: int, threads: int, adjoint: bool) -> tuple[Walk, ...]:
    """Plan contract_y, or contract_x, its adjoint: one walk over all phases, unless they are too many for one."""
    g = simplified(g, adjoint)
    c_src, c_dst = (g.c_out, g.c_in) if adjoint else (g.c_in, g.c_out)
    axes = _axes(g, c_src, c_dst, itemsize, adjoint)
    columns = axes[2].cut(MOST_PHASES)
    rows = axes[1].cut(max(1, MOST_PHASES // len(columns[0].phases)))
    depths = axes[0].cut(max(1, MOST_PHASES // len(columns[0].phases) // len(rows[0].phases)))
    size = g.y_size if adjoint else g.x_size
    return tuple(
        _walk((a, b, c), g.batch, g.groups, c_src, c_dst, size, g.w_size, itemsize, threads)
        for a in depths
        for b in rows
        for c in columns
    )


def simplified(g: ConvGeometry, adjoint: bool) -> ConvGeometry:
    """Return the same problem as it is planned: products of matrices are windows of one tap."""
    return merged(joined(g) if adjoint else g)


def _axes(g: ConvGeometry, c_src: int, c_dst: int, itemsize: int, adjoint: bool) -> Axes:
    """Return the lattice, with more phases than the stride asks for where output channels are too few for the rows of a tile.

    Decided without looking at blocks, which depend on the number of threads: the order of a sum must not. With phases on the rows
    instead of one channel, a million samples under 128 taps took 3.35 ms and not 4.89 on one thread, 200 taps 4.9 and not 7.4.
    """
    axes = axes_x(g) if adjoint else axes_y(g)
    if c_dst >= FEW:
        return axes
    depth, rows, columns = shared = axes_x(g, shared=True) if adjoint else axes
    choices = [(shared, 0.0)]
    if rows.outputs >= 8 and columns.outputs >= 4 * lanes(itemsize):
        choices += [((depth, rows.split(m), columns), 0.0) for m, _ in TILES if m > 1]
    if columns.src_step == 1 and columns.outputs >= 64 * lanes(itemsize):
        # Dealing samples out to parts of a strip and weaving outputs takes a cycle for every vector more than copying.
        moved = (c_src + c_dst) * len(columns.phases) * depth.outputs * rows.outputs * columns.outputs
        choices += [((depth, rows, columns.split(parts)), float(moved)) for parts in (2, 4)]
    best, least = axes, 0.9 * cycles_of(axes, c_src, c_dst, joint=False)
    for choice, moving in choices:
        if shares(choice) and (cycles := cycles_of(choice, c_src, c_dst, joint=True) + moving) < least:
            best, least = choice, cycles
    return best


def _walk(
    axes: Axes, batch: int, groups: int, c_src: int, c_dst: int, size: Triple, w_size: Triple, itemsize: int, threads: int
) -> Walk:
    joint = c_dst < FEW and shares(axes) and cycles_of(axes, c_src, c_dst, True) < cycles_of(axes, c_src, c_dst, False)
    taps = taps_of(axes, w_size, joint)
    *block, panel = _block(axes, batch, groups, c_src, c_dst, itemsize, threads)
    images, rows, columns = block
    s = strip(axes, (images, rows, columns), itemsize, size, groups * c_src)
    most = max((len(t.weight) for t in taps), default=1)
    channels, whole = _channels(s, c_src, most, itemsize), (images, rows, columns)
    plain = [pass_of(t, s, whole, channels, panel) for t in taps]
    passes, pixels = tuple(p for p, _ in plain), None
    if passes and not joint and (columns == axes[2].outputs or images == rows == 1):
        count, turned = images * rows * columns, even_up(panel, wide(itemsize)) // wide(itemsize)
        tiles = -(-count // TILES[0][0]) * turned
        by_pixel = sum(tiles * tile_cycles(0, p.offset.size) + TURNING * count * panel for p in passes)
        if by_pixel < sum(cycles for _, cycles in plain):
            passes, pixels = tuple(p._replace(shape=0) for p in passes), _pixels(s, whole)
    return Walk(axes, s, whole, channels, panel, passes, pixels)


def _pixels(s: Strip, block: tuple[int, int, int]) -> Table:
    """Where the outputs of a block lie in the strip, image by image and row by row, filled up to whole tiles."""
    images, rows, columns = (np.arange(n) for n in block)
    place = ((images[:, None, None] * s.rows + rows[:, None]) * s.width + columns).ravel()
    return np.pad(place, (0, -place.size % TILES[0][0]), mode="edge").astype(np.int32)


def _block(axes: Axes, batch: int, groups: int, c_src: int, c_dst: int, itemsize: int, threads: int) -> tuple[int, int, int, int]:
    """Images, rows, columns and channels of a block: what fits in cache, then less if threads would go without work."""
    depth, rows, columns = axes
    parts = len(depth.starts) * len(rows.residues) * len(columns.residues)
    phases = prod(len(axis.phases) for axis in axes)
    across, tall, long = wide(itemsize), rows.reach, columns.reach
    least = max(across, 8 * across // phases)
    # Sums that grow by hundreds of products each time they are touched may lie further away than the strip. (4x4/2 of 512 to 256
    # channels on maps of 4x4: eight images share the weights instead of one, 33 ms become 30.)
    products = c_src * max(prod(len(phase.taps) for phase in ph) for ph in product(*(axis.phases for axis in axes)))
    touched = min(1.0, 256 / max(products, 1))

    def fits(i: int, r: int, c: int, d: int) -> bool:
        width = c + long
        strip, sums = i * (r + tall) * width, phases * ((i - 1) * (r + tall) + r) * width
        return (min(c_src, 64) * parts * strip + touched * d * sums) * itemsize <= BLOCK_BYTES

    c, r, i, panel = columns.outputs, 1, 1, c_dst
    while not fits(1, 1, c, panel) and (c > least or panel > 64):
        if panel > 64:
            panel = -(-panel // 2)
        else:
            c = max(least, -(-c // (2 * across)) * across)
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
    if i > 1 and tasks() < 8 * threads:
        i = -(-batch // even_up(-(-batch // i), threads))  # so few tasks should be equally many for each thread
    return i, r, c, min(c_dst, even_up(panel, _WHOLE))


_WHOLE = lcm(*(rows for rows, _ in TILES), TILES[0][1] * VECTOR_BYTES // 4)  # so many channels are whole for every shape of tile


def even(total: int, most: int) -> int:
    """Return the size of equal parts, none larger than `most`."""
    return -(-total // -(-total // most)) if total else 1


def _channels(s: Strip, c_src: int, taps: int, itemsize: int) -> int:
    """Source channels to sum at a time: what a tile reads of them, and their weights for a block of rows, stay near."""
    rows, vectors = TILES[0]
    tile_lines = (vectors * VECTOR_BYTES + s.axes[2].reach * itemsize) // LINE + 1
    per_plane = max(len(set(places)) for places in s.axes[1].places) * tile_lines * LINE
    depths = max(len(phase.taps) for phase in s.axes[0].phases)
    columns = max(len({part for part, _ in places}) for places in s.axes[2].places)
    return even(c_src, max(1, NEAR_BYTES // max(per_plane * depths * columns + taps * rows * itemsize, 1)))
