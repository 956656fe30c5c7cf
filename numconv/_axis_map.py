"""A sparse linear map along one axis in a kernel: rows of the other axes in vectors, or one row at a time along the last axis."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ._array import flat
from ._jit import Job, kernel, njit_inner, workers
from ._simd import at, int32_pointer, pointer

Array = np.ndarray[Any, Any]

_JOB = Job("x y source weight", outer=1, size=1, out=1, inner=1, entries=1)


def apply(source: Array, weight: Array, x: Array, axis: int) -> Array:
    """Return y[..., p, ...] = sum over k of weight[k, p] * x[..., source[k, p], ...] along an axis, counted from the front."""
    (entries, out), shape = source.shape, x.shape
    outer, size, inner = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    y = np.empty((*shape[:axis], out, *shape[axis + 1 :]), x.dtype)
    if y.size:
        job = _JOB.fill(outer=outer, size=size, out=out, inner=inner, entries=entries)
        source, weight = np.ascontiguousarray(source, np.int32), np.ascontiguousarray(weight, x.dtype)
        rows = outer if inner == 1 else outer * out
        _apply(workers(rows, y.size * entries), x.dtype, job, x=flat(x), y=y, source=source, weight=weight)
    return y


@kernel(_JOB)
def _apply(worker: int, workers: int, job: Any, like: Any) -> None:
    """Fill one worker's rows."""
    size, out, inner, entries = job.size, job.out, job.inner, job.entries
    x, y = pointer(job.x, like), pointer(job.y, like)
    source, weight = int32_pointer(job.source), pointer(job.weight, like)
    if inner == 1:
        for o in range(worker * job.outer // workers, (worker + 1) * job.outer // workers):
            along(at(x, o * size), at(y, o * out), source, weight, out, entries)
    else:
        rows = job.outer * out
        for row in range(worker * rows // workers, (worker + 1) * rows // workers):
            p = row % out
            across(at(x, row // out * size * inner), at(y, row * inner), at(source, p), at(weight, p), out, inner, entries)


@njit_inner
def along(x: Any, y: Any, source: Any, weight: Any, out: int, entries: int) -> None:
    """Fill a row of the mapped axis itself."""
    if entries == 2:  # linear interpolation, and its adjoint where every sample is seen twice
        for p in range(out):
            y[p] = weight[p] * x[source[p]] + weight[out + p] * x[source[out + p]]
        return
    for p in range(out):
        y[p] = weight[p] * x[source[p]]
    for k in range(1, entries):
        for p in range(out):
            y[p] += weight[k * out + p] * x[source[k * out + p]]


@njit_inner
def across(x: Any, y: Any, source: Any, weight: Any, out: int, inner: int, entries: int) -> None:
    """Fill a row of the axes within: a sum of rows."""
    if entries == 1:
        first, w = at(x, source[0] * inner), weight[0]
        for j in range(inner):
            y[j] = w * first[j]
        return
    first, second, w, v = at(x, source[0] * inner), at(x, source[out] * inner), weight[0], weight[out]
    for j in range(inner):
        y[j] = w * first[j] + v * second[j]
    for k in range(2, entries):
        first, w = at(x, source[k * out] * inner), weight[k * out]
        for j in range(inner):
            y[j] += w * first[j]
