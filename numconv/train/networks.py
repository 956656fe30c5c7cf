"""The standard networks, for images of any number of channels and any size, odd ones included, and for signals."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from .. import nn
from ..nn import Chain, Layer
from ..nn.chain import Shape

ACTIVATIONS: dict[str, type[Layer]] = {
    "relu": nn.Relu,
    "leaky_relu": nn.LeakyRelu,
    "gelu": nn.Gelu,
    "silu": nn.Silu,
    "tanh": nn.Tanh,
}

_SMALL = 7  # below this a further halving leaves too little of an image to place things in
_TINY = 16  # images so small that twice the channels cost little, and are needed to beat principal components


def default_channels(shape: Shape) -> tuple[int, ...]:
    """Return channels per stage: they double, from 32 for images of at most 16 samples a side, else from 16.

    There are as many stages as bring the longest side to at most 7 samples, and at least two.

    Examples
    --------
    >>> from numconv.train.networks import default_channels
    >>> default_channels((1, 28, 28)), default_channels((3, 64, 64)), default_channels((1, 8, 8))
    ((16, 32), (16, 32, 64, 128), (32, 64))
    """
    longest, stages = max(shape[1:]), 2
    while -(-longest // 2**stages) > _SMALL:
        stages += 1
    base = 32 if longest <= _TINY else 16
    return tuple(base * 2**stage for stage in range(stages))


def conv_encoder(shape: Shape, outputs: int, channels: Sequence[int], activation: str = "silu") -> Chain:
    """Build strided convolutions of 3 taps, each halving the size, rounded up, then a linear layer to vectors of `outputs`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.train.networks import conv_encoder
    >>> conv_encoder((1, 25, 25), 8, [16, 32]).init(np.random.default_rng(0), (1, 25, 25))[1]
    (8,)
    """
    layers: list[Layer] = []
    for count in channels:
        layers += [nn.Conv(count, 3, stride=2, padding="same"), _activation(activation)]
    return Chain((*layers, nn.Flatten(), nn.Linear(outputs, start="glorot")))


def conv_decoder(shape: Shape, channels: Sequence[int], activation: str = "silu") -> Chain:
    """Build the mirror of `conv_encoder`: from vectors to arrays of exactly `shape`, by transposed convolutions.

    Which of two sizes a halving came from is told to each by `output_size`. Taps are 4 where the size doubles: a number that the
    stride divides reaches every output sample equally often, which leaves no checkerboard.

    References
    ----------
    Odena, Dumoulin and Olah, Deconvolution and checkerboard artifacts, Distill 2016, doi:10.23915/distill.00003.
    """
    sizes = [shape[1:]]
    for _ in channels:
        sizes.append(tuple(-(-n // 2) for n in sizes[-1]))
    code = (channels[-1], *sizes[-1])
    layers: list[Layer] = [nn.Linear(prod(code)), _activation(activation), nn.Reshape(code)]
    outs = (shape[0], *channels[:-1])
    for stage in reversed(range(len(channels))):
        last = stage == 0
        layers.append(
            nn.ConvTranspose(outs[stage], 4, 2, padding="same", output_size=sizes[stage], start="glorot" if last else "he")
        )
        if not last:
            layers.append(_activation(activation))
    return Chain(tuple(layers))


def dense_encoder(outputs: int, hidden: int, activation: str = "silu") -> Chain:
    """Build one hidden layer of `hidden` features on the pixels, then a linear layer to vectors of `outputs`."""
    return Chain((nn.Flatten(), nn.Linear(hidden), _activation(activation), nn.Linear(outputs, start="glorot")))


def dense_decoder(shape: Shape, hidden: int, activation: str = "silu") -> Chain:
    """Build the mirror of `dense_encoder`: from vectors to arrays of `shape`."""
    return Chain((nn.Linear(hidden), _activation(activation), nn.Linear(prod(shape), start="glorot"), nn.Reshape(shape)))


def _activation(name: str) -> Layer:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name!r}; needed one of {', '.join(map(repr, ACTIVATIONS))}")
    return ACTIVATIONS[name]()
