"""Convolution and transposed convolution, each beside its vector-Jacobian product: the door of the room.

One trilinear form says it all, with q = stride*p + dilation*k - pad_lo:

    T(x, w, y) = sum over n,o,p,i,k of y[n,o,p] * w[o,i,k] * x[n,i,q]

Leave one argument open and there are exactly three contractions, closed under differentiation:

    contract_y(x, w)    convolution; the gradient of transposed convolution in its input
    contract_x(y, w)    transposed convolution; the gradient of convolution in its input
    contract_w(x, y)    the gradient of both in their weights
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

from .. import _array
from .._array import Array
from .._pullback import Pullback
from .._window import Ints, Padding, frozen
from . import geometry
from .geometry import ConvGeometry

P = ParamSpec("P")
R = TypeVar("R")


class Contractions(Protocol):
    """What a device provides. Arrays arrive checked, of one dtype and in the shapes that `g` names; `b` is a bias per channel."""

    def contract_y(self, x: Array, w: Array, g: ConvGeometry, b: Array | None = None) -> Array:
        """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i,q], plus b[o]."""

    def contract_x(self, y: Array, w: Array, g: ConvGeometry, b: Array | None = None) -> Array:
        """x[n,i,q] = sum over o,p,k of w[o,i,k] * y[n,o,p], plus b[i]."""

    def contract_w(self, x: Array, y: Array, g: ConvGeometry) -> Array:
        """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i,q]."""


def drawer(xp: Any, dtype: Any) -> Contractions:
    """Choose the kernels by where the arrays live. Imported on first use, so that `import numconv` stays cheap."""
    match _array.device(xp, dtype):
        case "cpu":
            from . import cpu

            return cpu
        case "cuda":
            from . import cuda

            return cuda
    from . import generic

    return generic


def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
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
    return _conv(x, w, b, stride, padding, dilation, groups, pull=False)


def conv_vjp(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
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
    y, pullback = _conv(x, w, b, stride, padding, dilation, groups, pull=True)
    return y, pullback


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
    return _conv_transpose(x, w, b, stride, padding, output_padding, output_size, dilation, groups, pull=False)


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
    y, pullback = _conv_transpose(x, w, b, stride, padding, output_padding, output_size, dilation, groups, pull=True)
    return y, pullback


def conv_output_shape(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
) -> tuple[int, ...]:
    """Return the shape of `conv(x, w)` without computing it.

    Examples
    --------
    >>> from numconv import conv_output_shape
    >>> conv_output_shape((8, 3, 32, 32), (16, 3, 3, 3), stride=2, padding="same")
    (8, 16, 16, 16)
    """
    shape, batched = _with_batch(tuple(x_shape), len(w_shape))
    y_shape = geometry.conv(shape, tuple(w_shape), frozen(stride), frozen(padding), frozen(dilation), groups).y_shape
    return y_shape if batched else y_shape[1:]


def conv_transpose_output_shape(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    output_padding: Ints = 0,
    output_size: Ints | None = None,
    dilation: Ints = 1,
    groups: int = 1,
) -> tuple[int, ...]:
    """Return the shape of `conv_transpose(x, w)` without computing it.

    Examples
    --------
    >>> from numconv import conv_transpose_output_shape
    >>> conv_transpose_output_shape((8, 64, 7, 7), (64, 32, 4, 4), stride=2, padding=1)
    (8, 32, 14, 14)
    """
    shape, batched = _with_batch(tuple(x_shape), len(w_shape))
    g = geometry.conv_transpose(
        shape,
        tuple(w_shape),
        frozen(stride),
        frozen(padding),
        frozen(output_padding),
        frozen(output_size),
        frozen(dilation),
        groups,
    )
    return g.x_shape if batched else g.x_shape[1:]


def _conv(x: Array, w: Array, b: Array | None, stride: Ints, padding: Padding, dilation: Ints, groups: int, *, pull: bool) -> Any:
    xp, x, w, b = _array.numbers(x=x, w=w, b=b)
    x, batched = _batched(xp, x, w.ndim)
    g = geometry.conv(tuple(x.shape), tuple(w.shape), frozen(stride), frozen(padding), frozen(dilation), groups)
    _check_bias(b, g.groups * g.c_out)
    on = drawer(xp, x.dtype)
    y = _unbatched(on.contract_y(x, w, g, b), batched)
    if not pull:
        return y
    gradients = {
        "x": lambda dy: _unbatched(on.contract_x(_batched(xp, dy, w.ndim)[0], w, g), batched),
        "w": lambda dy: on.contract_w(x, _batched(xp, dy, w.ndim)[0], g),
    }
    return y, _with_bias(xp, y, gradients, b, batched)


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
    *,
    pull: bool,
) -> Any:
    # The adjoint of a convolution: what comes in here is y of the geometry, and what goes out is its x.
    xp, x, w, b = _array.numbers(x=x, w=w, b=b)
    x, batched = _batched(xp, x, w.ndim)
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
    _check_bias(b, g.groups * g.c_in)
    on = drawer(xp, x.dtype)
    y = _unbatched(on.contract_x(x, w, g, b), batched)
    if not pull:
        return y
    gradients = {
        "x": lambda dy: _unbatched(on.contract_y(_batched(xp, dy, w.ndim)[0], w, g), batched),
        "w": lambda dy: on.contract_w(_batched(xp, dy, w.ndim)[0], x, g),
    }
    return y, _with_bias(xp, y, gradients, b, batched)


def _with_bias(xp: Any, y: Array, gradients: dict[str, Callable[[Any], Array]], b: Array | None, batched: bool) -> Pullback:
    if b is not None:
        axes = tuple(axis for axis in range(y.ndim) if axis != batched)
        gradients["b"] = lambda dy: xp.sum(dy, axis=axes, dtype=dy.dtype)
    return Pullback(y, **gradients)


def _with_batch(shape: tuple[int, ...], w_ndim: int) -> tuple[tuple[int, ...], bool]:
    return ((1, *shape), False) if len(shape) == w_ndim - 1 else (shape, True)


def _batched(xp: Any, a: Array, w_ndim: int) -> tuple[Array, bool]:
    return (xp.expand_dims(a, axis=0), False) if a.ndim == w_ndim - 1 else (a, True)


def _unbatched(a: Array, batched: bool) -> Array:
    return a if batched else a[0, ...]


def _check_bias(b: Array | None, channels: int) -> None:
    if b is not None and tuple(b.shape) != (channels,):
        raise ValueError(f"b has shape {tuple(b.shape)}; needed ({channels},), one number per output channel")


def _of_rank(f: Callable[P, R], rank: int) -> Callable[P, R]:
    """Return `f` for `rank` spatial axes only: weights of another rank are refused by name."""
    name = f.__name__.removesuffix("_vjp") + f"{rank}d" + "_vjp" * f.__name__.endswith("_vjp")
    sizes = ("length", "height, width", "depth, height, width")[rank - 1]

    def ranked(*args: P.args, **kwargs: P.kwargs) -> R:
        w = args[1] if len(args) > 1 else kwargs.get("w")
        if getattr(w, "ndim", rank + 2) != rank + 2:
            raise ValueError(f"{name}: w has shape {tuple(w.shape)}; needed {rank + 2} axes: (channels, channels, {sizes})")  # type: ignore[attr-defined]
        return f(*args, **kwargs)

    ranked.__name__ = ranked.__qualname__ = name
    ranked.__module__ = f.__module__
    ranked.__wrapped__ = f  # type: ignore[attr-defined]  # inspect.signature follows it
    ranked.__annotations__ = f.__annotations__
    ranked.__doc__ = f"`{f.__name__}` over {rank} spatial {'axis' if rank == 1 else 'axes'} ({sizes}), with the same arguments."
    return ranked


conv1d, conv2d, conv3d = (_of_rank(conv, rank) for rank in (1, 2, 3))
conv1d_vjp, conv2d_vjp, conv3d_vjp = (_of_rank(conv_vjp, rank) for rank in (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = (_of_rank(conv_transpose, rank) for rank in (1, 2, 3))
conv_transpose1d_vjp, conv_transpose2d_vjp, conv_transpose3d_vjp = (_of_rank(conv_transpose_vjp, rank) for rank in (1, 2, 3))
