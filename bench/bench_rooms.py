"""Activations, dense layers, pooling, resizing, losses: forward and backward together, beside PyTorch where it is installed."""

import numpy as np
import pytest
from peers import PEERS, forward_and_back, normals, torch

import numconv as nc


def ours(f, *arrays, **settings):
    """Return a call of `f_vjp` and of its pullback for a cotangent of ones."""
    y, _ = f(*arrays, **settings)
    ones = np.ones_like(y)

    def call():
        _, pullback = f(*arrays, **settings)
        return pullback(ones)

    return call


MAPS, ROWS = (64, 32, 28, 28), (256, 784)


def activation(name):
    (x,) = normals(MAPS)
    return lambda: ours(getattr(nc, f"{name}_vjp"), x), lambda: forward_and_back(getattr(torch().nn.functional, name), x)


def linear():
    x, w, b = normals(ROWS, (512, 784), (512,))
    return lambda: ours(nc.linear_vjp, x, w, b), lambda: forward_and_back(torch().nn.functional.linear, x, w, b)


def pool(name):
    (x,) = normals(MAPS)
    return (
        lambda: ours(getattr(nc, f"{name}_pool_vjp"), x, window=2),
        lambda: forward_and_back(getattr(torch().nn.functional, f"{name}_pool2d"), x, kernel_size=2),
    )


def resize():
    (x,) = normals((64, 32, 14, 14))
    return (
        lambda: ours(nc.resize_vjp, x, size=(28, 28), mode="linear"),
        lambda: forward_and_back(torch().nn.functional.interpolate, x, size=(28, 28), mode="bilinear"),
    )


def loss():
    logits, target = normals(ROWS, ROWS)
    return (
        lambda: ours(nc.bce_with_logits_loss_vjp, logits, target, reduction="sum"),
        lambda: forward_and_back(torch().nn.functional.binary_cross_entropy_with_logits, logits, target, reduction="sum"),
    )


CASES = {
    "relu": activation("relu"),
    "silu": activation("silu"),
    "gelu": activation("gelu"),
    "linear": linear(),
    "max_pool": pool("max"),
    "avg_pool": pool("avg"),
    "resize": resize(),
    "bce_with_logits_loss": loss(),
}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("case", CASES)
def test_forward_and_back(benchmark, case, peer):
    call = CASES[case][PEERS.index(peer)]()
    call()
    benchmark.group = f"{case}, forward and backward"
    benchmark(call)
