"""Normalisations as layers: each sample by itself, so that training and inference are the same function.

Batch normalisation is none of them: in training it mixes the samples of a batch, and for inference it needs running averages,
which a layer without state has nowhere to keep. Use `batch_norm` and `batch_norm_statistics` in a model of your own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._array import Array
from .._pullback import Pullback
from .._tree import Tree
from ..norm import group_norm_vjp, instance_norm_vjp, layer_norm_vjp
from .chain import LayerPullback, Shape
from .shapes import spatial_axes


class GroupNorm(NamedTuple):
    """Mean 0 and variance 1 in each group of neighbouring channels, then a scale and a shift per channel.

    Parameters
    ----------
    groups : int
        How many groups the channels make; a divisor of their number.
    eps : float, default 1e-5
        Added to the variance.
    """

    groups: int
    eps: float = 1e-5

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return scale (channels,) of ones, shift (channels,) of zeros, and the shape unchanged."""
        if not shape:
            raise ValueError("samples have shape (); needed (channels, *size)")
        if self.groups < 1 or shape[0] % self.groups:
            raise ValueError(f"{shape[0]} channels in groups={self.groups}; needed a divisor of them")
        return _neutral(shape[:1]), shape

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `group_norm(x, scale, shift)` and its pullback."""
        return _layered(group_norm_vjp(x, params["scale"], params["shift"], groups=self.groups, eps=self.eps))


class InstanceNorm(NamedTuple):
    """Mean 0 and variance 1 in each channel, then a scale and a shift per channel.

    Parameters
    ----------
    eps : float, default 1e-5
        Added to the variance.
    """

    eps: float = 1e-5

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return scale (channels,) of ones, shift (channels,) of zeros, and the shape unchanged."""
        spatial_axes(shape)
        return _neutral(shape[:1]), shape

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `instance_norm(x, scale, shift)` and its pullback."""
        return _layered(instance_norm_vjp(x, params["scale"], params["shift"], eps=self.eps))


class LayerNorm(NamedTuple):
    """Mean 0 and variance 1 along the last axes, then a scale and a shift for each number along them.

    Parameters
    ----------
    axes : int, optional
        How many of the last axes; all but the batch if left out.
    eps : float, default 1e-5
        Added to the variance.
    """

    axes: int | None = None
    eps: float = 1e-5

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return scale of ones and shift of zeros, of the shape of the last axes, and the shape unchanged."""
        axes = len(shape) if self.axes is None else self.axes
        if not 1 <= axes <= len(shape):
            raise ValueError(f"axes={axes}, but samples have shape {shape}; needed 1 to {len(shape)}")
        return _neutral(shape[len(shape) - axes :]), shape

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `layer_norm(x, scale, shift)` and its pullback."""
        axes = x.ndim - 1 if self.axes is None else self.axes
        return _layered(layer_norm_vjp(x, params["scale"], params["shift"], axes=axes, eps=self.eps))


def _neutral(shape: Shape) -> Tree:
    return {"scale": np.ones(shape, np.float32), "shift": np.zeros(shape, np.float32)}


def _layered(value: tuple[Array, Pullback]) -> tuple[Array, LayerPullback]:
    y, pullback = value

    def back(dy: Array, need_input: bool = True) -> tuple[Tree, Any]:
        names = ("x", "scale", "shift") if need_input else ("scale", "shift")
        gradients = dict(zip(names, pullback(dy, wrt=names), strict=True))
        dx = gradients.pop("x", None)
        return gradients, dx

    return y, back
