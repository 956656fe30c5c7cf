"""The ways back from maxima to the samples that won, and from samples to maxima: planes are shared out over threads."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from ..._array import flat
from ..._jit import Job, kernel, njit_inner, workers
from ..._simd import at, int32_pointer, int64_pointer, pointer, zero
from ..geometry import PoolGeometry
from .window import Array

JOB = Job("x y indices", planes=1, volume=1, size=1, narrow=1)


def scatter(y: Array, indices: Array, g: PoolGeometry) -> Array:
    """x[q] = sum over the p with indices[p] = q of y[p]."""
    x = np.empty(g.x_shape, y.dtype)
    job = _job(g, indices.dtype == np.int32)
    _scatter(workers(g.planes, x.size), x.dtype, job, x=x, y=flat(y), indices=flat(indices))
    return x


def gather(x: Array, indices: Array, g: PoolGeometry) -> Array:
    """y[p] = x[indices[p]]: the adjoint of `scatter`."""
    y = np.empty(g.y_shape, x.dtype)
    job = _job(g, indices.dtype == np.int32)
    _gather(workers(g.planes, y.size), x.dtype, job, x=flat(x), y=y, indices=flat(indices))
    return y


@lru_cache(1024)
def _job(g: PoolGeometry, narrow: bool) -> Array:
    return JOB.fill(planes=g.planes, volume=prod(g.x_size), size=prod(g.y_size), narrow=narrow)


@kernel(JOB)
def _scatter(worker: int, workers: int, job: Any, like: Any) -> None:
    """Zero one worker's planes of x, and add every sample of y at its index."""
    volume, size, narrow = job.volume, job.size, job.narrow
    for i in range(worker * job.planes // workers, (worker + 1) * job.planes // workers):
        x, y, indices, wide_indices = plane(job, like, i)
        zero(x, volume)
        if narrow:
            for p in range(size):
                x[indices[p]] += y[p]
        else:
            for p in range(size):
                x[wide_indices[p]] += y[p]


@kernel(JOB)
def _gather(worker: int, workers: int, job: Any, like: Any) -> None:
    """y[p] = x[indices[p]] in one worker's planes."""
    size, narrow = job.size, job.narrow
    for i in range(worker * job.planes // workers, (worker + 1) * job.planes // workers):
        x, y, indices, wide_indices = plane(job, like, i)
        for p in range(size):
            y[p] = x[indices[p]] if narrow else x[wide_indices[p]]


@njit_inner
def plane(job: Any, like: Any, i: int) -> tuple[Any, Any, Any, Any]:
    """Where plane i lies in x, y, and the indices of either kind."""
    x, y, first = at(pointer(job.x, like), i * job.volume), at(pointer(job.y, like), i * job.size), i * job.size
    return x, y, at(int32_pointer(job.indices), first), at(int64_pointer(job.indices), first)
