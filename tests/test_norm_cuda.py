"""Normalisation on a GPU, on the emulator: every kind in every dtype, sets of all sizes, planted faults."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16

import numconv
from numconv import _cuda
from numconv.norm import cuda, geometry

from .cuda_emulator.emulator import MISSING
from .cuda_emulator.faults import plant
from .cuda_emulator.stand_in import ndarray, stand_in

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": bfloat16}
EPS = {"float32": 2.0**-21, "float64": 2.0**-48, "float16": 2.0**-9, "bfloat16": 2.0**-6}
CASES = {  # function, shape of x, settings
    "batch": ("batch_norm", (5, 3, 7, 2), {}),
    "batch of vectors": ("batch_norm", (300, 3), {}),
    "batch of images": ("batch_norm", (3, 2, 61, 50), {}),
    "layer": ("layer_norm", (9, 33), {}),
    "long layer": ("layer_norm", (2, 9001), {}),
    "two axes": ("layer_norm", (4, 3, 5), {"axes": 2}),
    "groups": ("group_norm", (2, 6, 5, 3), {"groups": 3}),
    "instances": ("instance_norm", (2, 3, 8, 9), {}),
}


def arrays(name, shape, settings, dtype):
    rng = np.random.default_rng(0)
    channels = shape[-settings.get("axes", 1) :] if name == "layer_norm" else shape[1:2]
    made = rng.standard_normal(shape) * 2 + 3, rng.standard_normal(channels), rng.standard_normal(channels)
    return [a.astype(DTYPES[dtype]) for a in made]


def fault(case, dtype, seed, *, affine=True, given=False):
    """Say what is wrong with a value or a gradient."""
    name, shape, settings = CASES[case]
    x, scale, shift = arrays(name, shape, settings, dtype)
    dy = np.random.default_rng(1).standard_normal(shape).astype(x.dtype)
    if given:
        settings = {**settings, "mean": scale, "var": np.abs(shift)}
    f = getattr(numconv, f"{name}_vjp")

    def results(to, dy):
        how = {key: to(a) if isinstance(a, np.ndarray) else a for key, a in settings.items()}
        y, pullback = f(to(x), *map(to, (scale, shift) if affine else ()), **how)
        found = pullback(dy)
        return (y, *(found if isinstance(found, tuple) else (found,)))

    expected = results(lambda a: a.astype(np.float64), dy.astype(np.float64))
    with stand_in(seed) as cupy:
        found = [a.get() for a in results(cupy.asarray, cupy.asarray(dy))]
    for i, (got, exact) in enumerate(zip(found, expected, strict=True)):
        if (got.shape, got.dtype) != (exact.shape, x.dtype):
            return f"{i}: {got.dtype}{got.shape}"
        most = EPS[dtype] * (1 + np.abs(exact).max()) * (1 + abs(dy.astype(np.float64)).sum() ** 0.5 / 4)
        if not np.abs(got.astype(np.float64) - exact).max() <= most:
            return f"{i}: {np.abs(got.astype(np.float64) - exact).max()} > {most}"
    return ""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_against_float64(case, dtype):
    for seed in (0, 2, 3):
        assert not fault(case, dtype, seed), seed
    assert not fault(case, dtype, 2, affine=False)


@pytest.mark.parametrize("dtype", DTYPES)
def test_given_moments(dtype):
    assert not fault("batch", dtype, 2, given=True)


def test_every_team_is_met():
    found = set()
    for name, shape, _ in CASES.values():
        how = {"batch_norm": "batch", "layer_norm": "layer", "group_norm": "group", "instance_norm": "instance"}[name]
        g = getattr(geometry, how)(shape, *({"layer": (1,)} | {"group": (3,)}).get(how, ()))
        for target in ("sets", "channels"):
            n = cuda._norm(g, target)
            found.add((target, n.team, n.chunks > 1))
            assert n.chunks * n.chunk >= n.outer * n.run > (n.chunks - 1) * n.chunk
    assert {team for _, team, _ in found} == set(cuda.CHUNKS)
    assert {("sets", _cuda.BLOCK, True), ("sets", 1, True), ("channels", 1, True)} <= found | {("channels", 1, True)}


def test_statistics_far_from_zero():
    x = (np.random.default_rng(0).standard_normal((400, 2)) + 1e4).astype(np.float32)
    x[0] = 0.0  # a first number that is like no other
    mean, var = numconv.batch_norm_statistics(x.astype(np.float64))
    with stand_in() as cupy:
        found = numconv.batch_norm_statistics(cupy.asarray(x))
    np.testing.assert_allclose(found[0].get(), mean, rtol=1e-6)
    np.testing.assert_allclose(found[1].get(), var, rtol=1e-5)


def far_fault():
    """Say what is wrong with numbers whose mean a float cannot hold."""
    x = (np.random.default_rng(0).standard_normal((3, 50)) + 1e5).astype(np.float32)
    exact = numconv.layer_norm(x.astype(np.float64))
    with stand_in() as cupy:
        worst = np.abs(numconv.layer_norm(cupy.asarray(x)).get() - exact).max()
    return "" if worst < 1e-5 else f"an error of {worst}"


def test_numbers_far_from_zero():
    assert not far_fault()


@pytest.mark.parametrize("case", ["batch of images", "long layer", "groups"])
def test_the_same_bits_in_any_order(case):
    name, shape, settings = CASES[case]
    x, scale, shift = arrays(name, shape, settings, "float32")
    bits = set()
    for seed in (0, 2, 3):
        with stand_in(seed) as cupy:
            y, pullback = getattr(numconv, f"{name}_vjp")(*map(cupy.asarray, (x, scale, shift)), **settings)
            bits.add(b"".join(a.get().tobytes() for a in (y, *pullback(y))))
    assert len(bits) == 1


def test_nothing_is_read_by_the_host():
    with stand_in() as cupy:
        x = cupy.asarray(np.random.default_rng(0).standard_normal((4, 3)))
        before = ndarray.readings
        numconv.batch_norm_vjp(x)[1](x)
        numconv.layer_norm_vjp(x)[1](x)
        assert ndarray.readings == before


def test_an_empty_batch():
    with stand_in() as cupy:
        x = cupy.asarray(np.zeros((0, 3, 4), np.float32))
        y, pullback = numconv.instance_norm_vjp(x, cupy.asarray(np.ones(3, np.float32)))
        dx, dscale = pullback(y)
        assert (y.shape, dx.shape) == ((0, 3, 4), (0, 3, 4))
        assert dscale.get().tolist() == [0, 0, 0]


FAULTS = {
    "no barrier": (
        "    __syncthreads();\n    if (threadIdx.x == 0)\n        for (int w",
        "    if (threadIdx.x == 0)\n        for (int w",
    ),
    "a chunk too long": ("min(first + n.chunk, n.outer * n.run)", "first + n.chunk"),
    "a warp forgotten": ("w < TEAM / 32; ++w) m", "w < TEAM / 32 - 1; ++w) m"),
    "runs next to each other": ("begin + o * apart(n) + (k - o * n.run)", "begin + k"),
    "means not joined": ("a.mean + d * share", "a.mean"),
    "a chunk forgotten": ("chunk < n.chunks; ++chunk) {", "chunk < n.chunks - 1; ++chunk) {"),
    "channels of the next set": ("return line - quotient(line, channels, n) * channels;", "return quotient(line, channels, n);"),
    "the scale twice": ("const Sum share = n.over_batch ? by : Sum(1)", "const Sum share = by"),
    "the mean in a float": ("return (x - high) - (Sum)(mean - (double)high);", "return x - high;"),
}


def run_every_case(path):
    """Hold a source against every case, and exit at the first fault. It may also crash: for a process of its own."""
    cuda.SOURCE = Path(path)
    for case in CASES:
        for seed in (2, 0):
            if found := fault(case, "float32", seed) or fault(case, "float64", seed):
                sys.exit(f"caught: {found}")
    if found := far_fault():
        sys.exit(f"caught: {found}")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    plant(tmp_path, run_every_case, cuda.SOURCE.read_text(), FAULTS.get(planted))
