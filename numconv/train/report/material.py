"""What a report is made of: the run's model, data and numbers, and the few images that are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..._tree import Tree, tree_map
from ..batch import to_host
from ..data import Dataset
from ..evaluate import Floats, Labels, Pca, fit_pca, leading
from ..loop import embed

# A scatter of more points shows less, and finding neighbours among more takes longer than the rest of the report.
_SHOWN = 2000
# For pictures, components of as many images look like those of all.
_PCA_IMAGES = 5000


class Material(NamedTuple):
    """All that sections draw on; everything on the host."""

    model: Any
    params: Tree
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    train: Floats
    x: Floats
    """The images shown: test images, or training images where none are held out."""
    y: Labels | None
    names: tuple[str, ...] | None
    """Name of each class, where there are labels."""
    part: str
    """Which images these are, test or training."""
    z: Floats
    """Their embeddings."""

    @property
    def kind(self) -> str:
        """autoencoder, vae, contrastive or classifier."""
        return str(self.config.get("kind", self.metrics.get("model", "model")))

    @property
    def test(self) -> Mapping[str, Any]:
        """The numbers of the model's own task."""
        return self.metrics.get("test") or {}

    @property
    def embedding(self) -> Mapping[str, Any]:
        """The numbers of its embedding."""
        return self.metrics.get("embedding") or {}

    def label(self, i: int) -> str:
        """Return the name of the class of image i, or nothing."""
        return "" if self.y is None or self.names is None else self.names[int(self.y[i])]


def gather(model: Any, params: Tree, data: Dataset, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> Material:
    """Choose the images to show and embed them."""
    held_out = len(data.test_x) > 0
    x, y = (data.test_x, data.test_y) if held_out else (data.train_x, data.train_y)
    chosen = leading(_SHOWN, len(x), y)
    x, y = x[chosen], None if y is None else y[chosen]
    params = tree_map(to_host, params)
    z = np.asarray(embed(model, params, x))
    names = None
    if y is not None:
        known = data.class_names or ()
        count = max(int(y.max()) + 1, len((metrics.get("test") or {}).get("confusion") or ()))
        names = (*known, *(str(c) for c in range(len(known), count)))
    return Material(model, params, config, metrics, data.train_x, x, y, names, "test" if held_out else "training", z)


def pixel_pca(m: Material) -> Pca:
    """Fit as many principal components of the training images as the embedding has numbers."""
    return fit_pca(m.train[:: -(-len(m.train) // _PCA_IMAGES)], m.z.shape[1])


def spread(m: Material, count: int) -> NDArray[np.intp]:
    """Return the places of `count` images, or of all if there are fewer, evenly over the set: it may be sorted by class."""
    n = len(m.x)
    return np.arange(min(count, n)) * n // min(count, n)
