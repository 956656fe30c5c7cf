"""Means of windows and their adjoint. Both are sums along one axis after another: over the rows of a window, then along the row.

    mean_y   v[q2] = sum of x[q2] in rows under p          y[p2] = sum over taps of v[stride * p2 + dilation * k - pad_lo] / count
    mean_x   v[p2] = sum of y[p2] / count in rows above q  x[stride * m + r] = sum over taps of v[m + shift]

Samples of one residue r modulo the stride are under the same taps, so the last sum is taken residue by residue.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ..._array import flat
from ..._jit import Job, kernel, njit_inner, scratch, workers
from ..._simd import at, int64_pointer, number, pointer, zero
from ..geometry import PoolGeometry
from .row import sum_row
from .window import WINDOW, Array, addresses, line, padded_row, table, window

# `counts` are the taps to divide by per position of the last axis, `row_counts` those per row, as numbers of the dtype.
JOB = Job(
    "x y counts row_counts tap_offset above begin shift phase scratch",
    **WINDOW, pitch=1, left=1, length=1, rows_at=1, scratch_bytes=1,
)  # fmt: skip


def mean_y(x: Array, g: PoolGeometry, include_pad: bool) -> Array:
    """y[p] = sum over taps of x[q] / the number of taps, or of taps inside the plane."""
    y = np.empty(g.y_shape, x.dtype)
    job, _ = _plan_y(g, include_pad, x.dtype)
    threads = workers(prod(y.shape[:-1]), y.size * prod(g.window))
    _means(threads, x.dtype, job, x=flat(x), y=y, scratch=scratch(threads * int(job[-1])))
    return y


def mean_x(y: Array, g: PoolGeometry, include_pad: bool) -> Array:
    """x[q] = sum over the p and taps that lie at q of y[p] / the number of taps of p: the adjoint of `mean_y`."""
    x = np.empty(g.x_shape, y.dtype)
    job, _ = _plan_x(g, include_pad, y.dtype)
    threads = workers(g.planes, y.size * prod(g.window))
    _spread_means(threads, y.dtype, job, x=x, y=flat(y), scratch=scratch(threads * int(job[-1])))
    return x


@lru_cache(1024)
def _plan_y(g: PoolGeometry, include_pad: bool, dtype: Any) -> tuple[Array, Any]:
    """Return the job of `mean_y`, and the tables whose addresses are in it."""
    counts, row_counts = _counts(g, include_pad, dtype)
    tap_offset, pitch = table([g.dilation[2] * k for k in range(g.window[2])]), padded_row(g)
    tables = {"counts": counts, "row_counts": row_counts, "tap_offset": tap_offset}
    return _job(g, tables, dtype, pitch=pitch, left=g.pad_lo[2], length=0, offsets=g.window[0] * g.window[1], rows=1)


@lru_cache(1024)
def _plan_x(g: PoolGeometry, include_pad: bool, dtype: Any) -> tuple[Array, Any]:
    """Return the job of `mean_x`, and the tables whose addresses are in it."""
    counts, row_counts = _counts(g, include_pad, dtype)
    (above, begin), shifts = _rows_above(g), _shifts(g)
    length, every = -(-g.x_size[2] // g.stride[2]), [0, *(shift for phase in shifts for shift in phase)]
    left = -min(every)  # zeros before and after a row of y, so that every m + shift is there
    pitch = left + max(g.y_size[2], length + max(every))
    tables = {
        "counts": counts,
        "row_counts": row_counts,
        "above": table(above),
        "begin": table(begin),
        "shift": table(every[1:]),
        "phase": table(np.cumsum([0, *map(len, shifts)])),
    }
    most, y_rows = int(np.diff(begin).max()), g.y_size[0] * g.y_size[1]
    return _job(g, tables, dtype, pitch=pitch, left=left, length=length, offsets=most, rows=y_rows + 1)


def _job(
    g: PoolGeometry, tables: dict[str, Array], dtype: Any, *, pitch: int, left: int, length: int, offsets: int, rows: int
) -> tuple[Array, Any]:
    """Fill the job: a worker's scratch holds offsets of rows, rows with room at both ends, and one row by residues."""
    rows_at = line(max(1, offsets) * 8)
    size = rows_at + line((rows * pitch + g.stride[2] * length) * np.dtype(dtype).itemsize)
    sizes = {"pitch": pitch, "left": left, "length": length, "rows_at": rows_at, "scratch_bytes": size}
    return JOB.fill(**window(g), **addresses(tables), **sizes), tables


def _counts(g: PoolGeometry, include_pad: bool, dtype: Any) -> tuple[Array, Array]:
    """Return the numbers of taps to divide by: per position of the last axis, times per position of the first two."""
    if include_pad:
        a, b, c = (np.full(n, k, dtype) for n, k in zip(g.y_size, g.window, strict=True))
    else:
        a, b, c = (np.asarray([n for _, n in g.inside(axis)], dtype) for axis in range(3))
    return c, np.repeat(a, b.size) * np.tile(b, a.size)


def _rows_above(g: PoolGeometry) -> tuple[Array, Array]:
    """Return the rows of y whose windows hold each row of x, once per tap, one row of x after another, and where each begins."""
    p0, p1, k0, k1 = np.indices((g.y_size[0], g.y_size[1], g.window[0], g.window[1])).reshape(4, -1)
    q0, q1 = (g.stride[a] * p + g.dilation[a] * k - g.pad_lo[a] for a, p, k in ((0, p0, k0), (1, p1, k1)))
    inside = (q0 >= 0) & (q0 < g.x_size[0]) & (q1 >= 0) & (q1 < g.x_size[1])
    q, p = (q0 * g.x_size[1] + q1)[inside], (p0 * g.y_size[1] + p1)[inside]
    begin = np.cumsum([0, *np.bincount(q, minlength=g.x_size[0] * g.x_size[1])])
    return p[np.argsort(q, kind="stable")], begin


def _shifts(g: PoolGeometry) -> list[list[int]]:
    """Return for each residue r the shifts by which x[stride * m + r] is in the windows at m + shift, one per tap that fits."""
    offsets = [g.pad_lo[2] - g.dilation[2] * k for k in range(g.window[2])]
    return [[(r + o) // g.stride[2] for o in offsets if (r + o) % g.stride[2] == 0] for r in range(g.stride[2])]


@kernel(JOB)
def _means(worker: int, workers: int, job: Any, like: Any) -> None:
    """Sum the rows under each of one worker's rows of y, then the taps along it, and divide."""
    memory = job.scratch + np.uint64(worker * job.scratch_bytes)
    offset, v = int64_pointer(memory), pointer(memory + np.uint64(job.rows_at), like)
    volume, x2, pitch, left = job.x_size[0] * job.x_size[1] * job.x_size[2], job.x_size[2], job.pitch, job.left
    y0, y1, y2, window, stride = job.y_size[0], job.y_size[1], job.y_size[2], job.window[2], job.stride[2]
    y, taps = pointer(job.y, like), int64_pointer(job.tap_offset)
    counts, row_counts, null, one = pointer(job.counts, like), pointer(job.row_counts, like), like, number(like, 1)
    zero(v, pitch)
    tasks = job.planes * y0 * y1
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        plane, p = task // (y0 * y1), task % (y0 * y1)
        count = rows_under(job, p // y1, p % y1, offset)
        sum_row(at(pointer(job.x, like), plane * volume), 1, offset, count, at(v, left), x2, one, null)
        sum_row(v, stride, taps, window, at(y, task * y2), y2, row_counts[p], counts)


@njit_inner
def rows_under(job: Any, p0: int, p1: int, offset: Any) -> int:
    """Write where in a plane the rows under the windows of row (p0, p1) begin; return their number."""
    x0, x1, x2 = job.x_size[0], job.x_size[1], job.x_size[2]
    first0, first1 = job.stride[0] * p0 - job.pad_lo[0], job.stride[1] * p1 - job.pad_lo[1]
    count = 0
    for k0 in range(job.window[0]):
        q0 = first0 + job.dilation[0] * k0
        for k1 in range(job.window[1]):
            q1 = first1 + job.dilation[1] * k1
            if 0 <= q0 < x0 and 0 <= q1 < x1:
                offset[count] = (q0 * x1 + q1) * x2
                count += 1
    return count


@kernel(JOB)
def _spread_means(worker: int, workers: int, job: Any, like: Any) -> None:
    """Divide one worker's planes of y; for each row of x sum the rows above it, then, residue by residue, the taps along it."""
    memory = job.scratch + np.uint64(worker * job.scratch_bytes)
    offset, shares = int64_pointer(memory), pointer(memory + np.uint64(job.rows_at), like)
    x_rows, x2, pitch, left = job.x_size[0] * job.x_size[1], job.x_size[2], job.pitch, job.left
    y_rows, y2 = job.y_size[0] * job.y_size[1], job.y_size[2]
    v = at(shares, y_rows * pitch)
    by_phase = at(v, pitch)
    above, begin, null, one = int64_pointer(job.above), int64_pointer(job.begin), like, number(like, 1)
    counts, row_counts = pointer(job.counts, like), pointer(job.row_counts, like)
    zero(shares, (y_rows + 1) * pitch)
    for i in range(worker * job.planes // workers, (worker + 1) * job.planes // workers):
        y, x = at(pointer(job.y, like), i * y_rows * y2), at(pointer(job.x, like), i * x_rows * x2)
        offset[0] = 0
        for p in range(y_rows):
            sum_row(at(y, p * y2), 1, offset, 1, at(shares, p * pitch + left), y2, row_counts[p], counts)
        for q in range(x_rows):
            count = begin[q + 1] - begin[q]
            for t in range(count):
                offset[t] = above[begin[q] + t] * pitch
            sum_row(at(shares, left), 1, offset, count, at(v, left), y2, one, null)
            along_row(job, like, at(v, left), by_phase, at(x, q * x2))


@njit_inner
def along_row(job: Any, like: Any, v: Any, by_phase: Any, x: Any) -> None:
    """x[stride * m + r] = sum over the taps of residue r of v[m + shift]."""
    shift, phase = int64_pointer(job.shift), int64_pointer(job.phase)
    length, stride, x2, one = job.length, job.stride[2], job.x_size[2], number(like, 1)
    for r in range(stride):
        to = x if stride == 1 else at(by_phase, r * length)
        sum_row(v, 1, at(shift, phase[r]), phase[r + 1] - phase[r], to, (x2 - r + stride - 1) // stride, one, like)
    if stride == 2:  # written out, so that the compiler knows the stride and makes vectors
        odd = at(by_phase, length)
        for m in range(x2 // 2):
            x[2 * m] = by_phase[m]
            x[2 * m + 1] = odd[m]
        if x2 % 2:
            x[x2 - 1] = by_phase[x2 // 2]
    elif stride > 2:
        for q in range(x2):
            x[q] = by_phase[q % stride * length + q // stride]
