"""What comes after a convolution's sums: the bias and the rectifier, in plain array API."""

from __future__ import annotations

from array_api_compat import array_namespace

from .._array import Array


def finished(a: Array, b: Array | None, rectify: bool) -> Array:
    """Return a + b for each channel, and 0 for what is below 0 if wanted."""
    xp = array_namespace(a)
    if b is not None:
        a = a + xp.reshape(b, (-1,) + (1,) * (a.ndim - 2))
    return xp.where(a < 0, xp.zeros_like(a), a) if rectify else a
