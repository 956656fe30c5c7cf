"""Layers: `init(rng, shape) -> (params, shape)`, `forward(params, x) -> (y, pullback)`, `pullback(dy) -> (dparams, dx)`."""

from .activations import Gelu, LeakyRelu, Relu, Sigmoid, Silu, Tanh
from .chain import Chain, Layer, Residual, count_parameters
from .layers import Conv, ConvTranspose, Linear, starting_weights
from .norms import GroupNorm, InstanceNorm, LayerNorm
from .shapes import AvgPool, Flatten, GlobalAvgPool, MaxPool, Reshape, Upsample

__all__ = [
    "AvgPool",
    "Chain",
    "Conv",
    "ConvTranspose",
    "Flatten",
    "Gelu",
    "GlobalAvgPool",
    "GroupNorm",
    "InstanceNorm",
    "Layer",
    "LayerNorm",
    "LeakyRelu",
    "Linear",
    "MaxPool",
    "Relu",
    "Reshape",
    "Residual",
    "Sigmoid",
    "Silu",
    "Tanh",
    "Upsample",
    "count_parameters",
    "starting_weights",
]
