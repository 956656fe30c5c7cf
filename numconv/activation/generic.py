"""The activations and their derivatives in plain array API, of float32 or float64 arrays.

Each function stands above its slope. No exp is ever taken of a positive number, so nothing overflows; NaN gives NaN.
"""

from __future__ import annotations

from math import pi, sqrt
from types import ModuleType

from .._array import Array
from .._pointwise import pointwise
from .erf import erfc, erfc_and_gaussian

# Every function here is linear or constant to the last bit outside ±1e4; inside, squares and cubes stay finite in float32.
_BOUND = 1e4
_TANH_CUBIC = 0.044715  # Hendrycks and Gimpel, arXiv:1606.08415, section 2


@pointwise
def relu(xp: ModuleType, x: Array) -> Array:
    """max(x, 0)."""
    return xp.maximum(x, 0.0)


@pointwise
def relu_slope(xp: ModuleType, x: Array) -> Array:
    """1 where x > 0, else 0; 1 at NaN, so that it does not end in silence."""
    return xp.astype(xp.logical_not(x <= 0), x.dtype)


@pointwise
def leaky_relu(xp: ModuleType, x: Array, negative_slope: float) -> Array:
    """Return x where x > 0, else negative_slope * x."""
    return xp.where(x > 0, x, negative_slope * x)


@pointwise
def leaky_relu_slope(xp: ModuleType, x: Array, negative_slope: float) -> Array:
    """1 where x > 0, else negative_slope."""
    return xp.where(x <= 0, negative_slope, xp.ones_like(x))


@pointwise
def elu(xp: ModuleType, x: Array, alpha: float) -> Array:
    """Return x where x > 0, else alpha * (exp(x) - 1)."""
    return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0.0)))


@pointwise
def elu_slope(xp: ModuleType, x: Array, alpha: float) -> Array:
    """1 where x > 0, else alpha * exp(x)."""
    return xp.where(x > 0, 1.0, alpha * xp.exp(xp.minimum(x, 0.0)))


@pointwise
def sigmoid(xp: ModuleType, x: Array) -> Array:
    """1 / (1 + exp(-x)), each half of the line in the form that does not overflow."""
    z = xp.exp(-xp.abs(x))
    return xp.where(x < 0, z, 1.0) / (1.0 + z)


@pointwise
def sigmoid_slope(xp: ModuleType, x: Array) -> Array:
    """exp(-|x|) / (1 + exp(-|x|))**2: y * (1 - y) would cancel for large x."""
    z = xp.exp(-xp.abs(x))
    return z / ((1.0 + z) * (1.0 + z))


@pointwise
def tanh(xp: ModuleType, x: Array) -> Array:
    """tanh(x)."""
    return xp.tanh(x)


@pointwise
def tanh_slope(xp: ModuleType, x: Array) -> Array:
    """1 - tanh(x)**2, as 4 sigmoid'(2x)."""
    return 4.0 * sigmoid_slope(xp, 2.0 * _bounded(xp, x))


@pointwise
def silu(xp: ModuleType, x: Array) -> Array:
    """Return x * sigmoid(x)."""
    return xp.maximum(x, -_BOUND) * sigmoid(xp, x)


@pointwise
def silu_slope(xp: ModuleType, x: Array) -> Array:
    """sigmoid(x) + x * sigmoid'(x)."""
    x = _bounded(xp, x)
    return sigmoid(xp, x) + x * sigmoid_slope(xp, x)


@pointwise
def softplus(xp: ModuleType, x: Array, beta: float) -> Array:
    """log(1 + exp(beta * x)) / beta."""
    return xp.maximum(x, 0.0) + xp.log1p(xp.exp(-beta * xp.abs(x))) * (1.0 / beta)


@pointwise
def softplus_slope(xp: ModuleType, x: Array, beta: float) -> Array:
    """sigmoid(beta * x)."""
    return sigmoid(xp, beta * x)


@pointwise
def gelu(xp: ModuleType, x: Array) -> Array:
    """Return x * erfc(-x / sqrt(2)) / 2, x times the normal distribution function, which keeps its digits far to the left."""
    return xp.maximum(x, -_BOUND) * (0.5 * erfc(xp, x * -sqrt(0.5)))


@pointwise
def gelu_slope(xp: ModuleType, x: Array) -> Array:
    """Return the normal distribution function, plus x times the normal density."""
    x = _bounded(xp, x)
    tail, gaussian = erfc_and_gaussian(xp, x * -sqrt(0.5))
    return 0.5 * tail + x * (gaussian * sqrt(0.5 / pi))


@pointwise
def gelu_tanh(xp: ModuleType, x: Array) -> Array:
    """Return x * (1 + tanh(u)) / 2 = x * sigmoid(2u), for u = sqrt(2 / pi) * (x + 0.044715 x**3)."""
    return xp.maximum(x, -_BOUND) * sigmoid(xp, _twice_u(_bounded(xp, x)))


@pointwise
def gelu_tanh_slope(xp: ModuleType, x: Array) -> Array:
    """sigmoid(2u) + x * sigmoid'(2u) * 2u'."""
    x = _bounded(xp, x)
    u = _twice_u(x)
    return sigmoid(xp, u) + x * sigmoid_slope(xp, u) * (sqrt(8 / pi) * (1.0 + 3 * _TANH_CUBIC * x * x))


def softmax(xp: ModuleType, x: Array, axis: int) -> Array:
    """exp(x) / sum of exp(x) along an axis, both scaled by exp(-max(x))."""
    z = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return z / xp.sum(z, axis=axis, keepdims=True, dtype=z.dtype)


def softmax_pullback(xp: ModuleType, y: Array, dy: Array, axis: int) -> Array:
    """Return dx = y * (dy - sum of y * dy)."""
    return y * (dy - xp.sum(y * dy, axis=axis, keepdims=True, dtype=y.dtype))


def log_softmax(xp: ModuleType, x: Array, axis: int) -> Array:
    """Return x - log of the sum of exp(x) along an axis, both less max(x)."""
    x = x - xp.max(x, axis=axis, keepdims=True)
    return x - xp.log(xp.sum(xp.exp(x), axis=axis, keepdims=True, dtype=x.dtype))


def log_softmax_pullback(xp: ModuleType, y: Array, dy: Array, axis: int) -> Array:
    """Return dx = dy - exp(y) * sum of dy."""
    return dy - xp.exp(y) * xp.sum(dy, axis=axis, keepdims=True, dtype=y.dtype)


def _bounded(xp: ModuleType, x: Array) -> Array:
    return xp.minimum(xp.maximum(x, -_BOUND), _BOUND)


def _twice_u(x: Array) -> Array:
    return sqrt(8 / pi) * x * (1.0 + _TANH_CUBIC * x * x)
