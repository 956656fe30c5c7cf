"""The gradient functions of convolution beside their own gradients: each is again one of the three contractions.

The trilinear form is closed under differentiation, so gradients of any order are the public functions of the room.
"""

from __future__ import annotations

from typing import Any

from .. import _array
from .._array import Array
from .._pullback import Pullback
from .forward import conv
from .gradients import conv_bias_grad, conv_input_grad, conv_transpose_input_grad, conv_transpose_weight_grad, conv_weight_grad
from .transpose import conv_transpose


def conv_input_grad_vjp(dy: Array, w: Array, x_shape: tuple[int, ...], **settings: Any) -> tuple[Array, Pullback]:
    """`conv_input_grad`, and the pullback of a cotangent of dx to its gradients in dy and w: second derivatives of `conv`.

    Parameters are those of `conv_input_grad`. The gradient in dy is a convolution, that in w a weight gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_input_grad_vjp
    >>> dx, pullback = conv_input_grad_vjp(np.ones((1, 1, 2)), np.array([[[1.0, 2.0]]]), (1, 1, 3))
    >>> pullback(np.array([[[1.0, 0.0, 1.0]]]))
    (array([[[1., 2.]]]), array([[[1., 1.]]]))
    """
    dx = conv_input_grad(dy, w, x_shape, **settings)
    return dx, Pullback(dx, dy=lambda v: conv(v, w, **settings), w=lambda v: conv_weight_grad(v, dy, tuple(w.shape), **settings))


def conv_weight_grad_vjp(x: Array, dy: Array, w_shape: tuple[int, ...], **settings: Any) -> tuple[Array, Pullback]:
    """`conv_weight_grad`, and the pullback of a cotangent of dw to its gradients in x and dy: second derivatives of `conv`.

    Parameters are those of `conv_weight_grad`. The gradient in dy is a convolution, that in x a transposed one.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_weight_grad_vjp
    >>> dw, pullback = conv_weight_grad_vjp(np.array([[[1.0, 2.0, 4.0]]]), np.ones((1, 1, 2)), (1, 1, 2))
    >>> pullback(np.array([[[1.0, 10.0]]]))
    (array([[[ 1., 11., 10.]]]), array([[[21., 42.]]]))
    """
    dw = conv_weight_grad(x, dy, w_shape, **settings)
    return dw, Pullback(dw, x=lambda v: conv_input_grad(dy, v, tuple(x.shape), **settings), dy=lambda v: conv(x, v, **settings))


def conv_transpose_input_grad_vjp(dy: Array, w: Array, x_shape: tuple[int, ...], **settings: Any) -> tuple[Array, Pullback]:
    """`conv_transpose_input_grad`, and the pullback of a cotangent of dx to its gradients in dy and w.

    Parameters are those of `conv_transpose_input_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_transpose_input_grad_vjp
    >>> dx, pullback = conv_transpose_input_grad_vjp(np.ones((1, 1, 3)), np.array([[[1.0, 2.0]]]), (1, 1, 2))
    >>> pullback(np.array([[[1.0, 10.0]]]), wrt="dy")
    array([[[ 1., 12., 20.]]])
    """
    dx = conv_transpose_input_grad(dy, w, x_shape, **settings)
    size = spatial_size(dy, w.ndim, **settings)
    return dx, Pullback(
        dx,
        dy=lambda v: conv_transpose(v, w, output_size=size, **settings),
        w=lambda v: conv_transpose_weight_grad(v, dy, tuple(w.shape), **settings),
    )


def conv_transpose_weight_grad_vjp(x: Array, dy: Array, w_shape: tuple[int, ...], **settings: Any) -> tuple[Array, Pullback]:
    """`conv_transpose_weight_grad`, and the pullback of a cotangent of dw to its gradients in x and dy.

    Parameters are those of `conv_transpose_weight_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_transpose_weight_grad_vjp
    >>> dw, pullback = conv_transpose_weight_grad_vjp(np.array([[[1.0, 2.0]]]), np.ones((1, 1, 3)), (1, 1, 2))
    >>> pullback(np.array([[[1.0, 10.0]]]), wrt="x")
    array([[[11., 11.]]])
    """
    dw = conv_transpose_weight_grad(x, dy, w_shape, **settings)
    size = spatial_size(dy, len(w_shape), **settings)
    return dw, Pullback(
        dw,
        x=lambda v: conv_transpose_input_grad(dy, v, tuple(x.shape), **settings),
        dy=lambda v: conv_transpose(x, v, output_size=size, **settings),
    )


def conv_bias_grad_vjp(dy: Array, *, channel_axis: int = 1) -> tuple[Array, Pullback]:
    """`conv_bias_grad`, and the pullback of a cotangent of db to dy: each channel's number at all its positions.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_bias_grad_vjp
    >>> db, pullback = conv_bias_grad_vjp(np.ones((1, 2, 3)))
    >>> pullback(np.array([1.0, 2.0]))
    array([[[1., 1., 1.],
            [2., 2., 2.]]])
    """
    db = conv_bias_grad(dy, channel_axis=channel_axis)
    xp, shape = _array.namespace(dy=dy), tuple(dy.shape)
    per_channel = tuple(n if axis == channel_axis % len(shape) else 1 for axis, n in enumerate(shape))
    return db, Pullback(db, dy=lambda v: xp.broadcast_to(xp.reshape(v, per_channel), shape))


conv_transpose_bias_grad_vjp = conv_bias_grad_vjp


def spatial_size(a: Array, w_ndim: int, *, layout: str = "channels_first", **_: Any) -> tuple[int, ...]:
    """Return the size of the spatial axes of an array that goes with weights of `w_ndim` axes."""
    end = a.ndim - (layout == "channels_last")
    return tuple(a.shape[end - (w_ndim - 2) : end])
