"""The three contractions of a linear map on the register tile: products of matrices that differ in which axis is summed."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .._array import flat
from .._matmul import matmul
from .._memory import empty

Array = np.ndarray[Any, Any]


def contract_y(x: Array, w: Array, b: Array | None = None) -> Array:
    """y[n,o] = sum over i of w[o,i] * x[n,i], plus b[o]."""
    outputs, inputs = w.shape
    y = empty((prod(x.shape[:-1]), outputs), x.dtype)
    matmul(flat(x), (inputs, 1), flat(w), (1, inputs), y, inputs, None if b is None else flat(b))
    return y.reshape(*x.shape[:-1], outputs)


def contract_x(y: Array, w: Array) -> Array:
    """x[n,i] = sum over o of w[o,i] * y[n,o]."""
    outputs, inputs = w.shape
    x = empty((prod(y.shape[:-1]), inputs), y.dtype)
    matmul(flat(y), (outputs, 1), flat(w), (inputs, 1), x, outputs, None)
    return x.reshape(*y.shape[:-1], inputs)


def contract_w(x: Array, y: Array) -> Array:
    """w[o,i] = sum over n of y[n,o] * x[n,i]."""
    inputs, outputs = x.shape[-1], y.shape[-1]
    w = np.empty((outputs, inputs), x.dtype)
    matmul(flat(y), (1, outputs), flat(x), (inputs, 1), w, prod(x.shape[:-1]), None)
    return w
