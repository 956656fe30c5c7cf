"""Softmax and its logarithm, the activations that look along an axis: the room's second door."""

from __future__ import annotations

import operator
from types import ModuleType
from typing import Any, Protocol

from .. import _array, _lend
from .._array import Array
from .._pullback import Pullback
from . import generic
from .widened import widened


class Softmaxes(Protocol):
    """What a device provides, for floats of 32 or 64 bits (on a GPU, 16 too) and arrays that have entries along the axis."""

    def softmax(self, xp: ModuleType, x: Array, axis: int) -> Array:
        """exp(x) / sum of exp(x) along an axis, both scaled by exp(-max(x))."""

    def softmax_pullback(self, xp: ModuleType, y: Array, dy: Array, axis: int) -> Array:
        """Return dx = y * (dy - sum of y * dy)."""

    def log_softmax(self, xp: ModuleType, x: Array, axis: int) -> Array:
        """Return x - log of the sum of exp(x) along an axis, both less max(x)."""

    def log_softmax_pullback(self, xp: ModuleType, y: Array, dy: Array, axis: int) -> Array:
        """Return dx = dy - exp(y) * sum of dy."""


def drawer(xp: Any, x: Array) -> Softmaxes:
    """Choose the kernels by where the arrays live. Imported on first use, so that `import numconv` stays cheap."""
    return _lend.kernels(xp, x, f"{__package__}.cpu", generic, f"{__package__}.cuda")  # type: ignore[no-any-return]


def softmax(x: Array, *, axis: int = -1) -> Array:
    r"""Exponentials, scaled to sum to one along an axis.

    .. math:: y_i = \frac{e^{x_i}}{\sum_j e^{x_j}}

    Parameters
    ----------
    x : array of a real floating dtype, at least one axis
        Input. Entries of -inf get probability zero; if all of a slice are -inf, its softmax is NaN.
    axis : int, default -1
        Axis along which the results sum to one.

    Returns
    -------
    array
        Of the shape and dtype of x; NaN in a slice makes all of it NaN.

    Raises
    ------
    TypeError
        If x is no array of a real floating dtype, or axis no int.
    ValueError
        If x has no such axis, or no entries along it.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.activation import softmax
    >>> softmax(np.array([1e4, 1e4, -1e4]))
    array([0.5, 0.5, 0. ])
    """
    xp, x, axis = _sliced(x, axis)
    wide = widened(xp, x)
    return xp.astype(drawer(xp, wide).softmax(xp, wide, axis), x.dtype, copy=False)


def softmax_vjp(x: Array, *, axis: int = -1) -> tuple[Array, Pullback]:
    """`softmax`, and the pullback of a cotangent dy to dx.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.activation import softmax_vjp
    >>> y, pullback = softmax_vjp(np.array([0.0, 0.0]))
    >>> pullback(np.array([1.0, 0.0]))
    array([ 0.25, -0.25])
    """
    return _along(x, axis, "softmax")


def log_softmax(x: Array, *, axis: int = -1) -> Array:
    r"""Logarithm of `softmax`, exact where softmax itself would round to zero.

    .. math:: y_i = x_i - \log \sum_j e^{x_j}

    Parameters
    ----------
    x : array of a real floating dtype, at least one axis
        Input.
    axis : int, default -1
        Axis along which the exponentials of the results sum to one.

    Returns
    -------
    array
        Of the shape and dtype of x; NaN in a slice makes all of it NaN.

    Raises
    ------
    TypeError
        If x is no array of a real floating dtype, or axis no int.
    ValueError
        If x has no such axis, or no entries along it.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.activation import log_softmax
    >>> log_softmax(np.array([0.0, -1e4]))
    array([     0., -10000.])
    """
    xp, x, axis = _sliced(x, axis)
    wide = widened(xp, x)
    return xp.astype(drawer(xp, wide).log_softmax(xp, wide, axis), x.dtype, copy=False)


def log_softmax_vjp(x: Array, *, axis: int = -1) -> tuple[Array, Pullback]:
    """`log_softmax`, and the pullback of a cotangent dy to dx."""
    return _along(x, axis, "log_softmax")


def _along(x: Array, axis: int, name: str) -> tuple[Array, Pullback]:
    xp, x, axis = _sliced(x, axis)
    wide = widened(xp, x)
    on = drawer(xp, wide)
    f, pull = getattr(on, name), getattr(on, f"{name}_pullback")
    wide = f(xp, wide, axis)
    y = xp.astype(wide, x.dtype, copy=False)
    return y, Pullback(y, x=lambda dy: xp.astype(pull(xp, wide, widened(xp, dy), axis), x.dtype, copy=False))


def _sliced(x: Array, axis: Any) -> tuple[Any, Array, int]:
    xp, x = _array.reals(x=x)
    try:
        if isinstance(axis, bool):
            raise TypeError
        axis = operator.index(axis)
    except TypeError:
        raise TypeError(f"axis is {axis!r} of type {type(axis).__name__}; needed an int") from None
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis={axis}, but x has shape {tuple(x.shape)}; needed {-x.ndim} <= axis < {x.ndim}")
    if x.shape[axis] == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}; needed at least one entry along axis {axis}")
    return xp, x, axis
