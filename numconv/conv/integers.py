"""Convolution of integers, exact: on floating-point kernels where no sum can be too large for them, else by its definition."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .._array import Array
from . import generic
from .contractions import Contractions, Step
from .finish import finished
from .geometry import ConvGeometry

_EXACT = ((np.dtype(np.float32), 1 << 24), (np.dtype(np.float64), 1 << 53))  # all integers up to there are floats


class Integers:
    """The three contractions of NumPy arrays of integers; sums wrap around as NumPy's do."""

    def __init__(self, direct: Contractions) -> None:
        self._direct = direct

    def contract_y(self, x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i,q], plus b[o]."""
        return finished(self._exact("contract_y", x, w, g, g.c_in * prod(g.w_size)), b, rectify)

    def contract_x(self, y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """x[n,i,q] = sum over o,p,k of w[o,i,k] * y[n,o,p], plus b[i]."""
        return finished(self._exact("contract_x", y, w, g, g.c_out * prod(g.w_size)), b, rectify)

    def contract_w(self, x: Array, y: Array, g: ConvGeometry) -> Array:
        """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i,q]."""
        return self._exact("contract_w", x, y, g, g.batch * prod(g.y_size))

    def explain(self, contraction: Any, g: ConvGeometry, dtype: Any) -> Step:
        """Say what a call would do where float64 holds all sums; it also takes float32, and the definition, by the numbers."""
        step: Step = self._direct.explain(contraction, g, np.dtype(np.float64))  # type: ignore[attr-defined]
        return step._replace(error=0.0)

    def _exact(self, name: str, a: Array, b: Array, g: ConvGeometry, terms: int) -> Array:
        largest = terms * _largest(a) * _largest(b)
        for dtype, limit in _EXACT:
            if largest <= limit:
                contract: Callable[..., Array] = getattr(self._direct, name)
                exact = contract(a.astype(dtype), b.astype(dtype), g)
                return exact.astype(np.int64).astype(a.dtype)  # by way of int64, which wraps around
        by_definition: Callable[..., Array] = getattr(generic, name)
        return by_definition(a, b, g)


def _largest(a: Array) -> int:
    return max(int(a.max()), -int(a.min())) if a.size else 0
