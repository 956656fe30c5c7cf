"""Contrastive learning: views of one image, or images of one class, go together; all others apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import array_api_compat
import numpy as np

from .. import _array
from .._array import Array
from .._tree import Tree
from ..loss import nt_xent_loss_vjp, supcon_loss_vjp
from ..nn import Layer
from ..nn.chain import Shape
from .augment import Augmentation, stacked_views
from .batch import Batch, like, to_host

Positives: TypeAlias = Literal["crops", "labels"]


class Contrastive(NamedTuple):
    """An encoder whose vectors say what is alike, and a head that is trained with it and then left out.

    Each image is seen in two random views. With positives "crops" the two belong together, and all other images of the batch are
    negatives (NT-Xent). With positives "labels" all views of all images of one class do (SupCon).

    Parameters
    ----------
    encoder : Layer
        From images (n, channels, *size) to vectors (n, latent): the embedding.
    head : Layer
        From there to the vectors whose inner products are compared. What it throws away, such as place and brightness, the
        embedding keeps.
    temperature : float, default 0.5
        The smaller, the more the nearest negatives count.
    positives : {"crops", "labels"}, default "crops"
        What belongs together.
    augmentation : Augmentation
        How far views may be from their image.

    References
    ----------
    Chen et al., A simple framework for contrastive learning of visual representations, arXiv:2002.05709, algorithm 1 and section
    4.2. Khosla et al., Supervised contrastive learning, arXiv:2004.11362, eq. 2.
    """

    encoder: Layer
    head: Layer
    temperature: float = 0.5
    positives: Positives = "crops"
    augmentation: Augmentation = Augmentation()

    def init(self, rng: np.random.Generator, shape: Shape) -> Tree:
        """Return parameters for images of `shape`, by the names `encoder` and `head`."""
        encoder, latent = self.encoder.init(rng, shape)
        if len(latent) != 1:
            raise ValueError(f"the encoder makes embeddings of shape {latent}; needed vectors, (latent,)")
        head, _ = self.head.init(rng, latent)
        return {"encoder": encoder, "head": head}

    def loss(self, params: Tree, batch: Batch) -> tuple[Array, dict[str, Any], Callable[[], Tree]]:
        """Return the loss, terms `chance` (the loss of embeddings that are all alike), and the pullback."""
        # One pass over both views: twice the batch keeps the convolutions busier than twice the calls.
        z, encoder_pullback = self.encoder.forward(params["encoder"], self._views(batch))
        u, head_pullback = self.head.forward(params["head"], z)
        loss, loss_pullback = self._compared(u, batch)

        def pullback() -> Tree:
            head, dz = head_pullback(loss_pullback())
            encoder, _ = encoder_pullback(dz, need_input=False)
            return {"encoder": encoder, "head": head}

        return loss, {"chance": math.log(u.shape[0] - 1)}, pullback

    def embed(self, params: Tree, x: Array) -> Array:
        """Return the embeddings (n, latent) of images as they are: the encoder's output, without the head."""
        return self.encoder.forward(params["encoder"], x)[0]

    def _views(self, batch: Batch) -> Array:
        """Return the first views of a batch, then the second: CuPy's are made on its GPU, those of others on the host."""
        x = batch.x
        if not array_api_compat.is_cupy_array(x):
            x = to_host(x).astype(np.float32, copy=False)
        views = stacked_views(x, seed=batch.seed, epoch=batch.epoch, index=batch.drawn_by, augmentation=self.augmentation)
        return views if x is batch.x else like(views, batch.x)

    def _compared(self, u: Array, batch: Batch) -> tuple[Array, Callable[[], Array]]:
        xp = _array.namespace(u=u)
        n = u.shape[0] // 2
        if self.positives == "labels":
            if batch.y is None:
                raise ValueError("positives='labels', but the data has no labels; needed y, or positives='crops'")
            loss, pullback = supcon_loss_vjp(u, xp.concat([batch.y, batch.y]), self.temperature)
            return loss, pullback
        loss, pullback = nt_xent_loss_vjp(u[:n, :], u[n:, :], self.temperature)
        return loss, lambda: xp.concat(list(pullback()))
