"""Transposed convolution, and its vector-Jacobian product."""

from __future__ import annotations

from typing import Any

from .. import _array
from .._array import Array
from .._pullback import Pullback
from .._window import Ints, Padding, frozen
from . import geometry
from .batches import check_bias, unbatched, with_batch_axis, with_bias
from .contractions import drawer


def conv_transpose(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    output_padding: Ints = 0,
    output_size: Ints | None = None,
    dilation: Ints = 1,
    groups: int = 1,
    method: str = "auto",
    precision: str = "default",
) -> Array:
    r"""Transposed convolution: the adjoint of `conv` in its input, which spreads each sample of x over a window of the output.

    .. math:: y[n,o,q] = b[o] + \sum_{i,p,k} w[i,o,k] \, x[n,i,p]
       \quad \text{over } \; \text{stride} \cdot p + \text{dilation} \cdot k - \text{lo} = q

    Parameters
    ----------
    x : array, shape (batch, c_in, *size) or (c_in, *size)
        Input.
    w : array, shape (c_in, c_out / groups, *taps)
        Weights, laid out as those of the convolution this is the adjoint of.
    b : array, shape (c_out,), optional
        Bias.
    stride : int or sequence of int, default 1
        Step between the windows of neighbouring input samples, in output samples.
    padding : str, int or sequence, default "valid"
        Samples cut off around the output: the padding of the convolution this is the adjoint of, in the words of `conv`. "same"
        gives an output of size * stride.
    output_padding : int or sequence of int, default 0
        Samples added at the end of the output, fewer than the larger of stride and dilation: sizes of one class under the stride
        have convolutions of one size, and this tells them apart.
    output_size : int or sequence of int, optional
        Size of the output, in place of output_padding.
    dilation : int or sequence of int, default 1
        Step between taps, in output samples.
    groups : int, default 1
        Number of channel groups treated apart.
    method : {"auto", "direct", "winograd", "fft"}, default "auto"
        How to compute it and its gradients; `explain` tells what "auto" chooses. "winograd" is for two to five
        taps along rows or columns, counted in steps of the stride, and either stride or dilation 1; it rounds up to three times
        as much. "fft" lets a NaN or infinity spread, and is never chosen for arrays that hold one.
    precision : {"default", "highest"}, default "default"
        "highest" computes every sum by its definition.

    Returns
    -------
    array, shape (batch, c_out, *out) or (c_out, *out)
        With ``out = (size - 1) * stride + dilation * (taps - 1) + 1 - lo - hi + output_padding``.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, or no numbers.
    ValueError
        If shapes and arguments do not fit together.

    References
    ----------
    Dumoulin and Visin, A guide to convolution arithmetic for deep learning, arXiv:1603.07285, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> import numconv
    >>> numconv.conv_transpose(np.array([[1.0, 2.0]]), np.array([[[1.0, 10.0, 100.0]]]), stride=2)
    array([[  1.,  10., 102.,  20., 200.]])
    """
    return _conv_transpose(x, w, b, stride, padding, output_padding, output_size, dilation, groups, method, precision, pull=False)


def conv_transpose_vjp(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    output_padding: Ints = 0,
    output_size: Ints | None = None,
    dilation: Ints = 1,
    groups: int = 1,
    method: str = "auto",
    precision: str = "default",
) -> tuple[Array, Pullback]:
    """`conv_transpose`, and the pullback of a cotangent dy to (dx, dw), or (dx, dw, db) where there is a bias.

    Parameters are those of `conv_transpose`.

    Examples
    --------
    >>> import numpy as np
    >>> import numconv
    >>> y, pullback = numconv.conv_transpose1d_vjp(np.ones((1, 1, 2)), np.ones((1, 1, 3)), stride=2)
    >>> pullback(y, wrt="x")
    array([[[4., 4.]]])
    """
    y, pullback = _conv_transpose(
        x, w, b, stride, padding, output_padding, output_size, dilation, groups, method, precision, pull=True
    )
    return y, pullback


def rectified_conv_transpose_vjp(x: Array, w: Array, b: Array | None, **arguments: Any) -> tuple[Array, Pullback]:
    """Return `relu(conv_transpose(...))`, rectified where it is stored, and the pullback of `conv_transpose` itself."""
    chosen = {
        "stride": 1, "padding": "valid", "output_padding": 0, "output_size": None, "dilation": 1, "groups": 1, "method": "auto",
        "precision": "default", **arguments,
    }  # fmt: skip
    y, pullback = _conv_transpose(x, w, b, *chosen.values(), pull=True, rectify=True)
    return y, pullback


def _conv_transpose(
    x: Array,
    w: Array,
    b: Array | None,
    stride: Ints,
    padding: Padding,
    output_padding: Ints,
    output_size: Ints | None,
    dilation: Ints,
    groups: int,
    method: str,
    precision: str,
    *,
    pull: bool,
    rectify: bool = False,
) -> Any:
    # The adjoint of a convolution: what comes in here is y of the geometry, and what goes out is its x.
    xp, x, w, b = _array.numbers(x=x, w=w, b=b)
    x, batched = with_batch_axis(xp, x, w.ndim)
    g = geometry.conv_transpose(
        tuple(x.shape),
        tuple(w.shape),
        frozen(stride),
        frozen(padding),
        frozen(output_padding),
        frozen(output_size),
        frozen(dilation),
        groups,
    )
    check_bias(b, g.groups * g.c_in)
    on = drawer(xp, x.dtype, method, precision)
    y = unbatched(on.contract_x(x, w, g, b, rectify), batched)
    if not pull:
        return y
    gradients = {
        "x": lambda dy: unbatched(on.contract_y(with_batch_axis(xp, dy, w.ndim)[0], w, g), batched),
        "w": lambda dy: on.contract_w(with_batch_axis(xp, dy, w.ndim)[0], x, g),
    }
    return y, with_bias(xp, y, gradients, b, batched)
