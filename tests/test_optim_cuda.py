"""Adam's CUDA kernel on the emulator: against float64, over dtypes and hostile schedules, and with planted faults."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from numconv import _cuda
from numconv.train import adam_cuda, adamw, clip_by_global_norm

from .cuda_emulator.emulator import MISSING, Emulator
from .cuda_emulator.stand_in import ndarray, stand_in

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

ROOT = Path(__file__).parents[1]
SEEDS = (0, 2, 3)
DTYPES = ("float32", "float64", "float16", "bfloat16")
SHAPES = ((), (1,), (255,), (3, 7, 41), (257, 5))
NUMBERS = {"b1": 0.9, "b2": 0.999, "scale": 0.05, "floor": 1e-2, "shrink": 0.03}


def arrays(shape, dtype):
    rng = np.random.default_rng(0)
    p, g, m, v = (rng.uniform(-1, 1, shape) for _ in range(4))
    return [np.asarray(a).astype(dtype) for a in (p, g, m, np.abs(v))]


def expected(p, g, m, v):
    """A step in float64, and beside each result the sum of its terms' magnitudes."""
    p, g, m, v = (a.astype(np.float64) for a in (p, g, m, v))
    c = NUMBERS
    mean, square = c["b1"] * m + (1 - c["b1"]) * g, c["b2"] * v + (1 - c["b2"]) * g * g
    terms = c["b1"] * abs(m) + (1 - c["b1"]) * abs(g)
    away = np.sqrt(square) + c["floor"]
    after = p - c["scale"] * mean / away - c["shrink"] * p
    return (after, (1 + c["shrink"]) * abs(p) + c["scale"] * terms / away), (mean, terms), (square, square)


def fault(shape, dtype, seed):
    """Say how a step is wrong; nothing if it is right."""
    dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
    given = arrays(shape, dtype)
    _cuda.backend = Emulator(seed)
    for name, got, (wanted, terms) in zip("pmv", adam_cuda.moved(*given, NUMBERS), expected(*given), strict=True):
        if got.shape != shape or got.dtype != dtype:
            return f"{name} is {got.dtype}{got.shape}"
        # Ten roundings at most in the type of sums, and the last one to the dtype (whose subnormal step is absolute).
        sums = np.float64 if dtype == np.float64 else np.float32
        last = ml_dtypes.finfo(dtype)
        bound = (10 * np.finfo(sums).eps + float(last.eps)) * terms + float(last.smallest_subnormal)
        wrong = ~(np.abs(got.astype(np.float64) - wanted) <= bound)
        if wrong.any():
            return f"{name}: {wrong.sum()} of {wrong.size} numbers"
    return ""


@pytest.fixture(autouse=True)
def _backend(monkeypatch):
    monkeypatch.setattr(_cuda, "backend", Emulator())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_against_float64(dtype, seed):
    for shape in SHAPES:
        assert not fault(shape, dtype, seed), shape


def test_no_numbers_are_nothing_to_launch():
    assert adam_cuda.moved(*arrays((0, 3), "float32"), NUMBERS)[0].shape == (0, 3)
    assert _cuda.backend.launches == 0


def test_any_grid_is_enough(monkeypatch):
    monkeypatch.setattr(_cuda, "MOST_BLOCKS", 2)
    assert not fault((257, 5), "float32", 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adamw_on_cupy_follows_the_cpu_and_reads_nothing(dtype):
    rng = np.random.default_rng(1)
    params = {"w": rng.standard_normal((4, 9)).astype(dtype), "b": rng.standard_normal(5).astype(dtype)}
    every = [{k: rng.standard_normal(a.shape).astype(dtype) for k, a in params.items()} for _ in range(4)]

    def trained(to):
        optimizer = adamw(lambda step: 0.01 / (step + 1), decay=0.1)
        p = {k: to(a) for k, a in params.items()}
        state = optimizer.init(p)
        for step, grads in enumerate(every):
            clipped, _ = clip_by_global_norm({k: to(a) for k, a in grads.items()}, 1.0)
            p, state = optimizer.update(clipped, state, p, step)
        return p

    host, got = trained(np.asarray), []
    for seed in SEEDS:
        with stand_in(seed) as cupy:
            before = ndarray.readings
            p = trained(cupy.asarray)
            assert ndarray.readings == before
            assert [program.name for program in _cuda.backend.programs].count("adam_moved") == 8
            got.append({k: a.get() for k, a in p.items()})
    for k, wanted in host.items():
        np.testing.assert_allclose(got[0][k], wanted, rtol=100 * np.finfo(dtype).eps, atol=100 * np.finfo(dtype).eps)
        assert len({p[k].tobytes() for p in got}) == 1


FAULTS = {
    "one number past the end": ("i < c.n", "i <= c.n"),
    "the last number left out": ("i < c.n", "i < c.n - 1"),
    "a grid that does not walk on": ("i += threads()", "i += 1LL << 60"),
    "floor under the root": ("root(v) + floor", "root(v + floor)"),
    "weights grow": ("- shrink * at", "+ shrink * at"),
    "the old mean": ("scale * (m /", "scale * (widened(mean[i]) /"),
    "shares swapped": ("new2 = 1 - c.b2", "new2 = 1 - c.b1"),
    "fields in another order": ("scale, floor, shrink;\n};", "floor, scale, shrink;\n};"),
}


def run_every_case(path):
    """Hold a source against every case, and exit at the first fault. It may also crash: for a process of its own."""
    adam_cuda.SOURCE, _cuda.MOST_BLOCKS = Path(path), 2
    for shape in SHAPES:
        if found := fault(shape, "float32", 0):
            sys.exit(f"caught: {found}")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    old, new = FAULTS.get(planted, ("", ""))
    assert old in adam_cuda.SOURCE.read_text(), "the source has changed: plant this fault anew"
    (tmp_path / "adam.cu").write_text(adam_cuda.SOURCE.read_text().replace(old, new))
    code = f"from {__name__} import run_every_case; run_every_case({str(tmp_path / 'adam.cu')!r})"
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    ended = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    if planted == "no fault":
        assert ended.stdout == "nothing found\n", ended.stderr
    else:
        assert ended.returncode == -signal.SIGSEGV or ended.stderr.startswith("caught:"), ended.stderr
