"""What tiles sum in a block: the taps of one phase for some output channels, or taps that all phases share, for all of them.

The rows of a tile are pairs of output channel and phase. One phase at a time, output channels must fill them. All phases at once
fill them even for a single channel, as long as they read the same samples, each with weights of its own; what a phase reads
beyond is a pass by itself, so that nothing is multiplied by zero and a NaN goes no further than its windows.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..._simd import TILES, VECTOR_BYTES
from ..geometry import Triple
from .lattice import Axes, Axis
from .strip import Strip

Table = np.ndarray[Any, Any]


class Taps(NamedTuple):
    """Taps to sum for one phase or for all."""

    phase: int  # the first
    phases: int
    adds: bool  # to what was summed before
    places: Table  # (taps, 5): depth, part and offset of the row, part and offset of the column in the strip
    weight: Table  # int64 (taps, phases): which weight it is


class Pass(NamedTuple):
    """Taps, summed by tiles of one shape."""

    shape: int  # number in TILES
    phase: int
    phases: int
    adds: bool
    offset: Table  # int32 (channels, taps): where in the strip a tap of a channel lies
    weight: Table
    starts: Table  # int64: where in the strip tiles start

    @property
    def rows(self) -> int:
        """Rows of a tile."""
        return TILES[self.shape][0]


def lanes(itemsize: int) -> int:
    """Numbers in a vector."""
    return VECTOR_BYTES // itemsize


def taps_of(axes: Axes, w_size: Triple, joint: bool) -> list[Taps]:
    """Return the taps of each phase, or those that all phases share and then the rest of each."""
    tables = [_tables(axis) for axis in axes]
    phases = [_taps_of_phase(of_phase, w_size) for of_phase in product(*tables)]
    if not joint:
        return [Taps(f, 1, False, places, index[:, None]) for f, (places, index, _) in enumerate(phases) if index.size]
    shared = [index[common] for _, index, common in phases]
    places, _, common = phases[0]
    first = Taps(0, len(phases), False, places[common], np.stack(shared, axis=1))
    rest = [Taps(f, 1, True, p[~common], index[~common, None]) for f, (p, index, common) in enumerate(phases)]
    return [first, *(taps for taps in rest if taps.weight.size)]


def _tables(axis: Axis) -> list[tuple[Table, Table, Table, Table]]:
    """Return, for each phase of an axis: its taps, their number among all starts, their places, whether all phases share them."""
    common, starts = _common(axis), axis.starts
    return [
        (
            np.array(phase.taps, np.int64),
            np.searchsorted(starts, phase.starts),
            np.array(places, np.int64).reshape(-1, 2),
            np.array([start in common for start in phase.starts], bool),
        )
        for phase, places in zip(axis.phases, axis.places, strict=True)
    ]


def _taps_of_phase(tables: Any, w_size: Triple) -> tuple[Table, Table, Table]:
    """Return places and weights of the taps of a phase, and which of them all phases share."""
    (k0, z, _, s0), (k1, _, row, s1), (k2, _, column, s2) = tables
    a, b, c = (i.ravel() for i in np.indices((len(k0), len(k1), len(k2))))
    return np.column_stack([z[a], row[b], column[c]]), (k0[a] * w_size[1] + k1[b]) * w_size[2] + k2[c], s0[a] & s1[b] & s2[c]


def _common(axis: Axis) -> set[int]:
    """Return the samples that output t = 0 of every phase reads."""
    return set.intersection(*(set(phase.starts) for phase in axis.phases))


def tap_offset(s: Strip, channels: int, places: Table | None = None) -> Table:
    """Where in the strip the samples under each tap of each channel lie, for the first output; by default all of one phase."""
    if places is None:
        places = taps_of(s.axes, (1, 1, 1), joint=False)[0].places
    row_parts, column_parts = len(s.axes[1].residues), len(s.axes[2].residues)
    plane = (places[:, 0] * row_parts + places[:, 1]) * column_parts + places[:, 3]
    offset = plane * s.plane + places[:, 2] * s.width + places[:, 4]
    every: Table = np.arange(channels)[:, None] * (s.parts * s.plane) + offset
    return every.astype(np.int32)


def cycles_of(axes: Axes, c_src: int, c_dst: int, joint: bool) -> float:
    """Machine cycles of all sums over vectors of outputs, summing some channels at a time; no blocks yet, and so no threads."""
    counts = [prod(len(phase.taps) for phase in phases) for phases in product(*(axis.phases for axis in axes))]
    shared = prod(len(_common(axis)) for axis in axes) if joint else 0
    channels = min(c_src, 8)
    passes = [(len(counts), shared), *((1, n - shared) for n in counts)]
    each = sum(min(_cycles(k, n * c_dst, steps * channels) for k in range(len(TILES))) for n, steps in passes if steps)
    return c_src / channels * each * axes[0].outputs * axes[1].outputs * (axes[2].outputs + axes[2].reach)


def shares(axes: Axes) -> bool:
    """Whether there are samples that all of several phases read."""
    return prod(len(axis.phases) for axis in axes) > 1 and all(_common(axis) for axis in axes)


def _cycles(shape: int, rows: int, steps: int) -> float:
    return -(-rows // TILES[shape][0]) * tile_cycles(shape, steps) / TILES[shape][1]


def tile_cycles(shape: int, steps: int) -> float:
    """Machine cycles of a tile: its steps, and storing the sums.

    Multiply-adds and loads go two at a time, and a sum takes four cycles. Half of the loads of vectors, which start anywhere,
    straddle two cache lines and count twice.
    """
    m, v = TILES[shape]
    return steps * max(m * v / 2, (m + 1.5 * v + 1) / 2, 4) + 10 + 2 * m * v


def pass_of(taps: Taps, s: Strip, block: tuple[int, int, int], channels: int, panel: int) -> tuple[Pass, float]:
    """Return a pass in the shape that takes the fewest cycles for a block, and those cycles."""
    offset = tap_offset(s, channels, taps.places)
    best: tuple[float, Pass] | None = None
    for shape, (m, v) in enumerate(TILES):
        starts = _starts(s, block, v)
        cost = len(starts) * -(-panel * taps.phases // m) * tile_cycles(shape, offset.size)
        if best is None or cost < best[0]:
            best = cost, Pass(shape, taps.phase, taps.phases, taps.adds, offset, taps.weight, starts)
    assert best is not None
    return best[1], best[0]


def _starts(s: Strip, block: tuple[int, int, int], vectors: int) -> Table:
    """Where tiles start: over each row by itself, or across all rows as if they were one, if that takes fewer.

    Across, the few samples between rows are computed for nothing. Row by row, tiles must end before the next row starts: what
    two tiles add to one sum would count twice.
    """
    images, rows, columns = block
    step = vectors * lanes(s.itemsize)
    first = np.add.outer(np.arange(images) * s.rows, np.arange(rows)).ravel() * s.width
    row_by_row = np.add.outer(first, np.arange(0, columns, step)).ravel()
    across = np.arange(0, ((images - 1) * s.rows + rows - 1) * s.width + columns, step)
    covered = -(-columns // step) * step
    return np.asarray(across if len(across) < len(row_by_row) or covered > s.width else row_by_row, np.int64)
