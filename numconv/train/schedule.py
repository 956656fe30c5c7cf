"""Learning rates as pure functions of the step: nothing to restore when a run resumes. Steps count from 0."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

Schedule: TypeAlias = Callable[[int], float]
Rate: TypeAlias = float | Schedule


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

    def at(step: int) -> float:
        if step < warmup:
            return rate * (step + 1) / (warmup + 1)
        t = min((step - warmup) / max(steps - 1 - warmup, 1), 1.0)
        return final + 0.5 * (rate - final) * (1 + math.cos(math.pi * t))

    return at


def rate_at(rate: Rate, step: int) -> float:
    """Return the rate at a step, from a number or a schedule."""
    return float(rate(step)) if callable(rate) else float(rate)


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:  # NaN is refused too
        raise ValueError(f"{name}={value}; needed at least {least}")
