"""One step of Adam in a CUDA kernel: one launch per array, nothing read by the host.

The coefficients go by value, so a CUDA graph that captured a step would repeat that step's learning rate and bias corrections.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .. import _cuda
from .._array import Array

SOURCE = Path(__file__).with_suffix(".cu")


class Numbers(NamedTuple):
    """What the kernel is told: how many numbers, and `optim.Coefficients`."""

    n: int
    b1: float
    b2: float
    scale: float
    floor: float
    shrink: float


def moved(p: Array, g: Array, mean: Array, square: Array, numbers: dict[str, float]) -> tuple[Array, Array, Array]:
    """Return p, m and v after a step, for arrays of one shape and dtype; `numbers` are `optim.Coefficients` by name."""
    with _cuda.on(p):
        after = tuple(_cuda.empty(p.shape, p.dtype, what=f"{name} after a step of Adam") for name in ("p", "m", "v"))
        given = (_cuda.contiguous(a) for a in (p, g, mean, square))
        grid, block = _cuda.spread(p.size)
        # As doubles, whatever the schedule computed them in: the struct is laid out by what it is given.
        told = Numbers(p.size, **{name: float(value) for name, value in numbers.items()})
        args = (*given, *after, told)
        _cuda.launch(program=_program(p.dtype), device=_cuda.device(p), grid=grid, block=block, args=args)
    return after[0], after[1], after[2]


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in _cuda.DTYPES:
        yield _program(dtype), "sm_80"


def _program(dtype: object) -> _cuda.Program:
    return _cuda.Program(SOURCE, "adam_moved", _cuda.types(dtype))
