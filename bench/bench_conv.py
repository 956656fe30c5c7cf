"""Convolution, its gradients and transposed convolution, beside PyTorch where it is installed: `nox -s bench`.

Equal threads, compilation outside the timing. Each group is one layer and one contraction, so its rows compare directly.
"""

import numpy as np
import pytest
from peers import PEERS
from peers import torch as threaded_torch

import numconv

LAYERS = {  # batch, c_in, height, width, c_out, taps, stride, padding
    "stem 7x7/2": (4, 3, 224, 224, 64, 7, 2, 3),
    "56 3x3 64": (4, 64, 56, 56, 64, 3, 1, 1),
    "14 3x3 256": (4, 256, 14, 14, 256, 3, 1, 1),
    "autoencoder 28 4x4/2": (128, 1, 28, 28, 32, 4, 2, 1),
    "autoencoder 14 4x4/2": (128, 32, 14, 14, 64, 4, 2, 1),
    "filter 1024 7x7": (1, 1, 1024, 1024, 1, 7, 1, 3),
}


def calls(peer, batch, c_in, height, width, c_out, taps, stride, padding):
    """Return the three contractions of a layer as functions without arguments, and the flops of each."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, c_in, height, width), np.float32)
    w = rng.standard_normal((c_out, c_in, taps, taps), np.float32)
    y, pullback = numconv.conv2d_vjp(x, w, stride=stride, padding=padding)
    flops = 2 * y.size * w[0].size
    if peer == "numconv":
        forward = lambda: numconv.conv2d(x, w, stride=stride, padding=padding)  # noqa: E731
        return {"y": forward, "dx": lambda: pullback(y, wrt="x"), "dw": lambda: pullback(y, wrt="w")}, flops
    torch = threaded_torch()
    tx, tw, ty = (torch.from_numpy(a) for a in (x, w, y))
    backward = torch.ops.aten.convolution_backward

    def gradient(*mask):
        return lambda: backward(ty, tx, tw, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [*mask, False])

    forward = lambda: torch.nn.functional.conv2d(tx, tw, None, stride, padding)  # noqa: E731
    return {"y": forward, "dx": gradient(True, False), "dw": gradient(False, True)}, flops


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("contraction", ["y", "dx", "dw"])
@pytest.mark.parametrize("layer", LAYERS)
def test_conv2d(benchmark, layer, contraction, peer):
    functions, flops = calls(peer, *LAYERS[layer])
    functions[contraction]()
    benchmark.group = f"{layer}, {contraction}"
    benchmark(functions[contraction])
    benchmark.extra_info["gflops"] = round(flops / benchmark.stats.stats.median / 1e9)
