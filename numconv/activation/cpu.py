"""Softmax, its logarithm and their pullbacks as Numba kernels: one visit to memory for each slab."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from .._jit import Job, Kernel, kernel, scratch, workers
from .._simd import at, number, pointer
from .._slab import COLUMNS, exp, largest, log, slab, slabs, sum_down, sum_exp, sum_products, write_exp

Array = np.ndarray[Any, Any]

_JOB = Job("x dy y kept", outer=1, n=1, inner=1)


def softmax(xp: ModuleType, x: Array, axis: int) -> Array:
    """exp(x) / sum of exp(x) along an axis, both scaled by exp(-max(x))."""
    return _run(_softmax, axis, x)


def softmax_pullback(xp: ModuleType, y: Array, dy: Array, axis: int) -> Array:
    """Return dx = y * (dy - sum of y * dy)."""
    return _run(_softmax_pullback, axis, y, dy)


def log_softmax(xp: ModuleType, x: Array, axis: int) -> Array:
    """Return x - log of the sum of exp(x) along an axis, both less max(x)."""
    return _run(_log_softmax, axis, x)


def log_softmax_pullback(xp: ModuleType, y: Array, dy: Array, axis: int) -> Array:
    """Return dx = dy - exp(y) * sum of dy."""
    return _run(_log_softmax_pullback, axis, y, dy)


def _run(f: Kernel, axis: int, x: Array, dy: Array | None = None) -> Array:
    axis %= x.ndim
    outer, n, inner = prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :])
    y = np.empty(x.shape, x.dtype)
    if y.size:
        x, dy = np.require(x, None, ["C", "A"]), None if dy is None else np.require(dy, None, ["C", "A"])
        threads = workers(outer * -(-inner // COLUMNS), y.size)
        kept = scratch(threads * 2 * COLUMNS * y.itemsize)
        f(threads, y.dtype, _job(outer, n, inner), x=x, dy=dy, y=y, kept=kept)
    return y


@lru_cache(256)
def _job(outer: int, n: int, inner: int) -> Array:
    return _JOB.fill(outer=outer, n=n, inner=inner)


@kernel(_JOB)
def _softmax(worker, workers, job, like):  # type: ignore[no-untyped-def]
    """y[k, j] = exp(x[k, j] - most[j]) / total[j]."""
    most = at(pointer(job.kept, like), worker * 2 * COLUMNS)
    total, n, inner, tasks = at(most, COLUMNS), job.n, job.inner, slabs(job.outer, job.inner)
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        start, _, width = slab(task, n, inner)
        x, y = at(pointer(job.x, like), start), at(pointer(job.y, like), start)
        largest(x, n, inner, width, most)
        write_exp(x, n, inner, width, most, y, total)
        for j in range(width):
            total[j] = number(like, 1.0) / total[j]
        if inner == 1:
            t = total[0]
            for k in range(n):
                y[k] *= t
        else:
            for k in range(n):
                for j in range(width):
                    y[k * inner + j] *= total[j]


@kernel(_JOB)
def _softmax_pullback(worker, workers, job, like):  # type: ignore[no-untyped-def]
    """y[k, j] = x[k, j] * (dy[k, j] - total[j]), where x is softmax's value."""
    total = at(pointer(job.kept, like), worker * 2 * COLUMNS)
    n, inner, tasks = job.n, job.inner, slabs(job.outer, job.inner)
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        start, _, width = slab(task, n, inner)
        x, dy, y = at(pointer(job.x, like), start), at(pointer(job.dy, like), start), at(pointer(job.y, like), start)
        sum_products(x, dy, n, inner, width, total)
        if inner == 1:
            t = total[0]
            for k in range(n):
                y[k] = x[k] * (dy[k] - t)
        else:
            for k in range(n):
                for j in range(width):
                    y[k * inner + j] = x[k * inner + j] * (dy[k * inner + j] - total[j])


@kernel(_JOB)
def _log_softmax(worker, workers, job, like):  # type: ignore[no-untyped-def]
    """y[k, j] = (x[k, j] - most[j]) - log(total[j])."""
    most = at(pointer(job.kept, like), worker * 2 * COLUMNS)
    total, n, inner, tasks = at(most, COLUMNS), job.n, job.inner, slabs(job.outer, job.inner)
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        start, _, width = slab(task, n, inner)
        x, y = at(pointer(job.x, like), start), at(pointer(job.y, like), start)
        largest(x, n, inner, width, most)
        sum_exp(x, n, inner, width, most, total)
        for j in range(width):
            total[j] = log(total[j])
        if inner == 1:
            m, t = most[0], total[0]
            for k in range(n):
                y[k] = (x[k] - m) - t
        else:
            for k in range(n):
                for j in range(width):
                    y[k * inner + j] = (x[k * inner + j] - most[j]) - total[j]


@kernel(_JOB)
def _log_softmax_pullback(worker, workers, job, like):  # type: ignore[no-untyped-def]
    """y[k, j] = dy[k, j] - exp(x[k, j]) * total[j], where x is log_softmax's value."""
    total = at(pointer(job.kept, like), worker * 2 * COLUMNS)
    n, inner, tasks = job.n, job.inner, slabs(job.outer, job.inner)
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        start, _, width = slab(task, n, inner)
        x, dy, y = at(pointer(job.x, like), start), at(pointer(job.dy, like), start), at(pointer(job.y, like), start)
        sum_down(dy, n, inner, width, total)
        if inner == 1:
            t = total[0]
            for k in range(n):
                y[k] = dy[k] - exp(x[k]) * t
        else:
            for k in range(n):
                for j in range(width):
                    y[k * inner + j] = dy[k * inner + j] - exp(x[k * inner + j]) * total[j]
