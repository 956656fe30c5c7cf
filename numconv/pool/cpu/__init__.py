"""Pooling in Numba, float32 and float64: the same bits for any number of threads, and for maxima those of `generic`."""

from __future__ import annotations

from .borders import max_with_indices, max_with_narrow_indices, max_y, mean_x, mean_y
from .winners import gather, scatter

__all__ = ["gather", "max_with_indices", "max_with_narrow_indices", "max_y", "mean_x", "mean_y", "scatter"]
