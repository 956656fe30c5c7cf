"""How good is a trained model: the measures, each with the floor beside it. Nothing here trains, draws or writes.

All functions take NumPy arrays on the host and return plain numbers or arrays; images are (n, channels, *size) in [0, 1].
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .random import Stream, permutation

Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


class Protocol(NamedTuple):
    """How every kNN accuracy is measured: on the embedding, on PCA of equal dimension and on the raw pixels alike.

    The first `bank` training images vote on the first `queries` test images. Distances are Euclidean on the vectors as they are:
    shifting a latent space changes nothing, and two latents keep both their numbers, where a cosine would leave only an angle.
    """

    neighbours: int = 10
    bank: int = 6000
    queries: int = 2000

    def sentence(self, train: Labels, test: Labels) -> str:
        """Say the protocol in words, with the numbers of images that were there."""
        bank, queries = _counted(train, self.bank, "training"), _counted(test, self.queries, "test")
        return (
            f"kNN: k={min(self.neighbours, self.bank, len(train))}, Euclidean distance between encoder outputs as they are, "
            f"majority vote (ties to the lower class); {bank} vote on {queries}"
        )


PROTOCOL = Protocol()


def leading(count: int, n: int, labels: Labels | None = None) -> NDArray[np.int64]:
    """Return the places of the first `count` of n images; of a set sorted by class, where those lack one, of as many at random.

    The random choice is always the same one.
    """
    if n <= count:
        return np.arange(n)
    if labels is None or len(np.unique(labels[:count])) == len(np.unique(labels)):
        return np.arange(count)
    return np.sort(permutation(0, Stream.SPLIT, 0, n)[:count])


def nearest(bank: Floats, queries: Floats, neighbours: int) -> NDArray[np.intp]:
    """Return the indices (queries, neighbours) of the nearest rows of `bank` by Euclidean distance, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    if not 1 <= neighbours <= len(bank):
        raise ValueError(f"{neighbours} neighbours from a bank of {len(bank)} vectors; needed 1 to {len(bank)}")
    index = NearestNeighbors(n_neighbors=neighbours).fit(_flat(bank))
    return index.kneighbors(_flat(queries), return_distance=False)  # type: ignore[no-any-return]


def knn_accuracy(
    bank: Floats, bank_labels: Labels, queries: Floats, query_labels: Labels, neighbours: int = PROTOCOL.neighbours
) -> float:
    """Return the share of queries whose class the majority of their nearest neighbours names; ties go to the lower class.

    A bank smaller than `neighbours` votes as a whole.
    """
    found = bank_labels[nearest(bank, queries, min(neighbours, len(bank)))]
    classes = np.arange(int(max(bank_labels.max(), query_labels.max())) + 1)
    votes = (found[:, :, None] == classes).sum(axis=1)
    return float(np.mean(votes.argmax(axis=1) == query_labels))


class Pca(NamedTuple):
    """Principal components of the training images: the linear autoencoder that any other has to beat."""

    mean: Floats
    components: Floats

    def embed(self, x: Floats) -> Floats:
        """Return the coordinates (n, dimension) of x."""
        return (_flat(x) - self.mean) @ self.components.T

    def reconstruct(self, x: Floats) -> Floats:
        """Return the nearest image in the span of the components."""
        return (self.mean + self.embed(x) @ self.components).reshape(x.shape)


def fit_pca(train: Floats, dimension: int) -> Pca:
    """Fit PCA of `dimension` components, fewer where the images do not have as many."""
    from sklearn.decomposition import PCA

    flat = _flat(train)
    possible = min(dimension, *flat.shape)
    # The eigenvectors of the covariance are exact and quickest for many small images; large images have too large a covariance.
    solver = "covariance_eigh" if flat.shape[1] <= 2000 else "randomized"
    fitted = PCA(possible, svd_solver=solver, random_state=0).fit(flat)
    return Pca(fitted.mean_.astype(flat.dtype), fitted.components_.astype(flat.dtype))


def mse(x: Floats, y: Floats) -> float:
    """Return the mean square difference per pixel, summed in double precision."""
    if x.shape != y.shape:
        raise ValueError(f"images of shape {x.shape} against {y.shape}; needed one shape")
    return float(np.mean(np.square(x.astype(np.float64) - y)))


def psnr(mean_square_error: float) -> float:
    """Return the peak signal-to-noise ratio 10 log10(1 / mse) in dB, for pixels in [0, 1]."""
    return math.inf if mean_square_error == 0 else -10 * math.log10(mean_square_error)


def bernoulli_floor(x: Floats) -> float:
    """Return the nats per image that a Bernoulli likelihood costs at a perfect reconstruction: the entropy of grey pixels."""
    p = x.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(p > 0, p * np.log(p), 0.0) - np.where(p < 1, (1 - p) * np.log1p(-p), 0.0)
    return float(entropy.sum() / len(x))


def kl_per_latent(mean: Floats, logvar: Floats) -> Floats:
    """Return the nats that each latent carries, KL(q(z|x) || N(0, 1)) averaged over the images."""
    mean, logvar = mean.astype(np.float64), logvar.astype(np.float64)
    nats: Floats = 0.5 * (np.square(mean) + np.exp(logvar) - 1 - logvar).mean(axis=0)
    return nats


def active_units(mean: Floats, threshold: float = 0.01) -> int:
    """Count the latents whose posterior mean varies with the image: Var_x E[z|x] > 0.01 (Burda et al., arXiv:1509.00519)."""
    return int(np.sum(mean.astype(np.float64).var(axis=0) > threshold))


def collapse_level(z: Floats) -> float:
    """Return the spread of directions: std of the L2-normalised embeddings times sqrt(d); 0 collapsed, 1 isotropic."""
    z = z.astype(np.float64)
    norms = np.linalg.norm(z, axis=1, keepdims=True)
    directions = np.divide(z, norms, out=np.zeros_like(z), where=norms > 0)
    return float(directions.std(axis=0).mean() * math.sqrt(z.shape[1]))


def chance_level(pairs: int) -> float:
    """Return ln(2N - 1), the contrastive loss of N pairs when all embeddings are alike."""
    if pairs < 1:
        raise ValueError(f"{pairs} pairs; needed at least 1")
    return math.log(2 * pairs - 1)


def confusion(labels: Labels, predicted: Labels, classes: int) -> NDArray[np.int64]:
    """Count the images of each class (row) by the class they were taken for (column)."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def _flat(x: Floats) -> Floats:
    return x.reshape(len(x), -1)


def _counted(labels: Labels, most: int, which: str) -> str:
    n = len(labels)
    if n <= most:
        return f"all {n:,} {which} images"
    sorted_by_class = leading(most, n, labels)[-1] != most - 1
    return f"{most:,} {which} images drawn at random" if sorted_by_class else f"the first {most:,} {which} images"
