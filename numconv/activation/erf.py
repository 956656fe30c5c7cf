"""The error function, which the array API lacks: W. J. Cody's rational approximations, without branches.

References
----------
W. J. Cody, Rational Chebyshev approximations for the error function, Math. Comp. 23 (1969) 631-637; coefficients from his
routine CALERF in SPECFUN, https://netlib.org/specfun/erf. Relative errors stay near the rounding of float64.
"""

from __future__ import annotations

from types import ModuleType

from .._array import Array

# Numerator and denominator, highest power first. erf(x) / x in x**2, for |x| up to _NEAR.
_SMALL = (
    (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
# exp(x**2) * erfc(x) in x, between _NEAR and _FAR.
_MIDDLE = (
    (
        2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1, 2.98635138197400131e2,
        8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
    ),
    (
        1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
        3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
    ),
)  # fmt: skip
# x**2 * (1 / sqrt(pi) - x * exp(x**2) * erfc(x)) in 1 / x**2, from _FAR on.
_LARGE = (
    (
        1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
        1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4,
    ),
    (1.0, 2.56852019228982242e0, 1.87295284992346725e0, 5.27905102951428412e-1, 6.05183413124413191e-2, 2.33520497626869185e-3),
)  # fmt: skip
_NEAR, _FAR = 0.46875, 4.0
_GONE = 28.0  # erfc is zero in float64 from here on; larger arguments would overflow on the way there
_RSQRT_PI = 5.6418958354775628695e-1


def erf(xp: ModuleType, x: Array) -> Array:
    r"""Error function of a float32 or float64 array.

    .. math:: \operatorname{erf}(x) = \frac{2}{\sqrt{\pi}} \int_0^x e^{-t^2} \, dt
    """
    small, tail, _ = _parts(xp, x)
    return xp.where(xp.abs(x) <= _NEAR, small, xp.where(x < 0, tail - 1.0, 1.0 - tail))


def erfc(xp: ModuleType, x: Array) -> Array:
    """Return 1 - erf(x), without the cancellation of that formula for large x."""
    return erfc_and_gaussian(xp, x)[0]


def erfc_and_gaussian(xp: ModuleType, x: Array) -> tuple[Array, Array]:
    """Return erfc(x) and exp(-x**2). A namespace that has a function of this name is taken at its word."""
    if hasattr(xp, "erfc_and_gaussian"):
        return xp.erfc_and_gaussian(x)  # type: ignore[no-any-return]
    small, tail, gaussian = _parts(xp, x)
    return xp.where(xp.abs(x) <= _NEAR, 1.0 - small, xp.where(x < 0, 2.0 - tail, tail)), gaussian


def _parts(xp: ModuleType, x: Array) -> tuple[Array, Array, Array]:
    """Return erf(x), right for |x| up to _NEAR, erfc(|x|), right beyond, both finite everywhere, and exp(-x**2)."""
    y = xp.minimum(xp.abs(x), _GONE)
    small = x * _ratio(_SMALL, y * y)
    far = xp.maximum(y, _FAR)
    inverse = 1.0 / (far * far)
    scaled = xp.where(y <= _FAR, _ratio(_MIDDLE, y), (_RSQRT_PI - inverse * _ratio(_LARGE, inverse)) / far)
    # The rounding of y * y would be magnified by exp: split y, so that the square of the first part is exact.
    head = xp.trunc(y * 16.0) / 16.0
    gaussian = xp.exp(-head * head) * xp.exp(-(y - head) * (y + head))
    return small, scaled * gaussian, gaussian


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], t: Array) -> Array:
    numerator, denominator = (_polynomial(c, t) for c in coefficients)
    return numerator / denominator


def _polynomial(coefficients: tuple[float, ...], t: Array) -> Array:
    value = t * coefficients[0] + coefficients[1]
    for c in coefficients[2:]:
        value = value * t + c
    return value
