"""Pooling's CUDA drawer on the emulator: against `generic` in float64, over odd windows, hostile schedules and planted faults."""

from __future__ import annotations

import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16, finfo

from numconv import _cuda, pool
from numconv.pool import cuda, generic, geometry
from numconv.pool.cuda import planes

from .cuda_emulator.emulator import MISSING, Emulator, guarded
from .cuda_emulator.faults import plant
from .cuda_emulator.stand_in import ndarray, stand_in

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SEEDS = (0, 2, 3)
DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": bfloat16}

CASES = {
    "one_of_everything": ((1, 1, 1), (1,), {}),
    "windows_side_by_side": ((2, 3, 9, 11), (2, 2), {}),
    "several_blocks": ((2, 3, 19, 23), (3, 3), {"stride": 1, "padding": "same"}),
    "samples_left_over": ((2, 2, 12, 11), (3, 2), {"stride": (4, 3)}),
    "overlap": ((1, 2, 9, 10), (3, 4), {"stride": (2, 1), "padding": ((1, 2), (0, 3))}),
    "dilated": ((2, 1, 17), (4,), {"stride": 2, "dilation": 3, "padding": ((4, 2),)}),
    "volume": ((2, 5, 6, 7), (2, 3, 2), {"stride": (1, 2, 3), "padding": ((0, 1), (2, 0), (1, 1)), "dilation": (2, 1, 3)}),
    "three_hundred_taps": ((1, 2, 21, 20), (17, 18), {"stride": (3, 1)}),
    "forty_thousand_taps": ((1, 1, 201, 200), (200, 200), {"stride": 1}),
    "reflect": ((2, 2, 5, 4), (4, 3), {"stride": (1, 2), "padding": ((6, 3), (2, 9)), "padding_mode": "reflect"}),
    "symmetric_dilated": ((1, 2, 5, 4), (3, 3), {"stride": 2, "dilation": (2, 3), "padding": 7, "padding_mode": "symmetric"}),
    "replicate": ((2, 1, 3, 6), (3, 3), {"stride": 1, "padding": ((4, 3), (0, 5)), "padding_mode": "replicate"}),
    "circular_and_zeros": ((2, 9, 3), (4, 5), {"stride": (2, 1), "padding": (2, 7), "padding_mode": ("zeros", "circular")}),
    "repeated_alone": (
        (1, 2, 1, 1, 2),
        (2, 3, 3),
        {"stride": 1, "padding": (2, 3, 4), "padding_mode": ("reflect", "replicate", "reflect")},
    ),
}


def geometry_of(case):
    shape, window, how = CASES[case]
    return geometry.pool(
        shape, window, how.get("stride"), how.get("padding", "valid"), how.get("dilation", 1), how.get("padding_mode", "zeros")
    )


def arrays(g, dtype):
    """x, full of equal samples, and its cotangent."""
    rng = np.random.default_rng(0)
    x = rng.integers(-3, 4, g.x_shape) * 0.3
    x[rng.random(g.x_shape) < 0.1] = -np.inf
    x[rng.random(g.x_shape) < 0.02] = np.nan
    return x.astype(dtype), rng.uniform(-1, 1, g.x_shape).astype(dtype), rng.uniform(-1, 1, g.y_shape).astype(dtype)


def wide(a):
    return a.astype(np.float64)


def error(got, expected, terms, count):
    """Say how sums are wrong past the rounding of `count` terms of |terms| in all, and of the result."""
    if got.shape != expected.shape:
        return f"shape {got.shape} in place of {expected.shape}"
    unit = 2.0**-53 if got.dtype == np.float64 else 2.0**-24
    tiny = float(finfo(got.dtype).smallest_subnormal)
    bound = 2 * (count + 2) * unit * terms + float(finfo(got.dtype).eps) * np.abs(expected) + tiny
    wrong = ~(np.abs(wide(got) - expected) <= bound)
    return f"{wrong.sum()} of {wrong.size} sums, the first at {np.argwhere(wrong)[0]}" if wrong.any() else ""


def unequal(what, got, expected):
    same = got.shape == expected.shape and np.array_equal(wide(got), wide(expected), equal_nan=True)
    return [] if same else [f"{what}: {got!r} in place of {expected!r}"]


def fault(g, dtype, seed):
    """Say how one of the functions is wrong; nothing if all are right. Inputs are guarded and outputs poisoned."""
    _cuda.backend = Emulator(seed)
    with_ties, x, dy = arrays(g, dtype)
    found = []
    y, indices = generic.max_with_indices(wide(with_ties), g)
    got, winners = cuda.max_with_indices(with_ties, g)
    narrow, taps = cuda.max_with_narrow_indices(with_ties, g)
    for name, a in {"maxima": cuda.max_y(with_ties, g), "maxima with indices": got, "maxima with taps": narrow}.items():
        found += unequal(name, a, y)
        found += [] if a.dtype == dtype else [f"{name} are {a.dtype}"]
    found += unequal("indices", winners, indices) + ([] if winners.dtype == np.int64 else [f"indices are {winners.dtype}"])
    dx, terms = (generic.scatter(a, indices, g) for a in (wide(dy), np.abs(wide(dy))))
    for name, where in {"by index": indices, "by tap": taps}.items():
        found += [f"scatter {name}: {e}" for e in [error(cuda.scatter(dy, where, g), dx, terms, prod(g.window))] if e]
    found += unequal("gather", cuda.gather(x, indices, g), generic.gather(x, indices, g))
    for include_pad in (False, True):
        for name, a in {"mean_y": x, "mean_x": dy}.items():
            expected, terms = (getattr(generic, name)(b, g, include_pad) for b in (wide(a), np.abs(wide(a))))
            e = error(getattr(cuda, name)(a, g, include_pad), expected, terms, prod(g.window) * 2)
            found += [f"{name}, {include_pad}: {e}"] if e else []
    return "; ".join(found)


@pytest.fixture(autouse=True)
def _backend(monkeypatch):
    monkeypatch.setattr(_cuda, "backend", Emulator())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", [case for case in CASES if case != "forty_thousand_taps"])
def test_against_generic(case, dtype):
    for seed in SEEDS if dtype in ("float32", "bfloat16") else SEEDS[1:2]:
        assert not fault(geometry_of(case), DTYPES[dtype], seed), f"seed {seed}"


def test_the_number_of_a_tap_in_few_bytes():
    sizes = {case: cuda.winner_dtype(geometry_of(case)).itemsize for case in CASES}
    assert (sizes["overlap"], sizes["three_hundred_taps"], sizes["forty_thousand_taps"]) == (1, 2, 4)
    g = geometry_of("forty_thousand_taps")
    x = np.random.default_rng(0).permutation(prod(g.x_size)).reshape(g.x_shape).astype(np.float32)
    y, taps = cuda.max_with_narrow_indices(x, g)
    assert taps.dtype == np.int32
    expected = np.asarray([x[0, 0, p : p + 200, :200].max() for p in range(2)]).reshape(g.y_shape)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(cuda.scatter(y, taps, g), x * np.isin(x, y) * np.where(y[0, 0, 0] == y[0, 0, 1], 2, 1))
    assert cuda.winner_dtype(g._replace(window=(1 << 11, 1 << 11, 1 << 11))) == np.int64


@pytest.mark.parametrize("case", ["overlap", "symmetric_dilated", "repeated_alone", "dilated"])
def test_indices_of_64_bits(case, monkeypatch):
    program = cuda._program
    monkeypatch.setattr(cuda, "_program", lambda name, dtype, wide: program(name, dtype, True))
    for seed in SEEDS:
        assert not fault(geometry_of(case), np.float32, seed)


class _Sparse(Emulator):
    """Leaves inputs where they are: arrays too large to copy."""

    def contiguous(self, a):
        return a


@pytest.mark.parametrize(
    ("shape", "window", "stride"), [((1, 1, 3_000_000_000), (2,), 1_499_999_999), ((2, 1, 40_000, 40_000), (2, 1), 39_998)]
)
def test_indices_past_32_bits(shape, window, stride):
    """In an array of 12 GB that takes memory only where it is touched."""
    g = geometry.pool(shape, window, stride, "valid", 1)
    try:
        x = guarded(shape, np.float32, poisoned=False)
    except MemoryError as error:
        pytest.skip(str(error))
    _cuda.backend = _Sparse()
    expected = np.arange(1, prod(g.y_shape) + 1, dtype=np.float32).reshape(g.y_shape)
    at = np.zeros(g.y_shape, np.int64)
    for p in np.ndindex(g.y_shape):
        q = [n * stride for n in p[2:]]
        q[0] += 1  # the second tap wins
        x[(*p[:2], *q)] = expected[p]
        at[p] = np.ravel_multi_index(q, shape[2:])
    y, indices = cuda.max_with_indices(x, g)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(indices, at)
    np.testing.assert_array_equal(cuda.gather(x, indices, g), expected)
    np.testing.assert_array_equal(cuda.mean_y(x, g, True), expected / 2)


def test_when_indices_have_64_bits():
    def wide_program(g):
        return ("WIDE", 1) in cuda.program("maxima", g, "float32").defines

    g = geometry.pool((1, 1, 1 << 10, 1 << 10), (2, 2), None, "valid", 1)
    assert not wide_program(g._replace(lead=(1, 2047)))
    assert wide_program(g._replace(lead=(1, 2048)))
    assert wide_program(g._replace(x_size=(1, 1, 1 << 29)))


def test_division_by_a_product():
    rng = np.random.default_rng(0)
    divisors = [*range(2, 70), *(2**31 - 1 - i for i in range(3)), *rng.integers(2, 1 << 31, 200), *(2**i for i in range(1, 31))]
    for d in map(int, divisors):
        by = _cuda.reciprocal(d)
        near = [m * d + i for m in (0, 1, 7, (1 << 31) // d - 1) for i in (-1, 0, d - 1)]
        for n in [*near, 2**31 - 1, *map(int, rng.integers(0, 1 << 31, 20))]:
            if 0 <= n < 1 << 31:
                assert n * (by & 0xFFFFFFFF) >> 32 + (by >> 32) == n // d, (n, d)
        assert by & 0xFFFFFFFF < 1 << 32
        assert 0 <= by >> 32 < 32


def test_any_grid_is_enough(monkeypatch):
    monkeypatch.setattr(_cuda, "MOST_BLOCKS", 2)
    monkeypatch.setattr(_cuda, "BLOCK", 48)
    assert not fault(geometry_of("several_blocks"), np.float32, 0)


def test_the_same_bits_in_any_order():
    g, answers = geometry_of("symmetric_dilated"), set()
    _, x, dy = arrays(g, np.float32)
    for seed in SEEDS:
        _cuda.backend = Emulator(seed)
        y, taps = cuda.max_with_narrow_indices(x, g)
        answers.add((y.tobytes(), taps.tobytes(), cuda.scatter(dy, taps, g).tobytes(), cuda.mean_x(dy, g, False).tobytes()))
    assert len(answers) == 1


@pytest.mark.parametrize("case", CASES)
def test_adjoint_identities(case):
    g = geometry_of(case)
    if prod(g.window) > 1000:
        return
    _, x, dy = arrays(g, np.float64)
    for include_pad in (False, True):
        forth = np.vdot(cuda.mean_y(x, g, include_pad), dy)
        assert abs(forth - np.vdot(x, cuda.mean_x(dy, g, include_pad))) <= 1e-12 * np.abs(dy).sum()
    y, indices = cuda.max_with_indices(x, g)
    assert abs(np.vdot(y, dy) - np.vdot(x, cuda.scatter(dy, indices, g))) <= 1e-12 * np.abs(dy).sum()


def test_empty_arrays():
    g = geometry.pool((0, 2, 5), 3, 1, 0, 1)
    x, y = np.zeros((0, 2, 5), np.float32), np.zeros((0, 2, 3), np.float32)
    assert cuda.max_y(x, g).shape == cuda.mean_y(x, g, True).shape == (0, 2, 3)
    values, taps = cuda.max_with_narrow_indices(x, g)
    assert cuda.scatter(values, taps, g).shape == cuda.mean_x(y, g, True).shape == (0, 2, 5)
    assert _cuda.backend.launches == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", ["overlap", "volume", "reflect", "circular_and_zeros"])
def test_the_doors_on_cupy_arrays(case, dtype):
    _, window, how = CASES[case]
    with_ties, x, dy = arrays(geometry_of(case), DTYPES[dtype])
    with stand_in(2) as cupy:
        on_gpu, before = cupy.asarray(with_ties), ndarray.readings
        y, pullback = pool.max_pool_vjp(on_gpu, window, **how)
        dx = pullback(cupy.asarray(dy))
        (same, indices), pullback = pool.max_pool_with_indices_vjp(on_gpu, window, **how)
        same_dx = pullback(cupy.asarray(dy))
        mean, pullback = pool.avg_pool_vjp(cupy.asarray(x), window, count_include_pad=False, **how)
        shares = pullback(cupy.asarray(dy))
        assert ndarray.readings == before, "a function waits for the GPU"
        assert _cuda.backend.launches == 6
        got = [a.get() for a in (y, same, indices, dx, same_dx, mean, shares)]
    assert {a.dtype for a in got} == {np.dtype(DTYPES[dtype]), np.dtype(np.int64)}
    y, same, indices, dx, same_dx, mean, shares = got
    (expected, at), pullback = pool.max_pool_with_indices_vjp(wide(with_ties), window, **how)
    assert not unequal("maxima", y, expected) + unequal("maxima", same, expected) + unequal("indices", indices, at)
    tolerance = 4 * float(finfo(DTYPES[dtype]).eps)
    np.testing.assert_allclose(wide(dx), pullback(wide(dy)), rtol=tolerance, atol=20 * tolerance)
    assert not unequal("gradients", same_dx, dx)
    expected, pullback = pool.avg_pool_vjp(wide(x), window, count_include_pad=False, **how)
    np.testing.assert_allclose(wide(mean), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(wide(shares), pullback(wide(dy)), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_unpooling_cupy_arrays(dtype):
    rng = np.random.default_rng(0)
    x = rng.permutation(2 * 7 * 8).reshape(1, 2, 7, 8).astype(DTYPES[dtype])
    with stand_in(3) as cupy:
        y, indices = pool.max_pool_with_indices(cupy.asarray(x), 3, stride=2, padding=1)
        back, pullback = pool.max_unpool_vjp(y, indices.astype(np.int32), 3, output_size=(7, 8), stride=2, padding=1)
        again = pullback(cupy.asarray(x))
        with pytest.raises(ValueError, match="no sample in their own window"):
            pool.max_unpool(y, indices + 1, 3, output_size=(7, 8), stride=2, padding=1)
        y, indices, back, again = (a.get() for a in (y, indices, back, again))
    assert not unequal("samples", again, y)
    assert not unequal("unpooled", back, pool.max_unpool(wide(y), indices, 3, output_size=(7, 8), stride=2, padding=1))
    assert back.dtype == again.dtype == DTYPES[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 3, 1), (3, 5, 9, 7), (2, 1, 7, 9, 11), (0, 2, 4), (1, 1, 2311)])
def test_means_of_planes(shape, dtype, monkeypatch):
    monkeypatch.setattr(_cuda, "MOST_BLOCKS", 4)
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(DTYPES[dtype])
    answers = []
    for seed in SEEDS:
        with stand_in(seed) as cupy:
            y, pullback = pool.global_avg_pool_vjp(cupy.asarray(x))
            dx = pullback(y)
            assert _cuda.backend.launches == (x.size > 0)
            answers.append((y.get(), dx.get()))
    assert len({y.tobytes() for y, _ in answers}) == 1
    y, dx = answers[0]
    assert y.dtype == dx.dtype == x.dtype
    expected, pullback = pool.global_avg_pool_vjp(wide(x))
    assert not error(y, expected, np.abs(wide(x)).mean(axis=tuple(range(2, x.ndim))), 40)  # terms of a thread, then of the block
    np.testing.assert_allclose(wide(dx), pullback(wide(y)), rtol=2 * float(finfo(x.dtype).eps), atol=6e-8)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("q += blockDim.x", "q += blockDim.x + 1"),
        ("i += gridDim.x", "i += g.planes"),
        ("block_sum(sum, scratch)", "warp_sum(sum)"),
    ],
)
def test_planted_faults_in_means_of_planes(old, new, monkeypatch, tmp_path):
    text = planes.SOURCE.read_text()
    assert old in text
    (tmp_path / "planes.cu").write_text(text.replace(old, new))
    monkeypatch.setattr(planes, "SOURCE", tmp_path / "planes.cu")
    monkeypatch.setattr(_cuda, "MOST_BLOCKS", 2)
    x = np.random.default_rng(0).uniform(0, 1, (3, 2, 17, 31)).astype(np.float32)
    assert not np.allclose(planes.means(x), x.mean(axis=(2, 3)))


FAULTS = {
    "pad dropped": (" - (Index)g.pad_lo[axis];", ";"),
    "pad dropped on the way back": ("= r + (Index)g.pad_lo[axis]", "= r"),
    "dilation dropped": ("(Index)g.dilation[1] * k1", "k1"),
    "taps between dilations": ("k * d == far && ", ""),
    "one window past the end": ("Index last = (Index)g.y_size[axis] - 1", "Index last = (Index)g.y_size[axis]"),
    "the last of equals wins": ("value > most", "value >= most"),
    "NaN loses": (" || (value != value && most == most)", ""),
    "a repeated sample counts twice": ("g.index_bytes == 8 && g.mode[axis] != zeros", "false"),
    "the mirror itself twice": ("mode == reflect && q && q != size - 1", "mode == reflect"),
    "taps of two bytes in one": ("((short*)winners)[at] = (short)k", "winners[at] = (unsigned char)k"),
    "padding counts": ("(Sum)taps(p, axis, g).count", "(Sum)g.window[axis]"),
    "one element past the answer": ("e < g.planes * y_volume", "e <= g.planes * y_volume"),
}


def run_every_case(path):
    """Hold a source against every case, and exit at the first fault. It may also crash: for a process of its own."""
    cuda.SOURCE = Path(path)
    for case in CASES:
        if case != "forty_thousand_taps" and (found := fault(geometry_of(case), np.float32, 0)):
            sys.exit(f"caught: {found}")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    plant(tmp_path, run_every_case, cuda.SOURCE.read_text(), FAULTS.get(planted))
