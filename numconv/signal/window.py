"""One array as a window over the other: where its positions begin and end in each mode, and which kernels it takes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from .. import conv
from .._array import Array
from ..conv.explain import explain

Boundary = Literal["zeros", "circular", "symmetric"]

_DTYPES = tuple(map(np.dtype, ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")))
_DTYPES += tuple(map(np.dtype, ("float32", "float64", "complex64", "complex128")))


def filtered(
    x: Array,
    w: Array,
    mode: str,
    method: str,
    *,
    flip: bool,
    boundary: Boundary = "zeros",
    fill: Any = 0,
    later: bool = False,
) -> Array | None:
    """Return x correlated with w, or convolved with `flip`; None for what the kernels do not know.

    With `later`, an even window in mode "same" begins at the sample it is written to, not one before.
    """
    dtype = _common(x, w)
    if (
        dtype is None
        or not _holds(dtype, fill)
        or method not in ("auto", "direct", "fft")
        or mode not in ("full", "valid", "same")
    ):
        return None
    if method == "fft" and not _finite(x, w):
        return None
    swapped = swaps(x, w, mode)
    if swapped is None:
        return None
    swapped = swapped and (mode == "valid" or (boundary == "zeros" and not fill))  # else x alone goes on beyond its borders
    if swapped:
        x, w = w, x
    if method != "direct" and _alike(x, w) and dtype.kind in "fc" and _finite(x, w):
        return None
    pads = [_pads(k, mode, later) for k in w.shape]
    if fill and boundary == "zeros":
        x, pads = np.pad(x.astype(dtype, copy=False), pads, constant_values=fill), [(0, 0)] * x.ndim
    y = _conv(x, w, dtype, padding=pads, padding_mode=boundary, flip=flip, method="auto" if dtype.kind in "iu" else method)
    if swapped and not flip:  # sum of x[p + k] w[k] = sum of w[k - p] x[k], read from the end
        return y[(slice(None, None, -1),) * y.ndim].copy()
    return y


def fastest(x: Array, w: Array, mode: str) -> str | None:
    """Name the method of a convolution; None for what the kernels do not know."""
    dtype = _common(x, w)
    if dtype is None or mode not in ("full", "valid", "same") or (swapped := swaps(x, w, mode)) is None:
        return None
    if only_direct(x, w):
        return "direct"
    if _alike(x, w):
        return None
    x, w = (w, x) if swapped else (x, w)
    pads = [_pads(k, mode, False) for k in w.shape]
    real = np.zeros(0, dtype).real.dtype
    like = [np.broadcast_to(np.zeros((), real), (1, 1, *a.shape)) for a in (x, w)]
    return "fft" if explain(conv, *like, padding=pads).forward.method == "fft" else "direct"


def only_direct(x: Array, w: Array) -> bool:
    """Say whether a transform would lose digits of integers, or spread a NaN or infinity."""
    return (x.dtype.kind in "iu" and w.dtype.kind in "iu") or not _finite(x, w)


def is_tiny(x: Array, w: Array) -> bool:
    """Say whether NumPy's own loop is done before a kernel is called: 100 samples and 5 taps take it 20 us, a call of one 60."""
    return x.ndim == w.ndim == 1 and bool(x.size * w.size < 1 << 17)


def is_tiny_image(x: Array, w: Array) -> bool:
    """Say whether SciPy's loop over two images is done before a kernel: 32 x 32 and 5 x 5 took it 59 us, a call of one 72."""
    return x.ndim == w.ndim == 2 and bool(x.size * w.size < 1 << 15)


def _alike(x: Array, w: Array) -> bool:
    """Say whether windows are so large that there are few, and one transform of all takes less time than a transform of each.

    Two signals of 100 000 samples took SciPy 7.8 ms, and overlapping windows 18.
    """
    return bool(x.size > 1 << 14) and all(n < 8 * k for n, k in zip(x.shape, w.shape, strict=True))


def _holds(dtype: np.dtype[Any], fill: Any) -> bool:
    """Say whether a number is one of a dtype's; what is no number (None, text) SciPy reads as it does."""
    if np.asarray(fill).dtype.kind not in "biufc":
        return False
    if dtype.kind in "iu":
        return bool(fill == np.real(fill) // 1 and np.iinfo(dtype).min <= np.real(fill) <= np.iinfo(dtype).max)
    return dtype.kind == "c" or bool(np.isrealobj(fill))


def _finite(x: Array, w: Array) -> bool:
    return bool(np.isfinite(x).all() and np.isfinite(w).all())


def _common(x: Array, w: Array) -> np.dtype[Any] | None:
    """Return the dtype of the result if SciPy's is the common one and kernels know it, and there is something to sum."""
    if not 0 < x.ndim == w.ndim or not x.size * w.size or type(x) is not np.ndarray or type(w) is not np.ndarray:
        return None
    if x.dtype not in _DTYPES or w.dtype not in _DTYPES:
        return None
    dtype = np.result_type(x, w)
    return dtype if dtype in _DTYPES else None


def swaps(x: Array, w: Array, mode: str) -> bool | None:
    """Say whether w is to be the one that windows move over; None for sizes that mode "valid" refuses."""
    larger, smaller = (all(a >= b for a, b in zip(*shapes, strict=True)) for shapes in ((x.shape, w.shape), (w.shape, x.shape)))
    if mode == "valid":
        return None if not (larger or smaller) else not larger
    return mode == "full" and smaller and not larger


def _pads(taps: int, mode: str, later: bool) -> tuple[int, int]:
    lo = {"full": taps - 1, "valid": 0, "same": (taps - 1) // 2 if later else taps // 2}[mode]
    return lo, {"full": taps - 1, "valid": 0, "same": taps - 1 - lo}[mode]


def _conv(x: Array, w: Array, dtype: np.dtype[Any], **how: Any) -> Array:
    """Convolve one channel of one image; a real array beside a complex one stays real."""
    if dtype.kind == "c" and (x.dtype.kind == "c") != (w.dtype.kind == "c"):
        real = np.zeros(0, dtype).real.dtype
        pairs = ((x.real, w), (x.imag, w)) if x.dtype.kind == "c" else ((x, w.real), (x, w.imag))
        parts = [_conv(*pair, real, **how) for pair in pairs]
        y = np.empty(parts[0].shape, dtype)
        y.real, y.imag = parts
        return y
    x, w = x.astype(dtype, copy=False), w.astype(dtype, copy=False)
    return conv(x[None, None], w[None, None], **how)[0, 0]
