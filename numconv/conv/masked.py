"""Convolution of arrays with gaps: missing samples are left out, and the rest weighs as much as the whole window would."""

from __future__ import annotations

from numbers import Real
from types import ModuleType
from typing import Any, NamedTuple

from .. import _array
from .._array import Array
from .._pullback import Pullback
from .batches import form_of, summed
from .forward import conv
from .gradients import conv_input_grad, conv_weight_grad


def masked_conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    mask: Array | None = None,
    normalize: str | None = "weights",
    outside: str = "missing",
    min_coverage: float = 0.0,
    fill: float = float("nan"),
    **settings: Any,
) -> Array:
    r"""Convolve what is there of x: samples that are missing, or NaN, are left out, and the sum is scaled up for them.

    .. math:: y[n,o,p] = b[o] + \frac{t[o]}{c[n,o,p]} \sum_{i,k} w[o,i,k] \, m[n,i,q] \, x[n,i,q], \qquad
       c[n,o,p] = \sum_{i,k} v[o,i,k] \, m[n,i,q], \quad t[o] = \sum_{i,k} v[o,i,k]

    with q = stride p + dilation k - lo, the mask m, and the weight v of a sample: \|w\| or 1. For a kernel of positive weights
    that sum to one this is the weighted mean of the samples there are, as astropy interpolates NaN; with v = 1 it is partial
    convolution.

    Parameters
    ----------
    x : array of a real floating dtype, shape (batch, c_in, *size) or (c_in, *size)
        Input. Where the mask is 0 it may hold anything: it is never multiplied.
    w : array, shape (c_out, c_in / groups, *taps)
        Weights.
    b : array, shape (c_out,), optional
        Bias.
    mask : array of bool or of x's dtype, broadcastable to x, optional
        True where x holds a sample; or how far each can be relied on, from 0 to 1. Without one, all but NaN is there.
    normalize : {"weights", "count", None}, default "weights"
        What a missing sample would have weighed: the magnitude of its weight; one; nothing, so that it counts as a zero.
    outside : {"missing", "zeros"}, default "missing"
        What the padding holds, if padding_mode is "zeros": no samples, so that means at the border are means of what is inside;
        or zeros that are samples.
    min_coverage : float, default 0
        The share c / t of the weights that has to be there; where no more is, the result is `fill`.
    fill : float, default NaN
        The result where too little is there.
    **settings
        Of `conv`: stride, padding, padding_mode, dilation, groups, method, precision, flip, layout.

    Returns
    -------
    array
        As of `conv`.

    Raises
    ------
    TypeError
        If the arrays are of different libraries, or not real floating.
    ValueError
        If shapes and arguments do not fit together.

    See Also
    --------
    conv_coverage : the share of the weights that is there.

    References
    ----------
    Knutsson and Westin, Normalized and differential convolution, CVPR 1993, equation 4 (weights); Liu et al., Image inpainting
    for irregular holes using partial convolutions, arXiv:1804.07723, equation 1 (count).

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import masked_conv
    >>> masked_conv(np.array([[1.0, np.nan, 3.0, 4.0]]), np.full((1, 1, 3), 1 / 3), padding="same").round(6)
    array([[1. , 2. , 3.5, 3.5]])
    """
    return _forward(x, w, b, mask, normalize, outside, min_coverage, fill, settings).y


def masked_conv_vjp(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    mask: Array | None = None,
    normalize: str | None = "weights",
    outside: str = "missing",
    min_coverage: float = 0.0,
    fill: float = float("nan"),
    **settings: Any,
) -> tuple[Array, Pullback]:
    """`masked_conv`, and the pullback of a cotangent dy to (dx, dw), or (dx, dw, db) where there is a bias.

    Parameters are those of `masked_conv`. dx is 0 where a sample is missing; where the value is `fill`, dy does not matter.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import masked_conv_vjp
    >>> y, pullback = masked_conv_vjp(np.array([[1.0, np.nan, 3.0]]), np.array([[[0.5, 0.5]]]))
    >>> pullback(np.array([[1.0, 10.0]]), wrt="x")
    array([[ 1.,  0., 10.]])
    """
    parts = _forward(x, w, b, mask, normalize, outside, min_coverage, fill, settings)
    xp, x, w, y, windows = parts.xp, parts.x, parts.w, parts.y, parts.windows
    zero = xp.zeros_like(y)

    def of_sums(dy: Array) -> Array:
        return xp.where(parts.known, dy * parts.factor, zero)

    def dw(dy: Array) -> Array:
        by_sums = conv_weight_grad(x, of_sums(dy), tuple(w.shape), **settings)
        if normalize != "weights":
            return by_sums
        share = xp.where(parts.known, dy * parts.sums / parts.covered, zero)  # d(s t / c) = t / c ds + s / c (dt - t / c dc)
        return by_sums + xp.sign(w) * (windows.total(share) - windows.gradient(share * parts.factor))

    gradients = {"x": lambda dy: conv_input_grad(of_sums(dy), w, tuple(x.shape), **settings) * parts.mask, "w": dw}
    if b is not None:
        gradients["b"] = lambda dy: summed(xp, xp.where(parts.known, dy, zero), windows.others(y.ndim))
    return y, Pullback(y, **gradients)


def conv_coverage(mask: Array, w: Array, *, normalize: str = "weights", outside: str = "missing", **settings: Any) -> Array:
    """Share of the weights of each window that lies on samples: c / t of `masked_conv`.

    Parameters
    ----------
    mask : array of bool or a real floating dtype, shape (batch, c_in, *size), or without the batch; c_in or 1 channels
        Where samples are.
    w : array of a real floating dtype, shape (c_out, c_in / groups, *taps)
        Weights.
    normalize : {"weights", "count"}, default "weights"
        What a sample weighs: the magnitude of its weight, or one.
    outside : {"missing", "zeros"}, default "missing"
        As of `masked_conv`.
    **settings
        Of `conv`.

    Returns
    -------
    array, shape (batch, c_out, *out)
        From 0 to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_coverage
    >>> conv_coverage(np.array([[True, False, True, True]]), np.ones((1, 1, 2)))
    array([[0.5, 0.5, 1. ]])
    """
    if normalize not in ("weights", "count"):
        raise ValueError(f"normalize={normalize!r}; needed 'weights' or 'count'")
    xp, w = _array.reals(w=w)
    mask = _numbers(_array.namespace(mask=mask, w=w), mask, w.dtype)
    windows = _windows(xp, mask, w, normalize, outside, settings)
    return windows.covered() / windows.whole


class _Windows(NamedTuple):
    """How much of every window is there: the mask as numbers, what a sample weighs, and t."""

    xp: ModuleType
    mask: Array
    weight: Array
    whole: Array  # one number per output channel, facing the result
    channel_axis: int
    zeros_outside: bool
    settings: dict[str, Any]

    def covered(self) -> Array:
        """Return c."""
        if self.zeros_outside:
            return self.whole - conv(1 - self.mask, self.weight, **self.settings)
        return conv(self.mask, self.weight, **self.settings)

    def gradient(self, share: Array) -> Array:
        """Return the gradient of the sum of share * c in the weights of samples."""
        shape = tuple(self.weight.shape)
        if self.zeros_outside:
            return self.total(share) - conv_weight_grad(1 - self.mask, share, shape, **self.settings)
        return conv_weight_grad(self.mask, share, shape, **self.settings)

    def total(self, share: Array) -> Array:
        """Return the gradient of the sum of share * t in the weight of any sample."""
        return self.xp.reshape(summed(self.xp, share, self.others(share.ndim)), (-1, *(1,) * (self.weight.ndim - 1)))

    def others(self, ndim: int) -> tuple[int, ...]:
        """Return all axes of the result but that of its channels."""
        return tuple(axis for axis in range(ndim) if axis != self.channel_axis % ndim)


class _Parts(NamedTuple):
    """What the value is made of: y = sums * factor + b where it is known."""

    xp: ModuleType
    x: Array
    w: Array
    y: Array
    mask: Array
    windows: _Windows
    sums: Array
    covered: Array
    factor: Array
    known: Array


def _forward(
    x: Array,
    w: Array,
    b: Array | None,
    mask: Array | None,
    normalize: str | None,
    outside: str,
    min_coverage: float,
    fill: float,
    settings: dict[str, Any],
) -> _Parts:
    xp, x, w, b = _array.reals(x=x, w=w, b=b)
    if normalize not in ("weights", "count", None):
        raise ValueError(f"normalize={normalize!r}; needed 'weights', 'count' or None")
    numbers: dict[str, Any] = {"min_coverage": min_coverage, "fill": fill}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; needed a number")
    if not 0 <= min_coverage < 1:
        raise ValueError(f"min_coverage={min_coverage!r}; needed a share from 0 up to, but not, 1")
    if mask is None:
        mask = xp.astype(xp.logical_not(xp.isnan(x)), x.dtype)
    else:
        mask = _facing(xp, x, _numbers(_array.namespace(x=x, mask=mask), mask, x.dtype), w.ndim, settings)
    x = xp.where(mask > 0, x, xp.zeros_like(x)) * mask
    sums = conv(x, w, **settings)
    windows = _windows(xp, mask, w, normalize or "weights", outside, settings)
    covered = windows.covered()
    known = covered > min_coverage * windows.whole
    if normalize is None and not min_coverage:
        known = xp.ones_like(known)
    covered = xp.where(known, covered, xp.ones_like(covered))
    factor = xp.ones_like(covered) if normalize is None else windows.whole / covered
    y = sums * factor
    if b is not None:
        y = y + xp.reshape(b, (-1, *(1,) * (y.ndim - 1 - windows.channel_axis)))
    return _Parts(xp, x, w, xp.where(known, y, xp.full_like(y, fill)), mask, windows, sums, covered, factor, known)


def _windows(xp: ModuleType, mask: Array, w: Array, normalize: str, outside: str, settings: dict[str, Any]) -> _Windows:
    if outside not in ("missing", "zeros"):
        raise ValueError(f"outside={outside!r}; needed 'missing' or 'zeros'")
    # By the definition: a transform would leave something where nothing is.
    settings = {**{name: value for name, value in settings.items() if name != "method"}, "precision": "highest"}
    axis = form_of(mask.ndim, w.ndim, settings.get("layout", "channels_first")).channel_axis(mask.ndim)
    weight = xp.abs(w) if normalize == "weights" else xp.ones_like(w)
    if mask.shape[axis] == 1:  # for all channels alike
        weight = xp.sum(weight, axis=1, keepdims=True, dtype=w.dtype)
        settings["groups"] = 1
    whole = xp.sum(weight, axis=tuple(range(1, w.ndim)), dtype=w.dtype)
    whole = xp.reshape(whole, (-1, *(1,) * (mask.ndim - 1 - axis)))
    return _Windows(xp, mask, weight, whole, axis, outside == "zeros", settings)


def _numbers(xp: ModuleType, mask: Array, dtype: Any) -> Array:
    if not xp.isdtype(mask.dtype, ("bool", "real floating")):
        raise TypeError(f"mask has dtype {mask.dtype}; needed bool or a real floating dtype")
    return xp.astype(mask, dtype, copy=False)


def _facing(xp: ModuleType, x: Array, mask: Array, w_ndim: int, settings: dict[str, Any]) -> Array:
    """Return the mask in the shape of x, with one channel if it has one."""
    axis = form_of(x.ndim, w_ndim, settings.get("layout", "channels_first")).channel_axis(x.ndim)
    own = tuple(mask.shape)
    if len(own) > x.ndim or any(n not in (1, m) for n, m in zip(own[::-1], tuple(x.shape)[::-1], strict=False)):
        raise ValueError(f"mask has shape {own}; needed one that broadcasts to that of x, {tuple(x.shape)}")
    shared = len(own) <= x.ndim - 1 - axis or own[axis - x.ndim] == 1
    return xp.broadcast_to(mask, (*x.shape[:axis], 1 if shared else x.shape[axis], *x.shape[axis + 1 :]))
