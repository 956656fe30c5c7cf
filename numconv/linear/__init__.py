"""Linear maps, beside their vector-Jacobian product: the door of the room."""

from __future__ import annotations

from typing import Any

from .. import _array, _lend
from .._array import Array
from .._pullback import Pullback
from . import generic, geometry

__all__ = ["linear", "linear_vjp"]


def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    r"""Multiply the last axis of x by a matrix, and add a bias: a fully connected layer.

    .. math:: y[\ldots, o] = b[o] + \sum_i w[o, i] \, x[\ldots, i]

    Parameters
    ----------
    x : array, shape (..., in)
        Input.
    w : array, shape (out, in)
        Weights.
    b : array, shape (out,), optional
        Bias.

    Returns
    -------
    array, shape (..., out)
        In the library, on the device and of the dtype of the input.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, or no numbers.
    ValueError
        If the shapes do not fit together.

    See Also
    --------
    linear_vjp : the same with gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.linear import linear
    >>> linear(np.array([1.0, 2.0]), np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([0.5, 0.0]))
    array([ 3.5, -1. ])
    """
    on, x, w, b = _checked(x, w, b)
    return on.contract_y(x, w, b)


def linear_vjp(x: Array, w: Array, b: Array | None = None) -> tuple[Array, Pullback]:
    """`linear`, and the pullback of a cotangent dy to (dx, dw), or (dx, dw, db) where there is a bias.

    Parameters are those of `linear`. `pullback(dy, wrt="w")` computes only that gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.linear import linear_vjp
    >>> y, pullback = linear_vjp(np.array([1.0, 2.0]), np.array([[1.0, 1.0], [1.0, -1.0]]))
    >>> dx, dw = pullback(np.array([1.0, 10.0]))
    >>> dx
    array([11., -9.])
    >>> dw
    array([[ 1.,  2.],
           [10., 20.]])
    """
    on, x, w, b = _checked(x, w, b)
    y = on.contract_y(x, w, b)
    gradients = {"x": lambda dy: on.contract_x(dy, w), "w": lambda dy: on.contract_w(x, dy)}
    if b is not None:
        gradients["b"] = generic.sum_rows
    return y, Pullback(y, **gradients)


def _checked(x: Array, w: Array, b: Array | None) -> tuple[Any, Array, Array, Array | None]:
    """Check the arguments, and choose the kernels by where the arrays live."""
    xp, x, w, b = _array.numbers(x=x, w=w, b=b)
    geometry.check(tuple(x.shape), tuple(w.shape), None if b is None else tuple(b.shape))
    return _lend.kernels(xp, x, f"{__name__}.cpu", generic), x, w, b
