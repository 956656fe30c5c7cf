"""Windows along axes: reading stride, dilation and padding arguments, and visiting the samples under each tap.

The sample under tap k of output position p is at `stride * p + dilation * k - pad_lo`. Convolution and pooling share this.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from itertools import product
from types import ModuleType
from typing import Any, TypeAlias

import array_api_compat

from ._array import Array

Ints: TypeAlias = int | Sequence[int]
Padding: TypeAlias = str | int | Sequence[int | tuple[int, int]]
Pads: TypeAlias = tuple[tuple[int, int], ...]

_WORDS = ("valid", "same", "same_lower", "full", "causal")


def frozen(value: Any) -> Any:
    """Return lists as tuples, at any depth, so that arguments can be the key of a cache."""
    return tuple(map(frozen, value)) if isinstance(value, (list, tuple)) else value


def per_axis(name: str, value: Ints, rank: int, least: int = 1) -> tuple[int, ...]:
    """Return one integer per spatial axis from an int or a sequence of `rank` ints, each at least `least`."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    ints = tuple(_index(name, v) for v in values)
    if len(ints) != rank or min(ints) < least:
        raise ValueError(f"{name}={value!r}; needed one int, or {rank} of them (one per axis), each at least {least}")
    return ints


def spatial(name: str, value: Ints, shape: tuple[int, ...]) -> int:
    """Return how many trailing axes of an array of `shape` are spatial, by an argument that speaks of each of them.

    A sequence says it by its length, and the array may be (batch, channels, *size) or (channels, *size). An int leaves it to the
    array, which must be (batch, channels, *size).
    """
    listed = isinstance(value, (tuple, list))
    rank = len(value) if isinstance(value, (tuple, list)) else len(shape) - 2
    if listed and rank not in (1, 2, 3):
        raise ValueError(f"{name}={value!r}; needed an int, or 1 to 3 of them (one per spatial axis)")
    if rank not in (1, 2, 3) or len(shape) not in (rank + 1, rank + 2):
        axes = (
            f"{rank + 2} axes (batch, channels, *size) or {rank + 1} without the batch"
            if listed
            else "3 to 5 axes: (batch, channels, *size)"
        )
        raise ValueError(f"x has shape {shape}; with {name}={value!r}, needed {axes}")
    if min(shape[len(shape) - rank :]) < 1:
        raise ValueError(f"x has shape {shape}; needed at least one sample on every axis")
    return rank


def pads(padding: Padding, size: Sequence[int], span: Sequence[int], stride: Sequence[int]) -> Pads:
    """Resolve a padding argument to `(lo, hi)` zeros per axis, for inputs of `size` under windows that span `span` samples."""
    rank = len(size)
    if isinstance(padding, str):
        return _worded(padding, size, span, stride)
    entries = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * rank
    if len(entries) != rank:
        raise ValueError(
            f"padding={padding!r} has {len(entries)} entries; needed an int or (lo, hi) pair for each of {rank} axes"
        )
    pairs = tuple(tuple(e) if isinstance(e, (tuple, list)) else (e, e) for e in entries)
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"padding={padding!r}; needed a word, an int, or one int or (lo, hi) pair per axis")
    resolved = tuple((_index("padding", lo), _index("padding", hi)) for lo, hi in pairs)
    if min(min(pair) for pair in resolved) < 0:
        raise ValueError(f"padding={padding!r}; needed numbers of zeros, none negative")
    return resolved


def _worded(word: str, size: Sequence[int], span: Sequence[int], stride: Sequence[int]) -> Pads:
    if word == "valid":
        return ((0, 0),) * len(size)
    if word == "full":
        return tuple((e - 1, e - 1) for e in span)
    if word == "causal" and len(size) == 1:
        return ((span[0] - 1, 0),)
    if word in ("same", "same_lower"):  # ceil(size / stride) outputs; an odd zero goes at the end, for same_lower at the start
        total = [max((-(-n // s) - 1) * s + e - n, 0) for n, e, s in zip(size, span, stride, strict=True)]
        return tuple((t // 2, t - t // 2) if word == "same" else (t - t // 2, t // 2) for t in total)
    words = ", ".join(map(repr, _WORDS if len(size) == 1 else _WORDS[:-1]))
    raise ValueError(f"padding={word!r} for {len(size)} axes; needed {words}, an int, or one int or (lo, hi) pair per axis")


def _index(name: str, value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name} holds {value!r}; needed an int")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} holds {value!r} of type {type(value).__name__}; needed an int") from None


def taps(size: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the position of every tap of a window."""
    return product(*map(range, size))


def extent(tap_count: Sequence[int], out_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Return how many padded samples all windows together reach over, per axis."""
    return tuple(d * (k - 1) + s * (o - 1) + 1 for k, o, s, d in zip(tap_count, out_size, stride, dilation, strict=True))


def under(tap: Sequence[int], out_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> tuple[Any, ...]:
    """Index of the padded samples under one tap, for every output position: a strided slice of the trailing axes."""
    starts = [d * k for d, k in zip(dilation, tap, strict=True)]
    return (..., *(slice(a, a + s * (o - 1) + 1, s) for a, o, s in zip(starts, out_size, stride, strict=True)))


def filled(xp: ModuleType, x: Array, lo: Sequence[int], to: Sequence[int], value: float = 0) -> Array:
    """Put `x` at offset `lo` into trailing axes of size `to` filled with `value`; what lies past the end is cut off."""
    first = x.ndim - len(to)
    for axis, (offset, size) in enumerate(zip(lo, to, strict=True), first):
        x = x[(slice(None),) * axis + (slice(0, min(x.shape[axis], max(0, size - offset))), ...)]
        parts = [_full(xp, x, axis, offset, value), x, _full(xp, x, axis, size - offset - x.shape[axis], value)]
        parts = [part for part in parts if part.shape[axis]] or parts[:1]
        x = parts[0] if len(parts) == 1 else xp.concat(parts, axis=axis)
    return x


def spread(
    xp: ModuleType, y: Array, tap: Sequence[int], to: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Array:
    """Put `y` where the samples under one tap lie, in trailing axes of size `to`, zeros between: the adjoint of taking them."""
    first = y.ndim - len(to)
    for axis, s in enumerate(stride, first):
        if s > 1:
            y = xp.expand_dims(y, axis=axis + 1)
            y = xp.concat([y, _full(xp, y, axis + 1, s - 1, 0)], axis=axis + 1)
            y = xp.reshape(y, (*y.shape[:axis], y.shape[axis] * s, *y.shape[axis + 2 :]))
    return filled(xp, y, [d * k for d, k in zip(dilation, tap, strict=True)], to)


def _full(xp: ModuleType, like: Array, axis: int, size: int, value: float) -> Array:
    shape = (*like.shape[:axis], max(size, 0), *like.shape[axis + 1 :])
    return xp.full(shape, value, dtype=like.dtype, device=array_api_compat.device(like))
