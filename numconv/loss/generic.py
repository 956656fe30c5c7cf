"""Cross entropy of a softmax and matrix products in plain array API: the definition, and what runs where there are no kernels."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from array_api_compat import device

from .._array import Array


def cross_entropy(xp: ModuleType, logits: Array, labels: Array, smoothing: float) -> tuple[Array, Callable[[Array], Array]]:
    """Return log sum exp(x) - sum of q x over axis 1, q being 1 - s at the label plus s / classes; and the pullback to x.

    The pullback takes a cotangent of the terms' shape, or a scalar for all.
    """
    _, classes, *rest = logits.shape
    shifted = logits - xp.max(logits, axis=1, keepdims=True)
    e = xp.exp(shifted)
    total = xp.sum(e, axis=1, keepdims=True)
    column = xp.expand_dims(labels, axis=1)
    wanted = xp.take_along_axis(shifted, column, axis=1)
    if smoothing:  # else a class ruled out by a logit of -inf would count, as 0 * inf
        wanted = (1 - smoothing) * wanted + smoothing * xp.mean(shifted, axis=1, keepdims=True)

    def pull(share: Array) -> Array:
        each = xp.arange(classes, dtype=labels.dtype, device=device(labels))
        hot = xp.astype(column == xp.reshape(each, (1, classes, *(1 for _ in rest))), e.dtype)
        q = (1 - smoothing) * hot + smoothing / classes if smoothing else hot
        return (e / total - q) * (xp.expand_dims(share, axis=1) if share.ndim else share)

    return xp.squeeze(xp.log(total) - wanted, axis=1), pull


def matmul(xp: ModuleType, a: Array, b: Array) -> Array:
    """Return the product of two matrices."""
    return xp.matmul(a, b)
