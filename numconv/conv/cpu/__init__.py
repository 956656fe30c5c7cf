"""The three contractions in Numba, float32 and float64, on the register tile: each plans, takes memory and calls one kernel."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from ..._array import flat
from ..._jit import workers
from ..._simd import TILES
from ..geometry import ConvGeometry
from . import correlate, plan, reduce

Array = np.ndarray[Any, Any]


def contract_y(x: Array, w: Array, g: ConvGeometry, b: Array | None = None) -> Array:
    """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i, stride*p + dilation*k - pad_lo], plus b[o]."""
    y = np.empty(g.y_shape, x.dtype)
    walks = plan.walks_y(g, x.itemsize, numba.get_num_threads())
    _correlate(walks, flat(x), flat(w), b, y.reshape(-1), g.x_size, g.y_size, (g.batch, g.groups, g.c_in, g.c_out), False)
    return y


def contract_x(y: Array, w: Array, g: ConvGeometry, b: Array | None = None) -> Array:
    """x[n,i,q] = sum over the o,p,k with stride*p + dilation*k - pad_lo = q of w[o,i,k] * y[n,o,p], plus b[i]."""
    x = np.empty(g.x_shape, y.dtype)
    walks = plan.walks_x(g, y.itemsize, numba.get_num_threads())
    _correlate(walks, flat(y), flat(w), b, x.reshape(-1), g.y_size, g.x_size, (g.batch, g.groups, g.c_out, g.c_in), True)
    return x


def contract_w(x: Array, y: Array, g: ConvGeometry) -> Array:
    """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i, stride*p + dilation*k - pad_lo]."""
    w = np.zeros(g.w_shape, x.dtype)
    if x.size == 0:
        return w
    walk = plan.walk_w(g, x.itemsize)
    rows, vectors = TILES[0]
    lanes = vectors * plan.lanes(x.itemsize)
    panels, all_blocks = -(-g.c_out // lanes), g.batch * walk.blocks[0] * walk.blocks[1] * walk.blocks[2]
    parts = min(all_blocks, -(-plan.FIXED_TASKS // (g.groups * panels)))
    length = walk.tap_offset.size
    row_offset = np.zeros(-(-length // rows) * rows, np.int32)  # rows past the last read sample 0 and are dropped
    row_offset[:length] = walk.tap_offset
    threads = workers(g.groups * panels * parts)
    pixels = walk.block[0] * walk.block[1]
    strips, turned = np.empty((threads, walk.strip_size), x.dtype), np.empty((threads, pixels * lanes), x.dtype)
    partial = np.empty(g.groups * panels * parts * row_offset.size * lanes, x.dtype)
    reduce.reduce(
        threads, flat(x), flat(y), (g.batch, g.groups, g.c_in, g.c_out), parts, lanes, walk.blocks, walk.block, g.x_size,
        tuple(axis.first for axis in walk.axes), tuple(axis.src_step for axis in walk.axes), walk.strip_shape, walk.depth_start,
        *walk.residues, row_offset, strips, turned, np.empty((threads, 2, pixels), np.int32), g.y_size, partial,
    )  # fmt: skip
    reduce.add_parts(partial, g.groups, parts, lanes, row_offset.size, g.c_out, length, w.reshape(-1))
    return w


def _correlate(
    walks: tuple[plan.Walk, ...],
    src: Array,
    w: Array,
    b: Array | None,
    dst: Array,
    src_size: tuple[int, int, int],
    dst_size: tuple[int, int, int],
    problems: tuple[int, int, int, int],
    adjoint: bool,
) -> None:
    batch, groups, c_src, c_dst = problems
    if batch == 0:
        return
    bias = np.empty(0, dst.dtype) if b is None else flat(b)
    for walk in walks:
        rows, vectors = TILES[walk.tile]
        row_blocks, length = -(-c_dst // rows), walk.tap_offset.size
        dst_start, dst_step = tuple(axis.dst_start for axis in walk.axes), tuple(axis.dst_step for axis in walk.axes)
        count = tuple(axis.outputs for axis in walk.axes)
        if length == 0:  # a phase that no tap reaches, where the stride is larger than the window
            cut = (slice(s, s + d * (c - 1) + 1, d) for s, d, c in zip(dst_start, dst_step, count, strict=True))
            phase: Any = (..., *cut)
            dst.reshape(batch, groups * c_dst, *dst_size)[phase] = bias.reshape(-1, 1, 1, 1) if b is not None else 0
            continue
        packed = _packed(w, groups, c_dst, c_src, walk, w.size // (groups * c_dst * c_src), adjoint)
        threads = workers(batch * groups * walk.blocks[0] * walk.blocks[1] * walk.blocks[2])
        strips = np.empty((threads, walk.strip_size), dst.dtype)
        row_pitch = int(walk.tile_start[-1]) + vectors * plan.lanes(dst.itemsize)
        sums = np.empty((threads, row_blocks * rows * row_pitch), dst.dtype)
        correlate.correlate(
            threads, src, packed, bias, problems, walk.blocks, walk.block, src_size, tuple(axis.first for axis in walk.axes),
            tuple(axis.src_step for axis in walk.axes), walk.strip_shape, walk.depth_start, *walk.residues, walk.tap_offset,
            walk.tile_start, walk.tile, strips, sums, dst_size, dst_start, dst_step, count, dst,
        )  # fmt: skip


def _packed(w: Array, groups: int, c_dst: int, c_src: int, walk: plan.Walk, taps: int, adjoint: bool) -> Array:
    rows = TILES[walk.tile][0]
    size = -(-c_dst // rows) * rows * walk.tap_offset.size
    packed = np.empty(groups * size, w.dtype)
    # w is (groups, c_out, c_in, taps): dst runs over c_out, or over c_in in the adjoint.
    dst_stride, src_stride = (taps, c_dst * taps) if adjoint else (c_src * taps, taps)
    for h in range(groups):
        correlate.pack(
            w, h * c_dst * c_src * taps, c_dst, dst_stride, c_src, src_stride, walk.tap_index, rows, packed[h * size :]
        )
    return packed
