"""Losses of a difference: squared, absolute, and Huber's mixture of both."""

from __future__ import annotations

from types import ModuleType

from .._array import Array
from .._pointwise import Pointwise, pointwise
from .._pullback import Pullback
from ._arguments import number, same_shape, widened
from ._value import Reduction, answer


def mse_loss(prediction: Array, target: Array, *, reduction: str = "mean") -> Array:
    r"""Squared error.

    .. math:: l_i = (p_i - t_i)^2

    Parameters
    ----------
    prediction : array of real floats, any shape
        What the model says.
    target : array of real floats, shape of prediction
        What it should say.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        Mean of all terms; their sum; the terms themselves; or the sum divided by the batch size (axis 0), which for images with
        Gaussian pixels is a log-likelihood per image, up to a constant.

    Returns
    -------
    array, shape () or, without reduction, that of prediction
        In the library, on the device and of the dtype of the arguments.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, or not of a real floating dtype.
    ValueError
        If the shapes differ (nothing is broadcast), the reduction is unknown, or a mean is over nothing.

    See Also
    --------
    gaussian_nll_loss : squared error with a variance of its own, in nats.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import mse_loss
    >>> float(mse_loss(np.array([1.0, 2.0, 4.0]), np.array([1.0, 1.0, 1.0])))
    3.3333333333333335
    >>> mse_loss(np.array([1.0, 2.0, 4.0]), np.array([1.0, 1.0, 1.0]), reduction="none")
    array([0., 1., 9.])
    """
    return mse_loss_vjp(prediction, target, reduction=reduction)[0]


def mse_loss_vjp(prediction: Array, target: Array, *, reduction: str = "mean") -> tuple[Array, Pullback]:
    """`mse_loss`, and the pullback of a cotangent to (dprediction, dtarget).

    Parameters are those of `mse_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import mse_loss_vjp
    >>> loss, pullback = mse_loss_vjp(np.array([1.0, 5.0]), np.array([0.0, 2.0]))
    >>> float(loss), pullback(wrt="prediction")
    (5.0, array([1., 3.]))
    """
    return _of_difference(prediction, target, reduction, _squared, _doubled)


def l1_loss(prediction: Array, target: Array, *, reduction: str = "mean") -> Array:
    r"""Absolute error. Its gradient is the sign of the difference, and 0 where there is none.

    .. math:: l_i = |p_i - t_i|

    Parameters
    ----------
    prediction : array of real floats, any shape
        What the model says.
    target : array of real floats, shape of prediction
        What it should say.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        As for `mse_loss`.

    Returns
    -------
    array, shape () or, without reduction, that of prediction
        In the library, on the device and of the dtype of the arguments.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import l1_loss
    >>> float(l1_loss(np.array([1.0, 2.0, 4.0]), np.array([1.0, 1.0, 9.0])))
    2.0
    """
    return l1_loss_vjp(prediction, target, reduction=reduction)[0]


def l1_loss_vjp(prediction: Array, target: Array, *, reduction: str = "mean") -> tuple[Array, Pullback]:
    """`l1_loss`, and the pullback of a cotangent to (dprediction, dtarget).

    Parameters are those of `l1_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import l1_loss_vjp
    >>> loss, pullback = l1_loss_vjp(np.array([1.0, 2.0, 4.0]), np.array([1.0, 1.0, 9.0]), reduction="sum")
    >>> pullback(wrt="prediction")
    array([ 0.,  1., -1.])
    """
    return _of_difference(prediction, target, reduction, _absolute, _sign)


def huber_loss(prediction: Array, target: Array, *, delta: float = 1.0, reduction: str = "mean") -> Array:
    r"""Huber's loss: half the square up to differences of delta, a straight line beyond, with a gradient never above delta.

    .. math:: l_i = \begin{cases} \tfrac12 d_i^2 & |d_i| \le \delta \\ \delta \, (|d_i| - \tfrac12 \delta) & |d_i| > \delta
       \end{cases} \qquad d = p - t

    Parameters
    ----------
    prediction : array of real floats, any shape
        What the model says.
    target : array of real floats, shape of prediction
        What it should say.
    delta : float, default 1.0
        Where the square becomes a line; above 0.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        As for `mse_loss`.

    Returns
    -------
    array, shape () or, without reduction, that of prediction
        In the library, on the device and of the dtype of the arguments.

    Raises
    ------
    TypeError, ValueError
        As `mse_loss`, or if delta is no finite number above 0.

    References
    ----------
    Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35 (1964), 73-101.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import huber_loss
    >>> huber_loss(np.array([0.5, 3.0]), np.array([0.0, 0.0]), reduction="none")
    array([0.125, 2.5  ])
    """
    return huber_loss_vjp(prediction, target, delta=delta, reduction=reduction)[0]


def huber_loss_vjp(prediction: Array, target: Array, *, delta: float = 1.0, reduction: str = "mean") -> tuple[Array, Pullback]:
    """`huber_loss`, and the pullback of a cotangent to (dprediction, dtarget).

    Parameters are those of `huber_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import huber_loss_vjp
    >>> loss, pullback = huber_loss_vjp(np.array([0.5, 3.0]), np.array([0.0, 0.0]), reduction="sum")
    >>> pullback(wrt="prediction")
    array([0.5, 1. ])
    """
    delta = number("delta", delta, 0, open_at_least=True)
    return _of_difference(prediction, target, reduction, _huber, _clipped, delta)


@pointwise
def _squared(xp: ModuleType, prediction: Array, target: Array) -> Array:
    d = prediction - target
    return d * d


@pointwise
def _doubled(xp: ModuleType, prediction: Array, target: Array) -> Array:
    return 2.0 * (prediction - target)


@pointwise
def _absolute(xp: ModuleType, prediction: Array, target: Array) -> Array:
    return xp.abs(prediction - target)


@pointwise
def _sign(xp: ModuleType, prediction: Array, target: Array) -> Array:
    return xp.sign(prediction - target)


@pointwise
def _huber(xp: ModuleType, prediction: Array, target: Array, delta: float) -> Array:
    # Both branches at once, and the square of a large difference, which could overflow, is never taken.
    d = prediction - target
    c = xp.clip(d, -delta, delta)
    return c * (d - 0.5 * c)


@pointwise
def _clipped(xp: ModuleType, prediction: Array, target: Array, delta: float) -> Array:
    return xp.clip(prediction - target, -delta, delta)


def _of_difference(
    prediction: Array, target: Array, reduction: str, terms: Pointwise, slope: Pointwise, *parameter: float
) -> tuple[Array, Pullback]:
    """Reduce terms of the difference; `slope` is their derivative in it."""
    xp, dtype, prediction, target = widened(prediction=prediction, target=target)
    over = Reduction.read(reduction, same_shape(prediction=prediction, target=target))
    arguments = (prediction, target, *parameter)
    return answer(
        xp,
        dtype,
        over.of(xp, terms, *arguments),
        prediction=lambda dy: slope.times(xp, over.share(dy), *arguments),
        target=lambda dy: slope.times(xp, -over.share(dy), *arguments),
    )
