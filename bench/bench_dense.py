"""Why convolution exists: the same linear map of an image as a dense layer and as a convolution, as the image grows."""

import numpy as np
import peers
import pytest
from measure import normals
from tables import DENSE_SIDES, cases

import numconv

BATCH, TAPS, MEMORY = 16, 7, 1 << 30


@pytest.mark.parametrize("side", cases([*DENSE_SIDES, 128, 256, 512], DENSE_SIDES[:5]))
def test_dense(race, side):
    x, w = normals((BATCH, 1, side, side), (1, 1, TAPS, TAPS))
    pixels = side * side
    sides = {}
    if 4 * pixels**2 < MEMORY:
        vectors, matrix = x.reshape(BATCH, pixels), as_matrix(w, side)
        sides["dense"] = peers.Side(lambda: numconv.linear(vectors, matrix))
    ours = lambda: numconv.conv2d(x, w, padding="same")  # noqa: E731
    details = {"size": side, "dense_parameters": pixels**2, "conv_parameters": w.size}
    race(ours, sides, table="dense", row=f"{side}x{side}", work=2 * x.size * w.size, **details)


def as_matrix(w, side):
    """Return the matrix of a convolution, d' x d: its columns are the images of single pixels."""
    pixels = side * side
    ones = np.eye(pixels, dtype=np.float32).reshape(pixels, 1, side, side)
    return np.ascontiguousarray(numconv.conv2d(ones, w, padding="same").reshape(pixels, pixels).T)
