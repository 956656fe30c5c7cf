"""Convolution, and its vector-Jacobian product."""

from __future__ import annotations

from typing import Any

from .. import _array
from .._array import Array
from .._pullback import Pullback
from .._window import Ints, Padding, frozen
from . import geometry
from .batches import check_bias, unbatched, with_batch_axis, with_bias
from .contractions import drawer


def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
    method: str = "auto",
    precision: str = "default",
) -> Array:
    r"""Convolve x with w over one, two or three spatial axes, as deep learning does: cross-correlation, kernel not flipped.

    .. math:: y[n,o,p] = b[o] + \sum_{i,k} w[o,i,k] \, x[n,i,\; \text{stride} \cdot p + \text{dilation} \cdot k - \text{lo}]

    x is zero outside its bounds; with groups, output channels see only the input channels of their own group.

    Parameters
    ----------
    x : array, shape (batch, c_in, *size) or (c_in, *size)
        Input; without the batch axis the output has none either.
    w : array, shape (c_out, c_in / groups, *taps)
        Weights; their number of axes says how many axes are spatial.
    b : array, shape (c_out,), optional
        Bias, added to every output position.
    stride : int or sequence of int, default 1
        Step between output positions, in input samples; one for all axes, or one per axis.
    padding : str, int or sequence, default "valid"
        Zeros around x: an int; one int or one (lo, hi) pair per axis; "valid" (none); "same" (ceil(size / stride) outputs, an odd
        zero at the end); "same_lower" (an odd zero at the start); "full" (every position where w touches x); "causal" (one axis
        only: outputs see no later inputs).
    dilation : int or sequence of int, default 1
        Step between taps, in input samples.
    groups : int, default 1
        Number of channel groups convolved apart; `groups=c_in` is depthwise convolution.
    method : {"auto", "direct", "winograd", "fft"}, default "auto"
        How to compute it and its gradients; `explain` tells what "auto" chooses. "winograd" is for two to five
        taps along rows or columns, counted in steps of the stride, and either stride or dilation 1; it rounds up to three times
        as much. "fft" lets a NaN or infinity spread, and is never chosen for arrays that hold one.
    precision : {"default", "highest"}, default "default"
        "highest" computes every sum by its definition.

    Returns
    -------
    array, shape (batch, c_out, *out) or (c_out, *out)
        In the library, on the device and of the dtype of the input, with
        ``out = (size + lo + hi - dilation * (taps - 1) - 1) // stride + 1``.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, or no numbers.
    ValueError
        If shapes and arguments do not fit together, or the window is larger than the padded input.

    See Also
    --------
    conv_vjp : the same with gradients.
    conv_transpose : the adjoint in x.

    References
    ----------
    Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285, sections 2 and 5.

    Examples
    --------
    >>> import numpy as np
    >>> import numconv
    >>> numconv.conv(np.array([[1.0, 2.0, 4.0, 8.0]]), np.array([[[-1.0, 1.0]]]))
    array([[1., 2., 4.]])
    """
    return _conv(x, w, b, stride, padding, dilation, groups, method, precision, pull=False)


def conv_vjp(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
    method: str = "auto",
    precision: str = "default",
) -> tuple[Array, Pullback]:
    """`conv`, and the pullback of a cotangent dy to (dx, dw), or (dx, dw, db) where there is a bias.

    Parameters are those of `conv`. `pullback(dy, wrt="w")` computes only that gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import numconv
    >>> x, w = np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3))
    >>> y, pullback = numconv.conv2d_vjp(x, w)
    >>> dx, dw = pullback(np.ones_like(y))
    >>> dx[0, 0]
    array([[1., 2., 2., 1.],
           [2., 4., 4., 2.],
           [2., 4., 4., 2.],
           [1., 2., 2., 1.]])
    """
    y, pullback = _conv(x, w, b, stride, padding, dilation, groups, method, precision, pull=True)
    return y, pullback


def rectified_conv_vjp(x: Array, w: Array, b: Array | None, **arguments: Any) -> tuple[Array, Pullback]:
    """Return `relu(conv(...))`, rectified where it is stored, and the pullback of `conv` itself."""
    chosen = {"stride": 1, "padding": "valid", "dilation": 1, "groups": 1, "method": "auto", "precision": "default", **arguments}
    y, pullback = _conv(x, w, b, *chosen.values(), pull=True, rectify=True)
    return y, pullback


def _conv(
    x: Array,
    w: Array,
    b: Array | None,
    stride: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int,
    method: str,
    precision: str,
    *,
    pull: bool,
    rectify: bool = False,
) -> Any:
    xp, x, w, b = _array.numbers(x=x, w=w, b=b)
    x, batched = with_batch_axis(xp, x, w.ndim)
    g = geometry.conv(tuple(x.shape), tuple(w.shape), frozen(stride), frozen(padding), frozen(dilation), groups)
    check_bias(b, g.groups * g.c_out)
    on = drawer(xp, x.dtype, method, precision)
    y = unbatched(on.contract_y(x, w, g, b, rectify), batched)
    if not pull:
        return y
    gradients = {
        "x": lambda dy: unbatched(on.contract_x(with_batch_axis(xp, dy, w.ndim)[0], w, g), batched),
        "w": lambda dy: on.contract_w(x, with_batch_axis(xp, dy, w.ndim)[0], g),
    }
    return y, with_bias(xp, y, gradients, b, batched)
