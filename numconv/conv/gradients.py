"""The gradients of convolution and transposed convolution as functions of their own, for callers who keep no pullback.

Each is one contraction of the room, with the shape that a gradient cannot know given by the caller.
"""

from __future__ import annotations

from typing import Any

from .. import _array
from .._array import Array
from .._border import PaddingMode
from .._window import Ints, Padding, frozen
from . import geometry
from .batches import Form, form_of, summed, turned
from .contractions import drawer
from .geometry import ConvGeometry


def conv_input_grad(
    dy: Array,
    w: Array,
    x_shape: tuple[int, ...],
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
) -> Array:
    """Gradient of `conv` in its input: dx, given the gradient dy in its output.

    Parameters
    ----------
    dy : array, shape (batch, c_out, *out) or (c_out, *out)
        Gradient in the output.
    w : array, shape (c_out, c_in / groups, *taps)
        Weights.
    x_shape : tuple of int
        Shape of the input, which stride leaves open.
    stride, padding, padding_mode, dilation, groups, method, precision, flip, layout
        As given to `conv`.

    Returns
    -------
    array, shape x_shape

    Raises
    ------
    ValueError
        If dy has not the shape that `conv` gives for these arguments.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_input_grad
    >>> conv_input_grad(np.ones((1, 1, 2)), np.array([[[1.0, 2.0]]]), (1, 1, 3))
    array([[[1., 3., 2.]]])
    """
    xp, dy, w = _array.numbers(dy=dy, w=w)
    g, form = _conv_geometry(x_shape, w.shape, stride, padding, dilation, groups, layout)
    dy = _checked(xp, "dy", dy, g.y_shape, form)
    on = drawer(xp, dy, method, precision, padding_mode, g.rank)
    return form.outward(xp, on.contract_x(dy, turned(xp, w, flip), g))


def conv_weight_grad(
    x: Array,
    dy: Array,
    w_shape: tuple[int, ...],
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
) -> Array:
    """Gradient of `conv` in its weights: dw, given its input x and the gradient dy in its output.

    Parameters
    ----------
    x : array, shape (batch, c_in, *size) or (c_in, *size)
        Input.
    dy : array, shape (batch, c_out, *out) or (c_out, *out)
        Gradient in the output.
    w_shape : tuple of int
        Shape of the weights.
    stride, padding, padding_mode, dilation, groups, method, precision, flip, layout
        As given to `conv`.

    Returns
    -------
    array, shape w_shape

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_weight_grad
    >>> conv_weight_grad(np.array([[[1.0, 2.0, 4.0]]]), np.ones((1, 1, 2)), (1, 1, 2))
    array([[[3., 6.]]])
    """
    xp, x, dy = _array.numbers(x=x, dy=dy)
    g, form = _conv_geometry(x.shape, w_shape, stride, padding, dilation, groups, layout)
    x, dy = _checked(xp, "x", x, g.x_shape, form), _checked(xp, "dy", dy, g.y_shape, form)
    return turned(xp, drawer(xp, x, method, precision, padding_mode, g.rank).contract_w(x, dy, g), flip)


def conv_bias_grad(dy: Array, *, channel_axis: int = 1) -> Array:
    """Gradient of a convolution, transposed or not, in its bias: dy summed over all but its channels.

    Parameters
    ----------
    dy : array, shape (batch, channels, *out)
        Gradient in the output.
    channel_axis : int, default 1
        Where the channels are; 0 for an output without a batch axis.

    Returns
    -------
    array, shape (channels,)

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_bias_grad
    >>> conv_bias_grad(np.ones((2, 3, 4, 4)))
    array([32., 32., 32.])
    """
    xp, dy = _array.numbers(dy=dy)
    if not -dy.ndim <= channel_axis < dy.ndim:
        raise ValueError(f"channel_axis={channel_axis}, but dy has only {dy.ndim} axes (shape {tuple(dy.shape)})")
    return summed(xp, dy, tuple(axis for axis in range(dy.ndim) if axis != channel_axis % dy.ndim))


def conv_transpose_input_grad(
    dy: Array,
    w: Array,
    x_shape: tuple[int, ...],
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
) -> Array:
    """Gradient of `conv_transpose` in its input: dx, given the gradient dy in its output.

    It is a convolution of dy. Parameters are those of `conv_input_grad`, with w of shape (c_in, c_out / groups, *taps);
    the size of dy says what output_padding or output_size was.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_transpose_input_grad
    >>> conv_transpose_input_grad(np.ones((1, 1, 5)), np.array([[[1.0, 10.0, 100.0]]]), (1, 1, 2), stride=2)
    array([[[111., 111.]]])
    """
    xp, dy, w = _array.numbers(dy=dy, w=w)
    g, form = _transpose_geometry(x_shape, w.shape, dy.shape, stride, padding, dilation, groups, layout)
    dy = _checked(xp, "dy", dy, g.x_shape, form)
    on = drawer(xp, dy, method, precision, padding_mode, g.rank)
    return form.outward(xp, on.contract_y(dy, turned(xp, w, flip), g))


def conv_transpose_weight_grad(
    x: Array,
    dy: Array,
    w_shape: tuple[int, ...],
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
) -> Array:
    """Gradient of `conv_transpose` in its weights: dw, given its input x and the gradient dy in its output.

    Parameters are those of `conv_weight_grad`; the size of dy says what output_padding or output_size was.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_transpose_weight_grad
    >>> conv_transpose_weight_grad(np.array([[[1.0, 2.0]]]), np.ones((1, 1, 5)), (1, 1, 3), stride=2)
    array([[[3., 3., 3.]]])
    """
    xp, x, dy = _array.numbers(x=x, dy=dy)
    g, form = _transpose_geometry(x.shape, w_shape, dy.shape, stride, padding, dilation, groups, layout)
    x, dy = _checked(xp, "x", x, g.y_shape, form), _checked(xp, "dy", dy, g.x_shape, form)
    return turned(xp, drawer(xp, x, method, precision, padding_mode, g.rank).contract_w(dy, x, g), flip)


conv_transpose_bias_grad = conv_bias_grad


def _conv_geometry(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int,
    layout: str,
) -> tuple[ConvGeometry, Form]:
    form = form_of(len(x_shape), len(w_shape), layout)
    shape = form.inward_shape(tuple(x_shape))
    return geometry.conv(shape, tuple(w_shape), frozen(stride), frozen(padding), frozen(dilation), groups), form


def _transpose_geometry(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    dy_shape: tuple[int, ...],
    stride: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int,
    layout: str,
) -> tuple[ConvGeometry, Form]:
    form = form_of(len(x_shape), len(w_shape), layout)
    shape = form.inward_shape(tuple(x_shape))
    out = form.inward_shape(tuple(dy_shape))[2:]
    g = geometry.conv_transpose(shape, tuple(w_shape), frozen(stride), frozen(padding), 0, out, frozen(dilation), groups)
    return g, form


def _checked(xp: Any, name: str, a: Array, shape: tuple[int, ...], form: Form) -> Array:
    expected = form.outward_shape(shape)
    if tuple(a.shape) != expected:
        raise ValueError(f"{name} has shape {tuple(a.shape)}; the other arguments make it {expected}")
    return form.inward(xp, a)
