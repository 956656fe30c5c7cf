"""What goes into a loss: arrays of one library and shape, halves widened to float32, labels and numbers in range."""

from __future__ import annotations

import math
from numbers import Real
from types import ModuleType
from typing import Any

from .. import _array
from .._array import Array


def widened(**arrays: Array) -> tuple[Any, ...]:
    """Return `(xp, dtype, *arrays)`: real arrays of one common dtype, those of half precision as float32, and that dtype.

    Sums of exponentials and squares leave the range of float16 long before the loss does, so halves are only a way to store.
    """
    xp, *common = _array.reals(**arrays)
    dtype = common[0].dtype
    if _array.narrow(dtype):
        common = [xp.astype(a, xp.float32) for a in common]
    return xp, dtype, *common


def same_shape(**arrays: Array) -> tuple[int, ...]:
    """Return the shape all arrays share. Broadcasting is refused: (n,) against (n, 1) would silently be n * n differences."""
    first, *rest = arrays.items()
    for name, a in rest:
        if tuple(a.shape) != tuple(first[1].shape):
            raise ValueError(f"{name} has shape {tuple(a.shape)}; needed that of {first[0]}, {tuple(first[1].shape)}")
    return tuple(first[1].shape)


def embeddings(least: int, **arrays: Array) -> tuple[int, ...]:
    """Return the shape (n, dim) that all embeddings share, with at least `least` rows."""
    for name, a in arrays.items():
        if a.ndim != 2 or a.shape[1] < 1:
            raise ValueError(f"{name} has shape {tuple(a.shape)}; needed 2 axes, (n, dim), with dim at least 1")
    shape = same_shape(**arrays)
    if shape[0] < least:
        why = ": one row has no negatives to be told from" if least > 1 else ""
        raise ValueError(f"{next(iter(arrays))} holds a batch of {shape[0]}; needed at least {least}{why}")
    return shape


def number(name: str, value: Any, least: float, most: float = math.inf, *, open_at_least: bool = False) -> float:
    """Return a finite number from `least` to `most` (above `least`, if open there), or refuse it."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; needed a number")
    x = float(value)
    if not (math.isfinite(x) and (least < x if open_at_least else least <= x) and x <= most):
        bound = f"above {least:g}" if open_at_least else f"at least {least:g}" if least > -math.inf else ""
        needed = ", ".join(["a finite number", *filter(None, [bound, f"at most {most:g}" if most < math.inf else ""])])
        raise ValueError(f"{name}={value!r}; needed {needed}")
    return x


def labels_of(xp: ModuleType, shape: tuple[int, ...], classes: int | None = None, why: str = "", **named: Array) -> Array:
    """Return the one array in `named` as int64: integers of `shape`, each below `classes` (or any, where that is None)."""
    ((name, labels),) = named.items()
    labels = xp.asarray(labels)
    _array.integers(xp, **{name: labels})
    if tuple(labels.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(labels.shape)}; needed {shape}{why}")
    labels = xp.astype(labels, xp.int64, copy=False)
    if classes is not None and 0 not in shape:
        low, high = int(xp.min(labels)), int(xp.max(labels))
        if low < 0 or high >= classes:
            raise ValueError(f"{name} holds integers from {low} to {high}; needed 0 to {classes - 1}{why}")
    return labels
