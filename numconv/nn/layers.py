"""Layers with parameters: convolution, transposed convolution, linear; and how their weights begin."""

from __future__ import annotations

import math
from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from .._array import Array
from .._pullback import Pullback
from .._tree import Tree
from .._window import Ints, Padding, per_axis
from ..activation import relu_pullback
from ..conv import conv_output_shape, conv_transpose_output_shape, conv_transpose_vjp, conv_vjp
from ..conv.forward import rectified_conv_vjp
from ..conv.transpose import rectified_conv_transpose_vjp
from ..linear import linear_vjp
from .chain import LayerPullback, Shape
from .shapes import spatial_axes

Start: TypeAlias = Literal["he", "glorot"]


class Conv(NamedTuple):
    """Convolution over all spatial axes of its input, one to three.

    Parameters
    ----------
    channels : int
        Channels of the output.
    kernel : int or sequence of int
        Taps, one number for all axes, or one per axis.
    stride, padding, dilation, groups
        As of `conv`.
    bias : bool, default True
        Add a number per output channel, 0 at first.
    start : str, default "he"
        How the weights begin: "he" before a rectifier, "glorot" elsewhere; see `starting_weights`.
    """

    channels: int
    kernel: Ints
    stride: Ints = 1
    padding: Padding = "valid"
    dilation: Ints = 1
    groups: int = 1
    bias: bool = True
    start: Start = "he"

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return w (channels, c_in / groups, *taps), b (channels,), and the shape (channels, *out)."""
        _check_channels(self.channels)
        taps = _taps(self.kernel, shape)
        w_shape = (self.channels, _per_group(shape[0], self.groups), *taps)
        out = conv_output_shape(
            (1, *shape), w_shape, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups
        )
        fan_in, fan_out = w_shape[1] * prod(taps), self.channels // self.groups * prod(taps)
        w = starting_weights(rng, w_shape, fan_in, fan_out, self.start)
        return _with_bias(w, self.channels, self.bias), out[1:]

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `conv(x, w, b)` and its pullback."""
        y, pullback = conv_vjp(
            x,
            params["w"],
            params.get("b"),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )
        return y, _layer_pullback(pullback, params)

    def forward_rectified(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `relu(conv(x, w, b))` and its pullback, without a visit to memory for relu alone."""
        names = ("stride", "padding", "dilation", "groups")
        y, pullback = rectified_conv_vjp(x, params["w"], params.get("b"), **{name: getattr(self, name) for name in names})
        return y, _layer_pullback(pullback, params, relu_pullback(y))


class ConvTranspose(NamedTuple):
    """Transposed convolution over all spatial axes of its input, one to three.

    Parameters
    ----------
    channels : int
        Channels of the output.
    kernel : int or sequence of int
        Taps, one number for all axes, or one per axis.
    stride, padding, output_padding, output_size, dilation, groups
        As of `conv_transpose`.
    bias : bool, default True
        Add a number per output channel, 0 at first.
    start : str, default "he"
        How the weights begin: "he" before a rectifier, "glorot" elsewhere; see `starting_weights`.
    """

    channels: int
    kernel: Ints
    stride: Ints = 1
    padding: Padding = "valid"
    output_padding: Ints = 0
    output_size: Ints | None = None
    dilation: Ints = 1
    groups: int = 1
    bias: bool = True
    start: Start = "he"

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return w (c_in, channels / groups, *taps), b (channels,), and the shape (channels, *out)."""
        _check_channels(self.channels)
        taps = _taps(self.kernel, shape)
        w_shape = (shape[0], _per_group(self.channels, self.groups), *taps)
        out = conv_transpose_output_shape((1, *shape), w_shape, **self._arguments())
        # Of the taps, only one in stride reaches a given output sample.
        reaching = max(1, prod(taps) // prod(per_axis("stride", self.stride, len(taps))))
        fan_in, fan_out = shape[0] // self.groups * reaching, w_shape[1] * prod(taps)
        w = starting_weights(rng, w_shape, fan_in, fan_out, self.start)
        return _with_bias(w, self.channels, self.bias), out[1:]

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `conv_transpose(x, w, b)` and its pullback."""
        y, pullback = conv_transpose_vjp(x, params["w"], params.get("b"), **self._arguments())
        return y, _layer_pullback(pullback, params)

    def forward_rectified(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `relu(conv_transpose(x, w, b))` and its pullback, without a visit to memory for relu alone."""
        y, pullback = rectified_conv_transpose_vjp(x, params["w"], params.get("b"), **self._arguments())
        return y, _layer_pullback(pullback, params, relu_pullback(y))

    def _arguments(self) -> dict[str, Any]:
        names = ("stride", "padding", "output_padding", "output_size", "dilation", "groups")
        return {name: getattr(self, name) for name in names}


class Linear(NamedTuple):
    """Each output is a weighted sum of all inputs: ``x @ w.T + b`` over vectors.

    Parameters
    ----------
    features : int
        Length of the output vectors.
    bias : bool, default True
        Add a number per output feature, 0 at first.
    start : str, default "he"
        How the weights begin: "he" before a rectifier, "glorot" elsewhere; see `starting_weights`.
    """

    features: int
    bias: bool = True
    start: Start = "he"

    def init(self, rng: np.random.Generator, shape: Shape) -> tuple[Tree, Shape]:
        """Return w (features, features of the input), b (features,), and the shape (features,)."""
        if self.features < 1:
            raise ValueError(f"features={self.features}; needed at least 1")
        if len(shape) != 1:
            raise ValueError(f"samples have shape {shape}; needed vectors, (features,): put Flatten before Linear")
        w = starting_weights(rng, (self.features, shape[0]), shape[0], self.features, self.start)
        return _with_bias(w, self.features, self.bias), (self.features,)

    def forward(self, params: Tree, x: Array) -> tuple[Array, LayerPullback]:
        """Return `linear(x, w, b)` and its pullback."""
        y, pullback = linear_vjp(x, params["w"], params.get("b"))
        return y, _layer_pullback(pullback, params)


def starting_weights(rng: np.random.Generator, shape: Shape, fan_in: int, fan_out: int, start: Start) -> Array:
    r"""Draw normal float32 weights that keep the scale of what passes through them.

    .. math:: \text{he:}\ \sigma^2 = 2 / \text{fan\_in}, \qquad
       \text{glorot:}\ \sigma^2 = 2 / (\text{fan\_in} + \text{fan\_out})

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the draws.
    shape : tuple of int
        Shape of the weights.
    fan_in, fan_out : int
        Number of inputs that an output sums over, and of outputs that an input goes to.
    start : str
        "he", for layers before a rectifier, which halves the variance; "glorot", for others.

    References
    ----------
    He et al., Delving deep into rectifiers, arXiv:1502.01852, eq. 10. Glorot and Bengio, Understanding the difficulty of training
    deep feedforward neural networks, AISTATS 2010, eq. 12.
    """
    if start not in ("he", "glorot"):
        raise ValueError(f"start={start!r}; needed 'he' or 'glorot'")
    variance = 2 / fan_in if start == "he" else 2 / (fan_in + fan_out)
    return rng.standard_normal(shape, dtype=np.float32) * np.float32(math.sqrt(variance))


def _layer_pullback(pullback: Pullback, params: Tree, after: Pullback | None = None) -> LayerPullback:
    names = tuple(params)

    def back(dy: Array, need_input: bool = True) -> tuple[Tree, Any]:
        dy = dy if after is None else after(dy)
        if not need_input:
            return dict(zip(names, pullback(dy, wrt=names), strict=True)), None
        dx, *grads = pullback(dy, wrt=("x", *names))
        return dict(zip(names, grads, strict=True)), dx

    return back


def _with_bias(w: Array, outputs: int, bias: bool) -> Tree:
    return {"w": w, "b": np.zeros(outputs, np.float32)} if bias else {"w": w}


def _taps(kernel: Ints, shape: Shape) -> tuple[int, ...]:
    return per_axis("kernel", kernel, spatial_axes(shape))


def _check_channels(channels: int) -> None:
    if channels < 1:
        raise ValueError(f"channels={channels}; needed at least 1")


def _per_group(channels: int, groups: int) -> int:
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels in groups={groups}; needed a multiple of groups")
    return channels // groups
