"""What a method alone would do."""

from __future__ import annotations

from types import ModuleType

from numconv.conv.cuda.measured import Table
from numconv.conv.cuda.plan import ways
from numconv.conv.cuda.problem import Plan, Problem


def best(method: ModuleType, problem: Problem) -> Plan | None:
    """Return the plan of a method that is predicted to be fastest; None if the method cannot."""
    return next((found for _, found in ways(problem, (method,), Table())), None)
