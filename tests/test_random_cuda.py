"""Random numbers in CUDA kernels on the emulator: the CPU's, over dtypes, tails and schedules, and with planted faults."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from numconv import _cuda
from numconv.train import philox_cuda
from numconv.train.random import Stream, bits, normal, uniform

from .cuda_emulator.emulator import MISSING, Emulator
from .cuda_emulator.faults import plant
from .cuda_emulator.stand_in import ndarray, stand_in

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

ROOT = Path(__file__).parents[1]
SEEDS = (0, 2, 3)
DTYPES = ("float32", "float64", "float16", "bfloat16")
COUNTS = (0, 1, 2, 3, 4, 7, 16, 101)
AT = (2**63 + 2**31 + 5, Stream.NOISE, 3)  # whose words differ in every part of the key and the counter
SAMPLES = np.array([5, 2**32 - 1, 0, 77, 2**31, 6, 7])


def of(dtype):
    return np.dtype(getattr(ml_dtypes, dtype, dtype))


def drawn(kind, samples, count, dtype, seed):
    """What a kernel makes."""
    _cuda.backend = Emulator(seed)
    return philox_cuda.drawn(kind, samples, count, AT, dtype)


def error_of_normals(got, samples, count, dtype):
    """Return the largest distance from the CPU's numbers, in units of their radius times the dtype's epsilon."""
    even = count + count % 2
    u = uniform(*AT, samples, even, dtype=dtype)[:, 0::2].astype(np.longdouble)
    radius = np.repeat(np.sqrt(-2 * np.log1p(-u)), 2, axis=1)[:, :count]
    away = np.abs(got.astype(np.longdouble) - normal(*AT, samples, count, dtype=dtype))
    return (away / (radius + np.finfo(dtype).tiny)).max(initial=0) / np.finfo(dtype).eps if np.isfinite(got).all() else np.inf


def fault(kind, dtype, count, seed, samples=SAMPLES):
    """Say how the numbers of a kernel are wrong; nothing if they are right."""
    dtype = np.dtype(np.uint32) if kind == "bits" else of(dtype)
    got = drawn(kind, samples, count, dtype, seed)
    if got.shape != (len(samples), count) or got.dtype != dtype:
        return f"{got.dtype}{got.shape}"
    if dtype.itemsize == 2:  # those of float32, rounded once
        wanted = drawn(kind, samples, count, np.dtype("float32"), 0).astype(dtype)
    elif kind == "normal":
        # The kernel errs by at most 2.5 (float64: 3.5) epsilons of the radius, the CPU's by as many as 2.5.
        error = error_of_normals(got, samples, count, dtype)
        return f"wrong by {error:.3g} epsilons of the radius" if not error <= (5 if dtype == np.float32 else 6) else ""
    else:
        wanted = bits(*AT, samples, count) if kind == "bits" else uniform(*AT, samples, count, dtype=dtype)
    wrong = got != wanted
    return f"{wrong.sum()} of {wrong.size} numbers, the first at {np.argwhere(wrong)[0]}" if wrong.any() else ""


CASES = [("bits", "uint32"), *product(("uniform", "normal"), DTYPES)]


@pytest.fixture(autouse=True)
def _backend(monkeypatch):
    monkeypatch.setattr(_cuda, "backend", Emulator())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_the_cpus_numbers(kind, dtype, seed):
    for count in COUNTS:
        assert not fault(kind, dtype, count, seed), count


@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_several_blocks_and_any_grid(monkeypatch, kind, dtype):
    samples = np.arange(100, 137)
    assert not fault(kind, dtype, 83, 2, samples)
    monkeypatch.setattr(_cuda, "MOST_BLOCKS", 2)
    assert not fault(kind, dtype, 83, 0, samples)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_how_exact_normal_numbers_are(dtype):
    samples = np.arange(300)
    got = drawn("normal", samples, 100, np.dtype(dtype), 0).astype(np.longdouble)
    u = uniform(*AT, samples, 100, dtype=dtype).astype(np.longdouble)
    radius, turn = np.sqrt(-2 * np.log1p(-u[:, 0::2])), np.longdouble("6.283185307179586476925") * u[:, 1::2]
    exact = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=2).reshape(got.shape)
    bound = (2.5 if dtype == "float32" else 3.5) * np.finfo(dtype).eps
    assert (np.abs(got - exact) <= bound * np.abs(exact) + 1e-18).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_by_the_public_functions(seed):
    with stand_in(seed) as cupy:
        places = {
            "list": SAMPLES.tolist(),
            "strided": np.repeat(SAMPLES, 2)[::2],
            "on the device": cupy.asarray(SAMPLES),
            "of 32 bits": cupy.asarray(SAMPLES.astype(np.uint32)),
            "strided there": cupy.asarray(np.repeat(SAMPLES, 3))[::3],
        }
        before = ndarray.readings
        for name, index in places.items():
            x = cupy.asarray(np.zeros(1, np.float32))
            for draw in (bits, uniform):
                got = draw(*AT, index, 5, like=x)
                assert isinstance(got, ndarray), name
                np.testing.assert_array_equal(got.on_host, draw(*AT, SAMPLES, 5), strict=True)
            np.testing.assert_allclose(normal(*AT, index, 5, like=x).on_host, normal(*AT, SAMPLES, 5), rtol=0, atol=3e-6)
        assert ndarray.readings == before
        assert normal(*AT, [], 5, like=x).shape == (0, 5)


@pytest.mark.parametrize("draw", [uniform, normal])
@pytest.mark.parametrize("made", ["float32", "float64"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_numbers_are_made_in_and_what_they_are_returned_in(draw, made, dtype):
    with stand_in() as cupy:
        exact = draw(*AT, SAMPLES, 7, dtype=made, like=cupy.asarray(np.zeros(1, made))).on_host
        got = draw(*AT, SAMPLES, 7, dtype=made, like=cupy.asarray(np.zeros(1, of(dtype)))).on_host
        np.testing.assert_array_equal(got, exact.astype(of(dtype)), strict=True)
        launched = _cuda.backend.programs[-1].defines
        if made == "float32" and dtype != "float64":
            assert launched == _cuda.types(dtype)  # in one launch


def test_like_arrays_of_the_host():
    torch = pytest.importorskip("torch")
    for like in (np.zeros(1), torch.zeros(1, dtype=torch.float64)):
        for draw in (uniform, normal):
            got = draw(*AT, SAMPLES, 5, like=like)
            assert got.dtype == like.dtype
            assert type(got) is type(like)
            np.testing.assert_array_equal(np.asarray(got), draw(*AT, SAMPLES, 5).astype(np.float64))
        assert type(bits(*AT, SAMPLES, 5, like=like)) is type(like)


def test_refusals():
    with stand_in() as cupy:
        x = cupy.asarray(np.zeros(1, np.float32))
        for error, text, call in (
            (TypeError, "index has dtype float32; needed integers", lambda: bits(0, 0, 0, x, 1, like=x)),
            (ValueError, r"index has shape \(1, 1\); needed", lambda: bits(0, 0, 0, cupy.asarray([[1]]), 1, like=x)),
            (ValueError, "index runs from -1 to 3", lambda: uniform(0, 0, 0, [-1, 3], 1, like=x)),
            (ValueError, r"count=-1; needed", lambda: uniform(0, 0, 0, [0], -1, like=x)),
            (ValueError, r"seed=-1; needed", lambda: normal(-1, 0, 0, [0], 1, like=x)),
            (TypeError, "dtype is float16; needed float32 or float64", lambda: normal(0, 0, 0, [0], 1, dtype="f2", like=x)),
            (TypeError, "like has dtype int64; needed a real", lambda: normal(0, 0, 0, [0], 1, like=cupy.asarray([1]))),
            (TypeError, "Implicit conversion", lambda: bits(0, 0, 0, cupy.asarray([1]), 1)),
        ):
            with pytest.raises(error, match=text):
                call()


def test_training_needs_no_numba_on_a_gpu():
    code = "import sys; sys.modules['numba'] = None; import numconv.train"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


FAULTS = {
    "nine rounds": ("round < 10", "round < 9"),
    "a step of the key": ("k1 += 0xBB67AE85u", "k1 += 0x9E3779B9u"),
    "the key's upper half dropped": ("k1 = (unsigned)origin.high", "k1 = 0"),
    "block and sample swapped": ("c[0] = block, c[1] = sample", "c[0] = sample, c[1] = block"),
    "epoch and stream swapped": ("epoch, stream;", "stream, epoch;"),
    "words in another order": ("made.at[j] = words[j]", "made.at[j] = words[3 - j]"),
    "a block's last word not written": ("j < 4; ++j) made.at[j] = words[j]", "j < 3; ++j) made.at[j] = words[j]"),
    "a block's last number not written": ("j < PER_BLOCK; ++j) store(made.at[j], z[j])", "j < 3; ++j) store(made.at[j], z[j])"),
    "tail not masked": ("if (first + j < count) row", "row"),
    "tail in one piece": ("count % N == 0", "true"),
    "a row's last number not written": ("first + j < count", "first + j + 1 < count"),
    "the last block not made": ("(g.count + N - 1) / N", "g.count / N"),
    "one block too many": ("t < g.n * blocks", "t <= g.n * blocks"),
    "a grid that does not walk on": ("t += threads()", "t += 1LL << 60"),
    "places in the batch": ("(unsigned)samples[i]", "(unsigned)i"),
    "places of 31 bits": ("(unsigned)samples[i]", "(unsigned)samples[i] & 0x7fffffffu"),
    "halves of a double swapped": ("words[2 * j + 1] << 32 | words[2 * j]", "words[2 * j] << 32 | words[2 * j + 1]"),
    "25 bits": ("(words[j] >> 8) * 0x1p-24f", "(words[j] >> 7) * 0x1p-25f"),
    "half a turn": ("sincospif(2 * turn", "sincospif(turn"),
    "sine and cosine swapped": ("radius * cosine, z[j + 1] = radius * sine", "radius * sine, z[j + 1] = radius * cosine"),
    "the logarithm of u": ("logf(1 - u)", "logf(u)"),
    "the radius of the other number": ("radius_of(z[j])", "radius_of(z[j + 1])"),
}


def run_every_case(path):
    """Hold a source against every case, and exit at the first fault. It may also crash: for a process of its own."""
    philox_cuda.SOURCE, _cuda.MOST_BLOCKS = Path(path), 2
    for kind, dtype in (("bits", ""), ("uniform", "float32"), ("uniform", "float64"), ("normal", "float32")):
        for count, samples in ((16, SAMPLES), (7, SAMPLES), (83, np.arange(100, 137))):
            if found := fault(kind, dtype, count, 0, samples):
                sys.exit(f"caught: {found}")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    plant(tmp_path, run_every_case, _cuda.assembled(philox_cuda.SOURCE.read_text()), FAULTS.get(planted))
