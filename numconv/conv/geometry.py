"""Shapes of a convolution: the only file that computes one, or refuses one.

Everything is kept with at least three spatial axes; 1-D and 2-D problems lead with axes of size 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import NamedTuple

from .._window import Padding, Pads, pads, per_axis

Triple = tuple[int, int, int]  # longer where there are more axes, which kernels never see
Shape = tuple[int, ...]


class ConvGeometry(NamedTuple):
    """The integers of `y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i, stride*p + dilation*k - pad_lo]`, within each group.

    x is zero outside its bounds. `c_in` and `c_out` count the channels of x and y in one group. A tuple of plain integers:
    Numba reads it by field name, CUDA gets it as one struct, and it can key a cache.
    """

    rank: int
    batch: int
    groups: int
    c_in: int
    c_out: int
    x_size: Triple
    w_size: Triple
    y_size: Triple
    stride: Triple
    dilation: Triple
    pad_lo: Triple

    @property
    def x_shape(self) -> Shape:
        """Shape of x: (batch, groups * c_in, *size)."""
        return (self.batch, self.groups * self.c_in, *self.x_size[-self.rank :])

    @property
    def w_shape(self) -> Shape:
        """Shape of w: (groups * c_out, c_in, *taps)."""
        return (self.groups * self.c_out, self.c_in, *self.w_size[-self.rank :])

    @property
    def y_shape(self) -> Shape:
        """Shape of y: (batch, groups * c_out, *size)."""
        return (self.batch, self.groups * self.c_out, *self.y_size[-self.rank :])

    @property
    def flops(self) -> int:
        """Floating-point operations of one contraction by its definition, products with padding included."""
        return 2 * prod(self.y_shape) * self.c_in * prod(self.w_size)


@lru_cache(1024)
def conv(
    x_shape: Shape, w_shape: Shape, stride: int | Shape, padding: Padding, dilation: int | Shape, groups: int
) -> ConvGeometry:
    """Geometry of `conv(x, w)`, for x of shape (batch, groups * c_in, *size)."""
    rank, (c_in, c_out) = _channels("x", x_shape, w_shape, groups, 1)
    stride, dilation = per_axis("stride", stride, rank), per_axis("dilation", dilation, rank)
    x_size, w_size = x_shape[2:], w_shape[2:]
    span = _span(w_size, dilation)
    pad = pads(padding, x_size, span, stride)
    padded = tuple(n + lo + hi for n, (lo, hi) in zip(x_size, pad, strict=True))
    if any(e > n for e, n in zip(span, padded, strict=True)):
        raise ValueError(
            f"w spans {span} samples (taps {w_size}, dilation {dilation}), "
            f"but x has only {padded} (size {x_size} with padding {pad})"
        )
    y_size = tuple((n - e) // s + 1 for n, e, s in zip(padded, span, stride, strict=True))
    return _geometry(x_shape[0], groups, c_in, c_out, x_size, w_size, y_size, stride, dilation, pad)


@lru_cache(1024)
def conv_transpose(
    x_shape: Shape,
    w_shape: Shape,
    stride: int | Shape,
    padding: Padding,
    output_padding: int | Shape,
    output_size: int | Shape | None,
    dilation: int | Shape,
    groups: int,
) -> ConvGeometry:
    """Geometry of the convolution whose adjoint is `conv_transpose(x, w)`: its input has `y_shape`, its output `x_shape`."""
    rank, (c_out, c_in) = _channels("x", x_shape, w_shape, groups, 0)
    stride, dilation = per_axis("stride", stride, rank), per_axis("dilation", dilation, rank)
    size, w_size = x_shape[2:], w_shape[2:]
    span = _span(w_size, dilation)
    if min(size) < 1:
        raise ValueError(f"x has shape {x_shape}; needed at least one sample on every axis")
    if output_size is not None:
        out = per_axis("output_size", output_size, rank)
    elif padding in ("same", "same_lower"):
        out = tuple(o * s for o, s in zip(size, stride, strict=True))
    else:
        out = None
    pad = pads(padding, out or size, span, stride)
    least = tuple((o - 1) * s + e - lo - hi for o, s, e, (lo, hi) in zip(size, stride, span, pad, strict=True))
    extra = per_axis("output_padding", output_padding, rank, least=0)
    if output_size is not None and any(extra):
        raise ValueError(f"output_size={output_size} and output_padding={output_padding} were both given; needed one of them")
    limit = tuple(max(s, d) for s, d in zip(stride, dilation, strict=True))
    if out is None:
        if any(e >= m for e, m in zip(extra, limit, strict=True)):
            raise ValueError(
                f"output_padding={extra} must be smaller than {limit}, "
                f"the larger of stride {stride} and dilation {dilation} on each axis"
            )
        out = tuple(n + e for n, e in zip(least, extra, strict=True))
    elif output_size is not None and any(not n <= o < n + m for n, o, m in zip(least, out, limit, strict=True)):
        most = tuple(n + m - 1 for n, m in zip(least, limit, strict=True))
        raise ValueError(
            f"output_size={out} cannot come from x of size {size}, stride {stride}: needed between {least} and {most}"
        )
    if padding in ("same", "same_lower") and any(-(-n // s) != o for n, s, o in zip(out, stride, size, strict=True)):
        raise ValueError(
            f"output_size={out}, padding={padding!r}, stride {stride}: needed ceil(output_size / stride) = {size}, the size of x"
        )
    if min(out) < 1:
        raise ValueError(f"the output would have size {out}: padding {pad} leaves nothing of x of size {size}")
    return _geometry(x_shape[0], groups, c_in, c_out, out, w_size, size, stride, dilation, pad)


def _channels(name: str, x_shape: Shape, w_shape: Shape, groups: int, per_group: int) -> tuple[int, tuple[int, int]]:
    """Return the number of spatial axes, and per group the channel count that x must match and the other one."""
    rank = len(w_shape) - 2
    if rank < 1:
        raise ValueError(f"w has shape {w_shape}; needed at least 3 axes: (channels, channels, *taps)")
    if len(x_shape) != rank + 2:
        raise ValueError(
            f"{name} has shape {x_shape}; with w {w_shape}, "
            f"needed {rank + 2} axes (batch, channels, *size) or {rank + 1} without the batch"
        )
    (groups,) = per_axis("groups", groups, 1)
    if min(w_shape) < 1:
        raise ValueError(f"w has shape {w_shape}; needed at least one of everything")
    if w_shape[0] % groups:
        raise ValueError(f"w has shape {w_shape} and groups={groups}; needed {w_shape[0]} to be a multiple of groups")
    first = w_shape[0] // groups
    matching = w_shape[1] if per_group == 1 else first
    if x_shape[1] != groups * matching:
        raise ValueError(
            f"{name} has {x_shape[1]} channels (shape {x_shape}); with w {w_shape}, groups={groups}, needed {groups * matching}"
        )
    return rank, (matching, first if per_group == 1 else w_shape[1])


def _geometry(
    batch: int,
    groups: int,
    c_in: int,
    c_out: int,
    x_size: Shape,
    w_size: Shape,
    y_size: Shape,
    stride: Shape,
    dilation: Shape,
    pad: Pads,
) -> ConvGeometry:
    lo = tuple(lo for lo, _ in pad)
    return ConvGeometry(
        len(w_size),
        batch,
        int(groups),
        c_in,
        c_out,
        _lift(x_size),
        _lift(w_size),
        _lift(y_size),
        _lift(stride),
        _lift(dilation),
        _lift(lo, 0),
    )


def _span(w_size: Shape, dilation: Shape) -> Shape:
    return tuple(d * (k - 1) + 1 for k, d in zip(w_size, dilation, strict=True))


def _lift(sizes: Sequence[int], fill: int = 1) -> Triple:
    return (*(fill,) * (3 - len(sizes)), *(int(n) for n in sizes))  # type: ignore[return-value]
