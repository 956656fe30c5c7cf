"""Normalisation, each function beside its vector-Jacobian product: the door of the room.

All are one idea: numbers fall into sets; each set is given mean 0 and variance 1, then each channel a scale and a shift. What
differs is what makes a set.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Protocol

from .. import _array, _lend
from .._array import Array
from .._pullback import Pullback
from . import generic, geometry
from .geometry import NormGeometry

__all__ = [
    "batch_norm",
    "batch_norm_statistics",
    "batch_norm_vjp",
    "group_norm",
    "group_norm_vjp",
    "instance_norm",
    "instance_norm_vjp",
    "layer_norm",
    "layer_norm_vjp",
]


class Norms(Protocol):
    """What a device provides. Arrays arrive checked; d = x - mean and r = 1 / sqrt(var + eps), of the set of each number."""

    def moments(self, x: Array, g: NormGeometry) -> tuple[Array, Array]:
        """Mean and variance of each set, of shape (sets,)."""

    def normal_y(
        self, x: Array, scale: Array | None, shift: Array | None, given: tuple[Array, Array] | None, g: NormGeometry, eps: float
    ) -> tuple[Array, Any]:
        """Return y = d r scale + shift, with the moments of x or given ones, and what `gradients` needs to know of them."""

    def gradients(
        self, dy: Array, x: Array, scale: Array | None, kept: Any, g: NormGeometry, need_x: bool
    ) -> tuple[Array | None, Array, Array]:
        """Return dx (None unless needed), dscale and dshift."""


def drawer(xp: Any, x: Array) -> Norms:
    """Choose the kernels by where the arrays live. Imported on first use, so that `import numconv` stays cheap."""
    return _lend.kernels(xp, x, f"{__name__}.cpu", generic, f"{__name__}.cuda")  # type: ignore[no-any-return]


def batch_norm(
    x: Array,
    scale: Array | None = None,
    shift: Array | None = None,
    *,
    mean: Array | None = None,
    var: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    r"""Normalise each channel over the batch and all positions, or by statistics that are given.

    .. math:: y[n,c,q] = \frac{x[n,c,q] - \mu_c}{\sqrt{\sigma_c^2 + \epsilon}} \, \text{scale}[c] + \text{shift}[c]

    with the mean :math:`\mu_c` and the variance :math:`\sigma_c^2` (divided by the count) of all :math:`x[n,c,q]`.

    Parameters
    ----------
    x : array of a real floating dtype, shape (batch, channels, *size)
        Input.
    scale, shift : array, shape (channels,), optional
        One and zero if left out.
    mean, var : array, shape (channels,), optional
        Use these in place of the batch's own, as one does after training: y is then linear in x. Both or neither.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    array, shape of x
        In the library, on the device and of the dtype of the input.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, or not real floating.
    ValueError
        If shapes do not fit together, only one of mean and var is given, or eps is negative.

    See Also
    --------
    batch_norm_statistics : the mean and variance of a batch, of which to keep running averages.

    References
    ----------
    Ioffe and Szegedy, Batch normalization, arXiv:1502.03167, algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.norm import batch_norm
    >>> x = np.array([[[1.0, 2.0]], [[3.0, 6.0]]])
    >>> batch_norm(x, eps=0.0).round(3).tolist()
    [[[-1.069, -0.535]], [[0.0, 1.604]]]
    >>> batch_norm(x, mean=np.array([1.0]), var=np.array([4.0]), eps=0.0).tolist()
    [[[0.0, 0.5]], [[1.0, 2.5]]]
    """
    xp, x, scale, shift, given, g = _batched(x, scale, shift, mean, var, eps)
    return drawer(xp, x).normal_y(x, scale, shift, given, g, eps)[0]


def batch_norm_vjp(
    x: Array,
    scale: Array | None = None,
    shift: Array | None = None,
    *,
    mean: Array | None = None,
    var: Array | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Pullback]:
    """`batch_norm`, and the pullback of a cotangent dy to dx, then dscale and dshift of those that were given.

    Given statistics are constants: they have no gradients.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.norm import batch_norm_vjp
    >>> y, pullback = batch_norm_vjp(np.array([[1.0], [3.0]]), np.array([2.0]), np.array([0.0]), eps=0.0)
    >>> dx, dscale, dshift = pullback(np.array([[1.0], [0.0]]))
    >>> dscale, dshift
    (array([-1.]), array([1.]))
    """
    xp, x, scale, shift, given, g = _batched(x, scale, shift, mean, var, eps)
    return _vjp(drawer(xp, x), x, scale, shift, given, g, eps)


def batch_norm_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and variance of each channel over the batch and all positions: what `batch_norm` normalises by.

    Parameters
    ----------
    x : array of a real floating dtype, shape (batch, channels, *size)
        Input.

    Returns
    -------
    mean, var : array, shape (channels,)
        The variance is the mean square deviation. Times n / (n - 1), for n numbers in a channel, it is the unbiased estimate, of
        which running averages are kept for inference.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.norm import batch_norm_statistics
    >>> batch_norm_statistics(np.array([[[1.0, 2.0]], [[3.0, 6.0]]]))
    (array([3.]), array([3.5]))
    """
    xp, x = _array.reals(x=x)
    g = geometry.batch(tuple(x.shape))
    geometry.check_count(g)
    return drawer(xp, x).moments(x, g)


def layer_norm(x: Array, scale: Array | None = None, shift: Array | None = None, *, axes: int = 1, eps: float = 1e-5) -> Array:
    r"""Normalise over the last axes.

    .. math:: y[n,i] = \frac{x[n,i] - \mu_n}{\sqrt{\sigma_n^2 + \epsilon}} \, \text{scale}[i] + \text{shift}[i]

    where i runs over the last axes and n over all before, with mean and variance (divided by the count) over i.

    Parameters
    ----------
    x : array of a real floating dtype, shape (..., *normal)
        Input.
    scale, shift : array, shape normal, optional
        One and zero if left out.
    axes : int, default 1
        How many of the last axes to normalise over: the length of `normal`.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    array, shape of x
        In the library, on the device and of the dtype of the input.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, or not real floating.
    ValueError
        If shapes do not fit together, or eps is negative.

    References
    ----------
    Ba, Kiros and Hinton, Layer normalization, arXiv:1607.06450, eq. 3 and 4.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.norm import layer_norm
    >>> layer_norm(np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]), eps=0.0).round(3)
    array([[-1.225,  0.   ,  1.225],
           [-1.225,  0.   ,  1.225]])
    """
    return _y(x, scale, shift, eps, lambda shape: geometry.layer(shape, _count("axes", axes)))


def layer_norm_vjp(
    x: Array, scale: Array | None = None, shift: Array | None = None, *, axes: int = 1, eps: float = 1e-5
) -> tuple[Array, Pullback]:
    """`layer_norm`, and the pullback of a cotangent dy to dx, then dscale and dshift of those that were given.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.norm import layer_norm_vjp
    >>> y, pullback = layer_norm_vjp(np.array([[1.0, 2.0, 3.0]]), np.ones(3), np.zeros(3))
    >>> pullback(np.array([[1.0, 10.0, 100.0]]), wrt="shift")
    array([  1.,  10., 100.])
    """
    return _y_vjp(x, scale, shift, eps, lambda shape: geometry.layer(shape, _count("axes", axes)))


def group_norm(x: Array, scale: Array | None = None, shift: Array | None = None, *, groups: int, eps: float = 1e-5) -> Array:
    r"""Normalise groups of neighbouring channels of each sample, over its positions.

    .. math:: y[n,c,q] = \frac{x[n,c,q] - \mu_{n,h}}{\sqrt{\sigma_{n,h}^2 + \epsilon}} \, \text{scale}[c] + \text{shift}[c]

    where h is the group of channel c, with mean and variance (divided by the count) over its channels and all positions.

    Parameters
    ----------
    x : array of a real floating dtype, shape (batch, channels, *size)
        Input.
    scale, shift : array, shape (channels,), optional
        One and zero if left out.
    groups : int
        How many groups the channels make; a divisor of their number.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    array, shape of x
        In the library, on the device and of the dtype of the input.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, or not real floating.
    ValueError
        If shapes do not fit together, or eps is negative.

    References
    ----------
    Wu and He, Group normalization, arXiv:1803.08494, eq. 7.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.norm import group_norm
    >>> group_norm(np.array([[[1.0], [3.0], [0.0], [8.0]]]), groups=2, eps=0.0)
    array([[[-1.],
            [ 1.],
            [-1.],
            [ 1.]]])
    """
    return _y(x, scale, shift, eps, lambda shape: geometry.group(shape, _count("groups", groups)))


def group_norm_vjp(
    x: Array, scale: Array | None = None, shift: Array | None = None, *, groups: int, eps: float = 1e-5
) -> tuple[Array, Pullback]:
    """`group_norm`, and the pullback of a cotangent dy to dx, then dscale and dshift of those that were given."""
    return _y_vjp(x, scale, shift, eps, lambda shape: geometry.group(shape, _count("groups", groups)))


def instance_norm(x: Array, scale: Array | None = None, shift: Array | None = None, *, eps: float = 1e-5) -> Array:
    r"""Normalise each channel of each sample over its positions.

    .. math:: y[n,c,q] = \frac{x[n,c,q] - \mu_{n,c}}{\sqrt{\sigma_{n,c}^2 + \epsilon}} \, \text{scale}[c] + \text{shift}[c]

    with mean and variance (divided by the count) over all positions q.

    Parameters
    ----------
    x : array of a real floating dtype, shape (batch, channels, *size)
        Input, with at least one spatial axis.
    scale, shift : array, shape (channels,), optional
        One and zero if left out.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    array, shape of x
        In the library, on the device and of the dtype of the input.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, or not real floating.
    ValueError
        If shapes do not fit together, or eps is negative.

    References
    ----------
    Ulyanov, Vedaldi and Lempitsky, Instance normalization, arXiv:1607.08022, eq. 3.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.norm import instance_norm
    >>> instance_norm(np.array([[[1.0, 3.0], [5.0, 25.0]]]), eps=0.0)
    array([[[-1.,  1.],
            [-1.,  1.]]])
    """
    return _y(x, scale, shift, eps, geometry.instance)


def instance_norm_vjp(
    x: Array, scale: Array | None = None, shift: Array | None = None, *, eps: float = 1e-5
) -> tuple[Array, Pullback]:
    """`instance_norm`, and the pullback of a cotangent dy to dx, then dscale and dshift of those that were given."""
    return _y_vjp(x, scale, shift, eps, geometry.instance)


class _Pullback(Pullback):
    """A pullback whose gradients share their work: they are asked of one `_Gradients` per call."""

    __slots__ = ("_of",)

    def __init__(self, y: Array, of: Callable[[Array, bool], tuple[Any, ...]], names: list[str]) -> None:
        super().__init__(y, **{name: operator.attrgetter(name) for name in names})
        self._of = of

    def _checked(self, cotangent: Array) -> Any:
        return _Gradients(super()._checked(cotangent), self._of)


class _Gradients:
    """The gradients for one cotangent: with x or without, as the first of them that is wanted says."""

    def __init__(self, dy: Array, of: Callable[[Array, bool], tuple[Any, ...]]) -> None:
        self._dy, self._of = dy, of
        self._known: tuple[Any, ...] = (None, None, None)

    def _get(self, index: int) -> Array:
        if self._known[index] is None:
            self._known = self._of(self._dy, index == 0)
        return self._known[index]

    x = property(lambda self: self._get(0))
    scale = property(lambda self: self._get(1))
    shift = property(lambda self: self._get(2))


def _y(x: Array, scale: Array | None, shift: Array | None, eps: float, shape: Callable[[Any], NormGeometry]) -> Array:
    xp, x, scale, shift, g = _checked(x, scale, shift, eps, shape)
    return drawer(xp, x).normal_y(x, scale, shift, None, g, eps)[0]


def _y_vjp(
    x: Array, scale: Array | None, shift: Array | None, eps: float, shape: Callable[[Any], NormGeometry]
) -> tuple[Array, Pullback]:
    xp, x, scale, shift, g = _checked(x, scale, shift, eps, shape)
    return _vjp(drawer(xp, x), x, scale, shift, None, g, eps)


def _vjp(
    on: Norms, x: Array, scale: Array | None, shift: Array | None, given: Any, g: NormGeometry, eps: float
) -> tuple[Array, Pullback]:
    y, kept = on.normal_y(x, scale, shift, given, g, eps)
    names = ["x", *(name for name, a in (("scale", scale), ("shift", shift)) if a is not None)]
    return y, _Pullback(y, lambda dy, need_x: on.gradients(dy, x, scale, kept, g, need_x), names)


def _batched(x: Array, scale: Array | None, shift: Array | None, mean: Array | None, var: Array | None, eps: float) -> Any:
    if (mean is None) != (var is None):
        raise ValueError("mean and var go together: needed both, or neither")
    xp, x, scale, shift, mean, var = _array.reals(x=x, scale=scale, shift=shift, mean=mean, var=var)
    _check_eps(eps)
    g = geometry.batch(tuple(x.shape))
    _check_channels(g, scale=scale, shift=shift, mean=mean, var=var)
    if mean is None:
        geometry.check_count(g)
    return xp, x, scale, shift, None if mean is None else (mean, var), g


def _checked(x: Array, scale: Array | None, shift: Array | None, eps: float, shape: Callable[[Any], NormGeometry]) -> Any:
    xp, x, scale, shift = _array.reals(x=x, scale=scale, shift=shift)
    _check_eps(eps)
    g = shape(tuple(x.shape))
    _check_channels(g, scale=scale, shift=shift)
    return xp, x, scale, shift, g


def _check_channels(g: NormGeometry, **arrays: Array | None) -> None:
    geometry.check_channels(g, **{name: tuple(a.shape) for name, a in arrays.items() if a is not None})


def _check_eps(eps: float) -> None:
    if not eps >= 0:
        raise ValueError(f"eps={eps!r}; needed a number, at least 0")


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is {value!r} of type {type(value).__name__}; needed an int")
    return operator.index(value)
