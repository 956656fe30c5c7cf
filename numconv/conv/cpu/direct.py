"""contract_y and contract_x by their definition, on the register tile: planned, told to the kernels, and run."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numba
import numpy as np

from ..._array import flat
from ..._jit import scratch, workers
from ..._memory import empty
from ..._simd import TILES
from ..geometry import ConvGeometry
from . import correlate, plan

Array = np.ndarray[Any, Any]


def contract_y(x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
    """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i, stride*p + dilation*k - pad_lo], plus b[o]."""
    y = empty(g.y_shape, x.dtype)
    _run(correlations(g, x.itemsize, numba.get_num_threads(), False), x, w, b, rectify, y)
    return y


def contract_x(y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
    """x[n,i,q] = sum over the o,p,k with stride*p + dilation*k - pad_lo = q of w[o,i,k] * y[n,o,p], plus b[i]."""
    x = empty(g.x_shape, y.dtype)
    _run(correlations(g, y.itemsize, numba.get_num_threads(), True), y, w, b, rectify, x)
    return x


class Correlation:
    """A walk as the kernels are told it: its tables in memory, and a job that lacks only the addresses of arrays."""

    def __init__(self, walk: plan.Walk, g: ConvGeometry, adjoint: bool) -> None:
        g, self.walk = plan.simplified(g, adjoint), walk
        taps, itemsize = prod(g.w_size), walk.strip.itemsize
        c_src, c_dst = (g.c_out, g.c_in) if adjoint else (g.c_in, g.c_out)
        dst_size = g.x_size if adjoint else g.y_size
        table, packed_size = self._table_of_passes(c_src, c_dst)
        self.dst_channels = g.groups * c_dst
        self.packed_bytes = plan.even_up(packed_size * g.groups * itemsize, 64)
        nothing = np.empty(0, np.int64)
        self.tables = (
            table,
            np.concatenate([p.offset.ravel() for p in walk.passes] or [nothing]).astype(np.int32),
            np.concatenate([p.weight.ravel() for p in walk.passes] or [nothing]),
            np.concatenate([p.starts for p in walk.passes] or [nothing]),
            nothing if walk.pixels is None else walk.pixels,
            np.arange(walk.channels * taps, dtype=np.int32) * plan.wide(itemsize),
        )
        images, rows, columns = walk.block
        strip_bytes, sums_bytes = walk.strip_size * itemsize, walk.sums * itemsize
        self.scratch_bytes = plan.even_up(strip_bytes + sums_bytes + walk.turned * itemsize, 64)
        blocks = (*walk.blocks, -(-g.batch // images))
        panels = -(-c_dst // walk.panel)
        self.tasks, self.operations = g.groups * prod(blocks) * panels, g.flops // 2
        # w is (groups, c_out, c_in, taps): outputs run over c_out, or over c_in in the adjoint.
        dst_stride, src_stride = (taps, c_dst * taps) if adjoint else (c_src * taps, taps)
        names = ("passes", "tap_offset", "tap_index", "tile_start", "pixel_offset", "weight_step")
        self.job = correlate.JOB.fill(
            **{name: t.ctypes.data for name, t in zip(names, self.tables, strict=True)},
            strip=walk.strip.record, pixels=walk.pixels is not None, pass_count=len(walk.passes), blank=walk.blank,
            batch=g.batch, groups=g.groups, c_src=c_src, c_dst=c_dst, taps=taps,
            dst_stride=dst_stride, src_stride=src_stride, packed_size=packed_size, channels=walk.channels,
            panel=walk.panel, panels=panels, images=images, rows=rows, columns=columns, reach=walk.axes[1].reach, blocks=blocks,
            outputs=[a.outputs for a in walk.axes], phases=walk.phases, sums=walk.sums, row_pitch=walk.row_pitch,
            pixel_rows=walk.pixel_rows, strip_bytes=strip_bytes, sums_bytes=sums_bytes, scratch_bytes=self.scratch_bytes,
            dst_size=dst_size, dst_start=[a.dst_start for a in walk.axes], dst_step=[a.dst_step for a in walk.axes],
        )  # fmt: skip

    def _table_of_passes(self, c_src: int, c_dst: int) -> tuple[Array, int]:
        table: list[tuple[int, ...]] = []
        offset = index = start = weights = 0
        for p in self.walk.passes:
            taps, rows = p.offset.shape[1], p.rows if self.walk.pixels is None else plan.wide(self.walk.strip.itemsize)
            table.append((p.shape, rows, p.phase, p.phases, p.adds, taps, offset, index, start, p.starts.size, weights))
            offset, index, start = offset + p.offset.size, index + p.weight.size, start + p.starts.size
            weights += plan.even_up(c_dst * p.phases, rows) * c_src * taps
        return np.array(table, correlate.PASS), weights


@lru_cache(256)
def correlations(g: ConvGeometry, itemsize: int, threads: int, adjoint: bool) -> tuple[Correlation, ...]:
    """Plan contract_y, or contract_x, its adjoint."""
    return tuple(Correlation(walk, g, adjoint) for walk in plan.walks(g, itemsize, threads, adjoint))


def workspace(g: ConvGeometry, itemsize: int, threads: int, adjoint: bool) -> int:
    """Bytes of scratch memory: strips and sums for each thread, and weights in the order of the tile."""
    sizes = [c.scratch_bytes * min(threads, c.tasks) + c.packed_bytes for c in correlations(g, itemsize, threads, adjoint)]
    return max(sizes, default=0)


def tile(g: ConvGeometry, itemsize: int, threads: int, adjoint: bool) -> str:
    """Name the shapes of tiles in use, and what stands on their rows where it is not output channels."""
    walks = [c.walk for c in correlations(g, itemsize, threads, adjoint)]
    kinds = {(TILES[p.shape], p.phases > 1, w.pixels is not None) for w in walks for p in w.passes}
    return ", ".join("{}x{}".format(*tile) + " phases" * joint + " pixels" * turned for tile, joint, turned in sorted(kinds))


# Results are not less than this: nothing, or with a rectifier 0.
_FLOORS = {(np.dtype(t), rectify): np.array(0.0 if rectify else -np.inf, t) for t in "fd" for rectify in (False, True)}


def _run(correlations: tuple[Correlation, ...], src: Array, w: Array, b: Array | None, rectify: bool, dst: Array) -> None:
    if dst.size == 0:
        return
    channels = correlations[0].dst_channels
    if b is not None and b.size < channels:  # taps have become channels
        b = np.repeat(b, channels // b.size)
    src, w, b, floor = flat(src), flat(w), None if b is None else flat(b), _FLOORS[dst.dtype, rectify]
    for c in correlations:
        threads = workers(c.tasks, c.operations)
        memory = scratch(c.packed_bytes + threads * c.scratch_bytes)
        if threads > 1:
            correlate.pack(threads, dst.dtype, c.job, w=w, packed=memory)
        correlate.correlate(
            threads, dst.dtype, c.job, src=src, w=w, packed=memory, bias=b, floor=floor, dst=dst,
            scratch=memory + c.packed_bytes,
        )  # fmt: skip
