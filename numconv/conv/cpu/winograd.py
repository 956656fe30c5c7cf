"""Convolution with 3x3 taps at stride 1 by Winograd's F(4x4, 3x3) and F(2x2, 3x3): 36 products for 144, or 16 for 36.

A task takes a chunk of tiles of outputs, changes the samples under them to the basis of `winograd_basis`, multiplies them with
the weights in that basis, a matrix product for each of its elements f, and changes the sums back. contract_x is contract_y with
channels swapped and taps turned round.

In float32, of normal numbers, the largest error over the largest output was measured as 0.7e-6 to 1.8e-6 for F(4x4), 2e-7 to 5e-7
for F(2x2) (direct sums: 2e-7 to 5e-7) with 16 to 512 channels, all three contractions; in float64 4e-15 and 6e-16. A NaN or an
infinity in x reaches all outputs of the tiles whose windows of m + 2 samples hold it: up to m - 1 samples further than it should.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numba
import numpy as np

from ..._array import flat
from ..._jit import Job, address_of, kernel, njit_inner, scratch, workers
from ..._simd import VECTOR_BYTES, at, copy, int32_pointer, number, outer_tile, pointer
from ..geometry import ConvGeometry
from . import winograd_gradient
from .winograd_basis import SHAPES, restore_y, row_to_basis, transform_w, transpose, whole_lines

Array = np.ndarray[Any, Any]

(R0, V0), (R1, V1) = SHAPES  # names of single numbers are constants to Numba, as the tile needs them

# A task's tiles: as many as keep the weights busy that come from L2 or beyond, more where few channels leave room in L2.
TILES_AT_LEAST, SAMPLES_BYTES = 64, 300 << 10
CHANNELS = 64  # summed at a time
SUMS_BYTES, WEIGHTS_BYTES = 150 << 10, 256 << 10  # of a panel of output channels: they fit L2
KEPT_BYTES = 16 << 20  # transformed weights of all channels are kept if no larger and used often; else each task makes its own

JOB = Job(
    "src w bias dst scratch a_row b_step",
    m=1, shape=1, lanes=1, groups=1, images=1, c_src=1, c_dst=1, src_size=3, dst_size=3, pad=3,
    down=1, across=1, row_chunks=1, column_chunks=1, splits=1, panels=1, panel=1, block=1, channels=1, slices=1, kept=1,
    w_dst=1, w_src=1, tap_first=1, tap_step=1, v_row=1, v_step=1, u_row=1, sum_row=1, sum_step=1, out_row=1,
    u_size=1, u_all=1, strip_at=1, v_at=1, sum_at=1, bias_at=1, out_at=1, worker_size=1,
)  # fmt: skip


def fits(g: ConvGeometry) -> bool:
    """Say whether g is a convolution with 3x3 taps at stride 1 without dilation, of planes or of each slice of volumes."""
    return g.w_size == (1, 3, 3) and g.stride == (1, 1, 1) and g.dilation[1:] == (1, 1)


def contract_y(x: Array, w: Array, g: ConvGeometry, b: Array | None = None, m: int | None = None) -> Array:
    """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i, p + k - pad_lo], plus b[o]; m is 2 or 4, or whichever multiplies less."""
    return _run(x, w, b, np.empty(g.y_shape, x.dtype), g, False, m)


def contract_x(y: Array, w: Array, g: ConvGeometry, b: Array | None = None, m: int | None = None) -> Array:
    """x[n,i,q] = sum over the o,p,k with p + k - pad_lo = q of w[o,i,k] * y[n,o,p], plus b[i]; m as for contract_y."""
    return _run(y, w, b, np.empty(g.x_shape, y.dtype), g, True, m)


def contract_w(x: Array, y: Array, g: ConvGeometry, m: int | None = None) -> Array:
    """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i, p + k - pad_lo]; m as for contract_y."""
    return winograd_gradient.contract_w(x, y, g, m or size_of_tile(g.y_size))


def tile(g: ConvGeometry, contraction: str) -> str:
    """Name the algorithm of a contraction."""
    m = size_of_tile(_dst_size(g, contraction))
    return f"F({m}x{m}, 3x3)"


def workspace(g: ConvGeometry, itemsize: int, contraction: str, threads: int) -> int:
    """Bytes of scratch memory that a contraction takes."""
    if contraction == "contract_w":
        return winograd_gradient.plan_of(g, itemsize, size_of_tile(g.y_size), threads).bytes
    plan = plan_of(g, itemsize, contraction == "contract_x", threads, None)
    return plan.bytes(min(threads, plan.tasks))


def speedup(g: ConvGeometry, contraction: str) -> float:
    """Estimate how many times as long direct sums take.

    The unit is a product of direct sums, of which float32 on AVX2 does some 35 in a nanosecond on one core. A product here, in
    larger matrices, takes 0.65 of it, and to change to the basis or back 14 for every element of tiles, 5 of weights. In all of
    54 contractions tried, with 1 to 512 channels, where this exceeds 1 direct sums took longer.
    """
    size = _dst_size(g, contraction)
    m = size_of_tile(size)
    tiles = g.batch * size[0] * -(-size[1] // m) * -(-size[2] // m)
    rows, width = SHAPES[0][0], SHAPES[0][1] * VECTOR_BYTES // 4
    c_src, c_dst = (g.c_out, g.c_in) if contraction == "contract_x" else (g.c_in, g.c_out)
    products = -(-tiles // rows) * rows * c_src * -(-c_dst // width) * width
    if contraction == "contract_w":
        products = tiles * -(-c_src // rows) * rows * -(-c_dst // width) * width
    cost = (m + 2) ** 2 * (0.65 * products + 14 * tiles * (c_src + c_dst) + 5 * c_src * c_dst)
    return g.flops / 2 / (g.groups * cost) if tiles else 1.0


def size_of_tile(size: tuple[int, int, int]) -> int:
    """Return the m of F(m x m, 3x3) that multiplies less; where equal 2, which makes the smaller error."""
    return min((2, 4), key=lambda m: -(-size[1] // m) * -(-size[2] // m) * (m + 2) ** 2)


def _dst_size(g: ConvGeometry, contraction: str) -> tuple[int, int, int]:
    """Size of what is cut into tiles: x for contract_x, y for the others."""
    return g.x_size if contraction == "contract_x" else g.y_size


def _run(src: Array, w: Array, b: Array | None, dst: Array, g: ConvGeometry, adjoint: bool, m: int | None) -> Array:
    if dst.size:
        plan = plan_of(g, src.itemsize, adjoint, numba.get_num_threads(), m)
        threads = workers(plan.tasks, g.flops / 8)
        memory = scratch(plan.bytes(threads))
        arrays = {"src": flat(src), "w": flat(w), "bias": None if b is None else flat(b), "dst": dst, "scratch": memory}
        if plan.kept:
            prepare(workers(plan.kept, w.size * 8), dst.dtype, plan.job, **arrays)
        correlate(threads, dst.dtype, plan.job, **arrays)
    return dst


class Plan(NamedTuple):
    """The job with the tables it points to, its tasks, how many blocks of weights all of them share, and bytes of memory."""

    job: Array
    tables: tuple[Array, Array]
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
def plan_of(g: ConvGeometry, itemsize: int, adjoint: bool, threads: int, m: int | None) -> Plan:
    """Return what contract_y, or contract_x for `adjoint`, is to do with some threads."""
    c_src, c_dst = (g.c_out, g.c_in) if adjoint else (g.c_in, g.c_out)
    src_size, dst_size = (g.y_size, g.x_size) if adjoint else (g.x_size, g.y_size)
    lanes, images, m = VECTOR_BYTES // itemsize, g.batch * dst_size[0], m or size_of_tile(dst_size)
    elements, down, across = (m + 2) ** 2, -(-dst_size[1] // m), -(-dst_size[2] // m)
    cut = _cut(c_src, c_dst, g.groups, images * down, across, elements, itemsize, threads)
    rows, vectors = SHAPES[cut.shape]
    block, v_row, out_row = vectors * lanes, whole_lines(c_src, itemsize), -(-m * m // lanes) * lanes
    v_step, sum_step = whole_lines(cut.tiles * v_row, itemsize), whole_lines(cut.tiles * cut.panel * block, itemsize)
    u_row = elements * block
    u_size, shared = cut.panel * cut.channels * u_row, g.groups * cut.panels * cut.slices if cut.kept else 0
    strip, out = (m + 2) * (m * cut.columns + 2) * 64 // itemsize, 2 * out_row * lanes
    sizes = [0 if cut.kept else u_size, strip, elements * v_step, elements * sum_step, cut.panel * block + lanes, out]
    places = [sum(whole_lines(size, itemsize) for size in sizes[:i]) for i in range(len(sizes) + 1)]
    tables = (np.arange(rows, dtype=np.int32) * v_row, np.arange(cut.channels, dtype=np.int32) * u_row)
    job = JOB.fill(
        m=m, shape=cut.shape, lanes=lanes, groups=g.groups, images=images, c_src=c_src, c_dst=c_dst, src_size=src_size,
        dst_size=dst_size, pad=tuple(k - 1 - p if adjoint else p for k, p in zip(g.w_size, g.pad_lo, strict=True)),
        down=down, across=across, row_chunks=cut.row_chunks, column_chunks=cut.column_chunks, splits=cut.splits,
        panels=cut.panels, panel=cut.panel, block=block, channels=cut.channels, slices=cut.slices, kept=cut.kept,
        w_dst=9 if adjoint else 9 * c_src, w_src=9 * c_dst if adjoint else 9, tap_first=8 if adjoint else 0,
        tap_step=-1 if adjoint else 1, v_row=v_row, v_step=v_step, u_row=u_row, sum_row=cut.panel * block, sum_step=sum_step,
        out_row=out_row, u_size=u_size, u_all=shared * u_size, strip_at=places[1], v_at=places[2], sum_at=places[3],
        bias_at=places[4], out_at=places[5], worker_size=places[6], a_row=address_of(tables[0]), b_step=address_of(tables[1]),
    )  # fmt: skip
    tasks = g.groups * cut.row_chunks * cut.column_chunks * cut.splits
    return Plan(job, tables, tasks, shared, shared * u_size * itemsize, places[6] * itemsize)


def _cut(c_src: int, c_dst: int, groups: int, tile_rows: int, across: int, elements: int, itemsize: int, threads: int) -> Cut:
    lanes, number_of = VECTOR_BYTES // itemsize, elements * itemsize
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
    panels = -(-blocks // max(1, panel))
    return Cut(
        tiles, columns, row_chunks, column_chunks, shape, -(-blocks // panels), panels, channels, slices,
        min(panels, -(-threads // chunks)), kept,
    )  # fmt: skip


@kernel(JOB)
def prepare(worker: int, workers: int, job: Any, like: Any) -> None:
    """Transform the weights of all groups, panels and slices of channels, for all tasks to use."""
    u, slices, panels = pointer(job.scratch, like), job.slices, job.panels
    parts = job.groups * panels * slices
    for part in range(worker * parts // workers, (worker + 1) * parts // workers):
        _weights(job, like, part // (panels * slices), part // slices % panels, part % slices, at(u, part * job.u_size))


@kernel(JOB)
def correlate(worker: int, workers: int, job: Any, like: Any) -> None:
    """Compute one worker's tasks: a chunk of tiles of a group, for some of the panels of its output channels."""
    memory = pointer(job.scratch, like)
    own = at(memory, job.u_all + worker * job.worker_size)
    v, sums = at(own, job.v_at), at(own, job.sum_at)
    splits, panels, slices, done = job.splits, job.panels, job.slices, -1
    chunks = job.row_chunks * job.column_chunks
    tasks = job.groups * chunks * splits
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        split, part = task % splits, task // splits
        h, chunk = part // chunks, part % chunks
        r, c = chunk // job.column_chunks, chunk % job.column_chunks
        row, column = r * job.images * job.down // job.row_chunks, c * job.across // job.column_chunks
        rows = (r + 1) * job.images * job.down // job.row_chunks - row
        columns = (c + 1) * job.across // job.column_chunks - column
        if done != part:
            _samples(job, like, h, row, rows, column, columns, at(own, job.strip_at), v)
            done = part
        for panel in range(split * panels // splits, (split + 1) * panels // splits):
            for s in range(slices):
                u = at(memory, ((h * panels + panel) * slices + s) * job.u_size) if job.kept else own
                if not job.kept:
                    _weights(job, like, h, panel, s, u)
                _multiply(job, at(v, s * job.channels), u, sums, rows * columns, panel, s)
            _outputs(job, like, h, panel, row, rows, column, columns, own)


@njit_inner
def _weights(job: Any, like: Any, h: int, panel: int, s: int, u: Any) -> None:
    """u[f, block, c, lane] = (G w G')[f] for the output channels of a panel and a slice of the input channels."""
    m, block, lanes, u_row = job.m, job.block, job.lanes, job.u_row
    w_dst, w_src, tap_step, channels, last = job.w_dst, job.w_src, job.tap_step, job.channels, job.c_dst - 1
    w = at(pointer(job.w, like), h * job.c_src * job.c_dst * 9 + job.tap_first + s * channels * w_src)
    for p in range(job.panel):
        first = (panel * job.panel + p) * block
        for c in range(min(channels, job.c_src - s * channels)):
            for o in range(first, min(first + block, last + 1), lanes):
                to = at(u, (p * channels + c) * u_row + o - first)
                if m == 4:
                    transform_w(4, at(w, c * w_src), o, last, w_dst, tap_step, to, block)
                else:
                    transform_w(2, at(w, c * w_src), o, last, w_dst, tap_step, to, block)


@njit_inner
def _samples(job: Any, like: Any, h: int, row: int, rows: int, column: int, columns: int, strip: Any, v: Any) -> None:
    """v[f, tile, c] = (B' x B)[f] for the tiles of some rows and columns, and all channels of a group."""
    m, down, depth, height, width = job.m, job.down, job.src_size[0], job.src_size[1], job.src_size[2]
    for r in range(rows):
        image, window = (row + r) // down, ((row + r) % down * m - job.pad[1], column * m - job.pad[2])
        n, z = image // job.dst_size[0], image % job.dst_size[0] - job.pad[0]
        src = at(pointer(job.src, like), ((n * job.groups + h) * job.c_src * depth + z) * height * width)
        size = (depth * height * width, height if 0 <= z < depth else 0, width)  # a slice of padding has no rows
        to = at(v, r * columns * job.v_row)
        row_to_basis(src, size, window, columns, m, m + 2, job.c_src, job.lanes, strip, to, (job.v_step, job.v_row))


@njit_inner
def _multiply(job: Any, v: Any, u: Any, sums: Any, tiles: int, panel: int, s: int) -> None:
    """sums[f, tile, o] = or += sum over a slice of the channels c of v[f, tile, c] * u[f, o, c]."""
    shape, block, channels, v_row, sum_row = job.shape, job.block, job.channels, job.v_row, job.sum_row
    v_step, u_row, sum_step = job.v_step, job.u_row, job.sum_step
    a_row, b_step, length = int32_pointer(job.a_row), int32_pointer(job.b_step), min(channels, job.c_src - s * channels)
    blocks = min(job.panel, (job.c_dst + block - 1) // block - panel * job.panel)
    for f in range((job.m + 2) ** 2):
        for p in range(blocks):
            b, to = at(u, p * channels * u_row + f * block), at(sums, f * sum_step + p * block)
            if shape == 0:
                for t in range(0, tiles, R0):
                    a = at(v, f * v_step + t * v_row)
                    outer_tile(a, 1, a_row, b, b_step, at(to, t * sum_row), sum_row, length, s > 0, R0, V0)
            else:
                for t in range(0, tiles, R1):
                    a = at(v, f * v_step + t * v_row)
                    outer_tile(a, 1, a_row, b, b_step, at(to, t * sum_row), sum_row, length, s > 0, R1, V1)


@njit_inner
def _outputs(job: Any, like: Any, h: int, panel: int, row: int, rows: int, column: int, columns: int, own: Any) -> None:
    """dst[p] = (A' sums A)[p] + bias for a panel of output channels, as far as tiles lie in dst."""
    m, lanes, c_dst, step, out_row = job.m, job.lanes, job.c_dst, job.sum_step, job.out_row
    depth, height, width = job.dst_size[0], job.dst_size[1], job.dst_size[2]
    plane, first, line = depth * height * width, panel * job.panel * job.block, 64 // VECTOR_BYTES * lanes
    sums, bias, out = at(own, job.sum_at), at(own, job.bias_at), at(own, job.out_at)
    turned, count = at(out, out_row * lanes), min(job.panel * job.block, c_dst - first)
    for o in range(count + lanes):
        bias[o] = pointer(job.bias, like)[h * c_dst + first + o] if job.bias != 0 and o < count else number(like, 0)
    for begin in range(0, count, line):
        for r in range(rows):
            image, top = (row + r) // job.down, (row + r) % job.down * m
            n, z = image // depth, image % depth
            dst = at(pointer(job.dst, like), ((n * job.groups + h) * c_dst + first) * plane + (z * height + top) * width)
            for t in range(columns):
                left = (column + t) * m
                for o in range(begin, min(begin + line, count), lanes):
                    source = at(sums, (r * columns + t) * job.sum_row + o)
                    if m == 4:
                        restore_y(4, source, step, at(bias, o), out)
                    else:
                        restore_y(2, source, step, at(bias, o), out)
                    for p in range(0, out_row, lanes):
                        transpose(at(out, p * lanes), lanes, at(turned, p), out_row)
                    to = at(dst, o * plane + left)
                    _store(
                        turned, out_row, m, min(lanes, count - o), min(m, height - top), min(m, width - left), to, plane, width
                    )


@njit_inner
def _store(tile: Any, out_row: int, m: int, count: int, rows: int, columns: int, dst: Any, plane: int, width: int) -> None:
    """dst[o, i, j] = tile[o, i * m + j] for `count` channels and the rows and columns inside dst."""
    for o in range(count):
        source, to = at(tile, o * out_row), at(dst, o * plane)
        for i in range(rows):
            if columns == 4:
                copy(at(to, i * width), at(source, i * m), 4)
            elif columns == 2:
                copy(at(to, i * width), at(source, i * m), 2)
            else:
                for j in range(columns):
                    to[i * width + j] = source[i * m + j]
