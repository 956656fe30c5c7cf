"""The one rule for 16-bit floats: compute in float32, round once."""

from __future__ import annotations

from types import ModuleType

from .._array import Array, library, narrow


def widened(xp: ModuleType, x: Array) -> Array:
    """Return float16 and bfloat16 as float32: the constants of erf, squares and sums would overflow or drown in rounding.

    Kernels of a GPU do so themselves, number by number.
    """
    return xp.astype(x, xp.float32) if narrow(x.dtype) and library(xp) != "cupy" else x
