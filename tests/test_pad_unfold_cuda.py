"""Padding, cropping, unfolding and folding have no CUDA kernels: here they run on CuPy arrays by CuPy's own functions."""

from __future__ import annotations

import numpy as np
import pytest
from ml_dtypes import bfloat16, finfo

from numconv import fold, fold_vjp, pad, pad_vjp, unfold, unfold_vjp

from .cuda_emulator.stand_in import ndarray, stand_in

DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": bfloat16}
MODES = ("zeros", "reflect", "symmetric", "replicate", "circular")
FUNCTIONS = {
    **{mode: ((2, 3, 7, 6), lambda x, mode=mode: pad_vjp(x, ((2, 3), (-1, 4)), mode)) for mode in MODES},
    "value": ((4, 5), lambda x: pad_vjp(x, (1, 2), value=3.5)),
    "unfold": ((2, 3, 7, 6), lambda x: unfold_vjp(x, 3, stride=2, padding="same", dilation=2)),
    "fold": ((2, 3, 2, 2, 3, 4), lambda x: fold_vjp(x, (4, 5), 2)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_on_cupy_arrays(name, dtype):
    shape, function = FUNCTIONS[name]
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, shape).astype(DTYPES[dtype])
    expected, pullback = function(x.astype(np.float64))
    dy = rng.uniform(-1, 1, expected.shape).astype(x.dtype)
    with stand_in() as cupy:
        before = ndarray.readings
        y, pull = function(cupy.asarray(x))
        dx = pull(cupy.asarray(dy))
        assert ndarray.readings == before, "a function waits for the GPU"
        assert y.dtype == dx.dtype == x.dtype
        got = y.get().astype(np.float64), dx.get().astype(np.float64)
    tolerance = 10 * float(finfo(x.dtype).eps)
    for a, e in zip(got, (expected, pullback(dy.astype(np.float64))), strict=True):
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance)


def test_integers():
    x = np.arange(24).reshape(1, 2, 3, 4)
    with stand_in() as cupy:
        on_gpu = cupy.asarray(x)
        np.testing.assert_array_equal(pad(on_gpu, 1, "reflect").get(), pad(x, 1, "reflect"))
        np.testing.assert_array_equal(unfold(on_gpu, 2).get(), unfold(x, 2))
        np.testing.assert_array_equal(fold(unfold(on_gpu, 2), (3, 4), 2).get(), fold(unfold(x, 2), (3, 4), 2))
