"""Resizing against its definition in fractions, scipy and torch; its pullback by the adjoint identity."""

import doctest
import sys
from fractions import Fraction
from math import floor, prod
from pathlib import Path

import array_api_strict
import numba
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

import numconv
from numconv.resize import geometry, resize, resize_vjp

MODES = ["nearest", "linear", "cubic"]
DTYPES = ["float32", "float64", "strict"]
TAPS = {"nearest": 1, "linear": 2, "cubic": 4}
SIZES = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=3)


def eps(dtype):
    return np.finfo("float64" if dtype == "strict" else dtype).eps


def drawn(dtype, seed, shape):
    a = np.random.default_rng(seed).normal(size=shape)
    a = array_api_strict.asarray(a) if dtype == "strict" else a.astype(dtype)
    return a, np.asarray(a).astype(np.float64)


def kernel(mode, d):
    """h of the docstring, in fractions."""
    d, a = abs(d), Fraction(-3, 4)
    if mode == "linear":
        return max(1 - d, Fraction(0))
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else Fraction(0)


def matrix(mode, size, out):
    """The interpolation matrix by its definition; samples past the ends repeat the last one."""
    m = np.zeros((out, size))
    for p in range(out):
        u = (p + Fraction(1, 2)) * Fraction(size, out) - Fraction(1, 2)
        if mode == "nearest":
            m[p, floor(u + Fraction(1, 2))] = 1
            continue
        for q in range(floor(u) - 1, floor(u) + 3):
            m[p, min(max(q, 0), size - 1)] += float(kernel(mode, u - q))
    return m


def by_matrices(x, sizes, mode, absolute=False):
    first = x.ndim - len(sizes)
    for axis, (n, out) in enumerate(sizes, first):
        m = matrix(mode, n, out)
        x = np.moveaxis(np.tensordot(abs(m) if absolute else m, x, (1, axis)), 0, axis)
    return x


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_bits_on_any_number_of_threads(mode, dtype):
    x, _ = drawn(dtype, 0, (7, 5, 33, 41))
    x = x.transpose(0, 1, 3, 2)
    answers = []
    for n in (1, numba.config.NUMBA_NUM_THREADS):
        with numconv.threads(n):
            y, pullback = resize_vjp(x, (60, 29), mode=mode)
            answers.append((y.tobytes(), pullback(y).tobytes()))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@given(sizes=SIZES, batched=st.booleans(), seed=st.integers(0, 999))
def test_resize_is_its_definition(dtype, mode, sizes, batched, seed):
    gx, x = drawn(dtype, seed, (*(2,) * batched, 3, *(n for n, _ in sizes)))
    y = resize(gx, [out for _, out in sizes], mode=mode)
    expected, magnitude = by_matrices(x, sizes, mode), by_matrices(abs(x), sizes, mode, absolute=True)
    assert y.shape == expected.shape
    assert y.dtype == gx.dtype
    assert type(y) is type(gx)
    if mode == "nearest":
        np.testing.assert_array_equal(np.asarray(y), expected)
    # Per axis, in the given dtype: the weight's rounding, a product, a sum. And before, in float64, eight steps of the weight's
    # polynomial of values below 4, which cancel where it is small; all weights of a sample together are below 1.5 per axis.
    bound = (TAPS[mode] + 3) * eps(dtype) * magnitude + 32 * eps("float64") * TAPS[mode] * 1.5 ** len(sizes) * np.max(abs(x))
    assert np.all(abs(np.asarray(y) - expected) <= len(sizes) * bound)


def check_adjoint(dtype, mode, sizes, seed):
    gx, x = drawn(dtype, seed, (2, 3, *(n for n, _ in sizes)))
    gdy, dy = drawn(dtype, seed + 1, (2, 3, *(out for _, out in sizes)))
    y, pullback = resize_vjp(gx, tuple(out for _, out in sizes), mode=mode)
    dx = pullback(gdy)
    assert dx.shape == gx.shape
    assert dx.dtype == gx.dtype
    assert type(dx) is type(gx)
    np.testing.assert_array_equal(np.asarray(y), np.asarray(resize(gx, tuple(out for _, out in sizes), mode=mode)))
    left, right = np.sum(dy * np.asarray(y).astype(float)), np.sum(np.asarray(dx).astype(float) * x)
    terms = sum(TAPS[mode] + out + 2 for _, out in sizes)
    magnitude = np.sum(abs(dy) * by_matrices(abs(x), sizes, mode, absolute=True))
    assert abs(left - right) <= (terms * eps(dtype) + x.size * dy.size * eps("float64")) * magnitude


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", DTYPES)
@given(sizes=SIZES, seed=st.integers(0, 999))
def test_pullback_is_the_adjoint(dtype, mode, sizes, seed):
    check_adjoint(dtype, mode, sizes, seed)


def test_a_wrong_adjoint_is_caught(monkeypatch):
    right = geometry.resize

    def faulty(*arguments):
        return tuple(m._replace(back_weight=m.back_weight[:, ::-1]) for m in right(*arguments))

    check_adjoint("float64", "linear", [(5, 8)], 0)
    monkeypatch.setattr(geometry, "resize", faulty)
    with pytest.raises(AssertionError):
        check_adjoint("float64", "linear", [(5, 8)], 0)


@given(sizes=SIZES, seed=st.integers(0, 999))
def test_linear_is_that_of_scipy(sizes, seed):
    x = np.random.default_rng(seed).normal(size=[n for n, _ in sizes])
    expected = x
    for axis, (n, out) in enumerate(sizes):  # scipy rounds its own zoomed size, one axis at a time keeps it as asked
        zoom = [out / n if a == axis else 1 for a in range(x.ndim)]
        expected = scipy.ndimage.zoom(expected, zoom, order=1, mode="nearest", grid_mode=True)
    y = resize(x[None], [out for _, out in sizes], mode="linear")[0]
    # scipy's coordinates are floats: off by some eps of their size, and so are its weights.
    assert np.all(abs(y - expected) <= len(sizes) * 64 * eps("float64") * np.max(abs(x)))


TORCH_SIZES = [((5,), (8,)), ((9,), (4,)), ((5, 6), (7, 13)), ((8, 9), (3, 4)), ((3, 4, 5), (6, 3, 7))]
TORCH_WORDS = {"nearest": ["nearest-exact"] * 3, "linear": ["linear", "bilinear", "trilinear"], "cubic": [None, "bicubic", None]}
TORCH_CASES = [(m, TORCH_WORDS[m][len(s) - 1], s, out) for m in MODES for s, out in TORCH_SIZES if TORCH_WORDS[m][len(s) - 1]]


@pytest.mark.parametrize(("mode", "word", "size", "out"), TORCH_CASES)
def test_values_and_gradients_are_those_of_torch(mode, word, size, out):
    torch = pytest.importorskip("torch")
    x = torch.tensor(np.random.default_rng(0).normal(size=(2, 3, *size)), requires_grad=True)
    expected = torch.nn.functional.interpolate(x, out, mode=word, align_corners=None if mode == "nearest" else False)
    dy = torch.tensor(np.random.default_rng(1).normal(size=expected.shape))
    y, pullback = resize_vjp(x.detach(), out, mode=mode)
    assert isinstance(y, torch.Tensor)
    scale = 64 * eps("float64") * max(*size, *out)  # torch's coordinates are floats, off by some eps of their size
    torch.testing.assert_close(y, expected.detach(), rtol=0, atol=scale * float(abs(x.detach()).max()))
    (expected_dx,) = torch.autograd.grad(expected, x, dy)
    torch.testing.assert_close(pullback(dy), expected_dx, rtol=0, atol=scale * prod(out) * float(abs(dy).max()))


@pytest.mark.parametrize("mode", MODES)
def test_constants_stay_and_an_unchanged_size_is_a_copy(mode):
    y = resize(np.full((1, 1, 5, 6), 3.0), (9, 4), mode=mode)
    np.testing.assert_allclose(y, 3.0, rtol=16 * eps("float64"))
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    same, pullback = resize_vjp(x, (4, 5), mode=mode)
    np.testing.assert_array_equal(same, x)
    assert not np.shares_memory(same, x)
    assert not np.shares_memory(pullback(x), x)


@pytest.mark.parametrize("mode", MODES)
def test_nan_and_infinity_stay_local(mode):
    x = np.ones((1, 1, 40))
    x[0, 0, 20] = np.nan
    y, pullback = resize_vjp(x, 80, mode=mode)
    assert np.all(np.isfinite(y[..., :36]))
    assert np.all(np.isfinite(y[..., 46:]))
    assert np.any(np.isnan(y))
    dx = pullback(y)
    assert np.all(np.isfinite(dx[..., :16]))
    assert np.all(np.isfinite(dx[..., 25:]))


def test_an_int_means_all_axes_and_complex_and_half_are_welcome():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    np.testing.assert_array_equal(resize(x, 7, mode="cubic"), resize(x, (7, 7), mode="cubic"))
    z = resize(x + 2j * x, 7, mode="linear")
    np.testing.assert_allclose(z, (1 + 2j) * resize(x, 7, mode="linear"), rtol=1e-14, atol=1e-15)
    assert resize(x.astype(np.float16), 7, mode="cubic").dtype == np.float16


def test_views_and_read_only_arrays_are_taken_and_left_alone():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    view = np.repeat(x, 2, axis=-1)[..., ::2]
    view.setflags(write=False)
    y, pullback = resize_vjp(view, (8, 3), mode="cubic")
    np.testing.assert_array_equal(y, resize(x, (8, 3), mode="cubic"))
    y.setflags(write=False)
    pullback(y)
    np.testing.assert_array_equal(view, x)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((np.ones((1, 1, 4)), 0), ValueError, "size=0; needed one int, or 1 of them .* at least 1"),
        ((np.ones((1, 1, 4)), 2.0), TypeError, "size holds 2.0 of type float; needed an int"),
        ((np.ones((1, 1, 4)), (2, 2, 2)), ValueError, r"x has shape \(1, 1, 4\); with size=\(2, 2, 2\), needed 5 axes .* or 4"),
        ((np.ones((4, 4)), 2), ValueError, r"x has shape \(4, 4\); with size=2, needed 3 to 5 axes: \(batch, channels, \*size\)"),
        ((np.ones((4, 4)), ()), ValueError, r"size=\(\); needed an int, or 1 to 3 of them"),
        ((np.ones((1, 1, 0)), 2), ValueError, r"x has shape \(1, 1, 0\); needed at least one sample on every axis"),
        ((np.ones((1, 1, 4), int), 2), TypeError, "x has dtype int64; needed a floating dtype"),
        (([[[1.0]]], 2), TypeError, "x must be an array"),
    ],
)
def test_refusals(arguments, error, text):
    for door in (resize, resize_vjp):
        with pytest.raises(error, match=text):
            door(*arguments)
    with pytest.raises(ValueError, match="mode='area'; needed 'nearest', 'linear', 'cubic'"):
        resize(np.ones((1, 1, 4)), 2, mode="area")


def test_examples_run():
    assert doctest.testmod(sys.modules["numconv.resize"]).failed == 0
    results = doctest.testfile(str(Path(__file__).parent.parent / "docs" / "resize.md"), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0
