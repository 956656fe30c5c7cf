"""Locally connected convolution against loops over positions, torch and JAX, its drawers against each other, its gradients."""

import ctypes
import doctest
import sys
from itertools import product
from pathlib import Path

import array_api_strict
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import conv_cases, normals, rounding_bound
from test_conv_guarded import Guarded
from test_conv_guarded import cases as guarded_cases

from numconv import _jit, conv, conv_local, conv_local_vjp
from numconv.conv import geometry, local_generic
from numconv.conv.cpu import local

DRAWERS = ["float32", "float64", "strict"]
LIBRARY = {"strict": array_api_strict.asarray, "float32": np.float32, "float64": np.float64}


def loop_conv_local(x, w, b, *, stride, pads, dilation, groups):
    """Sum each window by itself, with its own weights."""
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    rank = len(stride)
    c_in, per_group, taps, out = w.shape[1], w.shape[0] // groups, w.shape[2 : 2 + rank], w.shape[2 + rank :]
    y = np.empty((x.shape[0], w.shape[0], *out))
    for n, o, p in product(range(x.shape[0]), range(w.shape[0]), product(*map(range, out))):
        window = tuple(slice(s * i, s * i + d * (k - 1) + 1, d) for s, i, d, k in zip(stride, p, dilation, taps, strict=True))
        group = o // per_group
        y[(n, o, *p)] = (x[(n, slice(group * c_in, (group + 1) * c_in), *window)] * w[(o, ..., *p)]).sum()
    return y if b is None else y + b


def geometry_of(case):
    return geometry.conv(*(case[name] for name in ("x_shape", "w_shape", "stride", "pads", "dilation", "groups")))


def arguments_of(case):
    return {"stride": case["stride"], "padding": case["pads"], "dilation": case["dilation"], "groups": case["groups"]}


def arrays_of(case, dtype):
    """x, w, b and dy."""
    g = geometry_of(case)
    return normals(case["seed"], g.x_shape, (*g.w_shape, *g.y_shape[2:]), g.y_shape[1:], g.y_shape, dtype=dtype)


@pytest.mark.parametrize("drawer", DRAWERS)
@given(case=conv_cases(max_channels=4, max_size=9, max_taps=3), biased=st.booleans())
def test_outputs_are_sums_over_windows(drawer, case, biased):
    dtype = "float64" if drawer == "strict" else drawer
    x, w, b, _ = arrays_of(case, dtype)
    arguments = {"stride": case["stride"], "pads": case["pads"], "dilation": case["dilation"], "groups": case["groups"]}
    wide = [a.astype(float) for a in (x, w, b if biased else np.zeros_like(b))]
    expected, magnitude = loop_conv_local(*wide, **arguments), loop_conv_local(*map(abs, wide), **arguments)
    given_x, given_w, given_b = (LIBRARY[drawer](a) for a in (x, w, b))
    y = conv_local(given_x, given_w, given_b if biased else None, **arguments_of(case))
    assert type(y) is type(given_x)
    assert y.dtype == given_x.dtype
    assert y.shape == expected.shape
    bound = rounding_bound(dtype, w[0].size // expected[0, 0].size, magnitude)
    assert np.all(abs(np.asarray(y) - expected) <= bound)
    alone = conv_local(given_x[0, ...], given_w, given_b if biased else None, **arguments_of(case))
    assert np.all(abs(np.asarray(alone) - expected[0]) <= bound[0])


@pytest.mark.parametrize("drawer", DRAWERS)
@given(case=conv_cases(max_channels=4, max_size=9, max_taps=3))
def test_gradients_are_those_of_a_trilinear_form(drawer, case):
    """<dy, y(x, w)> = <dx, x> = <dw, w>, for x and w apart from those at which the gradients were taken."""
    dtype = "float64" if drawer == "strict" else drawer
    x, w, b, dy = arrays_of(case, dtype)
    _, pullback = conv_local_vjp(*(LIBRARY[drawer](a) for a in (x, w, b)), **arguments_of(case))
    dx, dw, db = (np.asarray(a).astype(float) for a in pullback(LIBRARY[drawer](dy)))
    x, w, b, dy = (a.astype(float) for a in (x, w, b, dy))
    arguments = {"stride": case["stride"], "pads": case["pads"], "dilation": case["dilation"], "groups": case["groups"]}
    total = np.sum(dy * loop_conv_local(x, w, None, **arguments))
    magnitude = np.sum(abs(dy) * loop_conv_local(abs(x), abs(w), None, **arguments))
    bound = rounding_bound(dtype, w.size // w.shape[1] + x.shape[0], magnitude)
    bound += rounding_bound("float64", x.size + w.size, magnitude)
    assert dx.shape == x.shape
    assert dw.shape == w.shape
    assert abs(total - np.sum(dx * x)) <= bound
    assert abs(total - np.sum(dw * w)) <= bound
    assert np.all(abs(db - dy.sum(axis=0)) <= rounding_bound(dtype, dy.shape[0], abs(dy).sum(axis=0)))


@pytest.mark.parametrize("drawer", ["float64", "strict"])
@given(case=conv_cases(max_channels=3, max_size=6, max_taps=3))
def test_gradients_by_central_differences(drawer, case):
    """The value is linear in each argument, so differences are exact but for rounding, at any step."""
    x, w, b, dy = arrays_of(case, "float64")
    _, pullback = conv_local_vjp(*(LIBRARY[drawer](a) for a in (x, w, b)), **arguments_of(case))
    gradients = [np.asarray(a) for a in pullback(LIBRARY[drawer](dy))]
    directions = normals(case["seed"] + 1, x.shape, w.shape, b.shape)
    arguments = arguments_of(case)
    size = np.sum(abs(dy) * conv_local(*(abs(a) + abs(v) for a, v in zip((x, w, b), directions, strict=True)), **arguments))
    for i, (v, gradient) in enumerate(zip(directions, gradients, strict=True)):
        ends = []
        for step in (0.5, -0.5):
            moved = [LIBRARY[drawer](a + step * v if j == i else a) for j, a in enumerate((x, w, b))]
            ends.append(np.sum(dy * np.asarray(conv_local(*moved, **arguments))))
        assert abs(ends[0] - ends[1] - np.sum(gradient * v)) <= rounding_bound("float64", 8 * (x.size + w.size), size)


LARGE = [  # x_shape, w_shape, stride, pads, dilation, groups: several blocks of positions, images, channels and terms
    ((11, 6, 40, 33), (36, 3, 3, 2), (2, 1), ((1, 1), (1, 2)), (1, 3), 2),
    ((2, 3, 1100), (3, 3, 7), (1,), ((5, 5),), (2,), 1),
    ((9, 1, 700), (17, 1, 5), (3,), ((9, 9),), (2,), 1),
    ((18, 20, 40), (3, 20, 1), (2,), ((0, 1),), (1,), 1),
    ((3, 2, 12, 13), (2, 2, 5, 5), (1, 2), ((2, 2), (7, 0)), (1, 1), 1),
    ((3, 2, 6, 9, 17), (2, 1, 2, 3, 3), (1, 1, 1), ((1, 1),) * 3, (1, 1, 2), 2),
]
LARGE = [dict(zip(("x_shape", "w_shape", "stride", "pads", "dilation", "groups"), case, strict=True)) for case in LARGE]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", LARGE)
def test_kernels_agree_with_generic(dtype, case):
    case = {**case, "seed": 0}
    g = geometry_of(case)
    x, w, b, dy = arrays_of(case, dtype)
    for name, arrays in (("contract_y", (x, w, g, b)), ("contract_x", (dy, w, g)), ("contract_w", (x, dy, g))):
        y = getattr(local, name)(*arrays)
        wide = [a if a is g else a.astype(float) for a in arrays]
        expected = getattr(local_generic, name)(*wide)
        magnitude = getattr(local_generic, name)(*(a if a is g else abs(a) for a in wide))
        assert y.dtype == dtype
        assert np.all(abs(y - expected) <= rounding_bound(dtype, 36 * 18, magnitude))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", LARGE)
def test_threads_and_scratch_memory_do_not_show(dtype, case):
    x, w, b, dy = arrays_of({**case, "seed": 1}, dtype)
    answers = []
    before = numba.get_num_threads()
    for threads, byte in ((1, 0xFF), (min(2, numba.config.NUMBA_NUM_THREADS), 0x00)):  # all bits set is NaN
        numba.set_num_threads(threads)
        try:
            ctypes.memset(_jit.scratch(1 << 21), byte, 1 << 21)
            y, pullback = conv_local_vjp(x, w, b, **arguments_of(case))
            gradients = []
            for name in ("x", "w", "b"):
                ctypes.memset(_jit.scratch(1 << 21), byte, 1 << 21)
                gradients.append(pullback(dy, wrt=name))
            answers.append([a.tobytes() for a in (y, *gradients)])
        finally:
            numba.set_num_threads(before)
    assert answers[0] == answers[1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="protects pages by Linux's mprotect")
@given(case=guarded_cases())
@settings(max_examples=40)
def test_nothing_beside_the_arrays_is_touched(case):
    g, memory = case.g, Guarded(case.at_end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "empty", memory.array)
        patch.setattr(local, "scratch", memory.scratch)
        given_arrays = []
        shapes = (g.x_shape, (*g.w_shape, *g.y_shape[2:]), g.y_shape, g.y_shape[1:])
        for a in normals(case.seed, *shapes, dtype=case.dtype):
            given_arrays.append(memory.array(a.shape, a.dtype))
            given_arrays[-1][...] = a
        x, w, y, b = given_arrays
        for name, arrays in (("contract_y", (x, w, g, b)), ("contract_x", (y, w, g)), ("contract_w", (x, y, g))):
            result = getattr(local, name)(*arrays)
            expected = getattr(local_generic, name)(*(a if a is g else a.astype(np.float64) for a in arrays))
            np.testing.assert_allclose(result, expected, rtol=0, atol=1e-3 if case.dtype == np.float32 else 1e-10)
            del result
    del x, w, y, b, arrays, given_arrays
    memory.release()


def test_the_same_weights_everywhere_are_a_convolution():
    x, w = normals(0, (2, 4, 9, 10), (6, 2, 3, 3))
    expected = conv(x, w, stride=2, padding="same", groups=2, precision="highest")
    local_w = np.broadcast_to(w[..., None, None], (*w.shape, *expected.shape[2:]))
    y = conv_local(x, local_w, stride=2, padding="same", groups=2)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)


def test_a_nan_reaches_its_own_windows_only():
    x, w = np.zeros((1, 1, 40)), np.ones((1, 1, 3, 40))
    x[0, 0, 20] = np.nan
    y, pullback = conv_local_vjp(x, w, padding="same")
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(y)), [19, 20, 21])
    dw = pullback(np.ones_like(y), wrt="w")
    np.testing.assert_array_equal(np.argwhere(np.isnan(dw[0, 0])), [[0, 21], [1, 20], [2, 19]])
    dy = np.zeros_like(y)
    dy[0, 0, 0] = np.nan
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(pullback(dy, wrt="x"))), [0, 1])


@pytest.mark.parametrize("library", [np.asarray, array_api_strict.asarray])
def test_integers_are_exact_and_no_images_are_none(library):
    x, w = np.arange(6).reshape(1, 1, 6), np.arange(10).reshape(1, 1, 2, 5)
    y = conv_local(library(x), library(w))
    np.testing.assert_array_equal(np.asarray(y), [[[w[0, 0, 0, p] * p + w[0, 0, 1, p] * (p + 1) for p in range(5)]]])
    empty, pullback = conv_local_vjp(library(np.ones((0, 1, 6))), library(w.astype(float)))
    assert empty.shape == (0, 1, 5)
    dx, dw = pullback(empty)
    assert dx.shape == (0, 1, 6)
    np.testing.assert_array_equal(np.asarray(dw), np.zeros(w.shape))


def test_views_and_read_only_arrays_are_taken_and_left_alone():
    x, w, dy = normals(0, (2, 3, 6, 7), (4, 3, 3, 3, 4, 5), (2, 4, 4, 5))
    y, pullback = conv_local_vjp(x, w)
    views = [np.asfortranarray(a) for a in (x, w, dy)]
    for view in views:
        view.setflags(write=False)
    z, back = conv_local_vjp(*views[:2])
    np.testing.assert_array_equal(z, y)
    for a, e in zip(back(views[2]), pullback(dy), strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize(
    ("error", "message", "arrays", "arguments"),
    [
        (ValueError, r"w has shape \(1, 1, 3\); needed 4, 6 or 8 axes", [(1, 1, 5), (1, 1, 3)], {}),
        (ValueError, r"w has shape \(1, 1, 3, 4\); the other arguments make it \(1, 1, 3, 3\)", [(1, 1, 5), (1, 1, 3, 4)], {}),
        (ValueError, r"b has shape \(1,\); needed \(1, 3\)", [(1, 1, 5), (1, 1, 3, 3), (1,)], {}),
        (ValueError, "x has 2 channels", [(1, 2, 5), (1, 1, 3, 3)], {}),
        (ValueError, "w spans .7,. samples", [(1, 1, 5), (1, 1, 3, 3)], {"dilation": 3}),
        (ValueError, "stride=0; needed", [(1, 1, 5), (1, 1, 3, 3)], {"stride": 0}),
    ],
)
def test_refusals(error, message, arrays, arguments):
    with pytest.raises(error, match=message):
        conv_local(*map(np.ones, arrays), **arguments)


def test_values_and_gradients_are_those_of_torch():
    """PyTorch has none: unfold, and sum with weights; its gradients."""
    torch = pytest.importorskip("torch")
    x, w, dy = (torch.tensor(a, requires_grad=True) for a in normals(0, (2, 3, 9, 10), (4, 3, 3, 3, 5, 5), (2, 4, 5, 5)))
    columns = torch.nn.functional.unfold(x, 3, stride=2, padding=1).reshape(2, 3, 3, 3, 5, 5)
    expected = torch.einsum("nikluv,oikluv->nouv", columns, w)
    for take in (lambda a: a.detach().numpy(), lambda a: a.detach()):
        y, pullback = conv_local_vjp(take(x), take(w), stride=2, padding=1)
        np.testing.assert_allclose(y, expected.detach(), rtol=0, atol=1e-12)
        for found, wanted in zip(pullback(take(dy)), torch.autograd.grad(expected, (x, w), dy, retain_graph=True), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_values_are_those_of_jax():
    jax = pytest.importorskip("jax")
    x, w = normals(0, (2, 3, 9, 10), (4, 3, 3, 2, 5, 9), dtype=np.float32)
    expected = jax.lax.conv_general_dilated_local(
        x, w.reshape(4, 18, 5, 9), window_strides=(2, 1), padding=((1, 1), (0, 0)), filter_shape=(3, 2)
    )
    np.testing.assert_allclose(conv_local(x, w, stride=(2, 1), padding=(1, 0)), expected, rtol=0, atol=1e-4)


def test_examples_on_the_page_run():
    results = doctest.testfile(str(Path(__file__).parent.parent / "docs" / "conv_local.md"), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0
