"""Arguments of padding: the only file that resolves them, or refuses them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

from .._border import PaddingMode, modes
from .._window import Pads, per_axis

Widths: TypeAlias = int | Sequence[int | tuple[int, int]]
Shape = tuple[int, ...]


@lru_cache(1024)
def pad(x_shape: Shape, padding: Widths, mode: PaddingMode) -> tuple[Pads, tuple[str, ...]]:
    """Return (lo, hi) and a word of `_border` for each of the trailing axes that `padding` speaks of."""
    rank = len(padding) if isinstance(padding, tuple) else len(x_shape) - 2
    if not 1 <= rank <= len(x_shape):
        needed = (
            "one entry for each of the last axes" if isinstance(padding, tuple) else "3 axes or more: (batch, channels, *size)"
        )
        raise ValueError(f"x has shape {x_shape}; with padding={padding!r}, needed {needed}")
    entries = padding if isinstance(padding, tuple) else (padding,) * rank
    pairs = tuple(entry if isinstance(entry, tuple) else (entry, entry) for entry in entries)
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"padding={padding!r}; needed an int, or one int or (lo, hi) pair per axis")
    widths = tuple(per_axis("padding", pair, 2, least=-sys.maxsize) for pair in pairs)
    size = x_shape[len(x_shape) - rank :]
    out = tuple(n + lo + hi for n, (lo, hi) in zip(size, widths, strict=True))
    if min(size) < 1 or min(out) < 1:
        raise ValueError(f"padding={padding!r} makes size {out} of {size}; needed at least one sample on every padded axis")
    return tuple((lo, hi) for lo, hi in widths), modes(mode, rank, "mode")
