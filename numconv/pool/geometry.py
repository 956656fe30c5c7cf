"""Shapes of pooling: the only file that computes one, or refuses one.

Everything is kept with three spatial axes; 1-D and 2-D problems lead with axes of size 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from .._border import PaddingMode, modes, sources
from .._separable import AxisMap, axis_map
from .._window import Ints, Padding, pads, per_axis, spatial

Triple = tuple[int, int, int]
Shape = tuple[int, ...]


class PoolGeometry(NamedTuple):
    """The integers of windows over planes: tap k of the window at output position p lies at q = stride*p + dilation*k - pad_lo.

    A plane is one channel of one sample; `lead` are the axes that count them, (batch, channels) or (channels,). `modes` are words
    of `_border`: on axes of "zeros" the padding holds no samples, and every window has at least one tap inside the plane; on
    others it repeats samples, and every tap has one. An axis whose windows reach no padding is of "zeros".
    """

    rank: int
    lead: Shape
    x_size: Triple
    window: Triple
    y_size: Triple
    stride: Triple
    dilation: Triple
    pad_lo: Triple
    modes: tuple[str, str, str] = ("zeros",) * 3

    @property
    def planes(self) -> int:
        """Number of planes."""
        return prod(self.lead)

    @property
    def x_shape(self) -> Shape:
        """Shape of x: (batch, channels, *size)."""
        return (*self.lead, *self.x_size[3 - self.rank :])

    @property
    def y_shape(self) -> Shape:
        """Shape of y: (batch, channels, *size)."""
        return (*self.lead, *self.y_size[3 - self.rank :])

    @property
    def repeats(self) -> bool:
        """Whether any tap on the padding repeats a sample."""
        return self.modes != ("zeros",) * 3

    def reach(self, axis: int) -> int:
        """How many padded samples all windows together reach over, along one of the three axes."""
        return self.stride[axis] * (self.y_size[axis] - 1) + self.dilation[axis] * (self.window[axis] - 1) + 1

    def inside(self, axis: int) -> tuple[tuple[int, int], ...]:
        """First and number of the taps that have a sample, at each output position along one of the three axes."""
        if self.modes[axis] != "zeros":
            return ((0, self.window[axis]),) * self.y_size[axis]
        sizes = (self.x_size, self.window, self.y_size, self.stride, self.dilation, self.pad_lo)
        return _inside(*(of[axis] for of in sizes))

    def samples(self, axis: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Which sample is under each tap at each output position along one of the three axes, -1 for none: (taps, positions)."""
        size, lo = self.x_size[axis], self.pad_lo[axis]
        index = sources(self.modes[axis], size, lo, max(0, self.reach(axis) - lo - size))
        k, p = np.ogrid[: self.window[axis], : self.y_size[axis]]
        return index[self.dilation[axis] * k + self.stride[axis] * p]  # type: ignore[no-any-return]


@lru_cache(1024)
def pool(
    x_shape: Shape, window: Ints, stride: Ints | None, padding: Padding, dilation: Ints, padding_mode: PaddingMode = "zeros"
) -> PoolGeometry:
    """Geometry of windows over x of shape (batch, channels, *size), or (channels, *size) if `window` lists its axes."""
    rank = spatial("window", window, x_shape)
    lead, x_size = x_shape[:-rank], x_shape[-rank:]
    taps = per_axis("window", window, rank)
    steps = taps if stride is None else per_axis("stride", stride, rank)
    spread = per_axis("dilation", dilation, rank)
    span = tuple(d * (k - 1) + 1 for k, d in zip(taps, spread, strict=True))
    pad = pads(padding, x_size, span, steps)
    padded = tuple(n + lo + hi for n, (lo, hi) in zip(x_size, pad, strict=True))
    if any(e > n for e, n in zip(span, padded, strict=True)):
        raise ValueError(
            f"window spans {span} samples (taps {taps}, dilation {spread}), "
            f"but x has only {padded} (size {x_size} with padding {pad})"
        )
    y_size = tuple((n - e) // s + 1 for n, e, s in zip(padded, span, steps, strict=True))
    words = modes(padding_mode, rank)
    for axis, (lo, _) in enumerate(pad):
        if words[axis] != "zeros":
            continue
        counts = _inside(x_size[axis], taps[axis], y_size[axis], steps[axis], spread[axis], lo)
        empty = next((p for p, (_, count) in enumerate(counts) if count < 1), None)
        if empty is not None:
            raise ValueError(
                f"padding={pad[axis]} with window {taps[axis]}, stride {steps[axis]}, dilation {spread[axis]}: on spatial axis "
                f"{axis} of size {x_size[axis]}, the window at position {empty} holds no sample; needed at least one in each"
            )
    pad_lo = triple([lo for lo, _ in pad], 0)
    g = PoolGeometry(rank, lead, triple(x_size), triple(taps), triple(y_size), triple(steps), triple(spread), pad_lo)
    first, second, third = (
        word if g.pad_lo[axis] or g.reach(axis) > g.x_size[axis] else "zeros"
        for axis, word in enumerate((*("zeros",) * (3 - rank), *words))
    )
    return g._replace(modes=(first, second, third))


def unpool(
    y_shape: Shape, window: Ints, stride: Ints | None, padding: Padding, dilation: Ints, output_size: Ints
) -> PoolGeometry:
    """Geometry of the pooling that takes planes of `output_size` to y of shape (batch, channels, *size)."""
    rank = spatial("window", window, y_shape)
    x_size = per_axis("output_size", output_size, rank)
    g = pool((*y_shape[:-rank], *x_size), window, stride, padding, dilation)
    if g.y_shape != y_shape:
        raise ValueError(f"x has shape {y_shape}; pooling to output_size={x_size} comes from {g.y_shape}, needed that shape")
    return g


def adaptive(x_shape: Shape, output_size: Ints) -> tuple[AxisMap | None, ...]:
    """One map per spatial axis from `size` samples to the means of `output_size` bins, or None where nothing changes.

    Bin p holds the samples from floor(p * size / out) up to, not including, ceil((p + 1) * size / out).
    """
    rank = spatial("output_size", output_size, x_shape)
    out = per_axis("output_size", output_size, rank)
    return tuple(None if n == o else _bins(n, o) for n, o in zip(x_shape[-rank:], out, strict=True))


def check_whole(x_shape: Shape) -> None:
    """Refuse shapes that are not (batch, channels, *size) with samples on one to three spatial axes."""
    if len(x_shape) not in (3, 4, 5) or min(x_shape[2:]) < 1:
        raise ValueError(f"x has shape {x_shape}; needed 3 to 5 axes, (batch, channels, *size), with at least one sample on each")


def triple(sizes: Sequence[int], fill: int = 1) -> Triple:
    """Return one to three numbers as three, led by `fill`."""
    a, b, c = (*(fill,) * (3 - len(sizes)), *(int(n) for n in sizes))
    return a, b, c


@lru_cache(256)
def _bins(size: int, out: int) -> AxisMap:
    p = np.arange(out)
    first, end = p * size // out, -(-(p + 1) * size // out)
    index = first + np.arange((end - first).max())[:, None]
    weight = np.where(index < end, 1 / (end - first), 0.0)
    return axis_map(size, np.minimum(index, end - 1), weight)


def _inside(size: int, taps: int, out: int, stride: int, dilation: int, lo: int) -> tuple[tuple[int, int], ...]:
    spans = []
    for p in range(out):
        first = max(0, -((stride * p - lo) // dilation))
        last = min(taps - 1, (size - 1 - stride * p + lo) // dilation)
        spans.append((first, last - first + 1))
    return tuple(spans)
