"""Softmax and cross entropy on a GPU, on the emulator: rows of every length in every team of threads, planted faults."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16

import numconv
from numconv import _cuda, _rows_cuda

from .cuda_emulator.emulator import MISSING
from .cuda_emulator.faults import plant
from .cuda_emulator.stand_in import ndarray, stand_in

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": bfloat16}
EPS = {"float32": 2.0**-22, "float64": 2.0**-50, "float16": 2.0**-10, "bfloat16": 2.0**-7}
SHAPES = {
    "columns": ((3, 7, 5), 1),
    "rows": ((9, 33), 1),
    "one": ((4, 1), 1),
    "long rows": ((2, 2500), -1),
    "first axis": ((6, 300), 0),
}


def logits(shape, dtype):
    return (np.random.default_rng(0).standard_normal(shape) * 5).astype(DTYPES[dtype])


def fault(name, shape, axis, dtype, seed):
    """Say what is wrong with the value or the gradient of an activation along an axis."""
    x, dy = logits(shape, dtype), logits(shape[::-1], dtype).reshape(shape)
    y, pullback = getattr(numconv, f"{name}_vjp")(x.astype(np.float64), axis=axis)
    with stand_in(seed) as cupy:
        found, pull = getattr(numconv, f"{name}_vjp")(cupy.asarray(x), axis=axis)
        gradient = pull(cupy.asarray(dy))
    results = {"value": (found, y), "gradient": (gradient, pullback(dy.astype(np.float64)))}
    for what, (got, exact) in results.items():
        if got.dtype != x.dtype:
            return f"{what} of {got.dtype}"
        # A sum of n terms rounds n times; the value that a pullback reads is rounded itself, of numbers up to 40.
        slack = EPS[dtype] * (shape[axis] / 8 + 40) * (1 + np.abs(exact).max())
        if not np.abs(got.get().astype(np.float64) - exact).max() <= slack:
            return what
    return ""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("case", SHAPES)
def test_along_an_axis(case, name, dtype):
    for seed in (0, 2, 3):
        assert not fault(name, *SHAPES[case], dtype, seed), seed


def test_every_team_is_met():
    assert {_rows_cuda.rows(*SHAPES[case]).team for case in SHAPES} == set(_rows_cuda.TEAMS)


def test_special_numbers():
    inf, nan = np.inf, np.nan
    x = np.array([[0, -inf, 1], [-inf, -inf, -inf], [nan, 0, 1], [inf, 0, 1], [1e30, -1e30, 0], [0, 1e4, 1]], np.float32)
    for axis, given in ((1, x), (0, x.T)):
        with np.errstate(all="ignore"):
            expected = [getattr(numconv, name)(given, axis=axis) for name in ("softmax", "log_softmax")]
        with stand_in() as cupy:
            found = [getattr(numconv, name)(cupy.asarray(given), axis=axis).get() for name in ("softmax", "log_softmax")]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def cross_entropy_fault(shape, dtype, smoothing, seed):
    """Say what is wrong with a cross entropy or its gradient, in each reduction."""
    x = logits(shape, dtype)
    labels = np.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))
    for reduction in ("mean", "none"):
        how = {"label_smoothing": smoothing, "reduction": reduction}
        loss, pullback = numconv.cross_entropy_loss_vjp(x.astype(np.float64), labels, **how)
        dy = np.arange(1.0, loss.size + 1).reshape(loss.shape)
        with stand_in(seed) as cupy:
            found, pull = numconv.cross_entropy_loss_vjp(cupy.asarray(x), cupy.asarray(labels), **how)
            gradient = pull(cupy.asarray(dy.astype(x.dtype)))
        slack = EPS[dtype] * (shape[1] / 8 + 40)
        for what, got, exact in (("value", found, loss), ("gradient", gradient, pullback(dy))):
            if not np.abs(got.get().astype(np.float64) - exact).max() <= slack * (1 + np.abs(exact).max()):
                return f"{reduction}: {what}"
    return ""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(5, 3), (2, 7, 5), (3, 2100)])
def test_cross_entropy(shape, smoothing, dtype):
    for seed in (0, 2, 3):
        assert not cross_entropy_fault(shape, dtype, smoothing, seed), seed


def test_what_the_host_reads():
    with stand_in() as cupy:
        x, labels = cupy.asarray(logits((4, 3), "float32")), cupy.asarray(np.array([0, 2, 1, 1]))
        before = ndarray.readings
        numconv.softmax_vjp(x)[1](x)
        assert ndarray.readings == before
        numconv.cross_entropy_loss_vjp(x, labels)[1]()
        assert ndarray.readings == before + 2  # the least and the largest label, to refuse those that are no class


FAULTS = {
    "the largest of a few": (
        "k < r.n; k += TEAM) {\n        const Sum here",
        "k < r.n; k += 2 * TEAM) {\n        const Sum here",
    ),
    "a row's neighbour": ("row / r.inner * r.n * r.inner + row % r.inner", "row * r.n"),
    "no barrier": ("    __syncthreads();\n    x = warp_max", "    x = warp_max"),
    "a sum of one warp": ("    return block_sum(x, scratch);", "    return warp_sum(x);"),
    "one entry too far": ("k < r.n; k += TEAM) total", "k <= r.n; k += TEAM) total"),
}


def run_every_case(text):
    """Hold a text against a few cases, and exit at the first fault. It may also crash: for a process of its own."""
    _cuda._read = lambda path: Path(text).read_text() if path.name == "_rows.cuh" else path.read_text()
    for seed in (0, 2, 3):
        for shape, axis in SHAPES.values():
            if found := fault("softmax", shape, axis, "float32", seed):
                sys.exit(f"caught: {found}")
    try:
        test_special_numbers()
    except AssertionError:
        sys.exit("caught: special numbers")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    plant(tmp_path, run_every_case, (Path(_cuda.__file__).parent / "_rows.cuh").read_text(), FAULTS.get(planted))
