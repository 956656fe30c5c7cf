"""Layers without parameters that change shapes: flattening, reshaping, pooling, upsampling."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from .. import _array
from .._array import Array
from .._pullback import Pullback
from .._tree import Tree
from .._window import Ints, Padding, per_axis
from ..pool import avg_pool_vjp, global_avg_pool_vjp, max_pool_vjp, pool_output_shape
from ..resize import resize_vjp
from .chain import LayerPullback, Shape


class Flatten(NamedTuple):
    """Samples of any shape as vectors, (batch, features)."""

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return no parameters, and the shape (features,)."""
        return (), (prod(shape),)

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return x as vectors, and the way back."""
        return _reshaped(x, (prod(x.shape[1:]),))


class Reshape(NamedTuple):
    """Samples in another shape with as many numbers.

    Parameters
    ----------
    shape : tuple of int
        Shape of one sample, without the batch.
    """

    shape: Shape

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return no parameters, and the new shape."""
        if prod(shape) != prod(self.shape):
            raise ValueError(f"samples have shape {shape}, {prod(shape)} numbers; needed {prod(self.shape)} for {self.shape}")
        return (), tuple(self.shape)

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return x in the new shape, and the way back."""
        return _reshaped(x, tuple(self.shape))


class MaxPool(NamedTuple):
    """Largest sample of each window.

    Parameters
    ----------
    window, stride, padding
        As of `max_pool`: without a stride, windows lie side by side.
    """

    window: Ints
    stride: Ints | None = None
    padding: Padding = "valid"

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return no parameters, and the shape (channels, *out)."""
        return (), _pooled(shape, self.window, self.stride, self.padding)

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `max_pool(x)` and its pullback."""
        window = per_axis("window", self.window, x.ndim - 2)
        return layered(max_pool_vjp(x, window, stride=self.stride, padding=self.padding))


class AvgPool(NamedTuple):
    """Mean of each window.

    Parameters
    ----------
    window, stride, padding
        As of `avg_pool`: without a stride, windows lie side by side.
    """

    window: Ints
    stride: Ints | None = None
    padding: Padding = "valid"

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return no parameters, and the shape (channels, *out)."""
        return (), _pooled(shape, self.window, self.stride, self.padding)

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `avg_pool(x)` and its pullback."""
        window = per_axis("window", self.window, x.ndim - 2)
        return layered(avg_pool_vjp(x, window, stride=self.stride, padding=self.padding))


class GlobalAvgPool(NamedTuple):
    """Mean of each channel: samples become vectors (channels,), whatever their size."""

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return no parameters, and the shape (channels,)."""
        spatial_axes(shape)
        return (), shape[:1]

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `global_avg_pool(x)` and its pullback."""
        return layered(global_avg_pool_vjp(x))


class Upsample(NamedTuple):
    """Samples stretched by whole factors.

    Parameters
    ----------
    factor : int or sequence of int
        How often the output's size contains the input's, for all axes or one per axis.
    mode : str, default "linear"
        How to interpolate, as of `resize`.
    """

    factor: Ints
    mode: str = "linear"

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return no parameters, and the shape (channels, *out)."""
        spatial_axes(shape)
        return (), (shape[0], *self._size(shape[1:]))

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `resize(x)` and its pullback."""
        return layered(resize_vjp(x, self._size(tuple(x.shape[2:])), mode=self.mode))

    def _size(self, size: Shape) -> Shape:
        return tuple(n * f for n, f in zip(size, per_axis("factor", self.factor, len(size)), strict=True))


def layered(value: tuple[Array, Pullback]) -> tuple[Array, LayerPullback]:
    """Return what an op without parameters gave as a layer's value and pullback."""
    y, pullback = value

    def back(dy: Array, need_input: bool = True) -> tuple[Tree, Any]:
        return (), pullback(dy) if need_input else None

    return y, back


def _pooled(shape: Shape, window: Ints, stride: Ints | None, padding: Padding) -> Shape:
    windows = per_axis("window", window, spatial_axes(shape))
    return pool_output_shape((1, *shape), windows, stride=stride, padding=padding)[1:]


def spatial_axes(shape: Shape) -> int:
    """Count the spatial axes of samples, or refuse their shape."""
    if not 2 <= len(shape) <= 4:
        raise ValueError(f"samples have shape {shape}; needed (channels, *size) with one to three spatial axes")
    return len(shape) - 1


def _reshaped(x: Array, shape: Shape) -> tuple[Array, LayerPullback]:
    xp, before = _array.namespace(x=x), tuple(x.shape)

    def back(dy: Array, need_input: bool = True) -> tuple[Tree, Any]:
        return (), xp.reshape(dy, before) if need_input else None

    return xp.reshape(x, (before[0], *shape)), back
