"""How arrays lie in memory on their way to the kernels, and the one kernel that makes them lie otherwise.

Arrays arrive in their logical order (batch, channels, *positions) with any strides. Kernels that want channels last get
(batch, positions, channels), C-contiguous: the memory itself where it lies so, else a turned copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import NamedTuple

from ... import _cuda
from ..._array import Array

SOURCE = Path(__file__).with_suffix(".cu")
_TILE = 32


class Turn(NamedTuple):
    """The fields of Turn in layout.cu."""

    batch: int
    rows: int
    columns: int
    pitch: int


def is_last(a: Array) -> bool:
    """Say whether channels lie last in the memory of an array (batch, channels, *positions), and not first as well."""
    return not a.flags.c_contiguous and bool(_inward(a).flags.c_contiguous)


def alignment(a: Array) -> int:
    """Return to how many bytes the first element is aligned: a power of two, at most 16."""
    at = _cuda.address(a)
    return min(at & -at, 16) if at else 16


def channels_last(a: Array, *, pitch: int | None = None) -> Array:
    """Return (batch, *positions, channels), C-contiguous: the memory of `a` where it lies so, else a copy.

    A copy has zeros for the channels up to `pitch`.
    """
    if is_last(a) and pitch in (None, a.shape[1]):
        return _cuda.contiguous(_inward(a))
    batch, channels, *size = a.shape
    pitch = channels if pitch is None else pitch
    return turned(a, (batch, channels, prod(size)), pitch, "an input with its channels last").reshape(batch, *size, pitch)


def logical(a: Array) -> Array:
    """Return (batch, channels, *positions) for (batch, *positions, channels), without a copy."""
    return a.transpose(0, a.ndim - 1, *range(1, a.ndim - 1))


def turned(a: Array, shape: tuple[int, int, int], pitch: int, what: str) -> Array:
    """Return each of `shape[0]` matrices of `shape[1:]` turned, to be read only, with zeros behind its rows up to `pitch`."""
    batch, rows, columns = shape
    if lies_turned(rows, columns, pitch):
        as_it_is = _cuda.contiguous(a)
        if alignment(as_it_is) == 16:
            return as_it_is.reshape(batch, columns, pitch)
    to = _cuda.empty((batch, columns, pitch), a.dtype, what=what)
    grid, block = _cuda.spread(batch * -(-pitch // _TILE) * -(-columns // _TILE) * _cuda.BLOCK)
    program = _cuda.Program(SOURCE, "turn", _cuda.types(a.dtype))
    args = (_cuda.contiguous(a), to, Turn(batch, rows, columns, pitch))
    _cuda.launch(program=program, device=_cuda.device(a), grid=grid, block=block, args=args)
    return to


def lies_turned(rows: int, columns: int, pitch: int) -> bool:
    """Say whether matrices are in memory what they are when turned, as the weights of a single tap."""
    return pitch == rows and 1 in (rows, columns)


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in _cuda.DTYPES:
        yield _cuda.Program(SOURCE, "turn", _cuda.types(dtype)), "sm_80"


def _inward(a: Array) -> Array:
    return a.transpose(0, *range(2, a.ndim), 1)
