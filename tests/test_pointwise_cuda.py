"""Formulas as CUDA kernels, on the emulator: every one in every dtype, scales, sums, odd sizes, planted faults."""

from __future__ import annotations

import inspect
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16

import numconv
from numconv import _cuda, _cuda_formula, _pointwise

from .cuda_emulator.emulator import MISSING
from .cuda_emulator.faults import plant
from .cuda_emulator.stand_in import ndarray, stand_in

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": bfloat16}
list(_pointwise.programs())  # imports the rooms of all formulas
OWN = [each for each in _pointwise.FORMULAS if each.formula.__module__.startswith("numconv.")]  # tests make others
FORMULAS = {each.formula.__name__: each for each in OWN}
# Units in the last place, of functions (g++'s stand for CUDA's here) and of the formula's own operations together.
ULPS = 24


def arguments(formula, n, dtype, seed=0):
    """Return arrays and a parameter for a formula: numbers of all sizes, and a few special ones."""
    rng = np.random.default_rng(seed)
    *_, last = inspect.signature(formula).parameters.values()
    count = len(inspect.signature(formula).parameters) - 1
    arrays = [(rng.standard_normal(n) * 4).astype(DTYPES[dtype]) for _ in range(count)]
    if n > 8 and count == 1:
        arrays[0][:4] = 0.0, -0.0, 9.0, -9.0
    return [*arrays[:-1], 0.75] if last.annotation in ("float", float) else arrays


def exact(each, given):
    """Return a formula's value in float64, and the size of its rounding."""
    wide = [a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in given]
    with np.errstate(all="ignore"):
        value = each.formula(np, *wide)
        moved = [each.formula(np, *(a * (1 + 2.0**-30) if i == j else a for i, a in enumerate(wide))) for j in range(len(wide))]
    sensitive = sum(np.abs(m - value) * 2.0**30 for m in moved)
    return value, np.abs(value) + sensitive


IN_16_BITS = ("relu", "leaky_relu_slope", "gelu", "bernoulli", "_squared", "_huber")  # all are widened and rounded alike
WAYS = [(name, dtype) for dtype in DTYPES for name in FORMULAS if np.dtype(DTYPES[dtype]).itemsize > 2 or name in IN_16_BITS]


@pytest.mark.parametrize(("name", "dtype"), WAYS)
def test_values(name, dtype):
    each = FORMULAS[name]
    given = arguments(each.formula, 19, dtype)
    value, size = exact(each, given)
    eps = np.finfo(np.float64 if dtype == "float64" else np.float32).eps
    stored = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype, 0.0)
    with stand_in(2) as cupy:
        on_device = [cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in given]
        y = _cuda_formula.scaled(each.formula, 1.0, tuple(on_device))
        total = _cuda_formula.summed(each.formula, tuple(on_device))
    least = 2.0**-24 if dtype == "float16" else 0.0  # float16's subnormal numbers
    wrong = np.abs(y.get().astype(np.float64) - value) > ULPS * eps * (1e-3 + size) + stored * np.abs(value) + least
    assert y.dtype == given[0].dtype
    assert not wrong.any(), (given, y.get(), value)
    within = ULPS * eps * (1e-3 + size).sum() + stored * abs(value.sum()) + least
    assert abs(total.get().astype(np.float64) - value.sum()) <= within


@pytest.mark.parametrize("seed", [0, 2, 3])
@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 255, 1027, 9000])
def test_sizes(n, seed):
    a, b = np.random.default_rng(0).standard_normal((2, n)).astype(np.float32)
    with stand_in(seed) as cupy:
        x, target = cupy.asarray(a), cupy.asarray(b)
        for scale, factor in ((2.0, 2.0), (cupy.asarray(np.float32(3)), 3.0), (target, b)):
            y = _cuda_formula.scaled(FORMULAS["_squared"].formula, scale, (x, target))
            np.testing.assert_allclose(y.get(), factor * (a - b) ** 2, rtol=1e-6)
        total = _cuda_formula.summed(FORMULAS["_squared"].formula, (x, target))
        assert total.shape == ()
        np.testing.assert_allclose(total.get(), ((a - b).astype(np.float64) ** 2).sum(), rtol=1e-6)


def test_one_number_for_all_and_views():
    a = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    with stand_in() as cupy:
        x, one = cupy.asarray(a), cupy.asarray(np.array(0.5))
        y = _cuda_formula.scaled(FORMULAS["_squared"].formula, 1.0, (x.T[1:], one))
        np.testing.assert_allclose(y.get(), (a.T[1:] - 0.5) ** 2, rtol=1e-6)
        row = cupy.asarray(a[:1])
        y = _cuda_formula.scaled(FORMULAS["_squared"].formula, 1.0, (x, row))
        np.testing.assert_allclose(y.get(), (a - a[:1]) ** 2, rtol=1e-6)
        odd = cupy.asarray(np.arange(9, dtype=np.float16))[1:]  # begins at no multiple of 16 bytes
        assert _cuda_formula.scaled(FORMULAS["relu"].formula, 1.0, (odd,)).get().tolist() == list(range(1, 9))


def test_special_numbers():
    a = np.array([np.nan, np.inf, -np.inf, -0.0, 1e30, -1e30], np.float32)
    with stand_in() as cupy:
        for name in ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "silu", "softplus", "gelu", "gelu_tanh", "gelu_slope"):
            each = FORMULAS[name]
            takes = len(inspect.signature(each.formula).parameters) > 2
            given = (a.astype(np.float64), 1.0)[: 1 + takes]
            with np.errstate(all="ignore"):
                expected = each.formula(np, *given)
            y = _cuda_formula.scaled(each.formula, 1.0, (cupy.asarray(a), 1.0)[: 1 + takes]).get()
            np.testing.assert_allclose(y, expected.astype(np.float32), rtol=1e-6, atol=1e-35, err_msg=name)


def test_nothing_is_read_by_the_host():
    a = np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32)
    with stand_in() as cupy:
        x, target = map(cupy.asarray, a)
        before = ndarray.readings
        for loss in (numconv.mse_loss_vjp, numconv.huber_loss_vjp, numconv.bce_with_logits_loss_vjp):
            value, pullback = loss(x, target)
            pullback()
            pullback(value)
        y, pullback = numconv.gelu_vjp(x)
        pullback(y)
        assert ndarray.readings == before


FAULTS = {
    "a number past the end": (
        "i < p.places; i += threads()) {\n        const Sum by",
        "i <= p.places; i += threads()) {\n        const Sum by",
    ),
    "the tail forgotten": (
        "i < p.places; i += threads()) {\n        const Sum by",
        "i < in_whole; i += threads()) {\n        const Sum by",
    ),
    "packs where memory is not aligned": ("p % 16 == 0", "p % 2 == 0"),
    "a chunk too long": ("min(begin + CHUNK, p.places)", "begin + CHUNK"),
    "a scale forgotten": ("by * term(x,", "term(x,"),
    "the partial sums of one thread": ("j < p.places; j += blockDim.x", "j < p.places; j += 2 * blockDim.x"),
    "one place's partner": ("b ? widened(b[i * p.step_b])", "b ? widened(b[0])"),
}


def run_every_case(text):
    """Hold a text against a few cases, and exit at the first fault. It may also crash: for a process of its own."""
    _cuda._read = lambda path: Path(text).read_text() if path.name == "_pointwise.cuh" else path.read_text()
    for seed in (0, 2):
        for n in (1, 5, 300, 3 * 4096 + 7, 600 * 4096):
            a, b = np.random.default_rng(0).integers(-3, 4, (2, n + 1)).astype(np.float32)[:, 1:]
            with stand_in(seed) as cupy:
                x, target = cupy.asarray(np.insert(a, 0, 0))[1:], cupy.asarray(b)
                x.on_host = x.on_host if n < 4096 else a
                if n < 10_000:
                    y = _cuda_formula.scaled(FORMULAS["_squared"].formula, target, (x, target)).get()
                    if not np.array_equal(y, b * (a - b) ** 2):
                        sys.exit("caught: values")
                if n != 300 or seed:
                    total = _cuda_formula.summed(FORMULAS["_squared"].formula, (x, target)).get()
                    if total != np.float32(((a - b) ** 2).astype(np.float64).sum()):
                        sys.exit("caught: sum")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    crashes = (signal.SIGSEGV, signal.SIGBUS)
    text = (Path(_cuda.__file__).parent / "_pointwise.cuh").read_text()
    plant(tmp_path, run_every_case, text, FAULTS.get(planted), crashes=crashes)
