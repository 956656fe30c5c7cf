"""Locally connected convolution, whose weights differ from place to place, and its vector-Jacobian product."""

from __future__ import annotations

from typing import Any

from .. import _array, _lend
from .._array import Array
from .._pullback import Pullback
from .._window import Ints, Padding, frozen
from . import geometry, local_generic
from .batches import form_of, summed
from .geometry import ConvGeometry


def conv_local(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
) -> Array:
    r"""Correlate x with weights that differ at each output position, over one, two or three spatial axes.

    .. math:: y[n,o,p] = b[o,p] + \sum_{i,k} w[o,i,k,p] \, x[n,i,\; \text{stride} \cdot p + \text{dilation} \cdot k - \text{lo}]

    x is zero outside its bounds. It is what `conv` is, without sharing of weights: a point spread function that varies over the
    field, a different filter for each detector, a layer that knows where it is.

    Parameters
    ----------
    x : array, shape (batch, c_in, \*size) or (c_in, \*size)
        Input; without the batch axis the output has none either.
    w : array, shape (c_out, c_in / groups, \*taps, \*out)
        Weights: those of each tap at all output positions together. Their number of axes says how many axes are spatial. It is
        the layout of `jax.lax.conv_general_dilated_local`, which runs the axes of channels and taps together:
        ``w.reshape(c_out, -1, *out)``; ``unfold(x, taps)`` lays out samples alike.
    b : array, shape (c_out, \*out), optional
        Bias.
    stride : int or sequence of int, default 1
        Step between output positions, in input samples; one for all axes, or one per axis.
    padding : str, int or sequence, default "valid"
        Zeros around x, as in `conv`.
    dilation : int or sequence of int, default 1
        Step between taps, in input samples.
    groups : int, default 1
        Number of channel groups convolved apart.

    Returns
    -------
    array, shape (batch, c_out, \*out) or (c_out, \*out)
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
    conv_local_vjp : the same with gradients.
    conv : the same weights everywhere.

    References
    ----------
    Taigman et al., DeepFace: closing the gap to human-level performance in face verification, CVPR 2014, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_local
    >>> x = np.array([[1.0, 2.0, 4.0]])
    >>> w = np.array([[[[1.0, 0.0], [0.0, 10.0]]]])  # 2 taps at 2 positions: the first sample, then 10 times the second
    >>> conv_local(x, w)
    array([[ 1., 40.]])
    """
    return _conv_local(x, w, b, stride, padding, dilation, groups, pull=False)


def conv_local_vjp(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
) -> tuple[Array, Pullback]:
    """`conv_local`, and the pullback of a cotangent dy to (dx, dw), or (dx, dw, db) where there is a bias.

    Parameters are those of `conv_local`. `pullback(dy, wrt="w")` computes only that gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_local_vjp
    >>> x = np.array([[1.0, 2.0, 4.0]])
    >>> w = np.array([[[[1.0, 0.0], [0.0, 10.0]]]])
    >>> y, pullback = conv_local_vjp(x, w)
    >>> dx, dw = pullback(np.ones_like(y))
    >>> dx
    array([[ 1.,  0., 10.]])
    >>> dw[0, 0]
    array([[1., 2.],
           [2., 4.]])
    """
    y, pullback = _conv_local(x, w, b, stride, padding, dilation, groups, pull=True)
    return y, pullback


def _conv_local(
    x: Array, w: Array, b: Array | None, stride: Ints, padding: Padding, dilation: Ints, groups: int, *, pull: bool
) -> Any:
    xp, x, w, b = _array.numbers(x=x, w=w, b=b)
    rank = _rank(tuple(w.shape))
    form = form_of(x.ndim, rank + 2, "channels_first")
    x = form.inward(xp, x)
    g = geometry.conv(tuple(x.shape), tuple(w.shape[: rank + 2]), frozen(stride), frozen(padding), frozen(dilation), groups)
    _check(w, b, g)
    on = _lend.kernels(xp, x, f"{__package__}.cpu.local", local_generic)
    y = form.outward(xp, on.contract_y(x, w, g, b))
    if not pull:
        return y
    gradients = {
        "x": lambda dy: form.outward(xp, on.contract_x(form.inward(xp, dy), w, g)),
        "w": lambda dy: on.contract_w(x, form.inward(xp, dy), g),
    }
    if b is not None:
        gradients["b"] = lambda dy: summed(xp, form.inward(xp, dy), (0,))
    return y, Pullback(y, **gradients)


def _rank(w_shape: tuple[int, ...]) -> int:
    if len(w_shape) not in (4, 6, 8):
        raise ValueError(f"w has shape {w_shape}; needed 4, 6 or 8 axes: (c_out, c_in / groups, *taps, *out)")
    return len(w_shape) // 2 - 1


def _check(w: Array, b: Array | None, g: ConvGeometry) -> None:
    """Refuse weights or a bias that are not for each output position."""
    out = g.y_shape[2:]
    if tuple(w.shape) != (*g.w_shape, *out):
        raise ValueError(f"w has shape {tuple(w.shape)}; the other arguments make it {(*g.w_shape, *out)}: taps, then positions")
    if b is not None and tuple(b.shape) != g.y_shape[1:]:
        raise ValueError(f"b has shape {tuple(b.shape)}; needed {g.y_shape[1:]}, one number per output channel and position")
