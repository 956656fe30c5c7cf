"""Linear maps along axes on the CUDA emulator, and what is made of them: resizing and adaptive pooling, against float64."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16, finfo

from numconv import _axis_map_cuda, _cuda, _separable, pool, resize, resize_vjp

from .cuda_emulator.emulator import MISSING, Emulator, guarded
from .cuda_emulator.faults import plant
from .cuda_emulator.stand_in import ndarray, stand_in

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SEEDS = (0, 2, 3)
DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": bfloat16}

CASES = {  # shape, axis, size of the answer, entries of a row
    "one_number": ((1,), 0, 1, 1),
    "along_the_last": ((3, 5, 17), 2, 23, 2),
    "within": ((2, 7, 5), 1, 13, 4),
    "first_and_long": ((300, 3), 0, 7, 40),
    "rows": ((19, 1, 31), 1, 3, 1),
    "many": ((2, 3, 11, 13), 2, 9, 3),
}


def drawn(case, dtype):
    """A map of random lists, and an array."""
    shape, axis, out, entries = CASES[case]
    rng = np.random.default_rng(len(case))
    source, weight = rng.integers(0, shape[axis], (entries, out)), rng.uniform(-1, 1, (entries, out))
    return source, weight, rng.uniform(-1, 1, shape).astype(dtype), axis


def fault(case, dtype, seed):
    """Say how one map on the emulator is wrong; nothing if it is right. Inputs are guarded and outputs poisoned."""
    source, weight, x, axis = drawn(case, dtype)
    _cuda.backend = Emulator(seed)
    got = _axis_map_cuda.apply(source, weight, x, axis)
    rows = np.moveaxis(x.astype(np.float64), axis, 0)
    expected, terms = (
        np.moveaxis(np.einsum("kp,kp...->p...", w, of[source]), 0, axis)
        for w, of in ((weight, rows), (np.abs(weight), np.abs(rows)))
    )
    if got.shape != expected.shape or got.dtype != dtype:
        return f"{got.dtype}{got.shape} in place of {expected.shape}"
    unit = 2.0**-53 if dtype == np.float64 else 2.0**-24
    bound = 2 * (len(source) + 2) * unit * terms + float(finfo(dtype).eps) * np.abs(expected) + 1e-7
    wrong = ~(np.abs(got.astype(np.float64) - expected) <= bound)
    return f"{wrong.sum()} of {wrong.size} sums, the first at {np.argwhere(wrong)[0]}" if wrong.any() else ""


@pytest.fixture(autouse=True)
def _backend(monkeypatch):
    monkeypatch.setattr(_cuda, "backend", Emulator())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_against_the_definition(case, dtype):
    for seed in SEEDS:
        assert not fault(case, DTYPES[dtype], seed), f"seed {seed}"


def test_indices_of_64_bits(monkeypatch):
    monkeypatch.setattr(_axis_map_cuda, "program", lambda g, dtype: _axis_map_cuda._program(dtype, True))
    for case in CASES:
        assert not fault(case, np.float32, 2)


class _Sparse(Emulator):
    """Leaves inputs where they are: arrays too large to copy."""

    def contiguous(self, a):
        return a


def test_indices_past_32_bits():
    """In an array of 12 GB that takes memory only where it is touched."""
    try:
        x = guarded((2, 1_500_000_000), np.float32, poisoned=False)
        longest = guarded((3_000_000_000, 1), np.float32, poisoned=False)
    except MemoryError as error:
        pytest.skip(str(error))
    _cuda.backend = _Sparse()
    x[0, 7], x[1, 1_499_999_998] = 2.0, 3.0
    source, weight = np.asarray([[7, 1_499_999_998]]), np.asarray([[0.5, 0.25]])
    np.testing.assert_array_equal(_axis_map_cuda.apply(source, weight, x, 1), [[1.0, 0.0], [0.0, 0.75]])
    longest[2_999_999_999] = 5.0
    np.testing.assert_array_equal(_axis_map_cuda.apply(source * 2 + 3, weight, longest, 0), [[0.0], [1.25]])


def test_when_indices_have_64_bits():
    g = _axis_map_cuda.along((1 << 10,), 1 << 10, (1 << 10,), (2, 2047))
    assert ("WIDE", 0) in _axis_map_cuda.program(g, "float32").defines
    for larger in ({"out": 2048}, {"size": 2048}, {"entries": 1 << 21}):
        assert ("WIDE", 1) in _axis_map_cuda.program(g._replace(**larger), "float32").defines


def test_any_grid_is_enough(monkeypatch):
    monkeypatch.setattr(_cuda, "MOST_BLOCKS", 2)
    monkeypatch.setattr(_cuda, "BLOCK", 48)
    assert not fault("many", np.float32, 0)


def test_the_same_bits_in_any_order():
    answers = set()
    for seed in SEEDS:
        _cuda.backend = Emulator(seed)
        answers.add(_axis_map_cuda.apply(*drawn("first_and_long", np.float32)).tobytes())
    assert len(answers) == 1


def test_lists_are_copied_once():
    source, weight, x, axis = drawn("within", np.float32)
    device, before = _cuda.device(x), _cuda._kept.cache_info().misses
    for _ in range(3):
        _axis_map_cuda.apply(source, weight, x, axis)
    assert _cuda._kept.cache_info().misses == before + 2
    same = _cuda.kept(source, np.int32, device)
    assert same is _cuda.kept(source, np.int32, device)
    assert same is not _cuda.kept(source.copy(), np.int32, device)
    np.testing.assert_array_equal(same, source)


def both_ways(of, x, dy):
    """A function of one axis map and its pullback, on NumPy's float64."""
    y, pullback = of(x.astype(np.float64))
    return y, pullback(dy.astype(np.float64))


FUNCTIONS = {
    "nearest": lambda x: resize_vjp(x, (7, 5), mode="nearest"),
    "linear": lambda x: resize_vjp(x, (7, 17), mode="linear"),
    "cubic": lambda x: resize_vjp(x, (19, 5), mode="cubic"),
    "bins": lambda x: pool.adaptive_avg_pool_vjp(x, (4, 3)),
    "more_bins_than_samples": lambda x: pool.adaptive_avg_pool_vjp(x, (14, 3)),
    "one_axis_stays": lambda x: pool.adaptive_avg_pool_vjp(x, (9, 1)),
    "nothing_changes": lambda x: resize_vjp(x, (9, 11), mode="cubic"),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_doors_on_cupy_arrays(name, dtype):
    rng, of = np.random.default_rng(0), FUNCTIONS[name]
    x = rng.uniform(-1, 1, (2, 3, 9, 11)).astype(DTYPES[dtype])
    dy = rng.uniform(-1, 1, of(x.astype(np.float64))[0].shape).astype(DTYPES[dtype])
    answers = []
    for seed in SEEDS:
        with stand_in(seed) as cupy:
            on_gpu, before = cupy.asarray(x), ndarray.readings
            y, pullback = of(on_gpu)
            dx = pullback(cupy.asarray(dy))
            assert ndarray.readings == before, "a function waits for the GPU"
            assert _cuda.backend.launches == {"nothing_changes": 0, "one_axis_stays": 2}.get(name, 4)
            answers.append((y.get(), dx.get()))
            assert y.dtype == dx.dtype == x.dtype
            assert not np.shares_memory(y.on_host, on_gpu.on_host)
    assert len({(y.tobytes(), dx.tobytes()) for y, dx in answers}) == 1
    tolerance = 8 * float(finfo(x.dtype).eps)  # rounded after each axis; sums of |terms| are at most a few
    for got, expected in zip(answers[0], both_ways(of, x, dy), strict=True):
        np.testing.assert_allclose(got.astype(np.float64), expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_adjoint_identities(name):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (2, 2, 9, 11))
    with stand_in() as cupy:
        y, pullback = FUNCTIONS[name](cupy.asarray(x))
        dy = rng.uniform(-1, 1, y.shape)
        dx = pullback(cupy.asarray(dy)).get()
        assert abs(np.vdot(y.get(), dy) - np.vdot(x, dx)) <= 1e-13 * dy.size


def test_volumes_lines_and_strides():
    rng = np.random.default_rng(0)
    for shape, size in (((2, 3, 5), 9), ((3, 4, 5, 6), (2, 7, 9)), ((0, 2, 5), 3)):
        x = rng.uniform(-1, 1, shape)
        with stand_in(3) as cupy:
            got = resize(cupy.asarray(np.asfortranarray(x)), size, mode="linear").get()
        np.testing.assert_allclose(got, resize(x, size, mode="linear"), rtol=0, atol=1e-15)


def test_a_nan_stays_in_its_windows():
    x = np.arange(12.0)[None, None]
    x[0, 0, 5] = np.nan
    with stand_in() as cupy:
        got = resize(cupy.asarray(x), 24, mode="linear").get()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(resize(x, 24, mode="linear")))


def test_complex_arrays_take_the_definition():
    x = np.random.default_rng(0).uniform(-1, 1, (1, 2, 5)) * (1 + 2j)
    with stand_in() as cupy:
        got = resize(cupy.asarray(x), 9, mode="cubic").get()
        assert _cuda.backend.launches == 0
    np.testing.assert_allclose(got, resize(x, 9, mode="cubic"), rtol=1e-14, atol=1e-14)


def test_the_adjoint_has_the_same_lists():
    m = _separable.axis_map(5, np.zeros((1, 3), int), np.ones((1, 3)))
    assert m.adjoint.source is m.back_source
    assert m.adjoint.adjoint.weight is m.weight


FAULTS = {
    "the first entry alone": ("k < g.entries", "k < 1"),
    "source of another row": ("source[k * out + p] * inner", "source[k * out] * inner"),
    "weights of the transposed list": ("weight[k * out + p]", "weight[p * g.entries + k]"),
    "outer arrays of the answer's size": ("(Index)g.size * inner", "out * inner"),
    "one element past the answer": ("e < g.outer * g.out * g.inner", "e <= g.outer * g.out * g.inner"),
    "a grid that does not walk on": ("e += threads()", "e += 1LL << 60"),
    "inner axes in the same place": ("inner + j;", "inner;"),
}


def run_every_case(path):
    """Hold a source against every case, and exit at the first fault. It may also crash: for a process of its own."""
    _axis_map_cuda.SOURCE, _cuda.MOST_BLOCKS = Path(path), 2
    for case in CASES:
        if found := fault(case, np.float32, 0):
            sys.exit(f"caught: {found}")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    plant(tmp_path, run_every_case, _axis_map_cuda.SOURCE.read_text(), FAULTS.get(planted))
