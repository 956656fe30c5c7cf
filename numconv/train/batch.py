"""What a model's loss is given, and what a model is."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import array_api_compat
import numpy as np
from numpy.typing import NDArray

from .. import _array
from .._array import Array
from .._tree import Tree, tree_map
from ..nn.chain import Shape


class Batch(NamedTuple):
    """Some samples of a data set, and all that randomness about them is a function of.

    Attributes
    ----------
    x : array, shape (n, channels, *size)
        Images.
    y : array of int, shape (n,), or None
        Labels, where there are any.
    index : numpy array of int, shape (n,)
        Place of each sample in its data set; on the host.
    epoch, seed : int
        Noise and crops are drawn by (seed, epoch, index), so they do not depend on what was drawn before.
    where : array of int, shape (n,), optional
        The index, on the device of x.
    """

    x: Array
    y: Array | None
    index: NDArray[np.integer[Any]]  # type: ignore[assignment]  # hides tuple.index, which nobody misses
    epoch: int
    seed: int
    where: Array | None = None

    @property
    def drawn_by(self) -> Array:
        """The index, where random numbers are made: on CuPy's GPU if it is there, else on the host."""
        return self.where if array_api_compat.is_cupy_array(self.where) else self.index


class Model(Protocol):
    """Layers with a loss. Models hold no arrays: parameters are made by `init` and handed to the other two."""

    def init(self, rng: np.random.Generator, shape: Shape) -> Tree:
        """Return float32 parameters for samples of `shape` (without the batch)."""

    def loss(self, params: Tree, batch: Batch) -> tuple[Array, dict[str, Any], Any]:
        """Return `(loss, terms, pullback)`: terms are named scalars to watch, `pullback()` gives gradients shaped like params."""

    def embed(self, params: Tree, x: Array) -> Array:
        """Return the vectors (n, latent) that stand for the images x."""


def take(
    x: Array, y: Array | None, index: NDArray[np.integer[Any]], *, epoch: int, seed: int, where: Array | None = None
) -> Batch:
    """Cut a batch out of a data set, on the device where that is; `where` is the index there, if it is there already."""
    xp = _array.namespace(x=x, y=y)
    where = on_device_of(index, x) if where is None else where
    return Batch(xp.take(x, where, axis=0), None if y is None else xp.take(y, where, axis=0), index, epoch, seed, where)


def on_device_of(a: NDArray[Any], x: Array) -> Array:
    """Return numbers of the host in the library and on the device of x."""
    return _array.namespace(x=x).asarray(a, device=array_api_compat.device(x))


def like(a: NDArray[Any], x: Array) -> Array:
    """Return numbers made on the host as an array of the library, device and dtype of x."""
    xp = _array.namespace(x=x)
    return xp.asarray(a, dtype=x.dtype, device=array_api_compat.device(x))


def place(tree: Tree, x: Array) -> Tree:
    """Return a tree of NumPy arrays, such as fresh parameters, in the library, on the device and in the dtype of x."""
    return tree_map(lambda a: like(a, x), tree)


def to_host(a: Array) -> NDArray[Any]:
    """Return an array of any library and device as a NumPy array."""
    if array_api_compat.is_cupy_array(a) or array_api_compat.is_torch_array(a):
        a = array_api_compat.to_device(a, "cpu")
    return np.asarray(a)
