"""The terms of a variational autoencoder with Gaussians, in nats: likelihood, divergence from the prior, and a sample."""

from __future__ import annotations

import math
from types import ModuleType

from .._array import Array
from .._pointwise import pointwise
from .._pullback import Pullback
from ._arguments import same_shape, widened
from ._value import Reduction, answer

_LOG_2_PI = math.log(2 * math.pi)


def gaussian_nll_loss(mean: Array, target: Array, logvar: Array, *, reduction: str = "batchmean") -> Array:
    r"""Negative log-likelihood of targets under Gaussians, in nats per sample: the reconstruction term of a VAE.

    .. math:: l_i = \tfrac12 \left( \log 2 \pi + v_i + (t_i - m_i)^2 e^{-v_i} \right) \qquad v = \log \sigma^2

    Parameters
    ----------
    mean : array of real floats, any shape
        Means m.
    target : array of real floats, shape of mean
        Values t whose likelihood is asked for.
    logvar : array of real floats
        Logarithms v of the variances: of the shape of mean, or of one that broadcasts to it, such as () for one variance for all
        or (channels, 1, 1) for one per channel. Neither very large nor very small ones overflow on the way to a finite loss.
    reduction : {"batchmean", "mean", "sum", "none"}, default "batchmean"
        Sum over all but the batch (axis 0) and mean over the batch: nats per sample; mean of all terms; sum; or the terms.

    Returns
    -------
    array, shape () or, without reduction, that of mean
        In the library, on the device and of the dtype of the arguments. Densities above 1 make it negative.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, or not of a real floating dtype.
    ValueError
        If the shapes do not fit, the reduction is unknown, or a mean is over nothing.

    References
    ----------
    Kingma and Welling, Auto-encoding variational Bayes, arXiv:1312.6114, appendix C.2.
    Rybkin, Daniilidis and Levine, Simple and effective VAE training with calibrated decoders, arXiv:2006.13202 (one variance).

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import gaussian_nll_loss
    >>> float(gaussian_nll_loss(np.zeros((2, 3)), np.ones((2, 3)), np.zeros(())))
    4.256815599614018
    """
    return gaussian_nll_loss_vjp(mean, target, logvar, reduction=reduction)[0]


def gaussian_nll_loss_vjp(mean: Array, target: Array, logvar: Array, *, reduction: str = "batchmean") -> tuple[Array, Pullback]:
    """`gaussian_nll_loss`, and the pullback of a cotangent to (dmean, dtarget, dlogvar).

    Parameters are those of `gaussian_nll_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import gaussian_nll_loss_vjp
    >>> loss, pullback = gaussian_nll_loss_vjp(np.zeros((2, 3)), np.full((2, 3), 2.0), np.zeros(()))
    >>> float(pullback(wrt="logvar"))
    -4.5
    """
    xp, dtype, mean, target, logvar = widened(mean=mean, target=target, logvar=logvar)
    shape = same_shape(mean=mean, target=target)
    lead = len(shape) - logvar.ndim
    if lead < 0 or any(n not in (1, to) for n, to in zip(logvar.shape, shape[lead:], strict=True)):
        raise ValueError(f"logvar has shape {tuple(logvar.shape)}; needed one that broadcasts to that of mean, {shape}")
    over = Reduction.read(reduction, shape)

    given = (mean, target, logvar)

    def d_logvar(dy: Array) -> Array:
        d = _half_excess.times(xp, over.share(dy), *given)
        spread = tuple(axis for axis, n in enumerate(shape) if axis < lead or logvar.shape[axis - lead] != n)
        return xp.reshape(xp.sum(d, axis=spread), logvar.shape) if spread else d

    return answer(
        xp,
        dtype,
        over.of(xp, _nats, *given),
        mean=lambda dy: _pull.times(xp, -over.share(dy), *given),
        target=lambda dy: _pull.times(xp, over.share(dy), *given),
        logvar=d_logvar,
    )


@pointwise
def _nats(xp: ModuleType, mean: Array, target: Array, logvar: Array) -> Array:
    z = _scaled(xp, target - mean, -logvar)
    return 0.5 * (z * z + (logvar + _LOG_2_PI))


@pointwise
def _half_excess(xp: ModuleType, mean: Array, target: Array, logvar: Array) -> Array:
    z = _scaled(xp, target - mean, -logvar)
    return 0.5 - 0.5 * (z * z)


@pointwise
def _pull(xp: ModuleType, mean: Array, target: Array, logvar: Array) -> Array:
    """Return (target - mean) / sigma^2."""
    return _scaled(xp, _scaled(xp, target - mean, -logvar), -logvar)


def gaussian_kl_loss(mean: Array, logvar: Array, *, reduction: str = "batchmean") -> Array:
    r"""Kullback-Leibler divergence of diagonal Gaussians from the standard normal, in nats per sample.

    .. math:: l_i = \tfrac12 \left( m_i^2 + e^{v_i} - 1 - v_i \right) \qquad v = \log \sigma^2

    Parameters
    ----------
    mean : array of real floats, shape (batch, *latent)
        Means m.
    logvar : array of real floats, shape of mean
        Logarithms v of the variances.
    reduction : {"batchmean", "mean", "sum", "none"}, default "batchmean"
        Sum over all latents and mean over the batch (axis 0): nats per sample, to be added to a reconstruction term of the same
        reduction; mean of all terms; sum; or the terms, whose mean over the batch tells which latents are in use.

    Returns
    -------
    array, shape () or, without reduction, that of mean
        In the library, on the device and of the dtype of the arguments; 0 for a standard normal. Infinite only where the variance
        e^v itself is: in float32 from v = 88.7.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, or not of a real floating dtype.
    ValueError
        If the shapes differ, the reduction is unknown, or a mean is over nothing.

    References
    ----------
    Kingma and Welling, Auto-encoding variational Bayes, arXiv:1312.6114, appendix B.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import gaussian_kl_loss
    >>> float(gaussian_kl_loss(np.full((5, 3), 2.0), np.zeros((5, 3))))
    6.0
    """
    return gaussian_kl_loss_vjp(mean, logvar, reduction=reduction)[0]


def gaussian_kl_loss_vjp(mean: Array, logvar: Array, *, reduction: str = "batchmean") -> tuple[Array, Pullback]:
    """`gaussian_kl_loss`, and the pullback of a cotangent to (dmean, dlogvar).

    Parameters are those of `gaussian_kl_loss`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import gaussian_kl_loss_vjp
    >>> kl, pullback = gaussian_kl_loss_vjp(np.full((1, 2), 3.0), np.zeros((1, 2)))
    >>> pullback()
    (array([[3., 3.]]), array([[0., 0.]]))
    """
    xp, dtype, mean, logvar = widened(mean=mean, logvar=logvar)
    over = Reduction.read(reduction, same_shape(mean=mean, logvar=logvar))
    return answer(
        xp,
        dtype,
        over.of(xp, _divergence, mean, logvar),
        mean=lambda dy: mean * over.share(dy),
        logvar=lambda dy: _excess.times(xp, 0.5 * over.share(dy), logvar),
    )


@pointwise
def _divergence(xp: ModuleType, mean: Array, logvar: Array) -> Array:
    return 0.5 * (mean * mean + (_excess(xp, logvar) - logvar))


@pointwise
def _excess(xp: ModuleType, logvar: Array) -> Array:
    """Return the variance above 1, without cancellation near the prior."""
    return xp.expm1(logvar)


def reparameterize(mean: Array, logvar: Array, noise: Array) -> Array:
    r"""Sample Gaussians as a function of their parameters and of standard normal noise.

    .. math:: z_i = m_i + e^{v_i / 2} \, \varepsilon_i \qquad v = \log \sigma^2

    Parameters
    ----------
    mean : array of real floats, any shape
        Means m.
    logvar : array of real floats, shape of mean
        Logarithms v of the variances.
    noise : array of real floats, shape of mean
        Standard normal numbers, drawn by the caller: the function itself is not random.

    Returns
    -------
    array, shape of mean
        In the library, on the device and of the dtype of the arguments.

    Raises
    ------
    TypeError
        If the arrays are of different libraries or devices, or not of a real floating dtype.
    ValueError
        If the shapes differ.

    References
    ----------
    Kingma and Welling, Auto-encoding variational Bayes, arXiv:1312.6114, section 2.4.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import reparameterize
    >>> reparameterize(np.array([1.0, 2.0]), np.zeros(2), np.array([0.5, -1.0]))
    array([1.5, 1. ])
    """
    return reparameterize_vjp(mean, logvar, noise)[0]


def reparameterize_vjp(mean: Array, logvar: Array, noise: Array) -> tuple[Array, Pullback]:
    """`reparameterize`, and the pullback of a cotangent dz to (dmean, dlogvar, dnoise).

    Parameters are those of `reparameterize`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.loss import reparameterize_vjp
    >>> z, pullback = reparameterize_vjp(np.zeros(2), np.zeros(2), np.array([4.0, -1.0]))
    >>> pullback(np.array([1.0, 1.0]), wrt="logvar")
    array([ 2. , -0.5])
    """
    xp, dtype, mean, logvar, noise = widened(mean=mean, logvar=logvar, noise=noise)
    same_shape(mean=mean, logvar=logvar, noise=noise)
    return answer(
        xp,
        dtype,
        _sample(xp, mean, logvar, noise),
        mean=lambda dy: xp.asarray(dy, copy=True),  # not the caller's own array
        logvar=lambda dy: _scaled.times(xp, 0.5 * dy, noise, logvar),
        noise=lambda dy: _scaled(xp, dy, logvar),
    )


@pointwise
def _sample(xp: ModuleType, mean: Array, logvar: Array, noise: Array) -> Array:
    return mean + _scaled(xp, noise, logvar)


@pointwise
def _scaled(xp: ModuleType, a: Array, logvar: Array) -> Array:
    """Return a * e^(logvar / 2).

    In two steps, of e^(logvar / 4) clipped to the finite, which reach twice the exponents of one; a zero stays a zero even
    beyond, where 0 * inf would be a NaN.
    """
    root = xp.exp(xp.clip(0.25 * logvar, max=float(math.floor(math.log(xp.finfo(logvar.dtype).max)))))
    return a * root * root
