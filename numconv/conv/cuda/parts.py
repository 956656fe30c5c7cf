"""The second stage of sums that were split: their parts added in order, with bias and rectifier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ... import _cuda
from ..._array import Array

SOURCE = Path(__file__).with_suffix(".cu")


class Parts(NamedTuple):
    """The fields of Parts in parts.cu."""

    splits: int
    elements: int
    channels: int
    step: int
    rectify: int


def add(parts: Array, b: Array | None, answer: Array, channels: int, step: int, rectify: bool) -> None:
    """Write the sum of `parts`, of shape (splits, elements of the answer), to `answer`, whose channels lie `step` apart."""
    grid, block = _cuda.spread(answer.size)
    program = _cuda.Program(SOURCE, "add_parts", _cuda.types(answer.dtype))
    args = (parts, b, answer, Parts(parts.shape[0], answer.size, channels, step, int(rectify)))
    _cuda.launch(program=program, device=_cuda.device(answer), grid=grid, block=block, args=args)


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in _cuda.DTYPES:
        yield _cuda.Program(SOURCE, "add_parts", _cuda.types(dtype)), "sm_80"
