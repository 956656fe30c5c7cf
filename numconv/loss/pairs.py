"""Losses of given pairs and triplets of embeddings: one term each, no comparison across the batch."""

from __future__ import annotations

from functools import cache

from .._array import Array, namespace
from .._pullback import Pullback
from ._arguments import embeddings, labels_of, number, widened
from ._sphere import normalised
from ._value import Reduction, answer
from .classification import bernoulli, bernoulli_slope


def contrastive_loss(
    za: Array, zb: Array, same: Array, *, temperature: float = 0.1, threshold: float = 0.0, reduction: str = "mean"
) -> Array:
    r"""Logistic loss of the inner products of labelled pairs: those of positive pairs rise, those of negative pairs fall.

    Embeddings are L2-normalised inside, so s is the cosine of their angle, and the loss is the negative log-likelihood of the
    label in a logistic regression on s:

    .. math:: l_n = \log\left(1 + e^{\mp (s_n - \text{threshold}) / T}\right)
       \quad \text{- for positive, + for negative pairs} \qquad
       s_n = \frac{\langle a_n, b_n \rangle}{\lVert a_n \rVert \lVert b_n \rVert}

    Parameters
    ----------
    za, zb : array of real floats, shape (n, dim)
        Embeddings of the first and the second half of each pair. A row of zeros has inner product 0 with all, and no gradient.
    same : array of integers or booleans, shape (n,)
        1 where a pair is positive (a crop and another crop of one image, two images of one class), 0 where it is negative.
    temperature : float, default 0.1
        T: the smaller, the sooner a pair on the right side of the threshold stops to count. Above 0.
    threshold : float, default 0.0
        The inner product at which a pair is as likely positive as negative. More than dim + 1 directions cannot all have negative
        inner products, so with many classes a threshold above 0 asks less of negative pairs.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        Mean over the pairs, their sum, or the terms themselves.

    Returns
    -------
    array, shape () or, without reduction, (n,)
        In the library, on the device and of the dtype of the embeddings; log 2 per pair at the threshold.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, embeddings not of a real floating dtype, or `same` not of integers.
    ValueError
        If the shapes do not fit, `same` holds other than 0 and 1, the temperature is not above 0, or a mean is over nothing.

    References
    ----------
    Hadsell, Chopra and LeCun, Dimensionality reduction by learning an invariant mapping, CVPR 2006 (labelled pairs; there with
    distances and a margin).
    Zhai et al., Sigmoid loss for language image pre-training, arXiv:2303.15343, equation 1 (this form, of all pairs).

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import contrastive_loss
    >>> za, zb = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[3.0, 0.0], [1.0, 0.0]])
    >>> contrastive_loss(za, zb, np.array([1, 0]), temperature=0.5, reduction="none").round(4)
    array([0.1269, 0.6931])
    """
    return contrastive_loss_vjp(za, zb, same, temperature=temperature, threshold=threshold, reduction=reduction)[0]


def contrastive_loss_vjp(
    za: Array, zb: Array, same: Array, *, temperature: float = 0.1, threshold: float = 0.0, reduction: str = "mean"
) -> tuple[Array, Pullback]:
    """`contrastive_loss`, and the pullback of a cotangent to (dza, dzb).

    Parameters are those of `contrastive_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import contrastive_loss_vjp
    >>> za, zb = np.array([[2.0, 0.0]]), np.array([[0.0, 1.0]])
    >>> loss, pullback = contrastive_loss_vjp(za, zb, np.array([0]), temperature=1.0)
    >>> pullback(wrt="za")  # a negative pair: descent, against the gradient, leads away from zb
    array([[0.  , 0.25]])
    """
    namespace(za=za, same=same)
    xp, dtype, za, zb = widened(za=za, zb=zb)
    n, _ = embeddings(0, za=za, zb=zb)
    if xp.isdtype(same.dtype, "bool"):
        same = xp.astype(xp.asarray(same), xp.int64)
    same = labels_of(xp, (n,), 2, ", 1 for each positive and 0 for each negative pair", same=same)
    temperature = number("temperature", temperature, 0, open_at_least=True)
    threshold = number("threshold", threshold, -float("inf"))
    over = Reduction.read(reduction, (n,))

    (a, pull_a), (b, pull_b) = normalised(xp, za), normalised(xp, zb)
    same = xp.astype(same, a.dtype)
    logits = (xp.sum(a * b, axis=1) - threshold) / temperature
    slope = cache(lambda: bernoulli_slope(xp, logits, same) / temperature)

    def each(dy: Array) -> Array:
        return xp.expand_dims(slope() * over.share(dy), axis=1)

    value = over.of(xp, bernoulli, logits, same)
    return answer(xp, dtype, value, za=lambda dy: pull_a(each(dy) * b), zb=lambda dy: pull_b(each(dy) * a))


def triplet_loss(anchor: Array, positive: Array, negative: Array, *, margin: float = 0.2, reduction: str = "mean") -> Array:
    r"""Triplet loss: an anchor should be nearer to its positive than to its negative, by a margin of squared distance.

    Embeddings are L2-normalised inside, so squared distances are 2 - 2 times the inner product, from 0 to 4:

    .. math:: l_n = \max\left(0, \; \lVert a_n - p_n \rVert^2 - \lVert a_n - q_n \rVert^2 + \text{margin}\right)
       = \max\left(0, \; 2 \langle a_n, q_n - p_n \rangle + \text{margin}\right)

    Parameters
    ----------
    anchor, positive, negative : array of real floats, shape (n, dim)
        Embeddings a, p and q. A row of zeros stays zero, and has no gradient.
    margin : float, default 0.2
        How much farther the negative has to be, in squared distance; at least 0. A loss that stays at the margin says that all
        embeddings have become one.
    reduction : {"mean", "sum", "none", "batchmean"}, default "mean"
        Mean over all triplets, those that cost nothing included; their sum; or the terms themselves.

    Returns
    -------
    array, shape () or, without reduction, (n,)
        In the library, on the device and of the dtype of the embeddings.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, or not of a real floating dtype.
    ValueError
        If the shapes differ or have not 2 axes, the margin is negative, or a mean is over nothing.

    References
    ----------
    Schroff, Kalenichenko and Philbin, FaceNet, arXiv:1503.03832, equation 2.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import triplet_loss
    >>> a, p, q = np.array([[1.0, 0.0]]), np.array([[0.0, 3.0]]), np.array([[5.0, 0.0]])
    >>> float(triplet_loss(a, p, q, margin=0.5)), float(triplet_loss(a, q, p, margin=0.5))
    (2.5, 0.0)
    """
    return triplet_loss_vjp(anchor, positive, negative, margin=margin, reduction=reduction)[0]


def triplet_loss_vjp(
    anchor: Array, positive: Array, negative: Array, *, margin: float = 0.2, reduction: str = "mean"
) -> tuple[Array, Pullback]:
    """`triplet_loss`, and the pullback of a cotangent to (danchor, dpositive, dnegative).

    Parameters are those of `triplet_loss`. The gradient of a triplet that costs nothing is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import triplet_loss_vjp
    >>> loss, pullback = triplet_loss_vjp(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), np.array([[0.0, -2.0]]), margin=3.0)
    >>> float(loss), pullback(wrt="negative")
    (3.0, array([[1., 0.]]))
    """
    xp, dtype, anchor, positive, negative = widened(anchor=anchor, positive=positive, negative=negative)
    n, _ = embeddings(0, anchor=anchor, positive=positive, negative=negative)
    margin = number("margin", margin, 0)
    over = Reduction.read(reduction, (n,))

    (a, pull_a), (p, pull_p), (q, pull_q) = (normalised(xp, z) for z in (anchor, positive, negative))
    apart = q - p
    terms = xp.clip(2.0 * xp.sum(a * apart, axis=1) + margin, min=0.0)

    def each(dy: Array) -> Array:
        return xp.expand_dims(xp.astype(terms > 0, a.dtype) * (2.0 * over.share(dy)), axis=1)

    return answer(
        xp,
        dtype,
        over(xp, terms),
        anchor=lambda dy: pull_a(each(dy) * apart),
        positive=lambda dy: pull_p(each(dy) * -a),
        negative=lambda dy: pull_q(each(dy) * a),
    )
