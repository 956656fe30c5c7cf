"""Averages over bins that fill the input, whatever its size: the room's second door, for any library."""

from __future__ import annotations

from math import prod
from typing import Any

from .. import _array, _lend
from .._array import Array
from .._pullback import Pullback
from .._separable import adjoint, apply_trailing
from .._window import Ints, frozen
from . import geometry


def global_avg_pool(x: Array) -> Array:
    r"""Mean over all spatial axes.

    .. math:: y[n,c] = \frac{1}{Q} \sum_q x[n,c,q]

    Parameters
    ----------
    x : array of a floating dtype, shape (batch, channels, *size)
        Input, with one, two or three spatial axes.

    Returns
    -------
    array, shape (batch, channels)
        In the library, on the device and of the dtype of x.

    Raises
    ------
    TypeError
        If x is no array of a floating dtype.
    ValueError
        If x has no spatial axes, more than three, or no samples along one.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.pool import global_avg_pool
    >>> global_avg_pool(np.array([[[1.0, 2.0, 6.0]]]))
    array([[3.]])
    """
    return _spatial_mean(x)[0]


def global_avg_pool_vjp(x: Array) -> tuple[Array, Pullback]:
    """`global_avg_pool`, and the pullback of a cotangent dy to dx: dy is shared out over all samples.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.pool import global_avg_pool_vjp
    >>> y, pullback = global_avg_pool_vjp(np.array([[[1.0, 2.0]]]))
    >>> pullback(y)
    array([[[0.75, 0.75]]])
    """
    y, xp, shape = _spatial_mean(x)
    count, facing = prod(shape[2:]), (*shape[:2], *(1,) * len(shape[2:]))

    def pull(dy: Array) -> Array:
        return xp.asarray(xp.broadcast_to(xp.reshape(dy / count, facing), shape), copy=True)

    return y, Pullback(y, x=pull)


def adaptive_avg_pool(x: Array, output_size: Ints) -> Array:
    r"""Means over bins that divide each spatial axis as evenly as they can.

    .. math:: y[n,c,p] = \text{mean of } x[n,c,q] \text{ over }
       \lfloor p \, Q / P \rfloor \le q < \lceil (p + 1) \, Q / P \rceil

    for an axis of Q samples and P bins. Neighbouring bins share a sample where Q is not a multiple of P.

    Parameters
    ----------
    x : array of a floating dtype, shape (batch, channels, *size) or (channels, *size)
        Input.
    output_size : int or sequence of int
        Number of bins, one for all axes or one per axis. Only a sequence allows x without the batch axis; with an int, all axes
        but the first two are spatial.

    Returns
    -------
    array, shape (batch, channels, *output_size) or (channels, *output_size)
        In the library, on the device and of the dtype of x.

    Raises
    ------
    TypeError
        If x is no array of a floating dtype, or output_size holds no ints.
    ValueError
        If output_size does not fit x.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.pool import adaptive_avg_pool
    >>> adaptive_avg_pool(np.array([[[1.0, 2.0, 3.0, 4.0, 5.0]]]), 2)
    array([[[2., 4.]]])
    """
    _, x = _array.floats(x=x)
    return apply_trailing(geometry.adaptive(tuple(x.shape), frozen(output_size)), x)


def adaptive_avg_pool_vjp(x: Array, output_size: Ints) -> tuple[Array, Pullback]:
    """`adaptive_avg_pool`, and the pullback of a cotangent dy to dx: each dy is shared out over its bin."""
    _, x = _array.floats(x=x)
    maps = geometry.adaptive(tuple(x.shape), frozen(output_size))
    y = apply_trailing(maps, x)
    return y, Pullback(y, x=lambda dy: apply_trailing(adjoint(maps), dy))


def _spatial_mean(x: Array) -> tuple[Array, Any, tuple[int, ...]]:
    xp, x = _array.floats(x=x)
    shape = tuple(x.shape)
    geometry.check_whole(shape)
    if (kernel := _lend.on_gpu(xp, x, _plane_means)) is not None:
        return kernel(x), xp, shape
    return xp.mean(x, axis=tuple(range(2, x.ndim))), xp, shape


def _plane_means(x: Array) -> Array:
    from .cuda import planes

    return planes.means(x)
