"""Convolution, and its vector-Jacobian product."""

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


def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    padding_mode: PaddingMode = "zeros",
    dilation: Ints = 1,
    groups: int = 1,
    method: str = "auto",
    precision: str = "default",
    flip: bool = False,
    layout: str = "channels_first",
    out: Array | None = None,
) -> Array:
    r"""Convolve x with w over one or more spatial axes, as deep learning does: cross-correlation, kernel not flipped.

    .. math:: y[n,o,p] = b[o] + \sum_{i,k} w[o,i,k] \, x[n,i,\; \text{stride} \cdot p + \text{dilation} \cdot k - \text{lo}]

    x is zero outside its bounds, unless padding_mode says otherwise; with groups, output channels see only the input channels of
    their own group.

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
    padding_mode : str or sequence of str, default "zeros"
        What stands in the padding, one word for all axes or one per axis: "zeros"; "reflect" (d c b | a b c d | c b a);
        "symmetric" (c b a | a b c d | d c b); "replicate" (a a a | a b c d | d d d); "circular" (b c d | a b c d | a b c).
    dilation : int or sequence of int, default 1
        Step between taps, in input samples.
    groups : int, default 1
        Number of channel groups convolved apart; `groups=c_in` is depthwise convolution.
    method : {"auto", "direct", "winograd", "fft"}, default "auto"
        How to compute it and its gradients; `explain` tells what "auto" chooses. "winograd" is for two to five
        taps along rows or columns, counted in steps of the stride, and either stride or dilation 1; it rounds up to three times
        as much. "fft" lets a NaN or infinity spread, and is never chosen for arrays that hold one.
    precision : {"default", "highest", "tf32", "ieee"}, default "default"
        "highest", and "ieee", compute every sum by its definition. On a GPU "default" is as accurate as float32 is, by tensor
        cores; "tf32" lets them round float32 to 11 bits first, a relative error of 3e-4. On the CPU "tf32" is the default.
    flip : bool, default False
        Read the taps of w backwards: convolution as mathematics has it, with x[..., p - k].
    layout : {"channels_first", "channels_last"}, default "channels_first"
        Where x and the result have their channels: behind the batch axis, or last. Weights lie the same way for both.
    out : array, shape of the result, optional
        Where to write the result, which is also returned: an array of the library and dtype of the input.

    Returns
    -------
    array, shape (batch, c_out, *out) or (c_out, *out)
        In the library, on the device and of the dtype of the input, with
        ``out = (size + lo + hi - dilation * (taps - 1) - 1) // stride + 1``.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, no numbers, or record gradients (see `numconv.interop`).
    ValueError
        If shapes and arguments do not fit together, or the window is larger than the padded input.

    See Also
    --------
    conv_vjp : the same with gradients.
    conv_transpose : the adjoint in x.

    Notes
    -----
    Integers are exact, and wrap around as NumPy's do. float16 and bfloat16 are summed in float32 and rounded once. Complex
    numbers are multiplied as they are, and pullbacks are the transposed maps: nothing is conjugated. The gradient of a real
    function in PyTorch's convention is `conj(pullback(conj(dy)))`.

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
    settings = Settings(stride, padding, padding_mode, dilation, groups, method, precision, flip, layout)
    return _conv(x, w, b, settings, out=out, pull=False)


def conv_vjp(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    padding_mode: PaddingMode = "zeros",
    dilation: Ints = 1,
    groups: int = 1,
    method: str = "auto",
    precision: str = "default",
    flip: bool = False,
    layout: str = "channels_first",
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
    settings = Settings(stride, padding, padding_mode, dilation, groups, method, precision, flip, layout)
    y, pullback = _conv(x, w, b, settings, pull=True)
    return y, pullback


def rectified_conv_vjp(x: Array, w: Array, b: Array | None, **arguments: Any) -> tuple[Array, Pullback]:
    """Return `relu(conv(...))`, rectified where it is stored, and the pullback of `conv` itself."""
    y, pullback = _conv(x, w, b, Settings(**arguments), pull=True, rectify=True)
    return y, pullback


def _conv(
    x: Array, w: Array, b: Array | None, settings: Settings, *, pull: bool, rectify: bool = False, out: Array | None = None
) -> Any:
    xp, x, w, b = _array.numbers(x=x, w=w, b=b)
    form = form_of(x.ndim, w.ndim, settings.layout)
    given, x, w = x, form.inward(xp, x), turned(xp, w, settings.flip)
    stride, padding, padding_mode, dilation, groups, method, precision, flip, _ = settings
    g = geometry.conv(tuple(x.shape), tuple(w.shape), frozen(stride), frozen(padding), frozen(dilation), groups)
    check_bias(b, g.groups * g.c_out)
    on = drawer(xp, x, method, precision, padding_mode, g.rank)
    if out is None:
        y = form.outward(xp, on.contract_y(x, w, g, b, rectify))
    else:
        y = written(out, form, g.y_shape, x.dtype, lambda: form.outward(xp, on.contract_y(x, w, g, b)), given, w, b)
    if not pull:
        return y
    gradients = {
        "x": lambda dy: form.outward(xp, on.contract_x(form.inward(xp, dy), w, g)),
        "w": lambda dy: turned(xp, on.contract_w(x, form.inward(xp, dy), g), flip),
    }
    return y, with_bias(xp, y, gradients, b, form)
