"""Weight gradients of each sample of a batch apart, as differential privacy and influence functions ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import _array
from .._array import Array
from .._pullback import Pullback
from .gradients import conv_transpose_weight_grad, conv_weight_grad
from .second import conv_transpose_weight_grad_vjp, conv_weight_grad_vjp


def conv_per_sample_weight_grad(x: Array, dy: Array, w_shape: tuple[int, ...], **settings: Any) -> Array:
    r"""Gradient of `conv` in its weights for each sample of the batch: `conv_weight_grad` before the sum over the batch.

    .. math:: dw[n,o,i,k] = \sum_p dy[n,o,p] \, x[n,i,\; \text{stride} \cdot p + \text{dilation} \cdot k - \text{lo}]

    Samples are computed as groups of channels, so no windows are unfolded: memory is that of the result.

    Parameters
    ----------
    x : array, shape (batch, c_in, *size)
        Input.
    dy : array, shape (batch, c_out, *out)
        Gradient in the output.
    w_shape : tuple of int
        Shape of the weights.
    **settings
        stride, padding, dilation, groups and what else was given to `conv`.

    Returns
    -------
    array, shape (batch, *w_shape)

    Raises
    ------
    ValueError
        If x or dy has no batch axis, or they do not fit together as `conv_weight_grad` needs them.

    See Also
    --------
    conv_weight_grad : the sum over the batch.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_per_sample_weight_grad
    >>> x = np.array([[[1.0, 2.0, 4.0]], [[0.0, 1.0, 0.0]]])
    >>> conv_per_sample_weight_grad(x, np.ones((2, 1, 2)), (1, 1, 2))[:, 0, 0]
    array([[3., 6.],
           [1., 1.]])
    """
    return _per_sample(conv_weight_grad, x, dy, w_shape, **settings)


def conv_per_sample_weight_grad_vjp(x: Array, dy: Array, w_shape: tuple[int, ...], **settings: Any) -> tuple[Array, Pullback]:
    """`conv_per_sample_weight_grad`, and the pullback of a cotangent of its result to x and dy."""
    return _per_sample_vjp(conv_weight_grad_vjp, x, dy, w_shape, **settings)


def conv_transpose_per_sample_weight_grad(x: Array, dy: Array, w_shape: tuple[int, ...], **settings: Any) -> Array:
    """Gradient of `conv_transpose` in its weights for each sample of the batch.

    Parameters are those of `conv_per_sample_weight_grad`; the size of dy says what output_padding or output_size was.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_transpose_per_sample_weight_grad
    >>> x = np.array([[[1.0, 2.0]], [[0.0, 1.0]]])
    >>> conv_transpose_per_sample_weight_grad(x, np.ones((2, 1, 5)), (1, 1, 3), stride=2)[:, 0, 0]
    array([[3., 3., 3.],
           [1., 1., 1.]])
    """
    return _per_sample(conv_transpose_weight_grad, x, dy, w_shape, **settings)


def conv_transpose_per_sample_weight_grad_vjp(
    x: Array, dy: Array, w_shape: tuple[int, ...], **settings: Any
) -> tuple[Array, Pullback]:
    """`conv_transpose_per_sample_weight_grad`, and the pullback of a cotangent of its result to x and dy."""
    return _per_sample_vjp(conv_transpose_weight_grad_vjp, x, dy, w_shape, **settings)


# Samples as groups take 0.2 to 0.9 of the time of a loop over samples (one thread, 8 x 256 to 64 x 7 x 7 and 3 x 64 x 64);
# only where the loop may use Winograd's method, from 64 channels of 32 x 32, is it the faster one, by 1.4.
def _per_sample(f: Callable[..., Array], x: Array, dy: Array, w_shape: tuple[int, ...], **settings: Any) -> Array:
    xp, x, dy, shape, settings = _as_groups(x, dy, w_shape, **settings)
    return xp.reshape(f(x, dy, shape, **settings), (-1, *w_shape))


def _per_sample_vjp(
    f_vjp: Callable[..., tuple[Array, Pullback]], x: Array, dy: Array, w_shape: tuple[int, ...], **settings: Any
) -> tuple[Array, Pullback]:
    xp, x_groups, dy_groups, shape, inner = _as_groups(x, dy, w_shape, **settings)
    dw, pullback = f_vjp(x_groups, dy_groups, shape, **inner)
    dw = xp.reshape(dw, (-1, *w_shape))

    def gradient(name: str, a: Array) -> Callable[[Any], Array]:
        return lambda v: _apart(xp, pullback(xp.reshape(v, shape), wrt=name), a, **settings)

    return dw, Pullback(dw, x=gradient("x", x), dy=gradient("dy", dy))


def _as_groups(x: Array, dy: Array, w_shape: tuple[int, ...], **settings: Any) -> tuple[Any, ...]:
    """Return arrays and arguments of one weight gradient in which every sample is a group of channels (or several)."""
    xp, x, dy = _array.numbers(x=x, dy=dy)
    for name, a in (("x", x), ("dy", dy)):
        if a.ndim != len(w_shape) or a.shape[0] != x.shape[0] or not a.shape[0]:
            raise ValueError(
                f"{name} has shape {tuple(a.shape)}; with w_shape {tuple(w_shape)}, needed {len(w_shape)} axes, "
                "and at least one sample in both x and dy"
            )
    batch, groups = x.shape[0], settings.pop("groups", 1)
    if settings.pop("layout", "channels_first") == "channels_last":
        x, dy = (xp.moveaxis(a, -1, 1) for a in (x, dy))
    x, dy = (xp.reshape(a, (1, -1, *a.shape[2:])) for a in (x, dy))
    return xp, x, dy, (batch * w_shape[0], *w_shape[1:]), {**settings, "groups": batch * groups}


def _apart(xp: Any, a: Array, like: Array, *, layout: str = "channels_first", **_: Any) -> Array:
    """Return groups of channels as samples again, which lie as those of `like`."""
    if layout != "channels_last":
        return xp.reshape(a, like.shape)
    return xp.moveaxis(xp.reshape(a, (like.shape[0], -1, *a.shape[2:])), 1, -1)
