"""The three contractions in plain array API: definition, fallback for other libraries and dtypes, oracle of the kernels.

Each tap k of the weights sees a strided slice of padded x; the sum over taps of small matrix products is the whole convolution.
"""

from __future__ import annotations

from math import prod

from array_api_compat import array_namespace

from .._array import Array
from .._window import extent, filled, spread, taps, under
from .finish import finished
from .geometry import ConvGeometry


def contract_y(x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
    """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i, stride*p + dilation*k - pad_lo], plus b[o]."""
    xp = array_namespace(x)
    x, w = _padded(x, g), _split_w(w, g)
    y: Array = 0
    for k in taps(g.w_size):
        x_k = x[under(k, g.y_size, g.stride, g.dilation)]
        y = y + xp.matmul(w[(..., *k)], xp.reshape(x_k, (*x_k.shape[:3], prod(g.y_size))))
    return finished(xp.reshape(y, g.y_shape), b, rectify)


def contract_x(y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
    """x[n,i,q] = sum over the o,p,k with stride*p + dilation*k - pad_lo = q of w[o,i,k] * y[n,o,p], plus b[i]."""
    xp = array_namespace(y)
    y, w = xp.reshape(y, (g.batch, g.groups, g.c_out, prod(g.y_size))), _split_w(w, g)
    x: Array = 0
    for k in taps(g.w_size):
        x_k = xp.matmul(xp.matrix_transpose(w[(..., *k)]), y)
        x_k = xp.reshape(x_k, (g.batch, g.groups, g.c_in, *g.y_size))
        x = x + spread(xp, x_k, k, _padded_size(g), g.stride, g.dilation)
    inside = (..., *(slice(lo, lo + n) for lo, n in zip(g.pad_lo, g.x_size, strict=True)))
    return finished(xp.reshape(x[inside], g.x_shape), b, rectify)


def contract_w(x: Array, y: Array, g: ConvGeometry) -> Array:
    """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i, stride*p + dilation*k - pad_lo]."""
    xp = array_namespace(x)
    x, y = _padded(x, g), xp.reshape(y, (g.batch, g.groups, g.c_out, prod(g.y_size)))
    w = []
    for k in taps(g.w_size):
        x_k = x[under(k, g.y_size, g.stride, g.dilation)]
        terms = xp.matmul(y, xp.matrix_transpose(xp.reshape(x_k, (*x_k.shape[:3], prod(g.y_size)))))
        w.append(xp.sum(terms, axis=0, dtype=y.dtype))
    return xp.reshape(xp.stack(w, axis=-1), g.w_shape)


def _padded_size(g: ConvGeometry) -> tuple[int, ...]:
    reach = extent(g.w_size, g.y_size, g.stride, g.dilation)
    return tuple(max(lo + n, e) for lo, n, e in zip(g.pad_lo, g.x_size, reach, strict=True))


def _padded(x: Array, g: ConvGeometry) -> Array:
    xp = array_namespace(x)
    return filled(xp, xp.reshape(x, (g.batch, g.groups, g.c_in, *g.x_size)), g.pad_lo, _padded_size(g))


def _split_w(w: Array, g: ConvGeometry) -> Array:
    return array_namespace(w).reshape(w, (g.groups, g.c_out, g.c_in, *g.w_size))
