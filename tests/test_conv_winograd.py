"""Winograd's convolution on the CPU against `generic` in float64: random geometries, all bases and cuts, bits, NaN, faults."""

from typing import NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracles import normals, rounding_bound
from winograd_form import form

import numconv
from numconv import _jit, threads
from numconv.conv import generic, geometry
from numconv.conv.cpu import direct, gradient, winograd, winograd_gradient, winograd_plan
from numconv.conv.cpu.winograd_tiles import KINDS, tiling

CONTRACTIONS = ("contract_y", "contract_x", "contract_w")


class Case(NamedTuple):
    g: geometry.ConvGeometry
    seed: int


@st.composite
def cases(draw, most_channels=40):
    """Draw geometries that fit, odd ones too: no image, one sample, pads wider than the window, steps over samples."""
    rank = draw(st.sampled_from([1, 2, 2, 2, 3]))
    groups = draw(st.integers(1, 3))
    c_in, c_out = draw(st.integers(1, most_channels)), draw(st.integers(1, most_channels))
    sizes, taps, strides, dilations, pads = [], [], [], [], []
    for axis in range(rank):
        k = draw(st.integers(1, 6 if axis >= rank - 2 else 2))
        stride = draw(st.integers(1, 3))
        dilation = draw(st.integers(1, 3)) if stride == 1 or axis < rank - 2 else 1
        lo, hi = draw(st.integers(0, 4)), draw(st.integers(0, 4))
        least = max(1, dilation * (k - 1) + 1 - lo - hi)
        sizes.append(draw(st.integers(least, least + (20 if axis == rank - 1 else 9 if axis == rank - 2 else 2))))
        taps.append(k), strides.append(stride), dilations.append(dilation), pads.append((lo, hi))
    x_shape, w_shape = (draw(st.integers(0, 3)), groups * c_in, *sizes), (groups * c_out, c_in, *taps)
    g = geometry.conv(x_shape, w_shape, tuple(strides), tuple(pads), tuple(dilations), groups)
    assume(winograd.fits(g))
    return Case(g, draw(st.integers(0, 2**32 - 1)))


def layer(batch, c_in, size, c_out, *, taps=3, stride=1, dilation=1, padding=1, groups=1):
    w_shape = (groups * c_out, c_in, *(taps,) * len(size))
    return geometry.conv((batch, groups * c_in, *size), w_shape, stride, padding, dilation, groups)


def arguments(g, name, x, w, y):
    return {"contract_y": (x, w), "contract_x": (y, w), "contract_w": (x, y)}[name]


def excess(g, name, dtype, seed, m=None):
    """Largest ratio of the error of a contraction to its bound, bias included."""
    x, w, y, bias = normals(seed, g.x_shape, g.w_shape, g.y_shape, (max(g.x_shape[1], g.y_shape[1]),), dtype=dtype)
    given = arguments(g, name, x, w, y)
    bias = () if name == "contract_w" else (bias[: (g.y_shape if name == "contract_y" else g.x_shape)[1]],)
    result = getattr(winograd, name)(*given, g, *bias, m=m)
    assert result.dtype == dtype
    if not result.size:
        return 0.0
    reference = getattr(generic, name)(*(a.astype(np.float64) for a in given), g, *(b.astype(np.float64) for b in bias))
    assert result.shape == reference.shape
    size = form(g, name, m, *(a.astype(np.float64) for a in (x, w, y)), absolute=True)
    size = size + (abs(bias[0]).reshape(-1, *(1,) * (size.ndim - 2)) if bias else 0)
    # In each of four transforms a number is a sum of up to 6 terms, of sums of two, with constants rounded, along two axes.
    t = tiling(g, name == "contract_x", m)
    terms = 4 * 2 * 9 + (t.tiles if name == "contract_w" else t.src_parts * (g.c_out if t.adjoint else g.c_in))
    return float(np.max(abs(result - reference) / rounding_bound(dtype, terms, size)))


@given(case=cases(most_channels=3), m=st.sampled_from([None, 2, 3, 4, 5]))
def test_tilings_are_the_convolution(case, m):
    """The form over their tiles, in NumPy and float64."""
    g = case.g
    x, w, y = normals(case.seed, g.x_shape, g.w_shape, g.y_shape)
    for name in CONTRACTIONS:
        reference = getattr(generic, name)(*arguments(g, name, x, w, y), g)
        most = np.max(form(g, name, m, x, w, y, absolute=True), initial=0)
        np.testing.assert_allclose(form(g, name, m, x, w, y, absolute=False), reference, rtol=0, atol=1e-13 * most)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CONTRACTIONS)
@given(case=cases(), m=st.sampled_from([None, 2, 3, 4, 5]))
def test_contractions_match_the_definition(name, dtype, case, m):
    assert excess(case.g, name, dtype, case.seed, m) <= 1


@pytest.fixture
def small_cuts(monkeypatch):
    """Plan as if caches were tiny, so that small arrays are cut into many chunks, panels and slices."""
    for module, name, value in (
        (winograd_plan, "TILES_AT_LEAST", 4), (winograd_plan, "SAMPLES_BYTES", 0),
        (winograd_plan, "SUMS_BYTES", 0), (winograd_plan, "WEIGHTS_BYTES", 0),
        (winograd_plan, "CHANNELS", 7), (winograd_gradient, "CHUNK_LEAST", 1),
        (winograd_gradient, "CHUNK_MOST", 1 << 17), (winograd_gradient, "SUMS_BYTES", 1 << 14),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    clear_plans()
    yield
    monkeypatch.undo()
    clear_plans()


def clear_plans():
    winograd_plan.plan_of.cache_clear()
    winograd_gradient.plan_of.cache_clear()


CUT = [
    layer(2, 33, (17, 46), 50),
    layer(3, 9, (9, 11), 20, padding=((3, 0), (1, 2)), groups=2),
    layer(2, 11, (18, 31), 21, taps=4, stride=2),
    layer(2, 9, (13, 22), 19, dilation=2, padding=2),
    layer(1, 10, (4, 9, 21), 18),
]


@pytest.mark.usefixtures("small_cuts")
@pytest.mark.parametrize("kept", [0, 1 << 30])
@pytest.mark.parametrize("name", CONTRACTIONS)
def test_contractions_match_the_definition_in_many_cuts(monkeypatch, name, kept):
    monkeypatch.setattr(winograd_plan, "KEPT_BYTES", kept)
    for g in CUT:
        plan = winograd_plan.plan_of(g, 8, False, 2, None)
        assert plan.tasks > 4 * g.groups
        assert (plan.kept > 0) == (kept > 0)
        assert len(winograd_gradient.plan_of(g, 8, None, 2).chunks) > 1
        for dtype in (np.float32, np.float64):
            assert excess(g, name, dtype, 1) <= 1


def test_what_does_not_fit():
    for taps, stride, dilation in ((3, 1, 1), (3, 2, 1), (3, 1, 2), ((3, 1), 1, 1), (5, 1, 1), ((3, 1), (1, 2), 1), (10, 2, 1)):
        taps = taps if isinstance(taps, tuple) else (taps, taps)
        assert winograd.fits(geometry.conv((1, 2, 12, 12), (3, 2, *taps), stride, 2, dilation, 1))
    for taps, stride, dilation in ((1, 1, 1), (6, 1, 1), (2, 2, 1), (3, 2, 2), (11, 2, 1)):
        assert not winograd.fits(geometry.conv((1, 2, 12, 12), (3, 2, taps, taps), stride, 2, dilation, 1))
    assert winograd.fits(geometry.conv((1, 2, 9), (3, 2, 3), 1, 2, 1, 1))
    assert not winograd.fits(geometry.conv((1, 2, 5, 9, 9), (3, 2, 3, 1, 1), 1, 2, 1, 1))


def test_tiles_are_those_that_multiply_least():
    names = [winograd.tile(layer(1, 3, (n, n), 3), "contract_y") for n in (1, 2, 3, 4, 6, 7, 14, 56)]
    two, three, four = "F(2x2, 3x3)", "F(3x3, 3x3)", "F(4x4, 3x3)"
    assert names == [two, two, three, four, three, four, four, four]
    assert winograd.tile(layer(1, 3, (14, 14), 3, taps=4, stride=2), "contract_y") == "F(4x4, 2x2)"
    assert winograd.tile(layer(1, 3, (9,), 3, taps=5), "contract_w") == "F(2, 5)"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("g", [*CUT, layer(1, 70, (37, 41), 36, groups=2)], ids=lambda g: f"{g.x_size} {g.stride} {g.dilation}")
def test_threads_do_not_change_a_bit(g, dtype):
    x, w, y = normals(0, g.x_shape, g.w_shape, g.y_shape, dtype=dtype)
    results = []
    for n in (1, numba.config.NUMBA_NUM_THREADS):
        with threads(n):
            results.append([getattr(winograd, name)(*arguments(g, name, x, w, y), g) for name in CONTRACTIONS])
    for one, many in zip(*results, strict=True):
        np.testing.assert_array_equal(one, many)


def test_order_in_memory_does_not_matter():
    g = layer(2, 9, (8, 11), 10)
    x, w, y = normals(2, g.x_shape, g.w_shape, g.y_shape)
    for name in CONTRACTIONS:
        arrays = arguments(g, name, x, w, y)
        turned = [np.ascontiguousarray(a.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1) for a in arrays]
        np.testing.assert_array_equal(getattr(winograd, name)(*turned, g), getattr(winograd, name)(*arrays, g))


@pytest.mark.usefixtures("small_cuts")
@pytest.mark.parametrize("g", [layer(2, 3, (11, 13), 5), *CUT[1:]], ids=lambda g: f"{g.x_size} {g.stride} {g.dilation}")
def test_results_do_not_depend_on_what_memory_held(monkeypatch, g):
    """Scratch and result memory comes uninitialised: filled with NaN, none of it may show."""
    empty = np.empty

    def unknown(shape, dtype=float):
        memory = empty(shape, dtype)
        memory.reshape(-1).view(np.uint8)[...] = 255
        return memory

    x, w, y = normals(1, g.x_shape, g.w_shape, g.y_shape)
    for name in CONTRACTIONS:
        arrays = arguments(g, name, x, w, y)
        reference = getattr(generic, name)(*arrays, g)
        for m in (2, 4):
            monkeypatch.setattr(np, "empty", unknown)
            _jit._local.memory = None  # kept from call to call: ask anew
            result = getattr(winograd, name)(*arrays, g, m=m)
            monkeypatch.setattr(np, "empty", empty)
            assert np.all(abs(result - reference) <= 1e-11)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize(
    "g", [layer(1, 16, (4, 4), 16, groups=6), layer(1, 32, (2, 2), 32, groups=5), layer(2, 33, (17, 46), 50)]
)
def test_scratch_memory_is_enough(monkeypatch, g):
    """Weights are transformed on more threads than tiles are multiplied on where there are many weights and few products."""
    written = []

    def scratch(size):
        memory = np.full(3 * size + 64, 0xA5, np.uint8)
        start = -memory.ctypes.data % 64
        written.append(memory[start + size :])
        return memory.ctypes.data + start

    monkeypatch.setattr(winograd, "scratch", scratch)
    monkeypatch.setattr(winograd_gradient, "scratch", scratch)
    x, w, y = normals(5, g.x_shape, g.w_shape, g.y_shape, dtype=np.float32)
    with threads(2):
        for name in CONTRACTIONS:
            getattr(winograd, name)(*arguments(g, name, x, w, y), g)
            assert (written[-1] == 0xA5).all()


def test_no_images():
    x, w = np.ones((0, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
    assert numconv.conv2d(x, w, method="winograd").shape == (0, 4, 6, 6)
    for step in numconv.explain(numconv.conv2d, x, w, method="winograd")[:3]:
        assert step.workspace == 0


@given(case=cases())
def test_the_three_are_one_form(case):
    """<y, Y(x, w)> = <x, X(y, w)> = <w, W(x, y)>."""
    g = case.g
    x, w, y = normals(case.seed, g.x_shape, g.w_shape, g.y_shape)
    a = np.sum(y * winograd.contract_y(x, w, g))
    b = np.sum(x * winograd.contract_x(y, w, g))
    c = np.sum(w * winograd.contract_w(x, y, g))
    most = np.sum(abs(y) * generic.contract_y(abs(x), abs(w), g))
    assert max(abs(a - b), abs(a - c)) <= 1e-12 * most


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_the_tiles_that_see_it(odd):
    g = layer(1, 3, (16, 20), 4)
    x, w = normals(3, g.x_shape, g.w_shape)
    clean = winograd.contract_y(x, w, g, m=4)
    x[0, 1, 8, 9] = odd  # under rows 7 to 9 of y and columns 8 to 10: tiles 1 and 2 down, 2 across; their windows see one more
    result = winograd.contract_y(x, w, g, m=4)
    seen = np.zeros(g.y_size[1:], bool)
    seen[4:12, 8:12] = True
    np.testing.assert_array_equal(result[..., ~seen], clean[..., ~seen])
    assert not np.isfinite(result[..., 7:10, 8:11]).any()


@pytest.mark.parametrize("rectify", [True, False])
def test_a_rectifier_cuts_off_what_is_below_zero_and_nothing_else(rectify):
    g = layer(1, 8, (9, 10), 9)
    x, w, b = normals(4, g.x_shape, g.w_shape, (9,), dtype=np.float32)
    x[0, 2, 4, 4] = np.nan
    plain = winograd.contract_y(x, w, g, b)
    assert (plain < 0).any()
    np.testing.assert_array_equal(winograd.contract_y(x, w, g, b, rectify), np.maximum(plain, 0) if rectify else plain)
    plain = winograd.contract_x(plain, w, g)
    np.testing.assert_array_equal(
        winograd.contract_x(winograd.contract_y(x, w, g, b), w, g, None, rectify), np.maximum(plain, 0) if rectify else plain
    )


# Largest error over the largest result in float32, by elements of a tile along a side, as the module's docstring states it.
ERRORS = {4: 5e-7, 5: 2.3e-6, 6: 2.6e-6}


@pytest.mark.parametrize(("m", "r"), [kind for kind in KINDS if kind != (1, 1)])
def test_errors_are_as_stated(m, r):
    g = layer(1, 64, (28, 28), 64, taps=r, padding="same")
    x, w, y = normals(0, g.x_shape, g.w_shape, g.y_shape, dtype=np.float32)
    for name in CONTRACTIONS:
        given = arguments(g, name, x, w, y)
        reference = getattr(generic, name)(*(a.astype(np.float64) for a in given), g)
        error = getattr(winograd, name)(*given, g, m=m) - reference
        plain = getattr(gradient if name == "contract_w" else direct, name)(*given, g) - reference
        assert abs(error).max() / abs(reference).max() <= 2 * ERRORS[m + r - 1]
        assert np.sqrt(np.mean(error**2) / np.mean(plain**2)) <= 2 * winograd.ulps(g, name, m)


def faulty(plan, field, change, of_tiling):
    job = plan.job.copy()
    record = job.view(winograd_plan.JOB.dtype)[0]
    record = record["tiling"] if of_tiling else record
    record[field] = change(record[field])
    return plan._replace(job=job)


@pytest.mark.parametrize(
    ("field", "change", "of_tiling"),
    [
        ("src_first", lambda p: p + 1, True), ("src_size", lambda s: s - 1, True), ("dst_first", lambda p: p - 1, True),
        ("src_parts", lambda p: p[::-1], True), ("kind", lambda k: k[::-1], True), ("all_src", lambda c: c - 1, False),
        ("w_src", lambda s: s + 1, False),
    ],
)  # fmt: skip
def test_planted_faults_are_caught(monkeypatch, field, change, of_tiling):
    g = geometry.conv((2, 9, 9, 22), (8, 9, 3, 4), (1, 2), 1, 1, 1)
    assert excess(g, "contract_y", np.float64, 0) <= 1
    whole = winograd.plan_of
    monkeypatch.setattr(winograd, "plan_of", lambda *args: faulty(whole(*args), field, change, of_tiling))
    assert not excess(g, "contract_y", np.float64, 0) <= 1


def test_estimates_choose_many_channels():
    for name in CONTRACTIONS:
        assert winograd.speedup(layer(4, 64, (56, 56), 64), name) > 1.5
        assert winograd.speedup(layer(4, 64, (28, 28), 64, dilation=2, padding=2), name) > 1.3
        assert winograd.speedup(layer(4, 1, (56, 56), 64), name) < 1
        assert winograd.speedup(layer(4, 1, (56, 56), 1, groups=64), name) < 1
        assert winograd.workspace(layer(4, 64, (56, 56), 64), 4, name, 2) < 16 << 20
