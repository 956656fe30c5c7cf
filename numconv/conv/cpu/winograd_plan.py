"""How contract_y and contract_x by Winograd's method are cut into tasks: tiles, panels of outputs, slices of inputs."""

from __future__ import annotations

from functools import lru_cache
from math import lcm
from typing import Any, NamedTuple

import numpy as np

from ..._jit import Job, address_of
from ..._simd import REGISTERS, VECTOR_BYTES
from ..geometry import ConvGeometry
from .winograd_samples import strip_size, whole_lines
from .winograd_tiles import TILING, Tiling, tiling

Array = np.ndarray[Any, Any]

# Shapes of the register tile, (rows, vectors): the first divides the usual powers of two, the second fits other counts.
SHAPES = ((6, 4), (14, 2)) if REGISTERS == 32 else ((6, 2), (4, 3))

# A task's tiles: as many as keep the weights busy that come from L2 or beyond, more where few channels leave room in L2.
TILES_AT_LEAST, SAMPLES_BYTES = 64, 300 << 10
CHANNELS = 64  # summed at a time
FEW = 8  # channels whose weights are brought at a time
SUMS_BYTES, WEIGHTS_BYTES = 150 << 10, 256 << 10  # of a panel of output channels: they fit L2
KEPT_BYTES = 16 << 20  # transformed weights of all channels are kept if no larger and used often; else each task makes its own

JOB = Job(
    "src w bias dst scratch a_row b_step taps_of",
    tiling=TILING, shape=1, lanes=1, groups=1, images=1, c_src=1, c_dst=1, all_src=1, vectors=1, elements=1, row_chunks=1,
    column_chunks=1, splits=1, panels=1, panel=1, block=1, channels=1, slices=1, kept=1, rectify=1, taps=1, w_dst=1, w_src=1,
    v_row=1, v_step=1, u_row=1, sum_row=1, sum_step=1, out_row=1, u_size=1, u_all=1, stage_at=1, strip_at=1, v_at=1, sum_at=1,
    bias_at=1, out_at=1, worker_size=1,
)  # fmt: skip


class Plan(NamedTuple):
    """The job with the tables it points to, its tasks, how many blocks of weights all of them share, and bytes of memory."""

    job: Array
    tables: tuple[Array, ...]
    tasks: int
    kept: int
    shared: int
    own: int

    def bytes(self, threads: int) -> int:
        """Scratch memory for some threads."""
        return self.shared + threads * self.own


class Cut(NamedTuple):
    """How the tiles and channels of a contraction are cut: chunks of tiles, panels of outputs, slices of inputs."""

    tiles: int
    columns: int
    row_chunks: int
    column_chunks: int
    shape: int
    panel: int
    panels: int
    channels: int
    slices: int
    splits: int
    kept: bool


@lru_cache(256)
def plan_of(g: ConvGeometry, itemsize: int, adjoint: bool, threads: int, m: int | None, rectify: bool = False) -> Plan:
    """Return what contract_y, or contract_x for `adjoint`, is to do with some threads."""
    t, (c_src, c_dst), lanes = (
        tiling(g, adjoint, m),
        (g.c_out, g.c_in) if adjoint else (g.c_in, g.c_out),
        VECTOR_BYTES // itemsize,
    )
    all_src, all_dst = c_src * t.src_parts, -(-c_dst // lanes) * lanes * t.dst_parts  # parts of outputs in turn, by vectors
    cut = _cut(t, all_src, all_dst, g.groups, itemsize, threads)
    vectors = SHAPES[cut.shape][1]
    block, v_row = vectors * lanes, whole_lines(all_src + lanes * (c_src < lanes), itemsize)
    rows, columns = t.axes
    out_row = -(-rows.m * columns.m * (columns.parts if adjoint else 1) // lanes) * lanes
    v_step, sum_step = whole_lines(cut.tiles * v_row, itemsize), whole_lines(cut.tiles * cut.panel * block, itemsize)
    u_row = t.elements * block
    u_size, shared = cut.panel * cut.channels * u_row, g.groups * cut.panels * cut.slices if cut.kept else 0
    taps = g.w_size[0] * g.w_size[1] * g.w_size[2]
    stage = (FEW * taps + rows.r * columns.r + rows.n * columns.r) * lanes
    strip = strip_size(t, cut.columns, itemsize)
    bias, out = cut.panel * block + lanes, (2 * out_row + rows.m * columns.n) * lanes
    sizes = [0 if cut.kept else u_size, stage, strip, t.elements * v_step, t.elements * sum_step, bias, out]
    places = [sum(whole_lines(size, itemsize) for size in sizes[:i]) for i in range(len(sizes) + 1)]
    tables = (
        np.arange(SHAPES[cut.shape][0], dtype=np.int32) * v_row, np.arange(cut.channels, dtype=np.int32) * u_row,
        t.taps(g.w_size[1] * g.w_size[2], g.w_size[2]),
    )  # fmt: skip
    w_dst, w_src = (taps, taps * c_dst) if adjoint else (taps * c_src, taps)
    job = JOB.fill(
        tiling=t.record, shape=cut.shape, lanes=lanes, groups=g.groups, images=t.images, c_src=c_src, c_dst=c_dst,
        all_src=all_src, vectors=all_dst // lanes, elements=t.elements, row_chunks=cut.row_chunks,
        column_chunks=cut.column_chunks, splits=cut.splits, panels=cut.panels, panel=cut.panel, block=block,
        channels=cut.channels, slices=cut.slices, kept=cut.kept, rectify=rectify, taps=taps, w_dst=w_dst, w_src=w_src,
        v_row=v_row, v_step=v_step, u_row=u_row, sum_row=cut.panel * block, sum_step=sum_step, out_row=out_row,
        u_size=u_size, u_all=shared * u_size, stage_at=places[1], strip_at=places[2], v_at=places[3], sum_at=places[4],
        bias_at=places[5], out_at=places[6], worker_size=places[7],
        **{name: address_of(table) for name, table in zip(("a_row", "b_step", "taps_of"), tables, strict=True)},
    )  # fmt: skip
    tasks = g.groups * cut.row_chunks * cut.column_chunks * cut.splits
    return Plan(job, tables, tasks, shared, shared * u_size * itemsize, places[7] * itemsize)


def _cut(t: Tiling, c_src: int, c_dst: int, groups: int, itemsize: int, threads: int) -> Cut:
    lanes, number_of, across = VECTOR_BYTES // itemsize, t.elements * itemsize, t.axes[1].tiles
    tile_rows = t.images * t.axes[0].tiles
    most = max(TILES_AT_LEAST, SAMPLES_BYTES // (number_of * c_src))
    column_chunks = -(-across // most)
    columns = -(-across // column_chunks)
    row_chunks = -(-tile_rows // max(1, most // columns))
    if row_chunks > 1 and threads > 1:  # all threads end together
        row_chunks = min(tile_rows, -(-row_chunks // threads) * threads)
    chunks = groups * row_chunks * column_chunks
    tiles = -(-tile_rows // row_chunks) * columns

    def products(shape: int) -> int:
        rows, vectors = SHAPES[shape]
        return -(-tiles // rows) * rows * -(-c_dst // (vectors * lanes)) * vectors

    shape = min((0, 1), key=products)
    rows, vectors = SHAPES[shape]
    blocks, tiles = -(-c_dst // (vectors * lanes)), -(-tiles // rows) * rows
    slices = -(-c_src // CHANNELS)
    channels = -(-c_src // slices)
    kept = chunks > 2 * threads and number_of * groups * c_src * c_dst <= KEPT_BYTES
    panel = min(blocks, SUMS_BYTES // (number_of * tiles * vectors * lanes))
    if not kept:
        panel = min(panel, WEIGHTS_BYTES // (number_of * channels * vectors * lanes))
    unit = lcm(vectors, t.dst_parts) // vectors  # all parts of an output channel are in one panel
    panels = -(-blocks // max(unit, panel // unit * unit))
    panel = -(-blocks // panels)
    panel = -(-panel // unit) * unit
    panels = -(-blocks // panel)
    return Cut(
        tiles, columns, row_chunks, column_chunks, shape, panel, panels, channels, slices, min(panels, -(-threads // chunks)),
        kept,
    )  # fmt: skip
