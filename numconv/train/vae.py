"""Variational autoencoders: codes are Gaussians, held near the standard normal that new images are drawn from."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import array_api_compat
import numpy as np

from .. import _array
from .._array import Array
from .._tree import Tree, leaves
from ..activation import sigmoid, tanh_vjp
from ..loss import bce_with_logits_loss_vjp, gaussian_kl_loss_vjp, gaussian_nll_loss_vjp, reparameterize_vjp
from ..nn import Layer
from ..nn.chain import Shape
from .batch import Batch
from .random import Stream, normal

Likelihood: TypeAlias = Literal["bernoulli", "gaussian"]

_BOUND = 10.0  # standard deviations between e^-5 and e^5: wider than any code needs, far from overflow


class VAE(NamedTuple):
    r"""An encoder to the mean and log-variance of a code, and a decoder from a sample of it, for the evidence lower bound.

    .. math:: L = \underbrace{-\log p(x \mid z)}_{\text{reconstruction}}
       + \beta \underbrace{\sum_j \max\left(\lambda, \overline{KL(q(z_j \mid x) \,\|\, N(0, 1))}\right)}_{\text{kl}},
       \qquad z = \mu + \sigma \varepsilon

    Both terms are nats per image: summed over pixels and latents, averaged over the batch (the bar, within which free bits are
    counted). The log-variance is bounded to (-10, 10) by 10 tanh(v / 10), in the value and thereby in the gradient.

    Parameters
    ----------
    encoder : Layer
        From images (n, channels, *size) to (n, 2 * latent): means, then log-variances before their bound.
    decoder : Layer
        From codes (n, latent) to images: log-odds of pixels ("bernoulli") or their means ("gaussian").
    beta : float, default 1.0
        Weight of the KL term; 1 is the evidence lower bound.
    free_bits : float, default 0.0
        Nats per latent that cost nothing, lambda: below, a latent is not drawn to the prior.
    warmup : int, default 0
        Epochs over which the weight of the KL term climbs to beta: it is beta * (epoch + 1) / (warmup + 1) before that.
    likelihood : {"bernoulli", "gaussian"}, default "bernoulli"
        Of pixels: grey values in [0, 1] as probabilities, or Gaussians of standard deviation `sigma`.
    sigma : float, default 0.1
        Standard deviation of Gaussian pixels.

    References
    ----------
    Kingma and Welling, Auto-encoding variational Bayes, arXiv:1312.6114, eq. 10. Higgins et al., beta-VAE, ICLR 2017, eq. 4.
    Kingma et al., Improving variational inference with inverse autoregressive flow, arXiv:1606.04934, eq. 15 (free bits).
    Vahdat and Kautz, NVAE, arXiv:2007.03898, section 3.2, for bounding by tanh.
    """

    encoder: Layer
    decoder: Layer
    beta: float = 1.0
    free_bits: float = 0.0
    warmup: int = 0
    likelihood: Likelihood = "bernoulli"
    sigma: float = 0.1

    def init(self, rng: np.random.Generator, shape: Shape) -> Tree:
        """Return parameters for images of `shape`, by the names `encoder` and `decoder`."""
        encoder, code = self.encoder.init(rng, shape)
        if len(code) != 1 or code[0] % 2:
            raise ValueError(f"the encoder makes codes of shape {code}; needed (2 * latent,): means and log-variances")
        decoder, back = self.decoder.init(rng, (code[0] // 2,))
        if back != shape:
            raise ValueError(f"the decoder makes images of shape {back}; needed that of the encoder's input, {shape}")
        return {"encoder": encoder, "decoder": decoder}

    def loss(self, params: Tree, batch: Batch) -> tuple[Array, dict[str, Any], Callable[[], Tree]]:
        """Return the loss, terms `reconstruction` and `kl` in nats per image, and the pullback."""
        xp = _array.namespace(x=batch.x)
        mean, logvar, encoder_pullback = self._encoded(params, batch.x)
        noise = normal(batch.seed, Stream.LATENT, batch.epoch, batch.drawn_by, mean.shape[1], like=mean)
        z, sample_pullback = reparameterize_vjp(mean, logvar, noise)
        x, decoder_pullback = self.decoder.forward(params["decoder"], z)
        reconstruction, reconstruction_pullback = self._reconstruction(x, batch.x)
        kl, floored, kl_pullback = self._kl(mean, logvar)
        beta = self.beta_at(batch.epoch)

        def pullback() -> Tree:
            decoder, dz = decoder_pullback(reconstruction_pullback())
            dmean, dlogvar = sample_pullback(dz, wrt=("mean", "logvar"))
            dmean_kl, dlogvar_kl = kl_pullback(beta)
            code = xp.concat([dmean + dmean_kl, dlogvar + dlogvar_kl], axis=1)
            return {"encoder": encoder_pullback(code), "decoder": decoder}

        return reconstruction + beta * floored, {"reconstruction": reconstruction, "kl": kl}, pullback

    def beta_at(self, epoch: int) -> float:
        """Return the weight of the KL term in an epoch, counted from 0."""
        return self.beta * min(1.0, (epoch + 1) / (self.warmup + 1))

    def posterior(self, params: Tree, x: Array) -> tuple[Array, Array]:
        """Return mean and log-variance, (n, latent) each, of the codes of images."""
        mean, logvar, _ = self._encoded(params, x)
        return mean, logvar

    def embed(self, params: Tree, x: Array) -> Array:
        """Return the means (n, latent) of the codes of images."""
        return self.posterior(params, x)[0]

    def decode(self, params: Tree, z: Array) -> Array:
        """Return the mean images of codes."""
        x, _ = self.decoder.forward(params["decoder"], z)
        return sigmoid(x) if self.likelihood == "bernoulli" else x

    def reconstruct(self, params: Tree, x: Array) -> Array:
        """Return what is left of images after the means of their codes."""
        return self.decode(params, self.embed(params, x))

    def sample(self, params: Tree, *, count: int, latent: int, seed: int = 0) -> Array:
        """Return the mean images of `count` codes of length `latent` drawn from the prior, on the device of the parameters."""
        codes = normal(seed, Stream.LATENT, 0, np.arange(count), latent, like=next(leaves(params)))
        return self.decode(params, codes)

    def _encoded(self, params: Tree, x: Array) -> tuple[Array, Array, Callable[[Array], Tree]]:
        code, encoder_pullback = self.encoder.forward(params["encoder"], x)
        latent = code.shape[1] // 2
        bounded, bound_pullback = tanh_vjp(code[:, latent:] / _BOUND)

        def pullback(dcode: Array) -> Tree:
            # d(BOUND tanh(v / BOUND)) = tanh'(v / BOUND) dv: the two factors cancel.
            dv = bound_pullback(dcode[:, latent:])
            xp = _array.namespace(dv=dv)
            return encoder_pullback(xp.concat([dcode[:, :latent], dv], axis=1), need_input=False)[0]

        return code[:, :latent], _BOUND * bounded, pullback

    def _reconstruction(self, x: Array, target: Array) -> tuple[Array, Callable[[], Array]]:
        if self.likelihood == "bernoulli":
            nats, pullback = bce_with_logits_loss_vjp(x, target, reduction="batchmean")
            return nats, lambda: pullback(wrt="logits")
        xp = _array.namespace(x=x)
        logvar = xp.full((), 2 * math.log(self.sigma), dtype=x.dtype, device=array_api_compat.device(x))
        nats, pullback = gaussian_nll_loss_vjp(x, target, logvar)
        return nats, lambda: pullback(wrt="mean")

    def _kl(self, mean: Array, logvar: Array) -> tuple[Array, Array, Callable[[float], tuple[Array, Array]]]:
        """Return the nats per image, the same with free bits, and the pullback of the latter's weight."""
        xp = _array.namespace(mean=mean)
        each, each_pullback = gaussian_kl_loss_vjp(mean, logvar, reduction="none")
        latents = xp.mean(each, axis=0)
        costs = latents > self.free_bits

        def pullback(weight: float) -> tuple[Array, Array]:
            share = xp.astype(costs, each.dtype) * (weight / each.shape[0])
            dmean, dlogvar = each_pullback(xp.broadcast_to(share, each.shape))
            return dmean, dlogvar

        return xp.sum(latents), xp.sum(xp.where(costs, latents, xp.full_like(latents, self.free_bits))), pullback
