"""The samples under every window, and their sum back into place, each beside its vector-Jacobian product: the door of the room.

Unfolding and folding are each other's adjoint, so each is the other's pullback.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import _array
from .._array import Array
from .._pullback import Pullback
from .._window import Ints, Padding, frozen
from . import cpu, generic, geometry

__all__ = ["fold", "fold_vjp", "unfold", "unfold_vjp"]


def unfold(x: Array, window: Ints, *, stride: Ints = 1, padding: Padding = "valid", dilation: Ints = 1) -> Array:
    r"""Lay the samples under each window side by side ("im2col"), over one, two or three spatial axes.

    .. math:: y[n,c,k,p] = x[n,c,\; \text{stride} \cdot p + \text{dilation} \cdot k - \text{lo}]

    x is zero outside its bounds. Any function of windows can be written with it: ``unfold(x, 3).std(axis=(2, 3))``, say, for x of
    shape (batch, channels, height, width). What this library has a function for takes less memory there.

    Parameters
    ----------
    x : array of a numeric dtype, shape (batch, channels, \*size) or (channels, \*size)
        Input.
    window : int or sequence of int
        Number of taps, one for all axes or one per axis. A sequence also says how many axes are spatial, so only with a sequence
        can x go without the batch axis; with an int, all axes but the first two are spatial.
    stride : int or sequence of int, default 1
        Step between output positions, in input samples.
    padding : str, int or sequence, default "valid"
        Zeros around x, as in `conv`.
    dilation : int or sequence of int, default 1
        Step between taps, in input samples.

    Returns
    -------
    array, shape (batch, channels, \*window, \*out) or (channels, \*window, \*out)
        With ``out = (size + lo + hi - dilation * (window - 1) - 1) // stride + 1``; a copy. PyTorch's layout is
        ``y.reshape(batch, channels * prod(window), prod(out))``.

    Raises
    ------
    TypeError
        If x is no array of numbers, or an argument holds no ints.
    ValueError
        If shapes and arguments do not fit together, or the window is larger than the padded input.

    See Also
    --------
    fold : the adjoint.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import unfold
    >>> unfold(np.array([[[1, 2, 3, 4]]]), 3)
    array([[[[1, 2],
             [2, 3],
             [3, 4]]]])
    """
    xp, x = _array.numbers(x=x)
    g = geometry.unfold(tuple(x.shape), *map(frozen, (window, stride, padding, dilation)))
    return _drawer(xp).unfold(x, g)


def unfold_vjp(
    x: Array, window: Ints, *, stride: Ints = 1, padding: Padding = "valid", dilation: Ints = 1
) -> tuple[Array, Pullback]:
    """`unfold`, and the pullback of a cotangent dy to dx: `fold`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import unfold_vjp
    >>> y, pullback = unfold_vjp(np.array([[[1.0, 2.0, 3.0, 4.0]]]), 3)
    >>> pullback(np.ones_like(y))
    array([[[1., 2., 2., 1.]]])
    """
    xp, x = _array.floats(x=x)
    g = geometry.unfold(tuple(x.shape), *map(frozen, (window, stride, padding, dilation)))
    on = _drawer(xp)
    y = on.unfold(x, g)
    return y, Pullback(y, x=lambda dy: on.fold(dy, g))


def fold(columns: Array, size: Ints, window: Ints, *, stride: Ints = 1, padding: Padding = "valid", dilation: Ints = 1) -> Array:
    r"""Add what lies under each window back into place ("col2im"): the adjoint of `unfold`.

    .. math:: y[n,c,q] = \sum_{k,p \,:\, \text{stride} \cdot p + \text{dilation} \cdot k - \text{lo} = q} \text{columns}[n,c,k,p]

    What lies on the padding is left out. ``fold(unfold(x)) / fold(unfold(ones_like(x)))`` is x again, where windows hold it.

    Parameters
    ----------
    columns : array of a numeric dtype, shape (batch, channels, \*window, \*out) or (channels, \*window, \*out)
        As `unfold` gives them.
    size : int or sequence of int
        Size of the result, one for all axes or one per axis.
    window, stride, padding, dilation
        Those of the `unfold` whose adjoint is meant.

    Returns
    -------
    array, shape (batch, channels, \*size) or (channels, \*size)
        In the library, on the device and of the dtype of the columns.

    Raises
    ------
    TypeError
        If columns is no array of numbers, or an argument holds no ints.
    ValueError
        If `unfold` with these arguments does not give the shape of columns. Without the batch axis, size or window must be a
        sequence.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import fold
    >>> fold(np.array([[[[1, 2], [2, 3], [3, 4]]]]), 4, 3)
    array([[[1, 4, 6, 4]]])
    """
    xp, columns = _array.numbers(columns=columns)
    g = geometry.fold(tuple(columns.shape), *map(frozen, (size, window, stride, padding, dilation)))
    return _drawer(xp).fold(columns, g)


def fold_vjp(
    columns: Array, size: Ints, window: Ints, *, stride: Ints = 1, padding: Padding = "valid", dilation: Ints = 1
) -> tuple[Array, Pullback]:
    """`fold`, and the pullback of a cotangent dy to the gradient of the columns: `unfold`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import fold_vjp
    >>> y, pullback = fold_vjp(np.ones((1, 1, 2, 3)), 4, 2)
    >>> pullback(np.array([[[1.0, 2.0, 3.0, 4.0]]]))
    array([[[[1., 2., 3.],
             [2., 3., 4.]]]])
    """
    xp, columns = _array.floats(columns=columns)
    g = geometry.fold(tuple(columns.shape), *map(frozen, (size, window, stride, padding, dilation)))
    on = _drawer(xp)
    y = on.fold(columns, g)
    return y, Pullback(y, columns=lambda dy: on.unfold(dy, g))


def _drawer(xp: Any) -> Any:
    return cpu if xp is np else generic
