"""What convolution and transposed convolution share at the door: how the caller's arrays lie, the bias, the taps' direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import _array, _memory
from .._array import Array, narrow
from .._border import PaddingMode
from .._pullback import Pullback
from .._window import Ints, Padding

LAYOUTS = ("channels_first", "channels_last")
Shape = tuple[int, ...]


class Settings(NamedTuple):
    """The keywords of `conv`, and of its neighbours, that say what is computed and how."""

    stride: Ints = 1
    padding: Padding = "valid"
    padding_mode: PaddingMode = "zeros"
    dilation: Ints = 1
    groups: int = 1
    method: str = "auto"
    precision: str = "default"
    flip: bool = False
    layout: str = "channels_first"


class Form(NamedTuple):
    """How arrays of the caller lie: with a batch axis or without, channels behind it or last."""

    batched: bool
    last: bool

    def inward(self, xp: Any, a: Array) -> Array:
        """Return `a` as (batch, channels, *size)."""
        a = a if self.batched else xp.expand_dims(a, axis=0)
        return xp.moveaxis(a, -1, 1) if self.last else a

    def outward(self, xp: Any, a: Array) -> Array:
        """Return `a` as the caller's arrays lie."""
        a = xp.moveaxis(a, 1, -1) if self.last else a
        return a if self.batched else a[0, ...]

    def inward_shape(self, shape: Shape) -> Shape:
        """As `inward`, for a shape."""
        shape = shape if self.batched else (1, *shape)
        return (shape[0], shape[-1], *shape[1:-1]) if self.last and len(shape) > 1 else shape

    def outward_shape(self, shape: Shape) -> Shape:
        """As `outward`, for a shape."""
        shape = (shape[0], *shape[2:], shape[1]) if self.last else shape
        return shape if self.batched else shape[1:]

    def channel_axis(self, ndim: int) -> int:
        """Return which axis of the caller's arrays counts channels."""
        return ndim - 1 if self.last else int(self.batched)


def form_of(ndim: int, w_ndim: int, layout: str) -> Form:
    """Tell the form of arrays of `ndim` axes by the number of axes of the weights."""
    form = _FORMS.get((ndim != w_ndim - 1, layout))
    if form is None:
        raise ValueError(f"layout={layout!r}; needed {' or '.join(map(repr, LAYOUTS))}")
    return form


_FORMS = {(batched, layout): Form(batched, layout == "channels_last") for batched in (True, False) for layout in LAYOUTS}


def turned(xp: Any, w: Array, flip: bool) -> Array:
    """Return the weights with their taps in reverse if wanted: true convolution."""
    return xp.flip(w, axis=tuple(range(2, w.ndim))) if flip else w


def check_bias(b: Array | None, channels: int) -> None:
    """Refuse a bias that is not one number per output channel."""
    if b is not None and tuple(b.shape) != (channels,):
        raise ValueError(f"b has shape {tuple(b.shape)}; needed ({channels},), one number per output channel")


def with_bias(xp: Any, y: Array, gradients: dict[str, Callable[[Any], Array]], b: Array | None, form: Form) -> Pullback:
    """Return the pullback with the gradient of the bias, where there is one."""
    if b is not None:
        channel = form.channel_axis(y.ndim)
        gradients["b"] = lambda dy: summed(xp, dy, tuple(axis for axis in range(y.ndim) if axis != channel))
    return Pullback(y, **gradients)


def summed(xp: Any, a: Array, axes: tuple[int, ...]) -> Array:
    """Return the sum over axes, of the dtype of `a`; numbers of 16 bits are added up in 32."""
    total = xp.sum(a, axis=axes, dtype=xp.float32 if narrow(a.dtype) else a.dtype)
    return xp.astype(total, a.dtype, copy=False)


def written(out: Any, form: Form, shape: Shape, dtype: Any, compute: Callable[[], Array], *read: Array) -> Array:
    """Return what `compute` makes, of a shape (batch, channels, *size) at first, in `out`.

    It is made there where that is plain memory, in that order, and holds nothing to be read.
    """
    shape = form.outward_shape(shape)
    if type(out) is not type(read[0]) or not (hasattr(out, "__setitem__") and getattr(out, "at", None) is None):
        raise TypeError(f"out must be an array of the library of x that can be written to, got {type(out).__name__}")
    if tuple(out.shape) != shape or out.dtype != dtype:
        raise ValueError(f"out has shape {tuple(out.shape)}, dtype {out.dtype}; needed {shape}, {dtype}")
    if type(out) is not np.ndarray:
        _array.namespace(x=read[0], out=out)  # refuses another device
        out[...] = compute()
        return out
    if not out.flags.writeable:
        raise ValueError("out is read-only; needed an array that can be written to")
    apart = not any(np.may_share_memory(out, a) for a in read if a is not None)
    with _memory.result_in(out if apart and out.flags.carray and not form.last else None):
        y = compute()
    if y.ctypes.data != out.ctypes.data:
        out[...] = y
    return out
