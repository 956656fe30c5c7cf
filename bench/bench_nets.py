"""Layers of networks: convolution and both of its gradients, in float32 and float64, beside PyTorch and JAX."""

import numpy as np
import peers
import pytest
from measure import layer_arrays, plan_of
from tables import NETS, QUICK_NETS, SIDES, UNSEEN, Layer, cases

import numconv

PLANNED = {"y": "forward", "x": "input_grad", "w": "weight_grad"}


@pytest.mark.parametrize("contraction", "yxw")
@pytest.mark.parametrize("name", cases(NETS, QUICK_NETS))
def test_net(race, name, contraction):
    compare(race, NETS[name], contraction, table="nets", row=name, unseen=name in UNSEEN)


@pytest.mark.parametrize("contraction", "yxw")
@pytest.mark.parametrize("name", cases(NETS, QUICK_NETS[:2]))
def test_float64(race, name, contraction):
    compare(race, NETS[name], contraction, table="float64", row=name, dtype="float64", unseen=name in UNSEEN)


@pytest.mark.parametrize("side", cases(SIDES, SIDES[1:-1:2]))
def test_size(race, side):
    compare(race, Layer(1, 64, side, side, 64, 3, 1, 1), "y", table="sizes", row=str(side), size=side)


def compare(race, layer, contraction, *, dtype="float32", **details):
    x, w, y = layer_arrays(layer, dtype)
    f, arguments = call_of(layer, contraction, x, w, y)
    sides = peers.contraction(contraction, layer, x, w, y)
    race(
        lambda: f(*arguments, **layer.arguments),
        sides,
        dtype=dtype,
        work=layer.flops,
        tolerance=1e-3 if dtype == "float32" else 1e-10,
        contraction=contraction,
        bytes=layer.numbers * np.dtype(dtype).itemsize,
        plan=plan_of(numconv.conv2d, x, w, PLANNED[contraction], **layer.arguments),
        **details,
    )


def call_of(layer, contraction, x, w, y):
    """Return the function that computes y, x or w from the two others, and its positional arguments."""
    return {
        "y": (numconv.conv2d, (x, w)),
        "x": (numconv.conv_input_grad, (y, w, x.shape)),
        "w": (numconv.conv_weight_grad, (x, y, w.shape)),
    }[contraction]
