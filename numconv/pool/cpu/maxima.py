"""Maxima of windows, and which samples they are: rows of y are shared out over threads."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ..._array import flat
from ..._jit import Job, kernel, njit_inner, scratch, workers
from ..._simd import at, copy, int32_pointer, int64_pointer, number, pointer
from ..geometry import PoolGeometry
from .row import max_row, max_row_and_taps
from .window import WINDOW, Array, addresses, line, padded_row, row_start, table, tap_steps, window

JOB = Job("x y indices narrow_indices first step scratch", **WINDOW, pitch=1, rows_at=1, scratch_bytes=1)


def max_y(x: Array, g: PoolGeometry) -> Array:
    """y[p] = maximum over taps of x[q]."""
    return _maxima(x, g)


def max_with_indices(x: Array, g: PoolGeometry) -> tuple[Array, Array]:
    """y[p] = maximum over taps of x[q], and the index in the plane of the first q that reaches it. NaN is above all numbers."""
    indices = np.empty(g.y_shape, np.int64)
    return _maxima(x, g, indices=indices), indices


def max_with_narrow_indices(x: Array, g: PoolGeometry) -> tuple[Array, Array]:
    """`max_with_indices`, in int32 where that holds them: half as much to write and to read again."""
    if prod(g.x_size) >= 2**31:
        return max_with_indices(x, g)
    indices = np.empty(g.y_shape, np.int32)
    return _maxima(x, g, narrow_indices=indices), indices


def _maxima(x: Array, g: PoolGeometry, **places: Array) -> Array:
    y = np.empty(g.y_shape, x.dtype)
    job, _ = _plan(g, x.dtype)
    threads = workers(prod(y.shape[:-1]), y.size * prod(g.window))
    _raise(threads, x.dtype, job, x=flat(x), y=y, scratch=scratch(threads * int(job[-1])), **places)
    return y


@lru_cache(1024)
def _plan(g: PoolGeometry, dtype: Any) -> tuple[Array, Any]:
    """Return the job of a geometry, and the tables whose addresses are in it."""
    tables = {"first": table([k for k, _ in g.inside(2)], np.int32), "step": tap_steps(g)}
    pitch = padded_row(g)
    # A worker's scratch: offsets and numbers of the taps of a window, the taps of a row of y, padded rows of x.
    rows_at = line(prod(g.window) * 12 + g.y_size[2] * 4)
    rows = g.window[0] * g.window[1] * pitch if pitch > g.x_size[2] else 0
    sizes = {"pitch": pitch, "rows_at": rows_at, "scratch_bytes": rows_at + line(rows * np.dtype(dtype).itemsize)}
    return JOB.fill(**window(g), **addresses(tables), **sizes), tables


@kernel(JOB)
def _raise(worker: int, workers: int, job: Any, like: Any) -> None:
    """Fill one worker's rows of y, and of indices of either kind where they have an address."""
    x0, x1, x2 = job.x_size[0], job.x_size[1], job.x_size[2]
    y0, y1, y2 = job.y_size[0], job.y_size[1], job.y_size[2]
    pitch, padded, stride = job.pitch, job.pitch > x2, job.stride[2]
    memory = job.scratch + np.uint64(worker * job.scratch_bytes)
    taps_of_window = job.window[0] * job.window[1] * job.window[2]
    offset, numbers = int64_pointer(memory), int32_pointer(memory + np.uint64(8 * taps_of_window))
    taps = at(numbers, taps_of_window)
    rows = pointer(memory + np.uint64(job.rows_at), like)
    y, first, step = pointer(job.y, like), int32_pointer(job.first), int64_pointer(job.step)
    indices, narrow_indices = int64_pointer(job.indices), int32_pointer(job.narrow_indices)
    wide, narrow = job.indices != 0, job.narrow_indices != 0
    if padded:
        for i in range(job.window[0] * job.window[1] * pitch):
            rows[i] = number(like, -np.inf)
    tasks = job.planes * y0 * y1
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        plane, p = task // (y0 * y1), task % (y0 * y1)
        x = at(pointer(job.x, like), plane * x0 * x1 * x2)
        count = taps_under(job, x, p // y1, p % y1, padded, offset, numbers, rows)
        source, to = rows if padded else x, at(y, task * y2)
        if wide or narrow:
            base = numbers[0] - numbers[0] % job.window[2]
            max_row_and_taps(source, stride, offset, count, to, y2, numbers, first, base, taps)
            start = row_start(job, p // y1, p % y1)
            if narrow:
                for j in range(y2):
                    narrow_indices[task * y2 + j] = start + stride * j + step[taps[j]]
            else:
                for j in range(y2):
                    indices[task * y2 + j] = start + stride * j + step[taps[j]]
        else:
            max_row(source, stride, offset, count, to, y2)


@njit_inner
def taps_under(job: Any, x: Any, p0: int, p1: int, padded: bool, offset: Any, numbers: Any, rows: Any) -> int:
    """Write where the taps inside the plane begin for output row (p0, p1), and their numbers; return how many there are.

    They are offsets in the plane, or in `rows`, where padded rows are copied to, if there is padding along a row.
    """
    window0, window1, window2 = job.window[0], job.window[1], job.window[2]
    x0, x1, x2, dilation = job.x_size[0], job.x_size[1], job.x_size[2], job.dilation[2]
    first0, first1 = job.stride[0] * p0 - job.pad_lo[0], job.stride[1] * p1 - job.pad_lo[1]
    count = 0
    for k0 in range(window0):
        q0 = first0 + job.dilation[0] * k0
        for k1 in range(window1):
            q1, k = first1 + job.dilation[1] * k1, k0 * window1 + k1
            if 0 <= q0 < x0 and 0 <= q1 < x1:
                begin = (q0 * x1 + q1) * x2
                if padded:
                    copy(at(rows, k * job.pitch + job.pad_lo[2]), at(x, begin), x2)
                    begin = k * job.pitch
                for k2 in range(window2):
                    offset[count] = begin + dilation * k2
                    numbers[count] = k * window2 + k2
                    count += 1
    return count
