"""What a layer is, and how layers make networks: in a chain, or around a shortcut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from .._array import Array
from .._tree import Tree, leaves

Shape: TypeAlias = tuple[int, ...]
LayerPullback: TypeAlias = Callable[..., tuple[Tree, Any]]


class Layer(Protocol):
    """Plain numbers with two methods. Layers hold no arrays: parameters are made by `init` and handed to `forward`."""

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return float32 parameters and the shape of the output, for samples of `shape` (without the batch)."""

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return the output for x (batch, *shape), and its pullback.

        `pullback(dy)` returns `(dparams, dx)`; `pullback(dy, need_input=False)` may leave dx out as None, which saves the first
        layer of a network the work of a gradient that nobody asks for.
        """


class Chain(NamedTuple):
    """Layers one after the other. Its parameters are a tuple with one entry per layer.

    Parameters
    ----------
    layers : sequence of Layer
        In the order that the input goes through them.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import nn
    >>> network = nn.Chain([nn.Conv(8, 3, stride=2, padding="same"), nn.Relu(), nn.Flatten(), nn.Linear(10)])
    >>> params, shape = network.init(np.random.default_rng(0), (1, 28, 28))
    >>> shape, nn.count_parameters(params)
    ((10,), 15770)
    >>> y, pullback = network.forward(params, np.zeros((2, 1, 28, 28), np.float32))
    >>> dparams, dx = pullback(np.ones_like(y))
    >>> dx.shape
    (2, 1, 28, 28)
    """

    layers: Sequence[Layer]

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return the parameters of all layers and the shape after the last; a refusal names the layer it comes from."""
        params = []
        for i, layer in enumerate(self.layers):
            try:
                p, shape = layer.init(rng, shape)
            except ValueError as error:
                raise ValueError(f"layer {i}, {layer}, on samples of shape {shape}: {error}") from error
            params.append(p)
        return tuple(params), shape

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return the last layer's output, and the pullback through all."""
        pullbacks = []
        done, followers = False, (*self.layers, None)[1:]  # done: the layer before has done this one's work
        for layer, follower, p in zip(self.layers, followers, params, strict=True):
            if done:
                pullbacks.append(_as_it_came)
                done = False
                continue
            rectified = getattr(layer, "forward_rectified", None)
            done = rectified is not None and getattr(follower, "rectifies", False)
            x, pullback = (rectified if done and rectified else layer.forward)(p, x)
            pullbacks.append(pullback)
        # Nothing below the first layer with parameters matters when the input's gradient is not wanted.
        first = next((i for i, p in enumerate(params) if any(True for _ in leaves(p))), len(params))

        def back(dy: Array, need_input: bool = True) -> tuple[Tree, Any]:
            grads = list(params)  # layers without parameters keep their empty tree
            until = 0 if need_input else first
            for i in range(len(pullbacks) - 1, until - 1, -1):
                grads[i], dy = pullbacks[i](dy, need_input=need_input or i > first)
            return tuple(grads), dy if need_input else None

        return x, back


def _as_it_came(dy: Array, need_input: bool = True) -> tuple[Tree, Any]:
    return (), dy


class Residual(NamedTuple):
    """x + inner(x), or shortcut(x) + inner(x) where the inner layers change the shape.

    Its parameters are those of `inner` and `shortcut`, by these names.

    References
    ----------
    He et al., Deep residual learning for image recognition, arXiv:1512.03385, eq. 1 and 2.
    """

    inner: Layer
    shortcut: Layer = Chain(())

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return the parameters of both ways, which must end in one shape."""
        inner, out = self.inner.init(rng, shape)
        shortcut, beside = self.shortcut.init(rng, shape)
        if out != beside:
            raise ValueError(f"the inner layers turn {shape} into {out}, the shortcut into {beside}; needed one shape to add")
        return {"inner": inner, "shortcut": shortcut}, out

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return the sum of both ways, and the pullback through both."""
        y, inner_pullback = self.inner.forward(params["inner"], x)
        beside, shortcut_pullback = self.shortcut.forward(params["shortcut"], x)

        def back(dy: Array, need_input: bool = True) -> tuple[Tree, Any]:
            inner, dx = inner_pullback(dy, need_input=need_input)
            shortcut, dx_beside = shortcut_pullback(dy, need_input=need_input)
            return {"inner": inner, "shortcut": shortcut}, dx + dx_beside if need_input else None

        return y + beside, back


def count_parameters(params: Tree) -> int:
    """Count the numbers in a tree of arrays.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.nn import Linear, count_parameters
    >>> count_parameters(Linear(10).init(np.random.default_rng(0), (784,))[0])
    7850
    """
    return sum(prod(leaf.shape) for leaf in leaves(params))
