"""Convolution of arrays with gaps: missing samples are left out, and the rest weighs as much as the whole window would."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from types import ModuleType
from typing import Any, NamedTuple

from .. import _array, _border, _lend
from .._array import Array
from .._pullback import Pullback
from .._window import extent, filled, frozen
from . import geometry
from .batches import Form, Settings, check_bias, form_of, summed, written
from .contractions import drawer
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
    out: Array | None = None,
    **settings: Any,
) -> Array:
    r"""Convolve what is there of x: samples that are missing, or NaN, are left out, and the sum is scaled up for them.

    .. math:: y[n,o,p] = b[o] + \frac{t[o]}{c[n,o,p]} \sum_{i,k} w[o,i,k] \, m[n,i,q] \, x[n,i,q], \qquad
       c[n,o,p] = \sum_{i,k} v[o,i,k] \, m[n,i,q], \quad t[o] = \sum_{i,k} v[o,i,k]

    with q = stride p + dilation k - lo, the mask m, and the weight v of a sample: \|w\| or 1. For a kernel of positive weights
    that sum to one this is the weighted mean of the samples there are, as astropy interpolates NaN; with v = 1 it is partial
    convolution. Weights of an output channel that are all zero tell no samples apart: there v is 1, and what is seen gives b.

    Parameters
    ----------
    x : array of a real floating dtype, shape (batch, c_in, *size) or (c_in, *size)
        Input. Where the mask is 0 it may hold anything: it is never multiplied. Elsewhere it is taken as it is, NaN too.
    w : array, shape (c_out, c_in / groups, *taps)
        Weights.
    b : array, shape (c_out,), optional
        Bias.
    mask : array of bool or a real floating dtype, broadcastable to x, optional
        True where x holds a sample; or how far each can be relied on, from 0 to 1. Without one, all but NaN is there. Integers
        are refused, as 255 may mean yes and 1 may mean masked out: compare them, as in ``mask != 0``.
    normalize : {"weights", "count", None}, default "weights"
        What a missing sample would have weighed: the magnitude of its weight; one; nothing, so that it counts as a zero.
    outside : {"missing", "zeros"}, default "missing"
        What the padding holds, if padding_mode is "zeros": no samples, so that means at the border are means of what is inside;
        or zeros that are samples.
    min_coverage : float, default 0
        The share c / t of the weights that has to be there; where no more is, the result is `fill`.
    fill : float, default NaN
        The result where too little is there.
    out : array, shape of the result, optional
        As of `conv`.
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
        If shapes and arguments do not fit together, or a mask holds NaN or numbers outside 0 to 1 (where they can be read: not
        of dask, nor under `jax.jit`).

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
    how = _How(normalize, outside, min_coverage, fill, _known_settings("masked_conv", settings))
    parts = _forward(x, w, b, mask, how)
    if out is None:
        return parts.y
    shape = parts.windows.form.inward_shape(tuple(parts.y.shape))
    return written(out, parts.windows.form, shape, parts.y.dtype, lambda: parts.y, x, w, b, mask)


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

    Parameters are those of `masked_conv`, but out. dx is 0 where a sample is missing; where the value is `fill`, dy does not
    matter.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import masked_conv_vjp
    >>> y, pullback = masked_conv_vjp(np.array([[1.0, np.nan, 3.0]]), np.array([[[0.5, 0.5]]]))
    >>> pullback(np.array([[1.0, 10.0]]), wrt="x")
    array([[ 1.,  0., 10.]])
    """
    how = _How(normalize, outside, min_coverage, fill, _known_settings("masked_conv_vjp", settings))
    parts = _forward(x, w, b, mask, how)
    xp, x, w, y, windows, settings = parts.xp, parts.x, parts.w, parts.y, parts.windows, how.settings

    def at_known(dy: Array) -> Array:
        dy = xp.astype(dy, x.dtype, copy=False)
        return xp.where(parts.known, dy, xp.zeros_like(dy))

    def dx(dy: Array) -> Array:
        by_x = conv_input_grad(at_known(dy) * parts.factor, w, tuple(x.shape), **settings)
        return xp.where(parts.mask > 0, by_x * parts.mask, xp.zeros_like(by_x))

    def dw(dy: Array) -> Array:
        dy = at_known(dy)
        by_sums = conv_weight_grad(x, dy * parts.factor, tuple(w.shape), **settings)
        if normalize != "weights":
            return by_sums
        share = dy * parts.sums / parts.covered  # d(s t / c) = t / c ds + s / c (dt - t / c dc)
        return by_sums + xp.sign(w) * (windows.total(share) - windows.gradient(share * parts.factor))

    def db(dy: Array) -> Array:
        return summed(xp, at_known(dy), windows.others(y.ndim))

    gradients = {"x": dx, "w": dw} if b is None else {"x": dx, "w": dw, "b": db}
    return y, Pullback(y, **{name: _rounded(xp, gradient, y.dtype) for name, gradient in gradients.items()})


def conv_coverage(mask: Array, w: Array, *, normalize: str = "weights", outside: str = "missing", **settings: Any) -> Array:
    """Share of the weights of each window that lies on samples: c / t of `masked_conv`.

    Parameters
    ----------
    mask : array of bool or a real floating dtype, shape (batch, c_in, *size), or without the batch; c_in or 1 channels
        Where samples are: as of `masked_conv`.
    w : array of a real floating dtype, shape (c_out, c_in / groups, *taps)
        Weights.
    normalize : {"weights", "count"}, default "weights"
        What a sample weighs: the magnitude of its weight (one, in output channels whose weights are all zero), or one.
    outside : {"missing", "zeros"}, default "missing"
        As of `masked_conv`.
    **settings
        Of `conv`.

    Returns
    -------
    array, shape (batch, c_out, *out)
        From 0 to 1; 0 exactly where no sample is.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import conv_coverage
    >>> conv_coverage(np.array([[True, False, True, True]]), np.ones((1, 1, 2)))
    array([[0.5, 0.5, 1. ]])
    """
    if normalize not in ("weights", "count"):
        raise ValueError(f"normalize={normalize!r}; needed 'weights' or 'count'")
    settings = _known_settings("conv_coverage", settings)
    xp, w = _array.reals(w=w)
    dtype, w = w.dtype, _wide(xp, w)
    mask = _numbers(_array.namespace(mask=mask, w=w), mask, w.dtype)
    _check_coverage(tuple(mask.shape), tuple(w.shape), Settings(**settings))
    windows = _windows(xp, mask, w, normalize, outside, settings)
    # Sums in different orders round differently: a share is never above 1.
    return xp.astype(xp.minimum(windows.covered() / windows.whole, xp.ones_like(windows.whole)), dtype, copy=False)


class _How(NamedTuple):
    """What a caller says beside arrays."""

    normalize: str | None
    outside: str
    min_coverage: float
    fill: float
    settings: dict[str, Any]

    def check(self) -> None:
        """Refuse what makes no sense, whatever the arrays."""
        if self.normalize not in ("weights", "count", None):
            raise ValueError(f"normalize={self.normalize!r}; needed 'weights', 'count' or None")
        numbers: dict[str, Any] = {"min_coverage": self.min_coverage, "fill": self.fill}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; needed a number")
        if not 0 <= self.min_coverage < 1:
            raise ValueError(f"min_coverage={self.min_coverage!r}; needed a share from 0 up to, but not, 1")


class _Windows(NamedTuple):
    """How much of every window is there: the mask as numbers, what a sample weighs, and t."""

    xp: ModuleType
    mask: Array  # with the padding that holds samples, where that is wanted
    weight: Array
    whole: Array  # one number per output channel, facing the result
    form: Form
    settings: dict[str, Any]

    def covered(self) -> Array:
        """Return c: a sum of what is there, none of it negative, so that it is 0 exactly where nothing is."""
        return conv(self.mask, self.weight, **self.settings)

    def gradient(self, share: Array) -> Array:
        """Return the gradient of the sum of share * c in the weights of samples."""
        return conv_weight_grad(self.mask, share, tuple(self.weight.shape), **self.settings)

    def total(self, share: Array) -> Array:
        """Return the gradient of the sum of share * t in the weight of any sample."""
        return self.xp.reshape(summed(self.xp, share, self.others(share.ndim)), (-1, *(1,) * (self.weight.ndim - 1)))

    def others(self, ndim: int) -> tuple[int, ...]:
        """Return all axes of the result but that of its channels."""
        return tuple(axis for axis in range(ndim) if axis != self.form.channel_axis(ndim))


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


def _forward(x: Array, w: Array, b: Array | None, mask: Array | None, how: _How) -> _Parts:
    how.check()
    xp, x, w, b = _array.reals(x=x, w=w, b=b)
    # A sum, its scale and their product would each round to 16 bits, and a count of samples overflow: all is done in 32.
    dtype, x, w, b = x.dtype, _wide(xp, x), _wide(xp, w), b if b is None else _wide(xp, b)
    if mask is None:
        mask = xp.astype(xp.logical_not(xp.isnan(x)), x.dtype)
    else:
        mask = _facing(xp, x, _numbers(_array.namespace(x=x, mask=mask), mask, x.dtype), w.ndim, how.settings)
    x = xp.where(mask > 0, x, xp.zeros_like(x)) * mask
    sums = conv(x, w, **how.settings)
    check_bias(b, w.shape[0])
    windows = _windows(xp, mask, w, how.normalize or "weights", how.outside, how.settings)
    if how.normalize is None and not how.min_coverage:
        known, covered = xp.ones_like(sums, dtype=xp.bool), xp.ones_like(sums)
    else:
        covered = windows.covered()
        known = xp.logical_not(covered <= how.min_coverage * windows.whole)  # so that NaN among the weights is not hidden
        covered = xp.where(known, covered, xp.ones_like(covered))
        sums = xp.where(known, sums, xp.zeros_like(sums))
    factor = xp.ones_like(covered) if how.normalize is None else windows.whole / covered
    y = sums * factor
    if b is not None:
        y = y + xp.reshape(b, _facing_result(windows.form, y.ndim))
    y = xp.astype(xp.where(known, y, xp.full_like(y, how.fill)), dtype, copy=False)
    return _Parts(xp, x, w, y, mask, windows, sums, covered, factor, known)


def _windows(xp: ModuleType, mask: Array, w: Array, normalize: str, outside: str, settings: dict[str, Any]) -> _Windows:
    if outside not in ("missing", "zeros"):
        raise ValueError(f"outside={outside!r}; needed 'missing' or 'zeros'")
    given = Settings(**settings)
    drawer(xp, w, given.method, given.precision, given.padding_mode, w.ndim - 2)  # refuses words that are none
    # By the definition: a transform would leave something where nothing is.
    settings = given._replace(method="auto", precision="highest")._asdict()
    form = form_of(mask.ndim, w.ndim, given.layout)
    weight = xp.ones_like(w)
    if normalize == "weights":
        own = xp.abs(w)
        weight = xp.where(xp.max(own, axis=tuple(range(1, w.ndim)), keepdims=True) == 0, weight, own)
    if mask.shape[form.channel_axis(mask.ndim)] == 1:  # for all channels alike
        weight = xp.sum(weight, axis=1, keepdims=True, dtype=w.dtype)
        settings["groups"] = 1
    whole = xp.sum(weight, axis=tuple(range(1, w.ndim)), dtype=w.dtype)
    whole = xp.reshape(whole, _facing_result(form, mask.ndim))
    if outside == "zeros":
        mask, settings["padding"] = _with_border(xp, mask, weight, form, settings)
    return _Windows(xp, mask, weight, whole, form, settings)


def _check_coverage(mask: tuple[int, ...], w: tuple[int, ...], settings: Settings) -> None:
    """Refuse shapes that do not fit together, the mask by its own name."""
    if len(w) < 3:
        raise ValueError(f"w has shape {w}; needed (c_out, c_in / groups, *taps)")
    if len(mask) not in (len(w), len(w) - 1):
        raise ValueError(f"mask has shape {mask}; with w {w}, needed {len(w)} axes, or {len(w) - 1}")
    batch, channels, *size = form_of(len(mask), len(w), settings.layout).inward_shape(mask)
    groups = settings.groups
    whole = w[1] * groups if type(groups) is int else channels  # geometry refuses what is no number of groups
    if channels not in (1, whole):
        raise ValueError(f"mask has shape {mask}; with w {w} and groups={groups}, needed {whole} channels or 1")
    stride, padding, dilation = map(frozen, (settings.stride, settings.padding, settings.dilation))
    geometry.conv((batch, whole, *size), w, stride, padding, dilation, groups)


def _with_border(xp: ModuleType, mask: Array, w: Array, form: Form, settings: dict[str, Any]) -> tuple[Array, Any]:
    """Return the mask with ones for the zeros that the padding holds, and the padding that is left: what repeats samples."""
    stride, padding, dilation = (frozen(settings[name]) for name in ("stride", "padding", "dilation"))
    mask = form.inward(xp, mask)
    g = geometry.conv(tuple(mask.shape), tuple(w.shape), stride, padding, dilation, settings["groups"])
    size, lo = g.x_size[-g.rank :], g.pad_lo[-g.rank :]
    reach = extent(g.w_size, g.y_size, g.stride, g.dilation)[-g.rank :]
    pads = [(a, max(0, e - a - n)) for a, e, n in zip(lo, reach, size, strict=True)]
    zeros = [mode == "zeros" for mode in _border.modes(settings["padding_mode"], g.rank)]
    ones = [pad if is_zeros else (0, 0) for pad, is_zeros in zip(pads, zeros, strict=True)]
    mask = filled(xp, mask, [a for a, _ in ones], [a + n + e for (a, e), n in zip(ones, size, strict=True)], 1)
    return form.outward(xp, mask), [(0, 0) if is_zeros else pad for pad, is_zeros in zip(pads, zeros, strict=True)]


def _facing_result(form: Form, ndim: int) -> tuple[int, ...]:
    """Return the shape in which one number per output channel broadcasts to a result of `ndim` axes."""
    return (-1, *(1,) * (ndim - 1 - form.channel_axis(ndim)))


def _known_settings(function: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Refuse keywords that `conv` and its gradients do not share, in the words of Python."""
    for name in settings:
        if name not in Settings._fields:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
    return settings


def _wide(xp: ModuleType, a: Array) -> Array:
    return xp.astype(a, xp.float32) if _array.narrow(a.dtype) else a


def _rounded(xp: ModuleType, gradient: Callable[[Any], Array], dtype: Any) -> Callable[[Any], Array]:
    return lambda dy: xp.astype(gradient(dy), dtype, copy=False)


def _numbers(xp: ModuleType, mask: Array, dtype: Any) -> Array:
    """Return the mask as numbers from 0 to 1, or refuse it."""
    if not _array.is_of(xp, mask.dtype, ("bool", "real floating")):
        raise TypeError(f"mask has dtype {mask.dtype}; needed bool or a real floating dtype, such as mask != 0")
    library = _array.library(xp)
    later = library == "dask" or (library == "jax" and _lend.is_traced(mask))  # numbers that are not there to be read
    checked = later or not _array.is_of(xp, mask.dtype, ("real floating",))
    if not checked and not bool(xp.all((mask >= 0) & (mask <= 1))):
        raise ValueError(f"mask holds numbers from {float(xp.min(mask))} to {float(xp.max(mask))}; needed 0 to 1")
    return xp.astype(mask, dtype, copy=False)


def _facing(xp: ModuleType, x: Array, mask: Array, w_ndim: int, settings: dict[str, Any]) -> Array:
    """Return the mask in the shape of x, with one channel if it has one."""
    if x.ndim not in (w_ndim, w_ndim - 1):
        raise ValueError(f"x has shape {tuple(x.shape)}; with w of {w_ndim} axes, needed {w_ndim} axes, or {w_ndim - 1}")
    axis = form_of(x.ndim, w_ndim, settings.get("layout", "channels_first")).channel_axis(x.ndim)
    own = tuple(mask.shape)
    if len(own) > x.ndim or any(n not in (1, m) for n, m in zip(own[::-1], tuple(x.shape)[::-1], strict=False)):
        raise ValueError(f"mask has shape {own}; needed one that broadcasts to that of x, {tuple(x.shape)}")
    shared = len(own) <= x.ndim - 1 - axis or own[axis - x.ndim] == 1
    return xp.broadcast_to(mask, (*x.shape[:axis], 1 if shared else x.shape[axis], *x.shape[axis + 1 :]))
