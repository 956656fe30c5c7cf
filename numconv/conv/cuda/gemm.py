"""Dense contract_y and contract_x as one product of matrices, gathered as it goes."""

from __future__ import annotations

from collections.abc import Iterator

from ... import _cuda
from ..._array import Array
from .problem import Plan, Problem


def plan(problem: Problem) -> Plan | None:
    """Say how."""
    return None


def run(problem: Problem, found: Plan, given: tuple[Array, Array], b: Array | None, rectify: bool) -> Array:
    """Compute a contraction."""
    raise NotImplementedError


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    yield from ()
