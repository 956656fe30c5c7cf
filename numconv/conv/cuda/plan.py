"""Which method computes a contraction on a GPU: a pure function of what is known before anything is launched."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

from . import gemm, gradient, grouped, plain
from .problem import Plan, Problem

# Each has plan(problem) -> Plan or None, run(problem, plan, given, b, rectify) -> the answer, and programs().
METHODS: tuple[ModuleType, ...] = (gemm, gradient, grouped, plain)


@lru_cache(4096)
def plan(problem: Problem, methods: tuple[ModuleType, ...] = METHODS) -> tuple[ModuleType, Plan]:
    """Return the method that is predicted to be fastest, of those that can, and its plan; of equals the first."""
    able = [(method, found) for method in methods if (found := method.plan(problem)) is not None]
    return min(able, key=lambda each: each[1].seconds)
