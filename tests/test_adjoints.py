"""Every linear operation in every floating dtype and padding mode: <y, A x> = <A' y, x>, with A' what its pullback computes."""

import re

import numpy as np
import pytest
from capabilities import OPS
from oracles import normals

import numconv
from numconv._border import MODES

LINEAR = {
    *("conv", "conv_transpose", "conv_input_grad", "conv_weight_grad", "conv_transpose_input_grad", "conv_transpose_weight_grad"),
    *("conv_bias_grad", "conv_transpose_bias_grad", "conv_per_sample_weight_grad", "conv_transpose_per_sample_weight_grad"),
    *("linear", "avg_pool", "global_avg_pool", "adaptive_avg_pool", "resize", "pad", "unfold", "fold", "conv_local"),
}
EPS = {"float32": 1.2e-7, "float64": 2.3e-16, "complex64": 1.2e-7, "complex128": 2.3e-16}


def stem(op):
    return re.sub("[123]d$", "", op.name)


def numbers(seed, shape, dtype):
    a, b = normals(seed, shape, shape)
    return (a + 1j * b if dtype.startswith("complex") else a).astype(dtype)


def cases():
    for op in OPS:
        if stem(op) in LINEAR:
            word = "mode" if op.name == "pad" else "padding_mode"
            knows = word in op.settings or (stem(op).startswith("conv") and "local" not in op.name and "bias" not in op.name)
            modes = MODES if knows else (None,)
            for mode in modes:
                settings = op.settings if mode is None else {**op.settings, word: mode}
                yield pytest.param(op, settings, id=f"{op.name}-{mode}")


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize(("op", "settings"), list(cases()))
def test_the_pullback_is_the_transposed_map(op, settings, dtype):
    """In each argument, the others being constant; without conjugation."""
    assert dtype in op.dtypes
    arrays = [numbers(i, shape, dtype) for i, shape in enumerate(op.arrays)]
    if len(arrays) == 3:
        arrays[2][...] = 0  # a bias, which makes it affine
    y, pullback = getattr(numconv, f"{op.name}_vjp")(*arrays, **settings)
    dy = numbers(9, y.shape, dtype)
    value = np.sum(dy.astype(complex) * y)
    found = pullback(dy)
    size = np.sqrt(np.sum(abs(dy) ** 2) * np.sum(abs(y) ** 2))
    for a, da in list(zip(arrays, found if isinstance(found, tuple) else (found,), strict=True))[:2]:
        assert abs(np.sum(da.astype(complex) * a) - value) <= 200 * EPS[dtype] * (1 + size)


def test_a_wrong_adjoint_is_seen():
    x, w = normals(0, (1, 1, 6), (1, 1, 3))
    y = numconv.conv1d(x, w, padding=1, padding_mode="reflect")
    (dy,) = normals(1, y.shape)
    dx = numconv.conv_input_grad(dy, w, x.shape, padding=1, padding_mode="symmetric")
    assert abs(np.sum(dx * x) - np.sum(dy * y)) > 1e-3


@pytest.mark.parametrize("groups", [1, 2])
def test_complex_convolution_and_its_gradients_are_those_of_jax(groups):
    jax = pytest.importorskip("jax")
    how = {"stride": (2, 1), "dilation": (1, 2), "groups": groups}
    pads = ((1, 2), (3, 0))
    x, w = numbers(0, (2, 2 * groups, 9, 8), "complex128"), numbers(1, (3 * groups, 2, 3, 2), "complex128")
    with jax.enable_x64(True):

        def lax(x, w):
            return jax.lax.conv_general_dilated(
                x, w, how["stride"], pads, rhs_dilation=how["dilation"], feature_group_count=groups
            )

        expected, pull = jax.vjp(lax, x, w)
        dy = numbers(2, expected.shape, "complex128")
        y, pullback = numconv.conv2d_vjp(x, w, padding=pads, **how)
        np.testing.assert_allclose(y, expected, atol=1e-12)
        for a, e in zip(pullback(dy), pull(dy), strict=True):
            np.testing.assert_allclose(a, e, atol=1e-11)
