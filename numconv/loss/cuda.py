"""Cross entropy of a softmax as two CUDA kernels; products of matrices are CuPy's, which asks cuBLAS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from .. import _cuda, _rows_cuda
from .._array import Array

SOURCE = Path(__file__).with_suffix(".cu")


def cross_entropy(xp: ModuleType, logits: Array, labels: Array, smoothing: float) -> tuple[Array, Callable[[Array], Array]]:
    """Return log sum exp(x) - sum of q x over axis 1, q being 1 - s at the label plus s / classes; and the pullback to x.

    The pullback takes a cotangent of the terms' shape, or a scalar for all.
    """
    r = _rows_cuda.rows(tuple(logits.shape), 1, float(smoothing))
    with _cuda.on(logits):
        x, kept = _cuda.contiguous(logits), _cuda.contiguous(labels.copy())  # checked once: the caller's own may change
        what = ("the terms of a cross entropy", "the largest logits", "the sums of exponentials")
        terms, most, total = (_cuda.empty(tuple(labels.shape), x.dtype, what=each) for each in what)
        _rows_cuda.launch(SOURCE, "cross_entropy", r, x, (x, kept, terms, most, total))

    def pull(share: Array) -> Array:
        with _cuda.on(x):
            dx = _cuda.empty(tuple(x.shape), x.dtype, what="the gradient of a cross entropy")
            share = _cuda.contiguous(share if share.dtype == x.dtype else share.astype(x.dtype))
            shares = (share, None) if share.ndim else (None, share)
            _rows_cuda.launch(SOURCE, "cross_entropy_slope", r, x, (x, kept, most, total, *shares, dx))
        return dx

    return terms, pull


def matmul(xp: ModuleType, a: Array, b: Array) -> Array:
    """Return the product of two matrices."""
    return xp.matmul(a, b)


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    yield from _rows_cuda.programs(SOURCE, ("cross_entropy", "cross_entropy_slope"), ("float32", "float64"))
