"""NT-Xent and InfoNCE on a GPU, on the emulator: without a matrix of logits, for any number of rows, planted faults."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16

import numconv
from numconv import _cuda
from numconv.loss import streamed

from .cuda_emulator.emulator import MISSING
from .cuda_emulator.faults import plant
from .cuda_emulator.stand_in import ndarray, stand_in

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": bfloat16}
EPS = {"float32": 2.0**-20, "float64": 2.0**-48, "float16": 2.0**-9, "bfloat16": 2.0**-6}
LOSSES = {
    "nt_xent": (numconv.nt_xent_loss_vjp, {}),
    "info_nce": (numconv.info_nce_loss_vjp, {}),
    "symmetric": (numconv.info_nce_loss_vjp, {"symmetric": True}),
}
SHAPES = [(2, 1), (3, 7), (33, 64), (40, 130)]  # the views of 33 images are more than a tile, 130 dimensions more than a slice


def fault(name, shape, temperature, dtype, seed):
    """Say what is wrong with a loss or its gradients."""
    f, how = LOSSES[name]
    za, zb = np.random.default_rng(0).standard_normal((2, *shape)).astype(DTYPES[dtype])
    loss, pullback = f(za.astype(np.float64), zb.astype(np.float64), temperature, **how)
    with stand_in(seed) as cupy:
        found, pull = f(cupy.asarray(za), cupy.asarray(zb), temperature, **how)
        gradients = pull(found)
    for what, got, exact in zip(("loss", "dza", "dzb"), (found, *gradients), (loss, *pullback(loss)), strict=True):
        if (got.shape, got.dtype) != (exact.shape, za.dtype):
            return f"{what}: {got.dtype}{got.shape}"
        # A logit is rounded by its share of 1 / T, and so is what its exponential says.
        most = EPS[dtype] * (1 + 1 / temperature) * (1 + np.abs(exact).max())
        if not np.abs(got.get().astype(np.float64) - exact).max() <= most:
            return f"{what}: {np.abs(got.get().astype(np.float64) - exact).max()} > {most}"
    return ""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_against_float64(shape, name, dtype):
    for seed in (0, 2, 3) if shape[0] < 40 else (2,):
        assert not fault(name, shape, 0.5, dtype, seed), seed


@pytest.mark.parametrize("temperature", [0.01, 0.1, 10.0])
@pytest.mark.parametrize("name", LOSSES)
def test_temperatures(name, temperature):
    for dtype in ("float32", "float64"):
        assert not fault(name, (33, 5), temperature, dtype, 3)


def test_the_same_bits_in_any_order():
    za, zb = np.random.default_rng(0).standard_normal((2, 40, 9)).astype(np.float32)
    bits = set()
    for seed in (0, 2, 3):
        with stand_in(seed) as cupy:
            loss, pullback = numconv.nt_xent_loss_vjp(cupy.asarray(za), cupy.asarray(zb))
            bits.add(b"".join(a.get().tobytes() for a in (loss, *pullback())))
    assert len(bits) == 1


def test_memory_grows_with_the_rows(monkeypatch):
    asked, empty = [], _cuda.empty
    monkeypatch.setattr(_cuda, "empty", lambda shape, dtype, *, what: asked.append(shape) or empty(shape, dtype, what=what))
    with stand_in() as cupy:
        za, zb = map(cupy.asarray, np.random.default_rng(0).standard_normal((2, 100, 3)))
        before = ndarray.readings
        for f, how in LOSSES.values():
            f(za, zb, **how)[1]()
        assert ndarray.readings == before
    assert {shape for shape in asked if len(shape) > 1} <= {(200, 3), (100, 3)}


FAULTS = {
    "no barrier before": ("        __syncthreads();  // all have read what was there\n", ""),
    "no barrier after": (
        "        }\n        __syncthreads();\n#pragma unroll 4\n        for (int k",
        "        }\n#pragma unroll 4\n        for (int k",
    ),
    "a row chooses itself": ("!(r.apart && row == column)", "true"),
    "columns past the end": ("column < r.columns && !(", "!("),
    "the wrong partner": ("column == (row + r.shift) % r.columns) wanted", "column == row + r.shift) wanted"),
    "sums not moved to the largest": ("sum[i] * exp(largest[i] - here) + 1", "sum[i] + 1"),
    "threads of a row apart": ("for (int by = 8; by; by /= 2)", "for (int by = 4; by; by /= 2)"),
    "one side of the product": ("if (r.by_column != 0)", "if (false)"),
    "rows of v of the tile before": (
        "const long long column = column0 + j0 + at / SLICE",
        "const long long column = j0 + at / SLICE",
    ),
    "a row past the end": ("if (row < r.rows && dim < r.dim) store", "if (dim < r.dim) store"),
}


def run_every_case(path):
    """Hold a source against a few cases, and exit at the first fault. It may also crash: for a process of its own."""
    streamed.SOURCE = Path(path)
    for seed in (2, 3, 0):
        for shape in ((40, 18), (3, 130), (65, 5)):
            for name in LOSSES:
                for temperature in (0.5, 0.05):
                    if found := fault(name, shape, temperature, "float32", seed):
                        sys.exit(f"caught: {found}")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    plant(tmp_path, run_every_case, streamed.SOURCE.read_text(), FAULTS.get(planted))
