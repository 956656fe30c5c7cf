"""The three contractions of a linear map in plain array API. Their matrix products are the library's own: on CPUs, its BLAS.

They are those of convolution with one position and one tap. Leading axes are joined into one, so that each is one large product.
"""

from __future__ import annotations

from math import prod

from array_api_compat import array_namespace

from .._array import Array, narrow


def contract_y(x: Array, w: Array, b: Array | None = None) -> Array:
    """y[n,o] = sum over i of w[o,i] * x[n,i], plus b[o]."""
    xp = array_namespace(x)
    y = xp.reshape(_product(_rows(x), xp.matrix_transpose(w)), (*x.shape[:-1], w.shape[0]))
    return y if b is None else y + b


def contract_x(y: Array, w: Array) -> Array:
    """x[n,i] = sum over o of w[o,i] * y[n,o]."""
    return array_namespace(y).reshape(_product(_rows(y), w), (*y.shape[:-1], w.shape[1]))


def contract_w(x: Array, y: Array) -> Array:
    """w[o,i] = sum over n of y[n,o] * x[n,i]."""
    return _product(array_namespace(y).matrix_transpose(_rows(y)), _rows(x))


def sum_rows(y: Array) -> Array:
    """b[o] = sum over n of y[n,o]."""
    xp = array_namespace(y)
    total = xp.sum(_rows(y), axis=0, dtype=xp.float32 if narrow(y.dtype) else y.dtype)
    return xp.astype(total, y.dtype, copy=False)


def _product(a: Array, b: Array) -> Array:
    xp = array_namespace(a)
    return xp.astype(xp.matmul(a, b), a.dtype, copy=False)  # dask's sums of integers are wider


def _rows(a: Array) -> Array:
    return array_namespace(a).reshape(a, (prod(a.shape[:-1]), a.shape[-1]))
