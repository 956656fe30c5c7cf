"""Convolution through Fourier transforms against the definition in float64: windows, passes, strides, threads, memory, faults."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from math import prod

import numba
import numpy as np
import pytest
import scipy.fft
from hypothesis import given
from hypothesis import strategies as st
from oracles import conv_cases, normals

from numconv import threads
from numconv.conv import generic, geometry
from numconv.conv.cpu import fourier, fourier_plan

NAMES = ("contract_y", "contract_x", "contract_w")
CASES = {
    "image": ((2, 1, 61, 70), (1, 1, 9, 12), 1, "same", 1, 1),
    "channels, groups, stride, dilation": ((2, 6, 40, 33), (8, 3, 3, 5), (2, 3), ((1, 2), (0, 4)), (2, 1), 2),
    "depthwise": ((3, 5, 30, 31), (5, 1, 7, 7), 1, "full", 1, 5),
    "volume": ((1, 2, 13, 20, 17), (3, 2, 4, 3, 5), (1, 2, 1), 1, (1, 1, 2), 1),
    "signal": ((2, 1, 3000), (2, 1, 150), 1, "valid", 1, 1),
    "stride beyond the window": ((1, 2, 400), (3, 2, 4), 9, 0, 1, 1),
}


def geometry_of(case):
    return geometry.conv(case["x_shape"], case["w_shape"], case["stride"], case["pads"], case["dilation"], case["groups"])


def arguments(g, dtype, seed=0):
    """Arguments of the three contractions, in the order of NAMES: two arrays, and the bias where there is one."""
    x, w, y, b_y, b_x = normals(seed, g.x_shape, g.w_shape, g.y_shape, g.y_shape[1:2], g.x_shape[1:2], dtype=dtype)
    return (x, w, b_y), (y, w, b_x), (x, y)


def worst_excess(g, dtype, seed=0):
    """Largest ratio of an error to eps * log2(n) * (norm * norm + norm of bias), against `generic` in float64."""
    worst = 0.0
    for name, (first, second, *bias) in zip(NAMES, arguments(g, dtype, seed), strict=True):
        result = getattr(fourier, name)(first, second, g, *bias)
        reference = getattr(generic, name)(*(a.astype(np.float64) for a in (first, second)), g, *bias)
        assert result.dtype == dtype
        assert result.shape == reference.shape
        samples = prod(fourier.plan(g, first.itemsize, name).size)
        norms = np.linalg.norm(first) * np.linalg.norm(second) + sum(map(np.linalg.norm, bias))
        bound = np.finfo(dtype).eps * np.log2(samples + 1) * norms
        worst = max(worst, float(np.max(abs(result - reference), initial=0.0)) / bound)
    return worst


@pytest.fixture
def small_plans(monkeypatch):
    """Plan as if memory were scarce: the smallest windows, one row a pass, and tasks of few windows."""

    def plan_with(held, step):
        monkeypatch.setattr(fourier_plan, "HELD_BYTES", held)
        monkeypatch.setattr(fourier_plan, "TASK_BYTES", 1 << 10)
        monkeypatch.setattr(fourier_plan, "_sizes", lambda outputs, taps: np.array([taps + min(step, outputs) - 1]))
        fourier.plan.cache_clear()

    yield plan_with
    monkeypatch.undo()
    fourier.plan.cache_clear()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(case=conv_cases(max_size=20, max_taps=6))
def test_contractions_match_the_definition(dtype, case):
    g = geometry_of(case)
    assert fourier.fits(g)
    assert worst_excess(g, dtype, case["seed"]) <= 1


@pytest.mark.parametrize("case", [*CASES.values(), ((2, 3, 90, 90), (3, 1, 31, 5), 1, "same", 1, 3)])
def test_as_the_planner_has_it(case):
    """Several groups or channels, windows and images in one task."""
    assert worst_excess(geometry.conv(*case), np.float32) <= 1


def test_images_of_a_batch_do_not_disturb_each_other():
    """Two windows share a transform, but never two images: rounding errors of large numbers stay where those are."""
    g = geometry.conv((3, 1, 33, 35), (1, 1, 9, 9), 1, "same", 1, 1)
    (x, w, _), (y, _, _), _ = arguments(g, np.float32)
    for name, a in (("contract_y", x), ("contract_x", y)):
        alone = getattr(fourier, name)(a, w, g)
        a[1] *= 1e20
        np.testing.assert_array_equal(getattr(fourier, name)(a, w, g)[::2], alone[::2])


@pytest.mark.parametrize("step", [3, 8])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_borders_of_windows_and_passes_do_not_show(case, step, small_plans):
    g = geometry.conv(*case)
    small_plans(1 << 20, step)
    assert all(prod(fourier.plan(g, 8, name).blocks) > 3 for name in NAMES)
    assert worst_excess(g, np.float64) <= 1
    held = 1 << 10  # then as little as will do: one group and one row of spectra at a time
    small_plans(held, step)
    while not fourier.fits(g):
        held *= 2
        small_plans(held, step)
    assert fourier.plan(g, 8, "contract_w").groups == 1
    assert worst_excess(g, np.float64) <= 1


def test_what_memory_cannot_hold_does_not_fit(small_plans):
    g = geometry.conv(*CASES["image"])
    assert fourier.fits(g)
    small_plans(100, 4)
    assert not fourier.fits(g)
    assert fourier.cost(g, 8, "contract_y") == float("inf")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_threads_do_not_change_a_bit(case, name, dtype, small_plans):
    g = geometry.conv(*case)
    small_plans(1 << 20, 8)
    given_to = dict(zip(NAMES, arguments(g, dtype), strict=True))[name]
    results = []
    for n in (1, numba.config.NUMBA_NUM_THREADS):
        with threads(n):
            results.append(getattr(fourier, name)(*given_to[:2], g, *given_to[2:]))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_image_too_small_to_cut_and_threads(name, dtype):
    """As the planner has it, without small windows: 600 x 500 in a few of them."""
    g = geometry.conv((1, 1, 600, 500), (1, 1, 21, 21), 1, "same", 1, 1)
    first, second, *bias = dict(zip(NAMES, arguments(g, dtype), strict=True))[name]
    results = []
    for n in (1, numba.config.NUMBA_NUM_THREADS):
        with threads(n):
            results.append(getattr(fourier, name)(first, second, g, *bias))
    np.testing.assert_array_equal(*results)


def test_results_do_not_depend_on_what_memory_held(monkeypatch):
    g = geometry.conv(*CASES["channels, groups, stride, dilation"])
    expected = [getattr(fourier, name)(*a[:2], g, *a[2:]) for name, a in zip(NAMES, arguments(g, np.float64), strict=True)]
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.full(shape, np.nan, dtype))
    results = [getattr(fourier, name)(*a[:2], g, *a[2:]) for name, a in zip(NAMES, arguments(g, np.float64), strict=True)]
    for result, reference in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, reference)


def test_an_empty_batch():
    g = geometry.conv((0, 2, 30), (3, 2, 5), 1, "same", 1, 1)
    (x, w, b_y), (y, _, b_x), _ = arguments(g, np.float32)
    assert fourier.contract_y(x, w, g, b_y).shape == g.y_shape
    assert fourier.contract_x(y, w, g, b_x).shape == g.x_shape
    np.testing.assert_array_equal(fourier.contract_w(x, y, g), np.zeros(g.w_shape, np.float32))


def test_arrays_of_any_layout():
    g = geometry.conv((2, 3, 30, 20), (4, 3, 5, 5), 1, "same", 1, 1)
    (x, w, b), _, _ = arguments(g, np.float64)
    turned = np.ascontiguousarray(x.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1)
    frozen = w.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(fourier.contract_y(turned, frozen, g, b), fourier.contract_y(x, w, g, b))


@given(
    size=st.integers(1, 70_000),
    place=st.integers(0, 69_999),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_finite_sees_every_number(size, place, bad, dtype):
    a = np.full(size, np.finfo(dtype).max, dtype)
    assert fourier.finite(a)
    a[place % size] = bad
    assert not fourier.finite(a)
    with threads(1):
        assert not fourier.finite(a)


def test_finite_of_nothing_and_of_views():
    assert fourier.finite(np.empty((0, 3)))
    a = np.zeros((6, 8))
    a[:, 1] = np.nan
    assert fourier.finite(a[:, ::2])
    assert not fourier.finite(a.T)


def test_long_windows_cost_less_than_the_definition():
    """The estimate must rank, against 80 GFLOP/s in float32 and 40 in float64: many taps belong here, few do not."""
    for size, taps, itemsize, better in (
        ((1024, 1024), (63, 63), 4, True),
        ((1024, 1024), (3, 3), 4, False),
        ((1_000_000,), (8192,), 8, True),
        ((1_000_000,), (16,), 8, False),
        ((64,), (9,), 4, False),
    ):
        g = geometry.conv((1, 1, *size), (1, 1, *taps), 1, "same", 1, 1)
        for name in NAMES:
            assert (fourier.cost(g, itemsize, name) < g.flops * itemsize * 3e-12) is better


MEMORY = """
import resource, sys
import numpy as np
from numconv.conv import geometry
from numconv.conv.cpu import fourier, fourier_plan
name = sys.argv[1]
def arguments(size, taps):
    g = geometry.conv((1, 1, size, size), (1, 1, taps, taps), 1, "same", 1, 1)
    arrays = {"x": np.ones(g.x_shape), "w": np.ones(g.w_shape), "y": np.ones(g.y_shape)}
    return g, [arrays[a] for a in {"contract_y": "xw", "contract_x": "yw", "contract_w": "xy"}[name]]
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
g, a = arguments(300, 9)
getattr(fourier, name)(*a, g)
g, a = arguments(4096, 63)
before = peak()
result = getattr(fourier, name)(*a, g)
print(peak() - before - result.nbytes, fourier.workspace(g, 8, name))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux counts peak memory in KiB")
@pytest.mark.parametrize("name", NAMES)
def test_memory_stays_within_the_workspace_stated(name):
    """A float64 image of 4096 x 4096, 63 x 63 taps: 134 MB in and out, and of scratch no more than is said."""
    done = subprocess.run([sys.executable, "-c", MEMORY, name], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    used, stated = map(int, done.stdout.split())
    assert used <= stated + (16 << 20)  # 16 MiB for what allocators keep back
    assert stated <= 100 << 20


def shifted(of, by):
    """A plan whose windows give more outputs than are whole, or whose tasks skip one."""
    return lambda *args: (p := of(*args))._replace(**by(p))


def test_transforms_that_do_not_overwrite(monkeypatch):
    """SciPy may return a new array, whatever it is allowed to overwrite."""
    g = geometry.conv(*CASES["channels, groups, stride, dilation"])
    expected = [getattr(fourier, name)(*a[:2], g) for name, a in zip(NAMES, arguments(g, np.float64), strict=True)]
    for name in ("fft", "ifft"):
        transform = getattr(scipy.fft, name)
        monkeypatch.setattr(scipy.fft, name, lambda a, f=transform, **how: f(a, **{**how, "overwrite_x": False}))
    results = [getattr(fourier, name)(*a[:2], g) for name, a in zip(NAMES, arguments(g, np.float64), strict=True)]
    for result, reference in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, reference)


@pytest.mark.parametrize("case", ["image", "channels, groups, stride, dilation"])
def test_overflow_is_not_finite_and_does_not_warn(case, small_plans):
    g = geometry.conv(*CASES[case])
    small_plans(1 << 20, 8)
    for name, (first, second, *bias) in zip(NAMES, arguments(g, np.float32), strict=True):
        assert not np.isfinite(getattr(fourier, name)(first * np.float32(1e30), second * np.float32(1e30), g, *bias)).all()


def test_calls_in_threads_of_the_caller(small_plans):
    """Whoever calls from several threads at once gets the same bits."""
    g = geometry.conv(*CASES["image"])
    small_plans(1 << 20, 8)
    given_to = arguments(g, np.float32)[0]
    expected = fourier.contract_y(*given_to[:2], g)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: fourier.contract_y(*given_to[:2], g), range(16)):
            np.testing.assert_array_equal(result, expected)


FAULTS = {
    "one output too many": lambda p: {"step": (*p.step[:2], p.step[2] + 1)},
    "a window too few": lambda p: {"blocks": (*p.blocks[:2], p.blocks[2] - 1)},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_planted_faults_are_caught(fault, small_plans, monkeypatch):
    g = geometry.conv(*CASES["image"])
    small_plans(1 << 20, 8)
    assert worst_excess(g, np.float64) <= 1
    monkeypatch.setattr(fourier, "plan", shifted(fourier.plan, fault))
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float: np.zeros(shape, dtype))
    assert worst_excess(g, np.float64) > 1
