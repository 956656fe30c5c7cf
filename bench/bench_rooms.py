"""Activations, dense layers, pooling, resizing, losses: forward and backward together, beside PyTorch."""

import numpy as np
import peers
import pytest
from measure import normals
from tables import cases

import numconv

MAPS, ROWS = (64, 32, 28, 28), (256, 784)
CASES = {  # numconv's function, its settings, PyTorch's function, its settings, shapes of the arrays
    "relu": ("relu", {}, "relu", {}, (MAPS,)),
    "silu": ("silu", {}, "silu", {}, (MAPS,)),
    "gelu": ("gelu", {}, "gelu", {}, (MAPS,)),
    "linear": ("linear", {}, "linear", {}, (ROWS, (512, 784), (512,))),
    "max_pool": ("max_pool", {"window": 2}, "max_pool2d", {"kernel_size": 2}, (MAPS,)),
    "avg_pool": ("avg_pool", {"window": 2}, "avg_pool2d", {"kernel_size": 2}, (MAPS,)),
    "resize": (
        "resize",
        {"size": (28, 28), "mode": "linear"},
        "interpolate",
        {"size": (28, 28), "mode": "bilinear"},
        ((64, 32, 14, 14),),
    ),
    "bce_with_logits_loss": (
        "bce_with_logits_loss",
        {"reduction": "sum"},
        "binary_cross_entropy_with_logits",
        {"reduction": "sum"},
        (ROWS, ROWS),
    ),
}


@pytest.mark.parametrize("name", cases(CASES, ["silu", "linear", "max_pool", "bce_with_logits_loss"]))
def test_room(race, name):
    f, settings, theirs, their_settings, shapes = CASES[name]
    arrays = normals(*shapes)
    f_vjp = getattr(numconv, f"{f}_vjp")
    ones = np.ones_like(f_vjp(*arrays, **settings)[0])

    def ours():
        gradients = f_vjp(*arrays, **settings)[1](ones)
        return gradients if isinstance(gradients, tuple) else (gradients,)

    race(ours, peers.forward_and_back(theirs, *arrays, **their_settings), table="rooms", row=name)
