"""Transposed convolution, and its vector-Jacobian product."""

from __future__ import annotations

from typing import Any

from .. import _array
from .._array import Array
from .._border import PaddingMode
from .._pullback import Pullback
from .._window import Ints, Padding, frozen
from . import geometry
from .batches import Settings, check_bias, form_of, turned, with_bias, written
from .contractions import drawer


def conv_transpose(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    padding_mode: PaddingMode = "zeros",
    output_padding: Ints = 0,
    output_size: Ints | None = None,
    dilation: Ints = 1,
    groups: int = 1,
    method: str = "auto",
    precision: str = "default",
    flip: bool = False,
    layout: str = "channels_first",
    out: Array | None = None,
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
    padding_mode : str or sequence of str, default "zeros"
        Where what falls on the padding goes: "zeros" drops it, the others add it to the sample that a convolution of this padding
        mode reads there. So this is the adjoint of `conv` in every mode.
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
    precision : {"default", "highest", "tf32", "ieee"}, default "default"
        "highest", and "ieee", compute every sum by its definition. On a GPU "default" is as accurate as float32 is, by tensor
        cores; "tf32" lets them round float32 to 11 bits first, a relative error of 3e-4. On the CPU "tf32" is the default.
    flip : bool, default False
        Read the taps of w backwards.
    layout : {"channels_first", "channels_last"}, default "channels_first"
        Where x and the result have their channels: behind the batch axis, or last. Weights lie the same way for both.
    out : array, shape of the result, optional
        Where to write the result, which is also returned: an array of the library and dtype of the input.

    Returns
    -------
    array, shape (batch, c_out, *out) or (c_out, *out)
        With ``out = (size - 1) * stride + dilation * (taps - 1) + 1 - lo - hi + output_padding``.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, no numbers, or record gradients (see `numconv.interop`).
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
    settings = Settings(stride, padding, padding_mode, dilation, groups, method, precision, flip, layout)
    return _conv_transpose(x, w, b, settings, output_padding, output_size, out=out, pull=False)


def conv_transpose_vjp(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    padding_mode: PaddingMode = "zeros",
    output_padding: Ints = 0,
    output_size: Ints | None = None,
    dilation: Ints = 1,
    groups: int = 1,
    method: str = "auto",
    precision: str = "default",
    flip: bool = False,
    layout: str = "channels_first",
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
    settings = Settings(stride, padding, padding_mode, dilation, groups, method, precision, flip, layout)
    y, pullback = _conv_transpose(x, w, b, settings, output_padding, output_size, pull=True)
    return y, pullback


def rectified_conv_transpose_vjp(
    x: Array, w: Array, b: Array | None, *, output_padding: Ints = 0, output_size: Ints | None = None, **arguments: Any
) -> tuple[Array, Pullback]:
    """Return `relu(conv_transpose(...))`, rectified where it is stored, and the pullback of `conv_transpose` itself."""
    y, pullback = _conv_transpose(x, w, b, Settings(**arguments), output_padding, output_size, pull=True, rectify=True)
    return y, pullback


def _conv_transpose(
    x: Array,
    w: Array,
    b: Array | None,
    settings: Settings,
    output_padding: Ints,
    output_size: Ints | None,
    *,
    pull: bool,
    rectify: bool = False,
    out: Array | None = None,
) -> Any:
    # The adjoint of a convolution: what comes in here is y of the geometry, and what goes out is its x.
    xp, x, w, b = _array.numbers(x=x, w=w, b=b)
    form = form_of(x.ndim, w.ndim, settings.layout)
    given, x, w = x, form.inward(xp, x), turned(xp, w, settings.flip)
    stride, padding, padding_mode, dilation, groups, method, precision, flip, _ = settings
    size = frozen(output_padding), frozen(output_size)
    g = geometry.conv_transpose(tuple(x.shape), tuple(w.shape), frozen(stride), frozen(padding), *size, frozen(dilation), groups)
    check_bias(b, g.groups * g.c_in)
    on = drawer(xp, x, method, precision, padding_mode, g.rank)
    if out is None:
        y = form.outward(xp, on.contract_x(x, w, g, b, rectify))
    else:
        y = written(out, form, g.x_shape, x.dtype, lambda: form.outward(xp, on.contract_x(x, w, g, b)), given, w, b)
    if not pull:
        return y
    gradients = {
        "x": lambda dy: form.outward(xp, on.contract_y(form.inward(xp, dy), w, g)),
        "w": lambda dy: turned(xp, on.contract_w(form.inward(xp, dy), x, g), flip),
    }
    return y, with_bias(xp, y, gradients, b, form)
