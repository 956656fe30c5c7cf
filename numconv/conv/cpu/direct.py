"""contract_y and contract_x by their definition, on the register tile: planned, told to the kernels, and run."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
import numpy as np

from ..._array import flat
from ..._jit import scratch, workers
from ..._simd import TILES
from ..geometry import ConvGeometry
from . import correlate, plan
from .lattice import merged

Array = np.ndarray[Any, Any]


def contract_y(x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
    """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i, stride*p + dilation*k - pad_lo], plus b[o]."""
    y = np.empty(g.y_shape, x.dtype)
    _run(phases(g, x.itemsize, numba.get_num_threads(), False), x, w, b, y)
    return np.maximum(y, 0, out=y) if rectify else y


def contract_x(y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
    """x[n,i,q] = sum over the o,p,k with stride*p + dilation*k - pad_lo = q of w[o,i,k] * y[n,o,p], plus b[i]."""
    x = np.empty(g.x_shape, y.dtype)
    _run(phases(g, y.itemsize, numba.get_num_threads(), True), y, w, b, x)
    return np.maximum(x, 0, out=x) if rectify else x


class Phase:
    """A walk as the kernels are told it: its tables in memory, and a job that lacks only the addresses of arrays."""

    def __init__(self, walk: plan.Walk, g: ConvGeometry, adjoint: bool) -> None:
        self.walk, self.groups = walk, g.groups
        taps = g.w_size[0] * g.w_size[1] * g.w_size[2]
        c_src, c_dst = (g.c_out, g.c_in) if adjoint else (g.c_in, g.c_out)
        dst_size = merged(g).x_size if adjoint else merged(g).y_size
        table, packed_size = self._table_of_passes(c_src, c_dst)
        self.packed_bytes = -(-packed_size * g.groups * walk.strip.itemsize // 64) * 64
        empty = np.empty(0, np.int64)
        self.tables = (
            table,
            np.concatenate([p.offset.ravel() for p in walk.passes] or [empty]).astype(np.int32),
            np.concatenate([p.weight.ravel() for p in walk.passes] or [empty]),
            np.concatenate([p.starts for p in walk.passes] or [empty]),
            empty if walk.pixels is None else walk.pixels,
            np.arange(walk.channels * taps, dtype=np.int32) * plan.wide(walk.strip.itemsize),
        )
        images, rows, columns = walk.block
        self.strip_bytes = walk.strip_size * walk.strip.itemsize
        self.scratch_bytes = -(-(self.strip_bytes + walk.sums * walk.strip.itemsize) // 64) * 64
        blocks = (*walk.blocks, -(-g.batch // images))
        panels = -(-c_dst // walk.panel)
        self.tasks = g.groups * blocks[0] * blocks[1] * blocks[2] * blocks[3] * panels
        self.operations = g.flops // 2
        # w is (groups, c_out, c_in, taps): outputs run over c_out, or over c_in in the adjoint.
        dst_stride, src_stride = (taps, c_dst * taps) if adjoint else (c_src * taps, taps)
        names = ("passes", "tap_offset", "tap_index", "tile_start", "pixel_offset", "weight_step")
        self.job = correlate.JOB.fill(
            **{name: t.ctypes.data for name, t in zip(names, self.tables, strict=True)},
            strip=walk.strip.record, pixels=walk.pixels is not None, pass_count=len(walk.passes), batch=g.batch, groups=g.groups,
            c_src=c_src, c_dst=c_dst, taps=taps, taps_of_phase=walk.passes[0].offset.shape[1] if walk.passes else 0,
            dst_stride=dst_stride, src_stride=src_stride, packed_size=packed_size, channels=walk.channels,
            panel=walk.panel, panels=panels, images=images, rows=rows, columns=columns, reach=walk.axes[1].reach, blocks=blocks,
            outputs=[a.outputs for a in walk.axes], row_pitch=walk.row_pitch, strip_bytes=self.strip_bytes,
            scratch_bytes=self.scratch_bytes, dst_size=dst_size, dst_start=[a.dst_start for a in walk.axes],
            dst_step=[a.dst_step for a in walk.axes],
        )  # fmt: skip

    def _table_of_passes(self, c_src: int, c_dst: int) -> tuple[Array, int]:
        table: list[tuple[int, ...]] = []
        offset = index = start = weights = 0
        for p in self.walk.passes:
            taps = p.offset.shape[1]
            rows = p.weight.shape[1]
            table.append((p.shape, rows, p.shifted, taps, offset, index, start, p.starts.size, weights))
            offset, index, start = offset + p.offset.size, index + p.weight.size, start + p.starts.size
            weights += (c_dst if p.shifted else -(-c_dst // rows)) * c_src * taps * rows
        return np.array(table, correlate.PASS), weights


@lru_cache(256)
def phases(g: ConvGeometry, itemsize: int, threads: int, adjoint: bool) -> tuple[Phase, ...]:
    """Plan contract_y, or contract_x, its adjoint."""
    walks = plan.walks_x(g, itemsize, threads) if adjoint else plan.walks_y(g, itemsize, threads)
    return tuple(Phase(walk, g, adjoint) for walk in walks)


def workspace(g: ConvGeometry, itemsize: int, threads: int, adjoint: bool) -> int:
    """Bytes of scratch memory: strips and sums for each thread, and weights in the order of the tile."""
    sizes = [p.scratch_bytes * min(threads, p.tasks) + p.packed_bytes for p in phases(g, itemsize, threads, adjoint)]
    return max(sizes, default=0)


def tile(g: ConvGeometry, itemsize: int, threads: int, adjoint: bool) -> str:
    """Name the shapes of tiles in use."""
    walks = [phase.walk for phase in phases(g, itemsize, threads, adjoint)]
    kinds = {(TILES[0 if w.pixels is not None else p.shape], p.shifted, w.pixels is not None) for w in walks for p in w.passes}
    return ", ".join("{}x{}".format(*tile) + " rows" * shifted + " pixels" * turned for tile, shifted, turned in sorted(kinds))


def _run(phases: tuple[Phase, ...], src: Array, w: Array, b: Array | None, dst: Array) -> None:
    if dst.size == 0:
        return
    src, w, b = flat(src), flat(w), None if b is None else flat(b)
    for phase in phases:
        if not phase.walk.passes:  # a phase that no tap reaches, where the stride is larger than the window
            axes = phase.walk.axes
            cut: Any = (..., *(slice(a.dst_start, a.dst_start + a.dst_step * (a.outputs - 1) + 1, a.dst_step) for a in axes))
            dst.reshape(*dst.shape[:2], *(1,) * (5 - dst.ndim), *dst.shape[2:])[cut] = 0 if b is None else b.reshape(-1, 1, 1, 1)
            continue
        threads = workers(phase.tasks, phase.operations)
        memory = scratch(phase.packed_bytes + threads * phase.scratch_bytes)
        if threads > 1:
            correlate.pack(min(threads, phase.groups), dst.dtype, phase.job, w=w, packed=memory)
        correlate.correlate(
            threads, dst.dtype, phase.job, src=src, w=w, packed=memory, bias=b, dst=dst, scratch=memory + phase.packed_bytes
        )
