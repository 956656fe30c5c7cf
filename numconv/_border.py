"""What lies beyond the borders of an array: which of its samples each padded position repeats."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

PaddingMode: TypeAlias = str | Sequence[str]

MODES = ("zeros", "reflect", "symmetric", "replicate", "circular")


def modes(padding_mode: PaddingMode, rank: int, name: str = "padding_mode") -> tuple[str, ...]:
    """Return one word per spatial axis from a word or a sequence of `rank` words; `name` is what errors call it."""
    if not isinstance(padding_mode, (str, tuple, list)):
        raise TypeError(f"{name}={padding_mode!r} of type {type(padding_mode).__name__}; needed a word, or one per axis")
    words = (padding_mode,) * rank if isinstance(padding_mode, str) else tuple(padding_mode)
    if len(words) != rank or any(word not in MODES for word in words):
        raise ValueError(
            f"{name}={padding_mode!r}; needed one of {', '.join(map(repr, MODES))}, or {rank} of them (one per axis)"
        )
    return words


@lru_cache(256)
def sources(mode: str, size: int, lo: int, hi: int) -> np.ndarray[Any, Any]:
    """Return, for each of lo + size + hi padded positions, the index of the sample that it repeats; -1 where it is zero.

    ===========  =======================================
    zeros        0 0 0 | a b c d | 0 0 0
    reflect      d c b | a b c d | c b a      period 2 size - 2
    symmetric    c b a | a b c d | d c b      period 2 size
    replicate    a a a | a b c d | d d d
    circular     b c d | a b c d | a b c      period size
    ===========  =======================================
    """
    q = repeated(mode, size, np.arange(-lo, size + hi))
    q.setflags(write=False)
    return q


def repeated(mode: str, size: int, q: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the index of the sample that each of the positions q repeats, counted from the first sample; -1 where it is zero."""
    if mode == "zeros":
        q = np.where((q >= 0) & (q < size), q, -1)
    elif mode == "replicate":
        q = np.clip(q, 0, size - 1)
    elif mode == "circular":
        q = q % size
    elif mode == "symmetric":
        q = q % (2 * size)
        q = np.minimum(q, 2 * size - 1 - q)
    else:
        q = q % max(2 * size - 2, 1)
        q = np.minimum(q, 2 * size - 2 - q)
    return q
