"""Embeddings on the unit sphere, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from .._array import Array


def normalised(xp: ModuleType, z: Array) -> tuple[Array, Callable[[Any], Array]]:
    """Return the rows of `z` over their L2 norms, and the pullback of that.

    Rows are scaled by their largest entry first, so that no square leaves the range of the dtype. A row of zeros has no
    direction: it stays zero, and its gradient is zero.
    """
    largest = xp.max(xp.abs(z), axis=1, keepdims=True)
    scale = xp.where(largest > 0, largest, xp.ones_like(largest))
    z = z / scale
    norm = xp.sqrt(xp.sum(z * z, axis=1, keepdims=True))
    norm = xp.where(largest > 0, norm, xp.ones_like(norm))
    unit = z / norm

    def pull(d_unit: Array) -> Array:
        across = d_unit - unit * xp.sum(unit * d_unit, axis=1, keepdims=True)
        return xp.where(largest > 0, across / norm / scale, xp.zeros_like(across))

    return unit, pull
