"""Activation functions, each beside its vector-Jacobian product: the door of the room.

All take real floating arrays of any shape. 16-bit floats are computed in float32 and rounded once. Formulas stand in `generic`;
on the CPU they become kernels as they are (`_pointwise`), but softmax, which looks along an axis, has its own.
"""

from __future__ import annotations

from math import isfinite
from numbers import Real
from typing import Any

from .. import _array
from .._array import Array
from .._pointwise import Pointwise
from .._pullback import Pullback
from . import generic
from .axiswise import log_softmax, log_softmax_vjp, softmax, softmax_vjp
from .widened import widened

__all__ = [
    "elu",
    "elu_vjp",
    "gelu",
    "gelu_vjp",
    "leaky_relu",
    "leaky_relu_vjp",
    "log_softmax",
    "log_softmax_vjp",
    "relu",
    "relu_vjp",
    "sigmoid",
    "sigmoid_vjp",
    "silu",
    "silu_vjp",
    "softmax",
    "softmax_vjp",
    "softplus",
    "softplus_vjp",
    "tanh",
    "tanh_vjp",
]


def relu(x: Array) -> Array:
    r"""Rectified linear unit.

    .. math:: y = \max(x, 0)

    Parameters
    ----------
    x : array of a real floating dtype, any shape
        Input.

    Returns
    -------
    array
        Of the shape and dtype of x; NaN where x is NaN.

    Raises
    ------
    TypeError
        If x is no array of a real floating dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.activation import relu
    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return _value(x, generic.relu)


def relu_vjp(x: Array) -> tuple[Array, Pullback]:
    """`relu`, and the pullback of a cotangent dy to dx. The gradient at x = 0 is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.activation import relu_vjp
    >>> y, pullback = relu_vjp(np.array([-1.0, 0.0, 2.0]))
    >>> pullback(np.ones(3))
    array([0., 0., 1.])
    """
    return _value_vjp(x, generic.relu, generic.relu_slope)


def relu_pullback(y: Array) -> Pullback:
    """Return the pullback of `relu` from its value, which is as good as its argument: 0 where that was not above 0."""
    xp, y = _array.reals(y=y)
    wide = widened(xp, y)
    return Pullback(y, x=lambda dy: xp.astype(generic.relu_slope.times(xp, widened(xp, dy), wide), y.dtype, copy=False))


def leaky_relu(x: Array, *, negative_slope: float = 0.01) -> Array:
    r"""Rectified linear unit that leaks: negative inputs are scaled down, not cut off.

    .. math:: y = x \text{ where } x > 0, \text{ else } \text{negative\_slope} \cdot x

    Parameters
    ----------
    x : array of a real floating dtype, any shape
        Input.
    negative_slope : float, default 0.01
        Slope for negative inputs.

    Returns
    -------
    array
        Of the shape and dtype of x; NaN where x is NaN.

    Raises
    ------
    TypeError
        If x is no array of a real floating dtype, or negative_slope no number.
    ValueError
        If negative_slope is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.activation import leaky_relu
    >>> leaky_relu(np.array([-1.0, 2.0]), negative_slope=0.25)
    array([-0.25,  2.  ])
    """
    return _value(x, generic.leaky_relu, _finite("negative_slope", negative_slope))


def leaky_relu_vjp(x: Array, *, negative_slope: float = 0.01) -> tuple[Array, Pullback]:
    """`leaky_relu`, and the pullback of a cotangent dy to dx. The slope at x = 0 is negative_slope."""
    return _value_vjp(x, generic.leaky_relu, generic.leaky_relu_slope, _finite("negative_slope", negative_slope))


def elu(x: Array, *, alpha: float = 1.0) -> Array:
    r"""Exponential linear unit.

    .. math:: y = x \text{ where } x > 0, \text{ else } \alpha \, (e^x - 1)

    Parameters
    ----------
    x : array of a real floating dtype, any shape
        Input.
    alpha : float, default 1.0
        Where the curve levels off to the left is ``-alpha``.

    Returns
    -------
    array
        Of the shape and dtype of x; NaN where x is NaN.

    Raises
    ------
    TypeError
        If x is no array of a real floating dtype, or alpha no number.
    ValueError
        If alpha is not finite.

    References
    ----------
    Clevert, Unterthiner and Hochreiter, arXiv:1511.07289, equation 15.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.activation import elu
    >>> elu(np.array([-1.0, 2.0])).round(4)
    array([-0.6321,  2.    ])
    """
    return _value(x, generic.elu, _finite("alpha", alpha))


def elu_vjp(x: Array, *, alpha: float = 1.0) -> tuple[Array, Pullback]:
    """`elu`, and the pullback of a cotangent dy to dx. The slope at x = 0 is alpha."""
    return _value_vjp(x, generic.elu, generic.elu_slope, _finite("alpha", alpha))


def gelu(x: Array, *, approximate: str = "none") -> Array:
    r"""Gaussian error linear unit: x times the probability that a standard normal variable is below x.

    .. math:: y = \frac{x}{2} \Bigl(1 + \operatorname{erf} \frac{x}{\sqrt 2} \Bigr)
       \quad \text{or} \quad
       y = \frac{x}{2} \Bigl(1 + \tanh \bigl( \sqrt{2 / \pi} \, (x + 0.044715 x^3) \bigr) \Bigr)

    Parameters
    ----------
    x : array of a real floating dtype, any shape
        Input.
    approximate : {"none", "tanh"}, default "none"
        The first or the second formula.

    Returns
    -------
    array
        Of the shape and dtype of x; NaN where x is NaN.

    Raises
    ------
    TypeError
        If x is no array of a real floating dtype.
    ValueError
        If approximate is another word.

    References
    ----------
    Hendrycks and Gimpel, arXiv:1606.08415, section 2. The error function is W. J. Cody's, see `numconv.activation.erf`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.activation import gelu
    >>> gelu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1587,  0.    ,  0.8413])
    """
    return _value(x, *_gelu(approximate)[:1])


def gelu_vjp(x: Array, *, approximate: str = "none") -> tuple[Array, Pullback]:
    """`gelu`, and the pullback of a cotangent dy to dx."""
    return _value_vjp(x, *_gelu(approximate))


def silu(x: Array) -> Array:
    r"""Sigmoid linear unit, also known as swish.

    .. math:: y = \frac{x}{1 + e^{-x}}

    Parameters
    ----------
    x : array of a real floating dtype, any shape
        Input.

    Returns
    -------
    array
        Of the shape and dtype of x; NaN where x is NaN.

    Raises
    ------
    TypeError
        If x is no array of a real floating dtype.

    References
    ----------
    Hendrycks and Gimpel, arXiv:1606.08415, section 2; Ramachandran, Zoph and Le, arXiv:1710.05941.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.activation import silu
    >>> silu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.2689,  0.    ,  0.7311])
    """
    return _value(x, generic.silu)


def silu_vjp(x: Array) -> tuple[Array, Pullback]:
    """`silu`, and the pullback of a cotangent dy to dx."""
    return _value_vjp(x, generic.silu, generic.silu_slope)


def sigmoid(x: Array) -> Array:
    r"""Logistic function.

    .. math:: y = \frac{1}{1 + e^{-x}}

    Parameters
    ----------
    x : array of a real floating dtype, any shape
        Input.

    Returns
    -------
    array
        Of the shape and dtype of x; NaN where x is NaN.

    Raises
    ------
    TypeError
        If x is no array of a real floating dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.activation import sigmoid
    >>> sigmoid(np.array([-1e4, 0.0, 1e4]))
    array([0. , 0.5, 1. ])
    """
    return _value(x, generic.sigmoid)


def sigmoid_vjp(x: Array) -> tuple[Array, Pullback]:
    """`sigmoid`, and the pullback of a cotangent dy to dx."""
    return _value_vjp(x, generic.sigmoid, generic.sigmoid_slope)


def tanh(x: Array) -> Array:
    r"""Hyperbolic tangent.

    .. math:: y = \frac{e^x - e^{-x}}{e^x + e^{-x}}

    Parameters
    ----------
    x : array of a real floating dtype, any shape
        Input.

    Returns
    -------
    array
        Of the shape and dtype of x; NaN where x is NaN.

    Raises
    ------
    TypeError
        If x is no array of a real floating dtype.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.activation import tanh
    >>> tanh(np.array([-1e4, 0.0, 1e4]))
    array([-1.,  0.,  1.])
    """
    return _value(x, generic.tanh)


def tanh_vjp(x: Array) -> tuple[Array, Pullback]:
    """`tanh`, and the pullback of a cotangent dy to dx."""
    return _value_vjp(x, generic.tanh, generic.tanh_slope)


def softplus(x: Array, *, beta: float = 1.0) -> Array:
    r"""Smooth, positive version of relu.

    .. math:: y = \frac{1}{\beta} \log \bigl( 1 + e^{\beta x} \bigr)

    Parameters
    ----------
    x : array of a real floating dtype, any shape
        Input.
    beta : float, default 1.0
        Sharpness: the larger, the closer to relu.

    Returns
    -------
    array
        Of the shape and dtype of x; NaN where x is NaN.

    Raises
    ------
    TypeError
        If x is no array of a real floating dtype, or beta no number.
    ValueError
        If beta is not positive and finite.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.activation import softplus
    >>> softplus(np.array([-1.0, 0.0, 1e4])).round(4)
    array([3.133e-01, 6.931e-01, 1.000e+04])
    """
    return _value(x, generic.softplus, _positive("beta", beta))


def softplus_vjp(x: Array, *, beta: float = 1.0) -> tuple[Array, Pullback]:
    """`softplus`, and the pullback of a cotangent dy to dx."""
    return _value_vjp(x, generic.softplus, generic.softplus_slope, _positive("beta", beta))


def _value(x: Array, f: Pointwise, *parameters: float) -> Array:
    xp, x = _array.reals(x=x)
    return xp.astype(f(xp, widened(xp, x), *parameters), x.dtype, copy=False)


def _value_vjp(x: Array, f: Pointwise, slope: Pointwise, *parameters: float) -> tuple[Array, Pullback]:
    xp, x = _array.reals(x=x)
    wide = widened(xp, x)

    def pull(dy: Array) -> Array:
        return xp.astype(slope.times(xp, widened(xp, dy), wide, *parameters), x.dtype, copy=False)

    y = xp.astype(f(xp, wide, *parameters), x.dtype, copy=False)
    return y, Pullback(y, x=pull)


def _gelu(approximate: str) -> tuple[Pointwise, Pointwise]:
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate={approximate!r}; needed 'none' or 'tanh'")
    return (generic.gelu, generic.gelu_slope) if approximate == "none" else (generic.gelu_tanh, generic.gelu_tanh_slope)


def _finite(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; needed a number")
    if not isfinite(value):
        raise ValueError(f"{name}={value!r}; needed a finite number")
    return float(value)


def _positive(name: str, value: Any) -> float:
    if not _finite(name, value) > 0:
        raise ValueError(f"{name}={value!r}; needed a number above 0")
    return float(value)
