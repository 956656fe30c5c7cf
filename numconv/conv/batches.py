"""What convolution and transposed convolution share at the door: the batch axis that may be missing, and the bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .._array import Array
from .._pullback import Pullback


def with_batch(shape: tuple[int, ...], w_ndim: int) -> tuple[tuple[int, ...], bool]:
    """Return a shape with a batch axis, and whether it had one."""
    return ((1, *shape), False) if len(shape) == w_ndim - 1 else (shape, True)


def with_batch_axis(xp: Any, a: Array, w_ndim: int) -> tuple[Array, bool]:
    """Return `a` with a batch axis, and whether it had one."""
    return (xp.expand_dims(a, axis=0), False) if a.ndim == w_ndim - 1 else (a, True)


def unbatched(a: Array, batched: bool) -> Array:
    """Take the batch axis away again where there was none."""
    return a if batched else a[0, ...]


def check_bias(b: Array | None, channels: int) -> None:
    """Refuse a bias that is not one number per output channel."""
    if b is not None and tuple(b.shape) != (channels,):
        raise ValueError(f"b has shape {tuple(b.shape)}; needed ({channels},), one number per output channel")


def with_bias(xp: Any, y: Array, gradients: dict[str, Callable[[Any], Array]], b: Array | None, batched: bool) -> Pullback:
    """Return the pullback with the gradient of the bias, where there is one."""
    if b is not None:
        axes = tuple(axis for axis in range(y.ndim) if axis != batched)
        gradients["b"] = lambda dy: xp.sum(dy, axis=axes, dtype=dy.dtype)
    return Pullback(y, **gradients)
