"""Learning rates as pure functions of the step: nothing to restore when a run resumes. Steps count from 0.

A step is a number, or an array of integers without axes, such as one on a GPU: the rate is then one of float64 beside it, and
nothing is read. Both are computed by the same operations, whose last bits are those of the library that does them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeAlias

import array_api_compat
import numpy as np

from .. import _array
from .._array import Array

Schedule: TypeAlias = Callable[[int | Array], float | Array]
Rate: TypeAlias = float | Array | Schedule


def constant(rate: float) -> Schedule:
    """Return the same rate at every step.

    Examples
    --------
    >>> from numconv.train import constant
    >>> constant(1e-3)(10_000)
    0.001
    """
    _at_least("rate", rate, 0)
    return lambda step: rate


def step_decay(rate: float, every: int, factor: float = 0.1) -> Schedule:
    """Multiply the rate by `factor` after each `every` steps: ``rate * factor ** (step // every)``.

    Examples
    --------
    >>> from numconv.train import step_decay
    >>> schedule = step_decay(1.0, every=100, factor=0.5)
    >>> [schedule(step) for step in (0, 99, 100, 250)]
    [1.0, 1.0, 0.5, 0.25]
    """
    _at_least("rate", rate, 0)
    _at_least("every", every, 1)
    _at_least("factor", factor, 0)
    return lambda step: rate * factor ** (step // every)


def cosine(rate: float, steps: int, *, final: float = 0.0) -> Schedule:
    r"""Fall from `rate` at step 0 to `final` at step `steps - 1`, the last one, along half a cosine; stay there beyond.

    .. math:: \text{final} + \tfrac12 (\text{rate} - \text{final}) (1 + \cos \pi t), \quad t = \text{step} / (\text{steps} - 1)

    References
    ----------
    Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, arXiv:1608.03983, eq. 5, without restarts.

    Examples
    --------
    >>> from numconv.train import cosine
    >>> schedule = cosine(1.0, steps=5)
    >>> [round(schedule(step), 4) for step in (0, 1, 2, 4, 100)]
    [1.0, 0.8536, 0.5, 0.0, 0.0]
    """
    return warmup_cosine(rate, steps, warmup=0, final=final)


def warmup_cosine(rate: float, steps: int, *, warmup: int, final: float = 0.0) -> Schedule:
    """Climb in a line through `warmup` steps to `rate`, then fall to `final` along half a cosine; stay there beyond `steps`.

    Step 0 already moves, with ``rate / (warmup + 1)``; step `warmup` is the first at `rate`, `steps - 1` the first at `final`.

    References
    ----------
    Goyal et al., Accurate, large minibatch SGD, arXiv:1706.02677, section 2.2, for the warm-up; `cosine` for the rest.

    Examples
    --------
    >>> from numconv.train import warmup_cosine
    >>> schedule = warmup_cosine(1.0, steps=8, warmup=3)
    >>> [round(schedule(step), 4) for step in range(9)]
    [0.25, 0.5, 0.75, 1.0, 0.8536, 0.5, 0.1464, 0.0, 0.0]
    """
    _at_least("rate", rate, 0)
    _at_least("final", final, 0)
    _at_least("warmup", warmup, 0)
    _at_least("steps", steps, 1)
    if warmup >= steps:
        raise ValueError(f"warmup={warmup} of steps={steps}; needed fewer steps of warm-up than steps in all")

    def at(step: int | Array) -> float | Array:
        xp = _namespace(step)
        climbing = rate * (step + 1) / (warmup + 1)
        t = (step - warmup) / max(steps - 1 - warmup, 1)
        falling = final + 0.5 * (rate - final) * (1 + xp.cos(math.pi * xp.where(t < 1, t, 1.0)))
        return xp.where(step < warmup, climbing, falling)

    return at


def rate_at(rate: Rate, step: int | Array) -> float | Array:
    """Return the rate at a step, from a number or a schedule: a number, or CuPy's array of float64 without axes.

    Raises
    ------
    TypeError
        If it is something else.
    """
    found: Any = rate(step) if callable(rate) else rate
    if not array_api_compat.is_cupy_array(found):
        try:
            return float(found)
        except (TypeError, ValueError) as error:
            raise TypeError(f"the learning rate is {_named(found)}; needed a number, or an array of CuPy without axes") from error
    xp = _array.namespace(rate=found)
    if found.ndim or not _array.is_of(xp, found.dtype, ("real floating", "integral")):
        raise TypeError(f"the learning rate is {_named(found)}; needed a number, or an array of CuPy without axes")
    return xp.astype(found, xp.float64, copy=False)


_PLAIN = SimpleNamespace(cos=math.cos, where=lambda condition, a, b: a if condition else b)


def _namespace(step: int | Array) -> Any:
    """Return the functions that a schedule needs: Python's for a number of the host, or those of an array's library."""
    return _PLAIN if isinstance(step, (int, float, np.generic)) else _array.namespace(step=step)


def _named(found: Any) -> str:
    shape = getattr(found, "shape", None)
    return type(found).__name__ if shape is None else f"{found.dtype} of shape {tuple(shape)}"


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:  # NaN is refused too
        raise ValueError(f"{name}={value}; needed at least {least}")
