"""What speed costs: each method of convolution against float64, beside its time."""

import numpy as np
import pytest
from measure import layer_arrays, plan_of
from tables import LISTED, Layer, cases

import numconv

METHODS = ["direct", "winograd", "fft"]
LAYERS = {name: LISTED[name] for name in ("56 3x3 64", "14 3x3 256", "1024 7x7 1-1", "1024 31x31 1-1")}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", cases(LAYERS, ["56 3x3 64"]))
def test_method(race, name, method):
    layer = LAYERS[name]
    x, w, _ = layer_arrays(layer)
    settings = {**layer.arguments, "method": method}
    try:
        y = numconv.conv2d(x, w, **settings)
    except ValueError as refusal:
        pytest.skip(str(refusal))  # such as Winograd's transform for other than 3 taps
    exact = _exact(x, w, layer)
    error, scale = y - exact, np.max(np.abs(exact))
    plan = plan_of(numconv.conv2d, x, w, **settings)
    details = {
        "error": float(np.max(np.abs(error)) / scale),
        "rms": float(np.sqrt(np.mean(error**2)) / np.sqrt(np.mean(exact**2))),
    }
    details |= {"method": method, "work": layer.flops, "plan": plan}
    race(lambda: numconv.conv2d(x, w, **settings), {}, table="accuracy", row=name, **details)


def _exact(x, w, layer: Layer):
    """Convolve in float64, by the definition: one shifted image per tap."""
    pad = [(0, 0), (0, 0), (layer.padding, layer.padding), (layer.padding, layer.padding)]
    x, w, (height, width) = np.pad(x.astype(np.float64), pad), w.astype(np.float64), layer.out
    return sum(
        np.einsum("oi,nipq->nopq", w[:, :, i, j], x[:, :, i : i + height, j : j + width], optimize=True)
        for i in range(layer.taps)
        for j in range(layer.taps)
    )
