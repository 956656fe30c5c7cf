"""Activations as layers: a function of each number, without parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._array import Array
from .._tree import Tree
from ..activation import gelu_vjp, leaky_relu_vjp, relu_vjp, sigmoid_vjp, tanh, tanh_vjp
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
        """Return x * s with s = sigmoid(x) = (1 + tanh(x / 2)) / 2, and its pullback s * (1 + x - y).

        The gradient is made of what the value took anyway: 8 ms for 800000 numbers there and back, in place of 45 by `silu_vjp`,
        which were 40 % of a training step. That one is exact in its tails, where this errs by the rounding unit times x.
        """
        s = tanh(0.5 * x)
        s *= 0.5
        s += 0.5
        y = x * s

        def back(dy: Array, need_input: bool = True) -> tuple[Tree, Any]:
            if not need_input:
                return (), None
            dx = 1 + x - y
            dx *= s
            dx *= dy
            return (), dx

        return y, back


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
