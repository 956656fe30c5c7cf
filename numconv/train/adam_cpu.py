"""One step of Adam in a kernel: each array is read and written once, where NumPy's operations walk through memory 25 times."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._array import flat
from .._jit import Job, kernel, workers
from .._simd import number, pointer

Array = np.ndarray[Any, Any]

_F8 = np.dtype("f8")
_JOB = Job("p g mean square p_after mean_after square_after", n=1, b1=_F8, b2=_F8, scale=_F8, floor=_F8, shrink=_F8)


def moved(p: Array, g: Array, mean: Array, square: Array, numbers: dict[str, float]) -> tuple[Array, Array, Array]:
    """Return p, m and v after a step, for arrays of one shape and dtype; `numbers` are `optim.Coefficients` by name."""
    after = [np.empty(p.shape, p.dtype) for _ in range(3)]
    addresses = {"p": flat(p), "g": flat(g), "mean": flat(mean), "square": flat(square)}
    addresses |= dict(zip(("p_after", "mean_after", "square_after"), after, strict=True))
    _moved(workers(p.size, 4 * p.size), p.dtype, _JOB.fill(n=p.size, **numbers), **addresses)
    return after[0], after[1], after[2]


@kernel(_JOB)
def _moved(worker: int, workers: int, job: Any, like: Any) -> None:
    """Move one worker's share."""
    p, g, mean, square = pointer(job.p, like), pointer(job.g, like), pointer(job.mean, like), pointer(job.square, like)
    p_after, mean_after = pointer(job.p_after, like), pointer(job.mean_after, like)
    square_after = pointer(job.square_after, like)
    b1, b2, new1, new2 = number(like, job.b1), number(like, job.b2), number(like, 1 - job.b1), number(like, 1 - job.b2)
    scale, floor, shrink = number(like, job.scale), number(like, job.floor), number(like, job.shrink)
    for i in range(worker * job.n // workers, (worker + 1) * job.n // workers):
        m, v = b1 * mean[i] + new1 * g[i], b2 * square[i] + new2 * (g[i] * g[i])
        mean_after[i], square_after[i] = m, v
        p_after[i] = (p[i] - scale * (m / (np.sqrt(v) + floor))) - shrink * p[i]
