"""Means of whole planes of CuPy arrays: one launch, a block for each plane; fewer planes than multiprocessors leave some idle.

Bound by bytes, it is predicted: x is read once, in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from ... import _cuda
from ..._array import Array

SOURCE = Path(__file__).with_suffix(".cu")


class Planes(NamedTuple):
    """What the kernel reads."""

    planes: int
    volume: int


def means(x: Array) -> Array:
    """Return the mean over all axes but the first two."""
    shape = tuple(x.shape)
    g = Planes(prod(shape[:2]), prod(shape[2:]))
    with _cuda.on(x):
        y = _cuda.empty(shape[:2], x.dtype, what="means of planes")
        args = (_cuda.contiguous(x), y, g)
        program, device = _program(x.dtype), _cuda.device(x)
        _cuda.launch(program=program, device=device, grid=(min(g.planes, _cuda.MOST_BLOCKS),), block=(threads(g),), args=args)
    return y


def threads(g: Planes) -> int:
    """Return the threads of a block: whole warps, and no more than a plane has samples for."""
    return min(-(-g.volume // 32) * 32, _cuda.BLOCK)


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in _cuda.DTYPES:
        yield _program(dtype), "sm_80"


def _program(dtype: Any) -> _cuda.Program:
    return _cuda.Program(SOURCE, "plane_means", _cuda.types(dtype))
