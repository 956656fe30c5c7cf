"""Shapes and weights of resizing: the only file that computes a shape, or refuses one.

With half-pixel centres, the output sample p of `out` lies at (p + 1/2) * size / out - 1/2 in samples of the input. Positions are
kept as fractions of integers, so that which samples are neighbours never depends on rounding.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .._separable import AxisMap, Matrix, axis_map
from .._window import Ints, per_axis, spatial

Shape = tuple[int, ...]

MODES = ("nearest", "linear", "cubic")
_A = -0.75  # slope of the cubic at distance 1, as in PyTorch and OpenCV; Keys's own choice is -0.5


def resize(x_shape: Shape, size: Ints, mode: str) -> tuple[AxisMap | None, ...]:
    """One map per spatial axis, or None where the size stays: there every mode is the identity."""
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}; needed {', '.join(map(repr, MODES))}")
    rank = spatial("size", size, x_shape)
    out = per_axis("size", size, rank)
    return tuple(None if n == o else _along(n, o, mode) for n, o in zip(x_shape[-rank:], out, strict=True))


@lru_cache(256)
def _along(size: int, out: int, mode: str) -> AxisMap:
    p = np.arange(out)
    if mode == "nearest":
        return axis_map(size, ((2 * p + 1) * size // (2 * out))[None], np.ones((1, out)))
    above, whole = (2 * p + 1) * size - out, 2 * out  # the position is above / whole
    first = above // whole
    t = (above - first * whole) / whole
    offsets, weights = (np.arange(2), _linear(t)) if mode == "linear" else (np.arange(-1, 3), _cubic(t))
    return axis_map(size, np.clip(first + offsets[:, None], 0, size - 1), weights)  # past the ends, the last sample goes on


def _linear(t: Matrix) -> Matrix:
    return np.stack([1 - t, t])


def _cubic(t: Matrix) -> Matrix:
    """Weights of the samples at -1, 0, 1 and 2 for positions t between 0 and 1."""

    def inner(d: Matrix) -> Matrix:
        return ((_A + 2) * d - (_A + 3)) * d * d + 1

    def outer(d: Matrix) -> Matrix:
        return ((_A * d - 5 * _A) * d + 8 * _A) * d - 4 * _A

    return np.stack([outer(1 + t), inner(t), inner(1 - t), outer(2 - t)])
