"""The gradients of convolution and transposed convolution as functions of their own, for callers who keep no pullback.

Each is one contraction of the room, with the shape that a gradient cannot know given by the caller.
"""

from __future__ import annotations

from typing import Any

from .. import _array
from .._array import Array
from .._window import Ints, Padding, frozen
from . import geometry
from .batches import unbatched, with_batch, with_batch_axis
from .contractions import drawer
from .geometry import ConvGeometry


def conv_input_grad(
    dy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
    method: str = "auto",
    precision: str = "default",
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
    stride, padding, dilation, groups, method, precision
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
    g, batched = _conv_geometry(x_shape, w.shape, stride, padding, dilation, groups)
    dy = _checked(xp, "dy", dy, g.y_shape, batched)
    return unbatched(drawer(xp, dy.dtype, method, precision).contract_x(dy, w, g), batched)


def conv_weight_grad(
    x: Array,
    dy: Array,
    w_shape: tuple[int, ...],
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
    method: str = "auto",
    precision: str = "default",
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
    stride, padding, dilation, groups, method, precision
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
    g, batched = _conv_geometry(x.shape, w_shape, stride, padding, dilation, groups)
    x, dy = _checked(xp, "x", x, g.x_shape, batched), _checked(xp, "dy", dy, g.y_shape, batched)
    return drawer(xp, x.dtype, method, precision).contract_w(x, dy, g)


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
    return xp.sum(dy, axis=tuple(axis for axis in range(dy.ndim) if axis != channel_axis % dy.ndim), dtype=dy.dtype)


def conv_transpose_input_grad(
    dy: Array,
    w: Array,
    x_shape: tuple[int, ...],
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
    method: str = "auto",
    precision: str = "default",
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
    g, batched = _transpose_geometry(x_shape, w.shape, dy.shape, stride, padding, dilation, groups)
    dy = _checked(xp, "dy", dy, g.x_shape, batched)
    return unbatched(drawer(xp, dy.dtype, method, precision).contract_y(dy, w, g), batched)


def conv_transpose_weight_grad(
    x: Array,
    dy: Array,
    w_shape: tuple[int, ...],
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
    method: str = "auto",
    precision: str = "default",
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
    g, batched = _transpose_geometry(x.shape, w_shape, dy.shape, stride, padding, dilation, groups)
    x, dy = _checked(xp, "x", x, g.y_shape, batched), _checked(xp, "dy", dy, g.x_shape, batched)
    return drawer(xp, x.dtype, method, precision).contract_w(dy, x, g)


conv_transpose_bias_grad = conv_bias_grad


def _conv_geometry(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: Ints, padding: Padding, dilation: Ints, groups: int
) -> tuple[ConvGeometry, bool]:
    shape, batched = with_batch(tuple(x_shape), len(w_shape))
    return geometry.conv(shape, tuple(w_shape), frozen(stride), frozen(padding), frozen(dilation), groups), batched


def _transpose_geometry(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    dy_shape: tuple[int, ...],
    stride: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int,
) -> tuple[ConvGeometry, bool]:
    shape, batched = with_batch(tuple(x_shape), len(w_shape))
    out = tuple(dy_shape[len(dy_shape) - (len(w_shape) - 2) :])
    g = geometry.conv_transpose(shape, tuple(w_shape), frozen(stride), frozen(padding), 0, out, frozen(dilation), groups)
    return g, batched


def _checked(xp: Any, name: str, a: Array, shape: tuple[int, ...], batched: bool) -> Array:
    expected = shape if batched else shape[1:]
    if tuple(a.shape) != expected:
        raise ValueError(f"{name} has shape {tuple(a.shape)}; the other arguments make it {expected}")
    return with_batch_axis(xp, a, len(shape))[0]
