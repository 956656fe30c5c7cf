"""Classifiers: an encoder and a linear answer, trained on labels; and what a dense network of equal size does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import _array
from .._array import Array
from .._tree import Tree
from ..loss.classification import trusting_cross_entropy_loss_vjp
from ..nn import Layer
from ..nn.chain import Shape
from .batch import Batch


class Classifier(NamedTuple):
    """An encoder to features and a head to one logit per class, for the least cross entropy.

    Parameters
    ----------
    encoder : Layer
        From images (n, channels, *size) to features (n, latent).
    head : Layer
        From features to logits (n, classes).
    """

    encoder: Layer
    head: Layer

    def init(self, rng: np.random.Generator, shape: Shape) -> Tree:
        """Return parameters for images of `shape`, by the names `encoder` and `head`."""
        encoder, latent = self.encoder.init(rng, shape)
        head, classes = self.head.init(rng, latent)
        if len(classes) != 1:
            raise ValueError(f"the head makes outputs of shape {classes}; needed one logit per class, (classes,)")
        return {"encoder": encoder, "head": head}

    def loss(self, params: Tree, batch: Batch) -> tuple[Array, dict[str, Any], Callable[[], Tree]]:
        """Return the cross entropy in nats, terms `accuracy` (share of the batch), and the pullback."""
        if batch.y is None:
            raise ValueError("the data has no labels; a classifier needs y")
        z, encoder_pullback = self.encoder.forward(params["encoder"], batch.x)
        logits, head_pullback = self.head.forward(params["head"], z)
        loss, loss_pullback = trusting_cross_entropy_loss_vjp(logits, batch.y)
        xp = _array.namespace(logits=logits)
        right = xp.astype(xp.argmax(logits, axis=1) == batch.y, logits.dtype)

        def pullback() -> Tree:
            head, dz = head_pullback(loss_pullback())
            encoder, _ = encoder_pullback(dz, need_input=False)
            return {"encoder": encoder, "head": head}

        return loss, {"accuracy": xp.mean(right)}, pullback

    def logits(self, params: Tree, x: Array) -> Array:
        """Return the logits (n, classes) of images."""
        return self.head.forward(params["head"], self.embed(params, x))[0]

    def predict(self, params: Tree, x: Array) -> Array:
        """Return the likeliest class of each image."""
        logits = self.logits(params, x)
        return _array.namespace(logits=logits).argmax(logits, axis=1)

    def embed(self, params: Tree, x: Array) -> Array:
        """Return the features (n, latent) that the answer is a linear function of."""
        return self.encoder.forward(params["encoder"], x)[0]
