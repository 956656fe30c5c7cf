"""How kernels that look along an axis are launched: which team of threads takes a row."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from . import _cuda
from ._array import Array

TEAMS = (1, 32, _cuda.BLOCK)
LONG = 2048  # numbers in a row from which a whole block takes it


class Rows(NamedTuple):
    """The fields of Rows in `_rows.cuh`."""

    outer: int
    n: int
    inner: int
    smoothing: float = 0.0

    @property
    def team(self) -> int:
        """Threads that take a row together."""
        return 1 if self.inner > 1 else 32 if self.n < LONG else _cuda.BLOCK


def rows(shape: tuple[int, ...], axis: int, smoothing: float = 0.0) -> Rows:
    """Return the rows along an axis."""
    axis %= len(shape)
    return Rows(prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]), smoothing)


def program(source: Path, name: str, dtype: Any, team: int) -> _cuda.Program:
    """Return an instantiation of a kernel of rows."""
    return _cuda.Program(source, name, (*_cuda.types(dtype), ("TEAM", team)))


def launch(source: Path, name: str, r: Rows, like: Array, args: tuple[Any, ...]) -> None:
    """Run a kernel of rows whose parameters are `args` and the rows."""
    grid, block = _cuda.spread(r.outer * r.inner * r.team)
    device = _cuda.device(like)
    _cuda.launch(program=program(source, name, like.dtype, r.team), device=device, grid=grid, block=block, args=(*args, r))


def programs(source: Path, names: tuple[str, ...], dtypes: tuple[str, ...]) -> Iterator[tuple[_cuda.Program, str]]:
    """Yield the instantiations of kernels of rows, and the least architecture each is for."""
    for dtype in dtypes:
        for team in TEAMS:
            for name in names:
                yield program(source, name, dtype, team), "sm_80"
