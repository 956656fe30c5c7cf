"""Which method computes a contraction on a GPU: a pure function of what is known before anything is launched."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import TypeAlias

from . import gemm, gradient, grouped, measured, plain
from .measured import Table
from .problem import Plan, Problem

# Each has plans(problem), which yields what it can do, run(problem, plan, given, b, rectify) -> the answer, and programs().
METHODS: tuple[ModuleType, ...] = (gemm, gradient, grouped, plain)

Way: TypeAlias = tuple[ModuleType, Plan]


@lru_cache(4096)
def plan(problem: Problem, methods: tuple[ModuleType, ...] = METHODS) -> Way:
    """Return the method and its plan that are expected to be fastest, by what was measured on this model of GPU, or predicted."""
    return ways(problem, methods, measured.of(problem.device.name))[0]


def ways(problem: Problem, methods: tuple[ModuleType, ...], table: Table) -> list[Way]:
    """Return every way to compute a contraction, the one expected to be fastest first; of equals the first method's."""
    found = [(method, each) for method in methods for each in method.plans(problem)]
    chosen = table.choices.get(measured.key(problem))
    return sorted(found, key=lambda way: (way[1].name != chosen, measured.expected(problem, way[1], table)))
