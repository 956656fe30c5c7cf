"""Autotuning, for those who ask for it: the most promising plans of a problem are timed once, and the fastest is remembered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from statistics import median
from types import ModuleType

from ... import _cuda
from ..._array import Array
from . import measured
from .plan import Way, plan, ways
from .problem import Problem

MOST = 6  # plans that are timed, of those expected to be fastest
HOPELESS = 8.0  # times the expected seconds of the best: not worth a try
ROUNDS = 5  # in each of which every plan is timed once: what disturbs one, disturbs all
LEAST = 1e-3  # seconds of a timing, as far as calls can be repeated
CALLS = 50

_asked: ContextVar[bool] = ContextVar("numconv_autotune", default=False)


@contextmanager
def autotune() -> Iterator[None]:
    """Time the ways to compute each new convolution on a GPU inside a `with` block, and remember the fastest.

    A shape, dtype and precision that is met for the first time is computed in up to six ways, up to 256 times each, and the call
    waits for the GPU. The fastest way is kept for this model of GPU in a file under ``~/.cache/numconv`` (NUMCONV_CACHE_DIR
    to change) and taken from then on, inside and outside of such blocks, in this process and later ones. Arrays that are not on a
    GPU are computed as ever.

    All ways are equally exact, within the rounding that `explain` states, and each gives the same bits on every run; but another
    way may round otherwise, so results may change in their last bits where a choice changes.

    Raises
    ------
    RuntimeError
        By a call inside, if it is being captured for a CUDA graph, where nothing can be timed.

    Examples
    --------
    >>> import numpy as np
    >>> import numconv
    >>> with numconv.autotune():  # no GPU here, so nothing to choose
    ...     numconv.conv1d(np.ones((1, 1, 4)), np.ones((1, 1, 3)))
    array([[[3., 3.]]])
    """
    token = _asked.set(True)
    try:
        yield
    finally:
        _asked.reset(token)


def is_asked() -> bool:
    """Say whether plans are to be timed."""
    return _asked.get()


def tune(problem: Problem, methods: tuple[ModuleType, ...], given: tuple[Array, Array]) -> None:
    """Time the plans of a problem that has no choice yet, and keep the fastest."""
    gpu = problem.device.name
    table = measured.of(gpu)
    if measured.key(problem) in table.choices:
        return
    able = promising(problem, methods, table)
    if len(able) > 1 and (times := timed(problem, able, given)):
        measured.keep(gpu, problem, min(times, key=lambda each: each[0])[1][1])
        plan.cache_clear()


def promising(problem: Problem, methods: tuple[ModuleType, ...], table: measured.Table) -> list[Way]:
    """Return the ways worth a try, the one expected to be fastest first."""
    able = ways(problem, methods, table)
    least = measured.expected(problem, able[0][1], table)
    return [way for way in able if measured.expected(problem, way[1], table) <= HOPELESS * least][:MOST]


def timed(problem: Problem, able: list[Way], given: tuple[Array, Array]) -> list[tuple[float, Way]]:
    """Return the median seconds of each way; those without memory for it are left out."""
    seconds: list[tuple[list[float], Way]] = []
    for way in able:
        try:
            _once(problem, way, given)  # compiles
            seconds.append(([], way))
        except MemoryError:
            continue
    for _ in range(ROUNDS):
        for times, way in seconds:
            call = partial(_once, problem, way, given)
            calls = max(1, min(CALLS, int(LEAST / max(_cuda.seconds(call, 1), 1e-9))))
            times.append(_cuda.seconds(call, calls))
    return [(median(times), way) for times, way in seconds]


def _once(problem: Problem, way: Way, given: tuple[Array, Array]) -> None:
    method, found = way
    method.run(problem, found, given, None, False)
