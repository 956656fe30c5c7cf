"""Losses that tell a positive from the rest of the batch: InfoNCE, NT-Xent and SupCon are one softmax over inner products."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType

from array_api_compat import device

from .._array import Array, namespace
from .._pullback import Pullback
from ..activation import log_softmax_vjp
from ._arguments import embeddings, labels_of, number, widened
from ._drawer import drawer, streaming
from ._sphere import normalised
from ._value import answer


def info_nce_loss(za: Array, zb: Array, temperature: float = 0.07, *, symmetric: bool = False) -> Array:
    r"""InfoNCE of two towers: which row of zb belongs to each row of za? The other rows of the batch are the wrong answers.

    .. math:: L = -\frac1n \sum_i \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}} \qquad
       s_{ij} = \frac{\langle a_i, b_j \rangle}{T \, \lVert a_i \rVert \lVert b_j \rVert}

    Parameters
    ----------
    za, zb : array of real floats, shape (n, dim)
        Embeddings; row i of both belong together. They are L2-normalised inside; a row of zeros stays zero, and has no gradient.
    temperature : float, default 0.07
        T, above 0.
    symmetric : bool, default False
        Ask in both directions, and take the mean: also which row of za belongs to each row of zb.

    Returns
    -------
    array, shape ()
        In the library, on the device and of the dtype of the embeddings. Chance is log(n).

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices or not of a real floating dtype, or the temperature is no number.
    ValueError
        If the shapes differ or have not 2 axes, there are fewer than 2 rows, or the temperature is not above 0.

    References
    ----------
    van den Oord, Li and Vinyals, Representation learning with contrastive predictive coding, arXiv:1807.03748, equation 4.
    Radford et al., Learning transferable visual models from natural language supervision, arXiv:2103.00020, figure 3 (symmetric).

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import info_nce_loss
    >>> za, zb = np.eye(2), np.array([[3.0, 0.0], [4.0, 3.0]])
    >>> round(float(info_nce_loss(za, zb, 1.0)), 6)  # rows (1, 0.8) and (0, 0.6): log(1 + e^-0.2) / 2 + log(1 + e^-0.6) / 2
    0.517813
    """
    return info_nce_loss_vjp(za, zb, temperature, symmetric=symmetric)[0]


def info_nce_loss_vjp(za: Array, zb: Array, temperature: float = 0.07, *, symmetric: bool = False) -> tuple[Array, Pullback]:
    """`info_nce_loss`, and the pullback of a cotangent to (dza, dzb).

    Parameters are those of `info_nce_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import info_nce_loss_vjp
    >>> loss, pullback = info_nce_loss_vjp(np.eye(2), np.eye(2)[::-1], 1.0)
    >>> pullback(wrt="za").round(3)
    array([[ 0.   , -0.366],
           [-0.366,  0.   ]])
    """
    xp, dtype, za, zb = widened(za=za, zb=zb)
    n, _ = embeddings(2, za=za, zb=zb)
    temperature = number("temperature", temperature, 0, open_at_least=True)

    (a, pull_a), (b, pull_b) = normalised(xp, za), normalised(xp, zb)
    if (streamed := streaming(xp, a)) is not None:
        terms, (d_a, d_b) = streamed.between_towers(a, b, temperature, symmetric)
        value = sum(map(xp.mean, terms)) / len(terms)
        return answer(xp, dtype, value, za=lambda dy: pull_a(dy * d_a()), zb=lambda dy: pull_b(dy * d_b()))
    matmul = drawer(xp, a).matmul
    logits = matmul(xp, a / temperature, xp.matrix_transpose(b))
    rows = xp.arange(n, device=device(a))
    value, slope = _of_label(xp, logits, rows)
    if symmetric:
        value_b, slope_b = _of_label(xp, xp.matrix_transpose(logits), rows)
        value = 0.5 * (value + value_b)

    @cache
    def d_logits() -> Array:
        d = 0.5 * (slope() + xp.matrix_transpose(slope_b())) if symmetric else slope()
        return d / temperature

    return answer(
        xp,
        dtype,
        value,
        za=lambda dy: pull_a(dy * matmul(xp, d_logits(), b)),
        zb=lambda dy: pull_b(dy * matmul(xp, xp.matrix_transpose(d_logits()), a)),
    )


def nt_xent_loss(za: Array, zb: Array, temperature: float = 0.5) -> Array:
    r"""NT-Xent, the loss of SimCLR: each of 2n views should find the other view of its image among the 2n - 1 others.

    With z the rows of za and then of zb, and i' the other view of i (i + n, or i - n in the second half),

    .. math:: L = -\frac{1}{2n} \sum_{i=1}^{2n} \log \frac{e^{s_{ii'}}}{\sum_{j \ne i} e^{s_{ij}}} \qquad
       s_{ij} = \frac{\langle z_i, z_j \rangle}{T \, \lVert z_i \rVert \lVert z_j \rVert}

    Parameters
    ----------
    za, zb : array of real floats, shape (n, dim)
        Embeddings of two views of n images, row by row. L2-normalised inside; a row of zeros stays zero, and has no gradient.
    temperature : float, default 0.5
        T, above 0. The row maximum is subtracted before the exponential, so 0.01 does not overflow.

    Returns
    -------
    array, shape ()
        In the library, on the device and of the dtype of the embeddings. Chance is log(2n - 1).

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices or not of a real floating dtype, or the temperature is no number.
    ValueError
        If the shapes differ or have not 2 axes, there are fewer than 2 images, or the temperature is not above 0.

    See Also
    --------
    supcon_loss : the same with the images of a class for views.

    References
    ----------
    Chen et al., A simple framework for contrastive learning of visual representations, arXiv:2002.05709, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import nt_xent_loss
    >>> round(float(nt_xent_loss(np.eye(2), np.eye(2), 0.5)), 6)  # log(1 + 2 e^-2)
    0.239545
    """
    return nt_xent_loss_vjp(za, zb, temperature)[0]


def nt_xent_loss_vjp(za: Array, zb: Array, temperature: float = 0.5) -> tuple[Array, Pullback]:
    """`nt_xent_loss`, and the pullback of a cotangent to (dza, dzb).

    Parameters are those of `nt_xent_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import nt_xent_loss_vjp
    >>> loss, pullback = nt_xent_loss_vjp(np.eye(2), np.eye(2)[::-1], 1.0)
    >>> pullback(wrt="za").round(3)
    array([[ 0.   , -0.288],
           [-0.288,  0.   ]])
    """
    xp, dtype, za, zb = widened(za=za, zb=zb)
    n, _ = embeddings(2, za=za, zb=zb)
    temperature = number("temperature", temperature, 0, open_at_least=True)
    z = xp.concat([za, zb])
    if (streamed := streaming(xp, z)) is not None:
        unit, pull = normalised(xp, z)
        terms, d_unit = streamed.among_others(unit, temperature, n)
        value, d_z = xp.mean(terms), cache(lambda: pull(d_unit()))
        return answer(xp, dtype, value, za=lambda dy: dy * d_z()[:n, :], zb=lambda dy: dy * d_z()[n:, :])
    image = xp.arange(n, device=device(za))
    other_view = xp.concat([image + n, image])
    value, gradient = _among_all(xp, z, temperature, lambda logits: _of_label(xp, logits, other_view))
    return answer(xp, dtype, value, za=lambda dy: dy * gradient()[:n, :], zb=lambda dy: dy * gradient()[n:, :])


def supcon_loss(z: Array, labels: Array, temperature: float = 0.1) -> Array:
    r"""Supervised contrastive loss, with the sum over positives outside of the logarithm.

    P(i) are the other rows with the label of i. Rows without any are skipped: the mean is over the rows A that have positives.

    .. math:: L = \frac{1}{|A|} \sum_{i \in A} \frac{-1}{|P(i)|} \sum_{p \in P(i)} \log
       \frac{e^{s_{ip}}}{\sum_{j \ne i} e^{s_{ij}}} \qquad
       s_{ij} = \frac{\langle z_i, z_j \rangle}{T \, \lVert z_i \rVert \lVert z_j \rVert}

    Parameters
    ----------
    z : array of real floats, shape (n, dim)
        Embeddings. L2-normalised inside; a row of zeros stays zero, and has no gradient.
    labels : array of integers, shape (n,)
        Class of each row: any integers, only whether they are equal counts.
    temperature : float, default 0.1
        T, above 0.

    Returns
    -------
    array, shape ()
        In the library, on the device and of the dtype of z. Chance is log(n - 1). A row with k positives costs at least log(k).

    Warns
    -----
    UserWarning
        If no row has a positive. The loss is 0 then, and so is its gradient.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, z not of a real floating dtype, labels not integers, or the
        temperature is no number.
    ValueError
        If the shapes do not fit, there are fewer than 2 rows, or the temperature is not above 0.

    References
    ----------
    Khosla et al., Supervised contrastive learning, arXiv:2004.11362, equation 2 ("out").

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import supcon_loss
    >>> z = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> round(float(supcon_loss(z, np.array([7, 7, 3]), 0.5)), 6)  # log(1 + e^-2): the third row is skipped
    0.126928
    """
    return _supcon(z, labels, temperature)[0]


def supcon_loss_vjp(z: Array, labels: Array, temperature: float = 0.1) -> tuple[Array, Pullback]:
    """`supcon_loss`, and the pullback of a cotangent to dz. Labels have no gradient.

    Parameters are those of `supcon_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import supcon_loss_vjp
    >>> loss, pullback = supcon_loss_vjp(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), np.array([0, 0, 1]), 1.0)
    >>> pullback().round(3)
    array([[ 0.   , -0.366],
           [-0.616,  0.   ],
           [ 0.125,  0.   ]])
    """
    return _supcon(z, labels, temperature)


def _supcon(z: Array, labels: Array, temperature: float) -> tuple[Array, Pullback]:
    namespace(z=z, labels=labels)
    xp, dtype, z = widened(z=z)
    n, _ = embeddings(2, z=z)
    labels = labels_of(xp, (n,), why=", one for each row of z", labels=labels)
    temperature = number("temperature", temperature, 0, open_at_least=True)
    rows = xp.arange(n, device=device(z))
    positives = _equal(xp, labels, labels) ^ _equal(xp, rows, rows)
    value, d_z = _among_all(xp, z, temperature, lambda logits: _picked(xp, logits, positives))
    if not bool(xp.any(positives)):
        warnings.warn(
            f"supcon_loss: none of the {n} rows has a positive, as no label occurs twice; the loss and its gradient are 0",
            stacklevel=3,
        )
    return answer(xp, dtype, value, z=lambda dy: dy * d_z())


def _among_all(
    xp: ModuleType, z: Array, temperature: float, loss: Callable[[Array], tuple[Array, Callable[[], Array]]]
) -> tuple[Array, Callable[[], Array]]:
    """Each row against all others: the value of a loss of their logits, and the gradient in z."""
    unit, pull = normalised(xp, z)
    rows = xp.arange(z.shape[0], device=device(z))
    matmul = drawer(xp, z).matmul
    logits = matmul(xp, unit / temperature, xp.matrix_transpose(unit))
    # No row may choose itself: logits are from -1/T to 1/T, and e^-1000 is 0. (Minus infinity times 0 would be a NaN.)
    nowhere = xp.full((), -2.0 / temperature - 1000.0, dtype=z.dtype, device=device(z))
    value, slope = loss(xp.where(_equal(xp, rows, rows), nowhere, logits))

    @cache
    def d_z() -> Array:
        d_logits = slope()  # z is on both sides of the inner product
        return pull(matmul(xp, d_logits + xp.matrix_transpose(d_logits), unit) / temperature)

    return value, d_z


def _of_label(xp: ModuleType, logits: Array, labels: Array) -> tuple[Array, Callable[[], Array]]:
    """Mean cross entropy of each row's softmax to its label, and the gradient in the logits."""
    terms, pull = drawer(xp, logits).cross_entropy(xp, logits, labels, 0.0)
    return xp.mean(terms), lambda: pull(xp.full((), 1.0 / logits.shape[0], dtype=logits.dtype, device=device(logits)))


def _picked(xp: ModuleType, logits: Array, positives: Array) -> tuple[Array, Callable[[], Array]]:
    """Mean cross entropy of each row's softmax to an even choice among its positives, and the gradient in the logits.

    Rows without positives are left out of the mean.
    """
    hot = xp.astype(positives, logits.dtype)
    count = xp.sum(hot, axis=1, keepdims=True)
    rows = xp.sum(xp.astype(count > 0, logits.dtype))
    weights = hot / xp.clip(count * rows, min=1.0)
    log_p, pull = log_softmax_vjp(logits)
    return -xp.sum(weights * log_p), lambda: pull(-weights)


def _equal(xp: ModuleType, a: Array, b: Array) -> Array:
    return xp.expand_dims(a, axis=1) == xp.expand_dims(b, axis=0)
