"""Cross entropy of a softmax as Numba kernels: no array of the logits' size is made on the way to the value; and products."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from .. import _matmul
from .._jit import Job, Kernel, kernel, workers
from .._simd import at, int64_pointer, number, pointer
from .._slab import COLUMNS, exp, largest, log, slab, slabs, sum_exp, sum_shifted

Array = np.ndarray[Any, Any]

_JOB = Job("x labels terms most total share dx", outer=1, n=1, inner=1, smoothing=np.dtype("f8"))


def cross_entropy(xp: ModuleType, logits: Array, labels: Array, smoothing: float) -> tuple[Array, Callable[[Array], Array]]:
    """Return log sum exp(x) - sum of q x over axis 1, q being 1 - s at the label plus s / classes; and the pullback to x.

    The pullback takes a cotangent of the terms' shape, or a scalar for all.
    """
    x = np.require(logits, None, ["C", "A"])
    labels = np.array(labels, np.int64, order="C")  # checked once: the caller's own could have changed before the pullback
    terms, most, total = (np.empty(labels.shape, x.dtype) for _ in range(3))
    kept = {"x": x, "labels": labels, "most": most, "total": total}
    _run(_cross_entropy, smoothing, **kept, terms=terms)

    def pull(share: Array) -> Array:
        dx = np.empty(x.shape, x.dtype)
        shares = np.ascontiguousarray(np.broadcast_to(share, labels.shape), x.dtype)
        _run(_cross_entropy_slope, smoothing, **kept, share=shares, dx=dx)
        return dx

    return terms, pull


def matmul(xp: ModuleType, a: Array, b: Array) -> Array:
    """Return the product of two matrices on the register tile, read as they lie, which may be transposed.

    256 x 32 by 32 x 256 take 0.08 ms. NumPy's own take 0.13 on one thread, but 8 where two of its threads wait for one another.
    """
    c = np.empty((a.shape[0], b.shape[1]), a.dtype)
    _matmul.matmul(a, _steps(a), b, _steps(b), c, a.shape[1], None)
    return c


def _steps(a: Array) -> tuple[int, int]:
    rows, columns = a.strides
    return rows // a.itemsize, columns // a.itemsize


def _run(f: Kernel, smoothing: float, *, x: Array, **others: Array) -> None:
    outer, n, inner = x.shape[0], x.shape[1], prod(x.shape[2:])
    if x.size:
        f(workers(outer * -(-inner // COLUMNS), x.size), x.dtype, _job(outer, n, inner, smoothing), x=x, **others)


@lru_cache(256)
def _job(outer: int, n: int, inner: int, smoothing: float) -> Array:
    return _JOB.fill(outer=outer, n=n, inner=inner, smoothing=smoothing)


@kernel(_JOB)
def _cross_entropy(worker, workers, job, like):  # type: ignore[no-untyped-def]
    """terms[j] = log(total[j]) - ((1 - s) * (x[label, j] - most[j]) + s / n * sum over k of (x[k, j] - most[j]))."""
    n, inner, tasks = job.n, job.inner, slabs(job.outer, job.inner)
    smoothing, one = number(like, job.smoothing), number(like, 1.0)
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        start, column, width = slab(task, n, inner)
        x, labels = at(pointer(job.x, like), start), at(int64_pointer(job.labels), column)
        terms, most = at(pointer(job.terms, like), column), at(pointer(job.most, like), column)
        total = at(pointer(job.total, like), column)
        largest(x, n, inner, width, most)
        sum_exp(x, n, inner, width, most, total)
        if smoothing > number(like, 0.0):  # else a class ruled out by a logit of -inf would count, as 0 * inf
            sum_shifted(x, n, inner, width, most, terms)
            for j in range(width):
                terms[j] *= smoothing / number(like, n)
        else:
            for j in range(width):
                terms[j] = number(like, 0.0)
        for j in range(width):
            terms[j] = log(total[j]) - ((one - smoothing) * (x[labels[j] * inner + j] - most[j]) + terms[j])


@kernel(_JOB)
def _cross_entropy_slope(worker, workers, job, like):  # type: ignore[no-untyped-def]
    """dx[k, j] = share[j] * (exp(x[k, j] - most[j]) / total[j] - s / n), less (1 - s) * share[j] at the label."""
    n, inner, tasks = job.n, job.inner, slabs(job.outer, job.inner)
    smoothing, one = number(like, job.smoothing), number(like, 1.0)
    even = smoothing / number(like, n)
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        start, column, width = slab(task, n, inner)
        x, dx, labels = at(pointer(job.x, like), start), at(pointer(job.dx, like), start), at(int64_pointer(job.labels), column)
        most, total = at(pointer(job.most, like), column), at(pointer(job.total, like), column)
        share = at(pointer(job.share, like), column)
        if inner == 1:
            m, t, s = most[0], one / total[0], share[0]
            for k in range(n):
                dx[k] = s * (exp(x[k] - m) * t - even)
        else:
            for k in range(n):
                for j in range(width):
                    dx[k * inner + j] = share[j] * (exp(x[k * inner + j] - most[j]) / total[j] - even)
        for j in range(width):
            k = labels[j] * inner + j
            dx[k] = share[j] * (exp(x[k] - most[j]) / total[j] - even - (one - smoothing))
