"""Pooling, each function beside its vector-Jacobian product: the door of the room.

The sample under tap k of the window at output position p is at q = stride*p + dilation*k - pad_lo, as in convolution. Padding of
"zeros" holds no samples: it never wins a maximum, and whether it counts in an average is said. Other modes repeat samples of x.
"""

from __future__ import annotations

from math import prod
from typing import Any, Protocol

from .. import _array, _lend
from .._array import Array
from .._border import PaddingMode
from .._pullback import Pullback
from .._window import Ints, Padding, frozen
from . import generic, geometry
from .bins import adaptive_avg_pool, adaptive_avg_pool_vjp, global_avg_pool, global_avg_pool_vjp
from .geometry import PoolGeometry

__all__ = [
    "adaptive_avg_pool",
    "adaptive_avg_pool_vjp",
    "avg_pool",
    "avg_pool_vjp",
    "global_avg_pool",
    "global_avg_pool_vjp",
    "max_pool",
    "max_pool_vjp",
    "max_pool_with_indices",
    "max_pool_with_indices_vjp",
    "max_unpool",
    "max_unpool_vjp",
    "pool_output_shape",
]


class Pools(Protocol):
    """What a device provides. Arrays arrive checked and in the shapes that `g` names; indices are int64, within a plane."""

    def max_y(self, x: Array, g: PoolGeometry) -> Array:
        """y[p] = maximum over taps of x[q]."""

    def max_with_indices(self, x: Array, g: PoolGeometry) -> tuple[Array, Array]:
        """y[p] = maximum over taps of x[q], and the index of the first q that reaches it."""

    def max_with_narrow_indices(self, x: Array, g: PoolGeometry) -> tuple[Array, Array]:
        """`max_with_indices` in any integer dtype that `scatter` takes: for those who keep the indices to themselves."""

    def scatter(self, y: Array, indices: Array, g: PoolGeometry) -> Array:
        """x[q] = sum over the p with indices[p] = q of y[p]."""

    def gather(self, x: Array, indices: Array, g: PoolGeometry) -> Array:
        """y[p] = x[indices[p]]."""

    def mean_y(self, x: Array, g: PoolGeometry, include_pad: bool) -> Array:
        """y[p] = mean over taps of x[q]."""

    def mean_x(self, y: Array, g: PoolGeometry, include_pad: bool) -> Array:
        """x[q] = sum over the p and taps that lie at q of y[p] / the number of taps of p."""


def drawer(xp: Any, x: Array) -> Pools:
    """Choose the kernels by where the arrays live. Imported on first use, so that `import numconv` stays cheap."""
    if _array.library(xp) == "dask":
        from .dask import Dask

        return Dask(drawer)
    return _lend.kernels(xp, x, f"{__name__}.cpu", generic, f"{__name__}.cuda")  # type: ignore[no-any-return]


def max_pool(
    x: Array,
    window: Ints,
    *,
    stride: Ints | None = None,
    padding: Padding = "valid",
    padding_mode: PaddingMode = "zeros",
    dilation: Ints = 1,
) -> Array:
    r"""Largest sample of each window, over one, two or three spatial axes.

    .. math:: y[n,c,p] = \max_k x[n,c,\; \text{stride} \cdot p + \text{dilation} \cdot k - \text{lo}]

    Parameters
    ----------
    x : array of a real floating dtype, shape (batch, channels, *size) or (channels, *size)
        Input. NaN counts as larger than all numbers: a window with a NaN gives NaN.
    window : int or sequence of int
        Number of taps, one for all axes or one per axis. A sequence also says how many axes are spatial, so only with a sequence
        can x go without the batch axis; with an int, all axes but the first two are spatial.
    stride : int or sequence of int, optional
        Step between output positions, in input samples; the window if left out.
    padding : str, int or sequence, default "valid"
        Samples around x: an int; one int or one (lo, hi) pair per axis; "valid" (none); "same" (ceil(size / stride)
        outputs, an odd one at the end); "same_lower"; "full"; "causal" (one axis only).
    padding_mode : str or sequence of str, default "zeros"
        What the padding holds, in one word for all axes or one per axis: "zeros" (no samples: -inf here, and every window must
        hold a sample of x), or samples of x again, as `pad` repeats them: "reflect", "symmetric", "replicate", "circular".
    dilation : int or sequence of int, default 1
        Step between taps, in input samples.

    Returns
    -------
    array, shape (batch, channels, *out) or (channels, *out)
        With ``out = (size + lo + hi - dilation * (window - 1) - 1) // stride + 1``.

    Raises
    ------
    TypeError
        If x is no array of a real floating dtype, or an argument holds no ints.
    ValueError
        If shapes and arguments do not fit together, or a window lies wholly in the padding.

    See Also
    --------
    max_pool_vjp : the same with gradients.
    max_pool_with_indices : the same, with where the maxima are.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.pool import max_pool
    >>> max_pool(np.array([[[1.0, 4.0, 2.0, 3.0]]]), 2)
    array([[[4., 3.]]])
    """
    xp, x = _array.reals(x=x)
    g = _geometry(x.shape, window, stride, padding, dilation, padding_mode)
    return drawer(xp, x).max_y(x, g)


def max_pool_vjp(
    x: Array,
    window: Ints,
    *,
    stride: Ints | None = None,
    padding: Padding = "valid",
    padding_mode: PaddingMode = "zeros",
    dilation: Ints = 1,
) -> tuple[Array, Pullback]:
    """`max_pool`, and the pullback of a cotangent dy to dx: each dy goes to the sample that won its window.

    Among equal samples, the one under the first tap wins, in row-major order.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.pool import max_pool_vjp
    >>> y, pullback = max_pool_vjp(np.array([[[1.0, 4.0, 3.0, 3.0]]]), 2)
    >>> pullback(np.array([[[10.0, 20.0]]]))
    array([[[ 0., 10., 20.,  0.]]])
    """
    xp, x = _array.reals(x=x)
    g = _geometry(x.shape, window, stride, padding, dilation, padding_mode)
    on = drawer(xp, x)
    y, indices = on.max_with_narrow_indices(x, g)
    return y, Pullback(y, x=lambda dy: on.scatter(dy, indices, g))


def max_pool_with_indices(
    x: Array,
    window: Ints,
    *,
    stride: Ints | None = None,
    padding: Padding = "valid",
    padding_mode: PaddingMode = "zeros",
    dilation: Ints = 1,
) -> tuple[Array, Array]:
    """`max_pool`, and where in x the maxima are: of a repeated sample, where the sample itself is.

    Parameters are those of `max_pool`.

    Returns
    -------
    y : array, shape (batch, channels, *out) or (channels, *out)
        The maxima.
    indices : array of int64, same shape
        Row-major index of each maximum within the plane of its sample and channel, of shape `size`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.pool import max_pool_with_indices
    >>> y, indices = max_pool_with_indices(np.array([[[1.0, 4.0, 3.0, 3.0]]]), 2)
    >>> indices
    array([[[1, 2]]])
    """
    xp, x = _array.reals(x=x)
    g = _geometry(x.shape, window, stride, padding, dilation, padding_mode)
    return drawer(xp, x).max_with_indices(x, g)


def max_pool_with_indices_vjp(
    x: Array,
    window: Ints,
    *,
    stride: Ints | None = None,
    padding: Padding = "valid",
    padding_mode: PaddingMode = "zeros",
    dilation: Ints = 1,
) -> tuple[tuple[Array, Array], Pullback]:
    """`max_pool_with_indices`, and the pullback of a cotangent dy of the maxima to dx; the indices have none."""
    xp, x = _array.reals(x=x)
    g = _geometry(x.shape, window, stride, padding, dilation, padding_mode)
    on = drawer(xp, x)
    y, indices = on.max_with_indices(x, g)
    return (y, indices), Pullback(y, x=lambda dy: on.scatter(dy, indices, g))


def max_unpool(
    x: Array,
    indices: Array,
    window: Ints,
    *,
    output_size: Ints,
    stride: Ints | None = None,
    padding: Padding = "valid",
    dilation: Ints = 1,
) -> Array:
    r"""Put samples where the maxima of a `max_pool_with_indices` were, zeros elsewhere: the adjoint of taking them from there.

    .. math:: y[n,c,q] = \sum_{p \,:\, \text{indices}[n,c,p] = q} x[n,c,p]

    Where windows overlap and share a maximum, their samples add up.

    Parameters
    ----------
    x : array, shape (batch, channels, *pooled) or (channels, *pooled)
        Input.
    indices : integer array, same shape
        Index within the plane of the output, as `max_pool_with_indices` gives it.
    window, stride, padding, dilation
        Those of the `max_pool_with_indices` call.
    output_size : int or sequence of int
        Size of what was pooled.

    Returns
    -------
    array, shape (batch, channels, *output_size) or (channels, *output_size)
        In the library, on the device and of the dtype of x.

    Raises
    ------
    TypeError
        If x holds no floats, indices no integers, or they come from different libraries or devices.
    ValueError
        If pooling `output_size` does not give the shape of x, or an index is not that of a sample in its own window.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.pool import max_pool_with_indices, max_unpool
    >>> y, indices = max_pool_with_indices(np.array([[[1.0, 4.0, 2.0, 3.0]]]), 2)
    >>> max_unpool(y, indices, 2, output_size=4)
    array([[[0., 4., 0., 3.]]])
    """
    xp, x, indices, g = _indexed(x, indices, window, output_size, stride, padding, dilation)
    return drawer(xp, x).scatter(x, indices, g)


def max_unpool_vjp(
    x: Array,
    indices: Array,
    window: Ints,
    *,
    output_size: Ints,
    stride: Ints | None = None,
    padding: Padding = "valid",
    dilation: Ints = 1,
) -> tuple[Array, Pullback]:
    """`max_unpool`, and the pullback of a cotangent dy to dx: dy at the indices."""
    xp, x, indices, g = _indexed(x, indices, window, output_size, stride, padding, dilation)
    on = drawer(xp, x)
    y = on.scatter(x, indices, g)
    return y, Pullback(y, x=lambda dy: on.gather(dy, indices, g))


def avg_pool(
    x: Array,
    window: Ints,
    *,
    stride: Ints | None = None,
    padding: Padding = "valid",
    padding_mode: PaddingMode = "zeros",
    dilation: Ints = 1,
    count_include_pad: bool = True,
) -> Array:
    r"""Mean of each window, over one, two or three spatial axes.

    .. math:: y[n,c,p] = \frac{1}{|K_p|} \sum_k x[n,c,\; \text{stride} \cdot p + \text{dilation} \cdot k - \text{lo}]

    x is zero outside its bounds, or continued by `padding_mode`. :math:`K_p` are the taps of the window at p: all of them, or
    those inside x.

    Parameters
    ----------
    x : array of a floating dtype, shape (batch, channels, *size) or (channels, *size)
        Input.
    window, stride, padding, padding_mode, dilation
        As in `max_pool`; the padding is of zeros, unless padding_mode says otherwise.
    count_include_pad : bool, default True
        Whether taps on padding of zeros count; those on repeated samples do.

    Returns
    -------
    array, shape (batch, channels, *out) or (channels, *out)
        With ``out = (size + lo + hi - dilation * (window - 1) - 1) // stride + 1``.

    Raises
    ------
    TypeError
        If x is no array of a floating dtype, or an argument holds no ints.
    ValueError
        If shapes and arguments do not fit together, or a window lies wholly in the padding.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.pool import avg_pool
    >>> x = np.array([[[2.0, 4.0, 6.0]]])
    >>> avg_pool(x, 2, padding="same")
    array([[[3., 3.]]])
    >>> avg_pool(x, 2, padding="same", count_include_pad=False)
    array([[[3., 6.]]])
    """
    xp, x = _array.floats(x=x)
    g = _geometry(x.shape, window, stride, padding, dilation, padding_mode)
    return drawer(xp, x).mean_y(x, g, bool(count_include_pad))


def avg_pool_vjp(
    x: Array,
    window: Ints,
    *,
    stride: Ints | None = None,
    padding: Padding = "valid",
    padding_mode: PaddingMode = "zeros",
    dilation: Ints = 1,
    count_include_pad: bool = True,
) -> tuple[Array, Pullback]:
    """`avg_pool`, and the pullback of a cotangent dy to dx: each dy is shared out over its window.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.pool import avg_pool_vjp
    >>> y, pullback = avg_pool_vjp(np.ones((1, 1, 3)), 2, stride=1)
    >>> pullback(y)
    array([[[0.5, 1. , 0.5]]])
    """
    xp, x = _array.floats(x=x)
    g = _geometry(x.shape, window, stride, padding, dilation, padding_mode)
    on, include_pad = drawer(xp, x), bool(count_include_pad)
    y = on.mean_y(x, g, include_pad)
    return y, Pullback(y, x=lambda dy: on.mean_x(dy, g, include_pad))


def pool_output_shape(
    x_shape: tuple[int, ...],
    window: Ints,
    *,
    stride: Ints | None = None,
    padding: Padding = "valid",
    padding_mode: PaddingMode = "zeros",
    dilation: Ints = 1,
) -> tuple[int, ...]:
    """Return the shape of `max_pool(x, window)` or `avg_pool(x, window)` without computing it.

    Examples
    --------
    >>> from numconv.pool import pool_output_shape
    >>> pool_output_shape((8, 16, 28, 28), 3, stride=2, padding="same")
    (8, 16, 14, 14)
    """
    return _geometry(x_shape, window, stride, padding, dilation, padding_mode).y_shape


def _geometry(
    x_shape: tuple[int, ...], window: Ints, stride: Ints | None, padding: Padding, dilation: Ints, padding_mode: PaddingMode
) -> PoolGeometry:
    window, stride, padding, dilation, padding_mode = map(frozen, (window, stride, padding, dilation, padding_mode))
    return geometry.pool(tuple(x_shape), window, stride, padding, dilation, padding_mode)


def _indexed(
    x: Array, indices: Array, window: Ints, output_size: Ints, stride: Ints | None, padding: Padding, dilation: Ints
) -> tuple[Any, Array, Array, PoolGeometry]:
    xp = _array.namespace(x=x, indices=indices)
    _, x = _array.floats(x=x)
    _array.integers(xp, indices=indices)
    if indices.shape != x.shape:
        raise ValueError(f"indices has shape {tuple(indices.shape)}; needed that of x, {tuple(x.shape)}")
    window, stride, padding, dilation = (frozen(a) for a in (window, stride, padding, dilation))
    g = geometry.unpool(tuple(x.shape), window, stride, padding, dilation, frozen(output_size))
    indices = xp.astype(xp.asarray(indices), xp.int64, copy=False)
    if _array.library(xp) == "dask":
        return xp, xp.asarray(x), drawer(xp, x).checked(indices, g), g  # type: ignore[attr-defined]
    fits = generic.under_own_window(indices, g)
    if not xp.all(fits):
        astray = int(xp.sum(xp.astype(xp.logical_not(fits), xp.int64)))
        raise ValueError(
            f"indices holds {astray} of {prod(fits.shape)} that are of no sample in their own window; "
            "needed those of max_pool_with_indices with the same arguments"
        )
    return xp, x, indices, g
