"""Normalisation in plain array API: definition, fallback for other libraries and dtypes, oracle of the kernels.

With d = x - mean and r = 1 / sqrt(var + eps), y = d r scale + shift. The mean is kept in two numbers, a first one and what it
missed by rounding, so that d is right to its own last digits however far the numbers are from zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from array_api_compat import array_namespace

from .._array import Array, narrow
from .geometry import NormGeometry


class Moments(NamedTuple):
    """Mean (in two parts) and 1 / sqrt(var + eps) of each set, with the axes of the view; `fixed` ones do not depend on x."""

    mean: Array
    rest: Array
    r: Array
    fixed: bool


def moments(x: Array, g: NormGeometry) -> tuple[Array, Array]:
    """Mean and variance of each set."""
    xp = array_namespace(x)
    mean, rest, d = _centred(xp, _wide(xp, x), g)
    mean, var = (xp.astype(xp.reshape(a, (g.sets,)), x.dtype, copy=False) for a in (mean + rest, _mean(xp, d * d, g)))
    return mean, var


def normal_y(
    x: Array, scale: Array | None, shift: Array | None, given: tuple[Array, Array] | None, g: NormGeometry, eps: float
) -> tuple[Array, Moments]:
    """Return y = d r scale + shift with the moments of x, or `given` mean and variance of each set."""
    xp = array_namespace(x)
    if given is None:
        mean, rest, d = _centred(xp, _wide(xp, x), g)
        r = 1 / xp.sqrt(_mean(xp, d * d, g) + eps)
    else:
        mean, var = (_facing(xp, a, g) for a in given)
        rest, r, d = xp.zeros_like(mean), 1 / xp.sqrt(var + eps), xp.reshape(_wide(xp, x), g.view) - mean
    y = d * r
    if scale is not None:
        y = y * _facing(xp, scale, g)
    if shift is not None:
        y = y + _facing(xp, shift, g)
    return _like(xp, y, x), Moments(mean, rest, r, given is not None)


def gradients(
    dy: Array, x: Array, scale: Array | None, kept: Moments, g: NormGeometry, need_x: bool
) -> tuple[Array | None, Array, Array]:
    """Return dx = r (h - mean(h) - d r^2 mean(h d)) with h = dy scale, r h if moments are fixed; sums of dy d r; sums of dy."""
    xp = array_namespace(x)
    normal = (xp.reshape(_wide(xp, x), g.view) - kept.mean - kept.rest) * kept.r
    wide = xp.reshape(_wide(xp, dy), g.view)
    over = (0, 3)  # a channel's numbers
    sums = (xp.sum(a, axis=over) for a in (wide * normal, wide))
    dscale, dshift = (xp.astype(xp.reshape(a, g.channels), x.dtype, copy=False) for a in sums)
    if not need_x:
        return None, dscale, dshift
    h = wide if scale is None else wide * _facing(xp, scale, g)
    if not kept.fixed:
        h = h - _mean(xp, h, g) - normal * _mean(xp, h * normal, g)
    return _like(xp, kept.r * h, x), dscale, dshift


def _centred(xp: Any, x: Array, g: NormGeometry) -> tuple[Array, Array, Array]:
    x = xp.reshape(x, g.view)
    mean = _mean(xp, x, g)
    rest = _mean(xp, x - mean, g)
    return mean, rest, x - mean - rest


def _mean(xp: Any, x: Array, g: NormGeometry) -> Array:
    return xp.mean(x, axis=g.axes, keepdims=True)


def _facing(xp: Any, channels: Array, g: NormGeometry) -> Array:
    return xp.reshape(_wide(xp, channels), (1, g.view[1], g.view[2], 1))


def _wide(xp: Any, a: Array) -> Array:
    return xp.astype(a, xp.float32) if narrow(a.dtype) else a


def _like(xp: Any, a: Array, x: Array) -> Array:
    return xp.astype(xp.reshape(a, x.shape), x.dtype, copy=False)
