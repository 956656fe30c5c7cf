"""Locally connected convolution and its gradients in plain array API: definition, fallback for other libraries, oracle.

For each tap, one small matrix product per position: the positions are the batch.
"""

from __future__ import annotations

from math import prod

from array_api_compat import array_namespace

from .._array import Array
from .._window import extent, filled, spread, taps, under
from .geometry import ConvGeometry


def contract_y(x: Array, w: Array, g: ConvGeometry, b: Array | None = None) -> Array:
    """y[n,o,p] = sum over i,k of w[o,i,k,p] * x[n,i, stride*p + dilation*k - pad_lo], plus b[o,p]."""
    xp = array_namespace(x)
    x = filled(xp, xp.reshape(x, (g.batch, g.groups, g.c_in, *g.x_size)), g.pad_lo, _padded_size(g))
    y: Array = 0
    for k in taps(g.w_size):
        y = y + _product(_weights(w, k, g), _by_position(x[under(k, g.y_size, g.stride, g.dilation)], g))
    y = xp.reshape(xp.permute_dims(y, (3, 0, 2, 1)), g.y_shape)
    return y if b is None else y + b


def contract_x(y: Array, w: Array, g: ConvGeometry) -> Array:
    """x[n,i,q] = sum over the o,k,p with stride*p + dilation*k - pad_lo = q of w[o,i,k,p] * y[n,o,p]."""
    xp = array_namespace(y)
    y = _by_position(xp.reshape(y, (g.batch, g.groups, g.c_out, *g.y_size)), g)
    x: Array = 0
    for k in taps(g.w_size):
        x_k = _product(xp.matrix_transpose(_weights(w, k, g)), y)
        x_k = xp.reshape(xp.permute_dims(x_k, (3, 0, 2, 1)), (g.batch, g.groups, g.c_in, *g.y_size))
        x = x + spread(xp, x_k, k, _padded_size(g), g.stride, g.dilation)
    return xp.reshape(x[(..., *(slice(lo, lo + n) for lo, n in zip(g.pad_lo, g.x_size, strict=True)))], g.x_shape)


def contract_w(x: Array, y: Array, g: ConvGeometry) -> Array:
    """w[o,i,k,p] = sum over n of y[n,o,p] * x[n,i, stride*p + dilation*k - pad_lo]."""
    xp = array_namespace(x)
    x = filled(xp, xp.reshape(x, (g.batch, g.groups, g.c_in, *g.x_size)), g.pad_lo, _padded_size(g))
    y = _by_position(xp.reshape(y, (g.batch, g.groups, g.c_out, *g.y_size)), g)
    w = []
    for k in taps(g.w_size):
        x_k = _by_position(x[under(k, g.y_size, g.stride, g.dilation)], g)
        w.append(xp.permute_dims(_product(y, xp.matrix_transpose(x_k)), (0, 2, 3, 1)))
    return xp.reshape(xp.stack(w, axis=3), (*g.w_shape, *g.y_size[3 - g.rank :]))


def _product(a: Array, b: Array) -> Array:
    xp = array_namespace(a)
    return xp.astype(xp.matmul(a, b), a.dtype, copy=False)  # dask's sums of integers are wider


def _weights(w: Array, tap: tuple[int, ...], g: ConvGeometry) -> Array:
    """Return the weights of a tap as matrices: (groups, positions, c_out, c_in)."""
    xp = array_namespace(w)
    w = xp.reshape(w, (g.groups, g.c_out, g.c_in, *g.w_size, prod(g.y_size)))
    return xp.permute_dims(w[(slice(None), slice(None), slice(None), *tap, ...)], (0, 3, 1, 2))


def _by_position(a: Array, g: ConvGeometry) -> Array:
    """Return (batch, groups, channels, *out) as matrices: (groups, positions, channels, batch)."""
    xp = array_namespace(a)
    return xp.permute_dims(xp.reshape(a, (*a.shape[:3], prod(g.y_size))), (1, 3, 2, 0))


def _padded_size(g: ConvGeometry) -> tuple[int, ...]:
    reach = extent(g.w_size, g.y_size, g.stride, g.dilation)
    return tuple(max(lo + n, e) for lo, n, e in zip(g.pad_lo, g.x_size, reach, strict=True))
