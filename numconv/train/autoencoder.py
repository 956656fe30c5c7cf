"""Autoencoders: images through a narrow code and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._array import Array
from .._tree import Tree
from ..loss import mse_loss_vjp
from ..nn import Layer
from ..nn.chain import Shape
from .batch import Batch


class Autoencoder(NamedTuple):
    """An encoder to vectors and a decoder back to images, for the least mean square error per pixel.

    Parameters
    ----------
    encoder : Layer
        From images (n, channels, *size) to vectors (n, latent).
    decoder : Layer
        From vectors back to images.
    """

    encoder: Layer
    decoder: Layer

    def init(self, rng: np.random.Generator, shape: Shape) -> Tree:
        """Return parameters for images of `shape`, by the names `encoder` and `decoder`."""
        encoder, latent = self.encoder.init(rng, shape)
        decoder, back = self.decoder.init(rng, latent)
        if back != shape:
            raise ValueError(f"the decoder makes images of shape {back}; needed that of the encoder's input, {shape}")
        return {"encoder": encoder, "decoder": decoder}

    def loss(self, params: Tree, batch: Batch) -> tuple[Array, dict[str, Any], Callable[[], Tree]]:
        """Return the mean square error, terms `mse`, and the pullback."""
        z, encoder_pullback = self.encoder.forward(params["encoder"], batch.x)
        x, decoder_pullback = self.decoder.forward(params["decoder"], z)
        mse, mse_pullback = mse_loss_vjp(x, batch.x)

        def pullback() -> Tree:
            dx = mse_pullback(wrt="prediction")
            decoder, dz = decoder_pullback(dx)
            encoder, _ = encoder_pullback(dz, need_input=False)
            return {"encoder": encoder, "decoder": decoder}

        return mse, {"mse": mse}, pullback

    def embed(self, params: Tree, x: Array) -> Array:
        """Return the codes (n, latent) of images."""
        return self.encoder.forward(params["encoder"], x)[0]

    def decode(self, params: Tree, z: Array) -> Array:
        """Return the images of codes."""
        return self.decoder.forward(params["decoder"], z)[0]

    def reconstruct(self, params: Tree, x: Array) -> Array:
        """Return what is left of images after the code."""
        return self.decode(params, self.embed(params, x))
