"""Normalisation over a batch without positions: channels are neighbouring numbers, and rows are walked along, never down.

Rows are taken in chunks, which fix the order of sums. Partial sums of a chunk stay in the first cache, as many as there are
channels; chunks are put together in float64.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..._array import flat
from ..._jit import Job, kernel, njit_inner, scratch, workers
from ..._simd import at, number, pointer, zero
from ..geometry import NormGeometry
from .sums import float64_pointer

Array = np.ndarray[Any, Any]

CHUNK = 64  # rows
_TABLE = 5  # columns that a worker makes for itself: centre, rest, factor, slope and shift
_JOB = Job("x dy to parts moments totals scale shift scratch", rows=1, width=1, chunks=1, fixed=1, eps=np.dtype("f8"))


def moments(x: Array, of: Array, g: NormGeometry, eps: float) -> None:
    """Fill `of` with mean, its rest, variance and r of each column, in float64."""
    chunks, width = _chunks(g), g.view[1]
    parts, threads = np.empty((3, chunks, width)), workers(chunks, x.size)
    memory = scratch(threads * 3 * width * x.itemsize)
    _chunk_moments(threads, x.dtype, _job(g), x=flat(x), parts=parts, scratch=memory)
    _join_moments(1, x.dtype, _job(g, eps), parts=parts, moments=of)


def normal_y(x: Array, scale: Array | None, shift: Array | None, of: Array, g: NormGeometry) -> Array:
    """Return y = d r scale + shift."""
    y = np.empty(x.shape, x.dtype)
    threads = workers(_chunks(g), x.size)
    memory = scratch(threads * _TABLE * g.view[1] * x.itemsize)
    scale, shift = (None if a is None else flat(a) for a in (scale, shift))
    _rows(threads, x.dtype, _job(g), x=flat(x), to=y, moments=of, scale=scale, shift=shift, scratch=memory)
    return y


def sums(dy: Array, x: Array, of: Array, g: NormGeometry) -> Array:
    """Return the sums of dy and of dy d r down each column, in float64."""
    parts, totals = np.empty((2, _chunks(g), g.view[1]), x.dtype), np.empty((2, g.view[1]))
    threads = workers(_chunks(g), x.size)
    memory = scratch(threads * g.view[1] * x.itemsize)
    _chunk_sums(threads, x.dtype, _job(g), x=flat(x), dy=flat(dy), moments=of, parts=parts, scratch=memory)
    _join_sums(1, x.dtype, _job(g), parts=parts, moments=of, totals=totals)
    return totals


def input_gradient(dy: Array, x: Array, scale: Array | None, of: Array, totals: Array, g: NormGeometry, fixed: bool) -> Array:
    """Return dx = r scale (dy - mean(dy) - d r mean(dy d r)), of which r scale dy is left if moments are `fixed`."""
    dx = np.empty(x.shape, x.dtype)
    threads = workers(_chunks(g), x.size)
    memory = scratch(threads * _TABLE * g.view[1] * x.itemsize)
    addresses = {"scale": None if scale is None else flat(scale), "moments": of, "totals": totals, "scratch": memory}
    _rows(threads, x.dtype, _job(g, fixed=fixed), x=flat(x), dy=flat(dy), to=dx, **addresses)
    return dx


def _chunks(g: NormGeometry) -> int:
    return max(1, -(-g.view[0] // CHUNK))


@lru_cache(256)
def _job(g: NormGeometry, eps: float = 0.0, fixed: bool = False) -> Array:
    return _JOB.fill(rows=g.view[0], width=g.view[1], chunks=_chunks(g), eps=eps, fixed=fixed)


@kernel(_JOB)
def _chunk_moments(worker: int, workers: int, job: Any, like: Any) -> None:
    """parts[:, chunk, j] = a rough mean of x[i, j] over its rows, how far from it the mean is, and sum of (x[i, j] - mean)^2."""
    rows, width, chunks = job.rows, job.width, job.chunks
    total = at(pointer(job.scratch, like), worker * 3 * width)
    for chunk in range(worker * chunks // workers, (worker + 1) * chunks // workers):
        begin, end = chunk * rows // chunks, (chunk + 1) * rows // chunks
        x, centre = at(pointer(job.x, like), begin * width), at(float64_pointer(job.parts), chunk * width)
        offset = at(centre, chunks * width)
        deviation = at(offset, chunks * width)
        around_mean(x, end - begin, width, total, at(total, width), at(total, 2 * width))
        for j in range(width):
            d = total[j] / np.float64(end - begin)
            centre[j], offset[j], deviation[j] = total[2 * width + j], d, total[width + j] - d * total[j]


@njit_inner
def around_mean(x: Any, n: int, width: int, total: Any, squares: Any, centre: Any) -> None:
    """Take a rough mean of each column, and sum the distances from it and their squares."""
    zero(total, width)
    for i in range(n):
        add(at(x, i * width), width, total)
    for j in range(width):
        centre[j] = number(x, total[j] / np.float64(n))
    zero(total, 2 * width)  # and the squares, which follow
    for i in range(n):
        add_deviations(at(x, i * width), width, centre, total, squares)


@njit_inner
def add(x: Any, width: int, total: Any) -> None:
    """Add a row."""
    for j in range(width):
        total[j] += x[j]


@njit_inner
def add_deviations(x: Any, width: int, centre: Any, total: Any, squares: Any) -> None:
    """Add a row's distances from the centre, and their squares."""
    for j in range(width):
        d = x[j] - centre[j]
        total[j] += d
        squares[j] += d * d


@kernel(_JOB)
def _join_moments(worker: int, workers: int, job: Any, like: Any) -> None:
    """Put the chunks' moments together: mean, what it has lost by rounding to a number of the dtype, variance and r.

    Chan, Golub and LeVeque, Algorithms for computing the sample variance, 1983, eq. 2.1.
    """
    rows, width, chunks = job.rows, job.width, job.chunks
    mean, first = float64_pointer(job.moments), float64_pointer(job.parts)
    rest, var, r = at(mean, width), at(mean, 2 * width), at(mean, 3 * width)
    zero(mean, 4 * width)  # the mean is told by how far it is from the first chunk's rough one
    for chunk in range(chunks):
        before = chunk * rows // chunks
        count = (chunk + 1) * rows // chunks - before
        weight = count / (before + count)
        centre = at(first, chunk * width)
        offset = at(centre, chunks * width)
        deviation = at(offset, chunks * width)
        for j in range(width):
            apart = (centre[j] - first[j]) + offset[j] - mean[j]
            var[j] += deviation[j] + apart * apart * before * weight
            mean[j] += apart * weight
    for j in range(width):
        rounded = np.float64(number(like, first[j] + mean[j]))
        rest[j], mean[j] = (first[j] - rounded) + mean[j], rounded
        var[j] /= rows
        r[j] = 1 / np.sqrt(var[j] + job.eps)


@kernel(_JOB)
def _rows(worker: int, workers: int, job: Any, like: Any) -> None:
    """Fill one worker's rows of y, or of dx if there is a dy."""
    rows, width = job.rows, job.width
    centre = at(pointer(job.scratch, like), worker * _TABLE * width)
    rest, factor = at(centre, width), at(centre, 2 * width)
    slope, shift = at(centre, 3 * width), at(centre, 4 * width)
    fill_table(job, like, centre, rest, factor, slope, shift)
    for i in range(worker * rows // workers, (worker + 1) * rows // workers):
        x, to = at(pointer(job.x, like), i * width), at(pointer(job.to, like), i * width)
        if job.dy:
            row_dx(to, at(pointer(job.dy, like), i * width), x, width, centre, rest, factor, slope, shift)
        else:
            row_y(to, x, width, centre, rest, factor, shift)


@njit_inner
def fill_table(job: Any, like: Any, centre: Any, rest: Any, factor: Any, slope: Any, shift: Any) -> None:
    """Fill y = d factor + shift, or dx = dy factor + (d slope + shift)."""
    width, moments, totals = job.width, float64_pointer(job.moments), float64_pointer(job.totals)
    share = 0.0 if job.fixed else 1.0 / job.rows
    for j in range(width):
        r = moments[3 * width + j]
        scaled = r * pointer(job.scale, like)[j] if job.scale else r
        centre[j], rest[j], factor[j] = number(like, moments[j]), number(like, moments[width + j]), number(like, scaled)
        if job.dy:
            slope[j] = number(like, -scaled * r * totals[width + j] * share)
            shift[j] = number(like, -scaled * totals[j] * share)
        else:
            shift[j] = pointer(job.shift, like)[j] if job.shift else number(like, 0.0)


@njit_inner
def row_y(y: Any, x: Any, width: int, centre: Any, rest: Any, factor: Any, shift: Any) -> None:
    """Fill a row of y."""
    for j in range(width):
        y[j] = ((x[j] - centre[j]) - rest[j]) * factor[j] + shift[j]


@njit_inner
def row_dx(dx: Any, dy: Any, x: Any, width: int, centre: Any, rest: Any, factor: Any, slope: Any, shift: Any) -> None:
    """Fill a row of dx."""
    for j in range(width):
        dx[j] = dy[j] * factor[j] + (((x[j] - centre[j]) - rest[j]) * slope[j] + shift[j])


@kernel(_JOB)
def _chunk_sums(worker: int, workers: int, job: Any, like: Any) -> None:
    """parts[0, chunk, j] = sum of dy[i, j] over its rows, parts[1, chunk, j] = sum of dy[i, j] (x[i, j] - mean[j])."""
    rows, width, chunks = job.rows, job.width, job.chunks
    mean = at(pointer(job.scratch, like), worker * width)
    for j in range(width):
        mean[j] = number(like, float64_pointer(job.moments)[j])
    for chunk in range(worker * chunks // workers, (worker + 1) * chunks // workers):
        first = at(pointer(job.parts, like), chunk * width)
        second = at(first, chunks * width)
        zero(first, width)
        zero(second, width)
        for i in range(chunk * rows // chunks, (chunk + 1) * rows // chunks):
            add_products(at(pointer(job.x, like), i * width), at(pointer(job.dy, like), i * width), width, mean, first, second)


@njit_inner
def add_products(x: Any, dy: Any, width: int, mean: Any, first: Any, second: Any) -> None:
    """Add a row of dy and of dy times the distance from the rounded mean."""
    for j in range(width):
        first[j] += dy[j]
        second[j] += dy[j] * (x[j] - mean[j])


@kernel(_JOB)
def _join_sums(worker: int, workers: int, job: Any, like: Any) -> None:
    """Put the chunks' sums together, the second of dy d r."""
    width, chunks, mean = job.width, job.chunks, float64_pointer(job.moments)
    total = float64_pointer(job.totals)
    total_d = at(total, width)
    zero(total, 2 * width)
    for chunk in range(chunks):
        first = at(pointer(job.parts, like), chunk * width)
        second = at(first, chunks * width)
        for j in range(width):
            total[j] += first[j]
            total_d[j] += second[j]
    for j in range(width):
        total_d[j] = (total_d[j] - mean[width + j] * total[j]) * mean[3 * width + j]
