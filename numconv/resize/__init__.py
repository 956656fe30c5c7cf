"""Resizing by interpolation, beside its vector-Jacobian product: the door of the room.

One small linear map per spatial axis, applied in array API; the pullback applies their transposes.
"""

from __future__ import annotations

from typing import Any

from .. import _array
from .._array import Array
from .._pullback import Pullback
from .._separable import AxisMap, adjoint, apply_trailing
from .._window import Ints, frozen
from . import geometry

__all__ = ["resize", "resize_vjp"]


def resize(x: Array, size: Ints, *, mode: str = "nearest") -> Array:
    r"""Interpolate x at another number of samples, over one, two or three spatial axes, one axis after another.

    .. math:: y[p] = \sum_q h(u_p - q) \, x[q], \qquad u_p = (p + \tfrac12) \, \frac{Q}{P} - \tfrac12

    for an axis of Q samples resized to P: sample centres lie half a sample inside, the first and last sample go on past the ends,
    and nothing is smoothed before shrinking (PyTorch's ``align_corners=False``, ``antialias=False``). The kernel h is a box of
    width 1 for "nearest" (upper neighbour on a tie; PyTorch's "nearest-exact"), a triangle for "linear", and for "cubic", with
    a = -0.75,

    .. math:: h(d) = \begin{cases} (a + 2) |d|^3 - (a + 3) |d|^2 + 1 & |d| \le 1 \\
       a |d|^3 - 5 a |d|^2 + 8 a |d| - 4 a & 1 < |d| < 2 \end{cases}

    Parameters
    ----------
    x : array of a floating dtype, shape (batch, channels, *old) or (channels, *old)
        Input.
    size : int or sequence of int
        New size, one for all axes or one per axis. Only a sequence allows x without the batch axis; with an int, all axes but the
        first two are spatial.
    mode : {"nearest", "linear", "cubic"}, default "nearest"
        The kernel.

    Returns
    -------
    array, shape (batch, channels, *size) or (channels, *size)
        In the library, on the device and of the dtype of x.

    Raises
    ------
    TypeError
        If x is no array of a floating dtype, or size holds no ints.
    ValueError
        If size does not fit x, or mode is another word.

    References
    ----------
    Keys, Cubic convolution interpolation for digital image processing, IEEE Trans. ASSP 29 (1981) 1153-1160.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.resize import resize
    >>> resize(np.array([[[0.0, 4.0]]]), 4, mode="linear")
    array([[[0., 1., 3., 4.]]])
    """
    x, maps = _mapped(x, size, mode)
    return apply_trailing(maps, x)


def resize_vjp(x: Array, size: Ints, *, mode: str = "nearest") -> tuple[Array, Pullback]:
    """`resize`, and the pullback of a cotangent dy to dx: the transposed maps.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.resize import resize_vjp
    >>> y, pullback = resize_vjp(np.array([[[0.0, 4.0]]]), 4, mode="linear")
    >>> pullback(np.array([[[1.0, 0.0, 0.0, 1.0]]]))
    array([[[1., 1.]]])
    """
    x, maps = _mapped(x, size, mode)
    y = apply_trailing(maps, x)
    return y, Pullback(y, x=lambda dy: apply_trailing(adjoint(maps), dy))


def _mapped(x: Any, size: Ints, mode: str) -> tuple[Array, tuple[AxisMap | None, ...]]:
    _, x = _array.floats(x=x)
    return x, geometry.resize(tuple(x.shape), frozen(size), mode)
