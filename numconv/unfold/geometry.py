"""Shapes of unfolding: the only file that computes one, or refuses one."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from .._window import Ints, Padding, pads, per_axis, spatial

Shape = tuple[int, ...]


class UnfoldGeometry(NamedTuple):
    """The integers of windows over planes: tap k of the window at position p lies at q = stride*p + dilation*k - pad_lo."""

    lead: Shape
    size: Shape
    window: Shape
    out: Shape
    stride: Shape
    dilation: Shape
    pad_lo: Shape

    @property
    def x_shape(self) -> Shape:
        """Shape of x: (batch, channels, *size)."""
        return (*self.lead, *self.size)

    @property
    def columns_shape(self) -> Shape:
        """Shape of the samples under all taps: (batch, channels, *window, *out)."""
        return (*self.lead, *self.window, *self.out)

    def inside(self, axis: int, tap: int) -> tuple[int, int, int]:
        """First and end of the output positions whose tap lies inside x along an axis, and where the first of them lies."""
        stride, shift = self.stride[axis], self.dilation[axis] * tap - self.pad_lo[axis]
        first = min(max(0, -(shift // stride)), self.out[axis])
        end = min(self.out[axis], (self.size[axis] - 1 - shift) // stride + 1)
        return first, max(first, end), stride * first + shift


@lru_cache(1024)
def unfold(x_shape: Shape, window: Ints, stride: Ints, padding: Padding, dilation: Ints) -> UnfoldGeometry:
    """Geometry of windows over x of shape (batch, channels, *size), or (channels, *size) if `window` lists its axes."""
    rank = spatial("window", window, x_shape)
    lead, size = x_shape[:-rank], x_shape[-rank:]
    taps, steps, spread = per_axis("window", window, rank), per_axis("stride", stride, rank), per_axis("dilation", dilation, rank)
    span = tuple(d * (k - 1) + 1 for k, d in zip(taps, spread, strict=True))
    pad = pads(padding, size, span, steps)
    padded = tuple(n + lo + hi for n, (lo, hi) in zip(size, pad, strict=True))
    if any(e > n for e, n in zip(span, padded, strict=True)):
        raise ValueError(
            f"window spans {span} samples (taps {taps}, dilation {spread}), "
            f"but x has only {padded} (size {size} with padding {pad})"
        )
    out = tuple((n - e) // s + 1 for n, e, s in zip(padded, span, steps, strict=True))
    return UnfoldGeometry(lead, size, taps, out, steps, spread, tuple(lo for lo, _ in pad))


@lru_cache(1024)
def fold(shape: Shape, size: Ints, window: Ints, stride: Ints, padding: Padding, dilation: Ints) -> UnfoldGeometry:
    """Geometry of the unfolding of planes of `size` whose columns have `shape`."""
    listed = next((value for value in (window, size) if isinstance(value, tuple)), None)
    rank = (len(shape) - 2) // 2 if listed is None else len(listed)
    leads = (2,) if listed is None else (1, 2)
    if rank not in (1, 2, 3) or len(shape) - 2 * rank not in leads:
        axes = " or ".join(("(channels, *window, *out)", "(batch, channels, *window, *out)")[n - 1] for n in leads)
        raise ValueError(
            f"columns has shape {shape}; with size={size!r}, window={window!r}, needed {axes} with 1 to 3 spatial axes"
        )
    lead = shape[: len(shape) - 2 * rank]
    taps, size = per_axis("window", window, rank), per_axis("size", size, rank)
    g = unfold((*lead, *size), taps, stride, padding, dilation)
    if g.columns_shape != shape:
        raise ValueError(f"columns has shape {shape}; the other arguments make it {g.columns_shape}")
    return g
