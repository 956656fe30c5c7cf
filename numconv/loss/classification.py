"""Losses of unnormalised log-odds: Bernoulli for pixels and yes-or-no answers, categorical for classes."""

from __future__ import annotations

from types import ModuleType

from .. import _array
from .._array import Array, namespace
from .._pointwise import pointwise
from .._pullback import Pullback
from ._arguments import labels_of, number, same_shape, widened
from ._drawer import drawer
from ._value import Reduction, answer


def bce_with_logits_loss(logits: Array, target: Array, *, reduction: str = "mean") -> Array:
    r"""Binary cross entropy between targets and the sigmoid of logits, in nats.

    .. math:: l_i = -t_i \log \sigma(x_i) - (1 - t_i) \log (1 - \sigma(x_i)) = \max(x_i, 0) - x_i t_i + \log(1 + e^{-|x_i|})

    Parameters
    ----------
    logits : array of real floats, any shape
        Log-odds; no exponential of a positive number is taken, so none is too large.
    target : array of real floats, shape of logits
        Probabilities from 0 to 1, such as grey values. The loss of grey targets has a floor above 0: their entropy.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        Mean of all terms; their sum; the terms themselves; or the sum divided by the batch size (axis 0): nats per image, the
        reconstruction term that goes with `gaussian_kl_loss`.

    Returns
    -------
    array, shape () or, without reduction, that of logits
        In the library, on the device and of the dtype of the arguments.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, or not of a real floating dtype.
    ValueError
        If the shapes differ (nothing is broadcast), the reduction is unknown, or a mean is over nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import bce_with_logits_loss
    >>> bce_with_logits_loss(np.array([0.0, 1e4, 1e4]), np.array([1.0, 1.0, 0.0]), reduction="none")
    array([6.93147181e-01, 0.00000000e+00, 1.00000000e+04])
    """
    return bce_with_logits_loss_vjp(logits, target, reduction=reduction)[0]


def bce_with_logits_loss_vjp(logits: Array, target: Array, *, reduction: str = "mean") -> tuple[Array, Pullback]:
    """`bce_with_logits_loss`, and the pullback of a cotangent to (dlogits, dtarget).

    Parameters are those of `bce_with_logits_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import bce_with_logits_loss_vjp
    >>> loss, pullback = bce_with_logits_loss_vjp(np.array([0.0, -1e4]), np.array([1.0, 1.0]), reduction="sum")
    >>> pullback(wrt="logits")
    array([-0.5, -1. ])
    """
    xp, dtype, logits, target = widened(logits=logits, target=target)
    over = Reduction.read(reduction, same_shape(logits=logits, target=target))
    return answer(
        xp,
        dtype,
        over.of(xp, bernoulli, logits, target),
        logits=lambda dy: bernoulli_slope.times(xp, over.share(dy), logits, target),
        target=lambda dy: logits * -over.share(dy),
    )


def cross_entropy_loss(logits: Array, labels: Array, *, label_smoothing: float = 0.0, reduction: str = "mean") -> Array:
    r"""Cross entropy between labels and the softmax of logits over axis 1, in nats.

    .. math:: l_n = -\sum_c q_{nc} \log \frac{e^{x_{nc}}}{\sum_j e^{x_{nj}}} \qquad
       q_{nc} = (1 - s) \, [c = \text{label}_n] + \frac{s}{C}

    Parameters
    ----------
    logits : array of real floats, shape (batch, classes, *rest)
        Unnormalised log-probabilities. Their maximum over the classes is subtracted first, so none is too large.
    labels : array of integers, shape (batch, *rest)
        Class of each position, from 0 to classes - 1.
    label_smoothing : float, default 0.0
        Share s of the target spread evenly over all C classes, from 0 to 1.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        Mean over all labels; sum; the terms themselves; or the sum divided by the batch size (axis 0).

    Returns
    -------
    array, shape () or, without reduction, that of labels
        In the library, on the device and of the dtype of the logits. Guessing costs log(classes).

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, logits not of a real floating dtype, or labels not integers.
    ValueError
        If shapes do not fit, a label is no class, label_smoothing is not from 0 to 1, the reduction is unknown, or a mean is over
        nothing.

    References
    ----------
    Szegedy et al., Rethinking the Inception architecture, arXiv:1512.00567, section 7 (label smoothing).

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import cross_entropy_loss
    >>> float(cross_entropy_loss(np.zeros((2, 4)), np.array([0, 3])))
    1.3862943611198906
    """
    return cross_entropy_loss_vjp(logits, labels, label_smoothing=label_smoothing, reduction=reduction)[0]


def cross_entropy_loss_vjp(
    logits: Array, labels: Array, *, label_smoothing: float = 0.0, reduction: str = "mean"
) -> tuple[Array, Pullback]:
    """`cross_entropy_loss`, and the pullback of a cotangent to dlogits. Labels have no gradient.

    Parameters are those of `cross_entropy_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import cross_entropy_loss_vjp
    >>> loss, pullback = cross_entropy_loss_vjp(np.zeros((2, 4)), np.array([0, 3]), reduction="sum")
    >>> pullback()
    array([[-0.75,  0.25,  0.25,  0.25],
           [ 0.25,  0.25,  0.25, -0.75]])
    """
    return _cross_entropy(logits, labels, label_smoothing, reduction)


def trusting_cross_entropy_loss_vjp(logits: Array, labels: Array) -> tuple[Array, Pullback]:
    """`cross_entropy_loss_vjp` of labels that are known to be classes: on a GPU, to look at them would be to wait for it.

    There, a label that is no class gives NaN.
    """
    return _cross_entropy(logits, labels, 0.0, "mean", trusting=_array.library(namespace(logits=logits, labels=labels)) == "cupy")


def _cross_entropy(
    logits: Array, labels: Array, label_smoothing: float, reduction: str, *, trusting: bool = False
) -> tuple[Array, Pullback]:
    namespace(logits=logits, labels=labels)
    xp, dtype, logits = widened(logits=logits)
    if logits.ndim < 2 or logits.shape[1] < 1:
        raise ValueError(f"logits have shape {tuple(logits.shape)}; needed (batch, classes, ...) with at least 1 class on axis 1")
    batch, classes, *rest = logits.shape
    why = f" for logits of shape {tuple(logits.shape)}, with the classes on axis 1"
    labels = labels_of(xp, (batch, *rest), None if trusting else classes, why, labels=labels)
    smoothing = number("label_smoothing", label_smoothing, 0, 1)
    over = Reduction.read(reduction, (batch, *rest))

    terms, pull = drawer(xp, logits).cross_entropy(xp, logits, labels, smoothing)
    return answer(xp, dtype, over(xp, terms), logits=lambda dy: pull(over.share(dy)))


@pointwise
def bernoulli(xp: ModuleType, logits: Array, target: Array) -> Array:
    """Return -t log s(x) - (1 - t) log(1 - s(x)) for each logit x and target t."""
    return xp.clip(logits, min=0.0) - logits * target + xp.log1p(xp.exp(-xp.abs(logits)))


@pointwise
def bernoulli_slope(xp: ModuleType, logits: Array, target: Array) -> Array:
    """Return s(x) - t. Where x >= 0, s(x) is taken as 1 - s(-x): what is left of it beside a target of 1 is not rounded away."""
    e = xp.exp(-xp.abs(logits))
    step = xp.astype(logits >= 0, e.dtype)
    return (step - target) + (1.0 - 2.0 * step) * (e / (1.0 + e))
