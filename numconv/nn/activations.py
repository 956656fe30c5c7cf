"""Activations as layers: a function of each number, without parameters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._array import Array
from .._tree import Tree
from ..activation import gelu_vjp, leaky_relu_vjp, relu_vjp, sigmoid_vjp, silu_vjp, tanh_vjp
from .chain import LayerPullback, Shape
from .shapes import layered


class Relu(NamedTuple):
    """max(x, 0)."""

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return no parameters, and the shape unchanged."""
        return (), shape

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `relu(x)` and its pullback."""
        return layered(relu_vjp(x))

    @property
    def rectifies(self) -> bool:
        """Say to a `Chain` that a layer before this one that can rectify its result itself may do this one's work."""
        return True


class LeakyRelu(NamedTuple):
    """x where that is positive, negative_slope * x elsewhere."""

    negative_slope: float = 0.01

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return no parameters, and the shape unchanged."""
        return (), shape

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `leaky_relu(x)` and its pullback."""
        return layered(leaky_relu_vjp(x, negative_slope=self.negative_slope))


class Gelu(NamedTuple):
    """x times the normal distribution function at x."""

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return no parameters, and the shape unchanged."""
        return (), shape

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `gelu(x)` and its pullback."""
        return layered(gelu_vjp(x))


class Silu(NamedTuple):
    """x * sigmoid(x)."""

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return no parameters, and the shape unchanged."""
        return (), shape

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `silu(x)` and its pullback."""
        return layered(silu_vjp(x))


class Sigmoid(NamedTuple):
    """1 / (1 + exp(-x))."""

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return no parameters, and the shape unchanged."""
        return (), shape

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `sigmoid(x)` and its pullback."""
        return layered(sigmoid_vjp(x))


class Tanh(NamedTuple):
    """Hyperbolic tangent."""

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return no parameters, and the shape unchanged."""
        return (), shape

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `tanh(x)` and its pullback."""
        return layered(tanh_vjp(x))
