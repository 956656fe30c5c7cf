"""Padding and cropping against numpy.pad and torch, its pullback by the adjoint identity, in several libraries."""

import doctest
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numconv import _border, _extend, pad, pad_vjp

NUMPY = {"zeros": "constant", "reflect": "reflect", "symmetric": "symmetric", "replicate": "edge", "circular": "wrap"}
LIBRARIES = {"numpy": np.asarray, "strict": array_api_strict.asarray}


@st.composite
def cases(draw):
    """A shape, and padding with a mode for some of its last axes."""
    rank = draw(st.integers(1, 4))
    axes = []
    for _ in range(rank):
        size = draw(st.integers(1, 6))
        lo, hi = draw(st.integers(-size, 9)), draw(st.integers(-size, 9))
        axes.append((size, (lo, max(hi, 1 - size - lo)), draw(st.sampled_from(_border.MODES))))
    size, padding, mode = map(list, zip(*axes, strict=True))
    return (*draw(st.lists(st.integers(0, 3), max_size=2)), *size), padding, mode


def padded(x, padding, mode, value):
    """x padded by NumPy one axis after another, and cropped after that."""
    for axis, ((lo, hi), word) in enumerate(zip(padding, mode, strict=True), x.ndim - len(padding)):
        widths = [(0, 0)] * axis + [(max(lo, 0), max(hi, 0))] + [(0, 0)] * (x.ndim - axis - 1)
        constant = {"constant_values": value} if word == "zeros" else {}
        if x.size:
            whole = np.pad(x, widths, NUMPY[word], **constant)
        else:
            whole = np.zeros([n + a + b for n, (a, b) in zip(x.shape, widths, strict=True)], x.dtype)
        x = whole[(slice(None),) * axis + (slice(max(-lo, 0), whole.shape[axis] + min(hi, 0)),)]
    return x


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["int16", "float32", "float64", "complex128"])
@given(case=cases(), value=st.integers(-3, 3))
def test_numbers_are_those_of_numpy(library, dtype, case, value):
    if library == "strict" and dtype == "complex128":
        value = complex(value)
    shape, padding, mode = case
    x = np.arange(1, np.prod(shape, dtype=int) + 1).reshape(shape).astype(dtype)
    y = pad(LIBRARIES[library](x), padding, mode, value)
    assert str(y.dtype).endswith(dtype)
    assert type(y) is type(LIBRARIES[library](x))
    np.testing.assert_array_equal(np.asarray(y), padded(x, padding, mode, value))


@pytest.mark.parametrize("library", LIBRARIES)
@given(case=cases(), seed=st.integers(0, 999))
def test_pullback_is_the_adjoint(library, case, seed):
    """Small whole numbers, whose sums are exact: <dy, pad(x)> = <dx, x> to the last bit."""
    shape, padding, mode = case
    rng = np.random.default_rng(seed)
    x = rng.integers(-9, 10, shape).astype(float)
    y, pullback = pad_vjp(LIBRARIES[library](x), padding, mode)
    np.testing.assert_array_equal(np.asarray(y), padded(x, padding, mode, 0))
    dy = rng.integers(-9, 10, y.shape).astype(float)
    dx = pullback(LIBRARIES[library](dy))
    assert dx.shape == x.shape
    assert np.sum(np.asarray(dx) * x) == np.sum(dy * np.asarray(y))


@given(case=cases())
def test_gradient_is_that_of_all_places_which_repeat_a_sample(case):
    """Ones pulled back count them; NaN reaches the samples it was at and no other."""
    shape, padding, mode = case
    index = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    places = padded(index, padding, mode, -1)
    y, pullback = pad_vjp(index.astype(float), padding, mode)
    count = np.bincount(places[places >= 0], minlength=index.size).reshape(shape)
    np.testing.assert_array_equal(pullback(np.ones(y.shape)), count)
    if places.size:
        bad = np.zeros(y.shape)
        bad.flat[0] = np.nan
        np.testing.assert_array_equal(np.isnan(pullback(bad)), index == places.flat[0])


@given(st.sampled_from(_border.MODES), st.integers(1, 7), st.integers(-7, 20), st.integers(-7, 20))
def test_runs_are_the_sources(mode, size, lo, hi):
    hi = max(hi, -size - lo)
    index = np.full(size + lo + hi, -5)
    for run in _extend.runs(mode, size, lo, hi):
        assert run.end > run.first
        index[run.first : run.end] = -1 if run.low < 0 else np.arange(size)[run.samples]
    np.testing.assert_array_equal(index, _border.sources(mode, size, lo, hi))


def test_an_int_is_for_all_axes_but_the_first_two():
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    np.testing.assert_array_equal(pad(x, 1), np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)]))
    np.testing.assert_array_equal(pad(x, -1), x[:, :, 1:-1, 1:-1])
    np.testing.assert_array_equal(pad(x, (1, 2), "reflect"), np.pad(x, [(0, 0), (0, 0), (1, 1), (2, 2)], "reflect"))
    np.testing.assert_array_equal(pad(x[0, 0, 0], [(1, 2)], "circular"), np.pad(x[0, 0, 0], (1, 2), "wrap"))


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_result_is_a_copy(library):
    x = np.arange(3.0)
    y, pullback = pad_vjp(LIBRARIES[library](x), [0])
    dx = pullback(y)
    np.asarray(y)[:] = np.asarray(dx)[:] = 7
    np.testing.assert_array_equal(x, np.arange(3.0))
    np.testing.assert_array_equal(np.asarray(y), [7, 7, 7])


@pytest.mark.parametrize(
    ("error", "message", "x", "arguments"),
    [
        (TypeError, "x must be an array", [1.0], {"padding": [1]}),
        (TypeError, "x has dtype bool; needed a numeric", np.ones(3, bool), {"padding": [1]}),
        (TypeError, "padding holds 1.5 of type float", np.ones(3), {"padding": [1.5]}),
        (TypeError, "padding holds True", np.ones((1, 1, 3)), {"padding": True}),
        (ValueError, r"x has shape \(3,\); with padding=1, needed 3 axes or more", np.ones(3), {"padding": 1}),
        (ValueError, r"needed one entry for each of the last axes", np.ones(3), {"padding": (1, 1)}),
        (ValueError, r"needed one entry for each of the last axes", np.ones(3), {"padding": ()}),
        (ValueError, r"needed an int, or one int or \(lo, hi\) pair", np.ones(3), {"padding": [(1, 2, 3)]}),
        (ValueError, r"makes size \(0,\) of \(3,\); needed at least one", np.ones(3), {"padding": [(-1, -2)]}),
        (ValueError, r"of \(0,\); needed at least one", np.ones(0), {"padding": [(1, 2)]}),
        (ValueError, "mode='edge'; needed one of 'zeros'", np.ones(3), {"padding": [1], "mode": "edge"}),
        (TypeError, "value=0.5; needed a number that fits dtype int64", np.ones(3, int), {"padding": [1], "value": 0.5}),
        (TypeError, "value=1j; needed a number that fits dtype float64", np.ones(3), {"padding": [1], "value": 1j}),
        (TypeError, "value='a'; needed a number", np.ones(3), {"padding": [1], "value": "a"}),
    ],
)
def test_refusals(error, message, x, arguments):
    with pytest.raises(error, match=message):
        pad(x, **arguments)


def test_numbers_and_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    x = torch.tensor(np.random.default_rng(0).normal(size=(2, 3, 5, 6)), requires_grad=True)
    for mode, word in (("zeros", "constant"), ("reflect", "reflect"), ("replicate", "replicate"), ("circular", "circular")):
        expected = torch.nn.functional.pad(x, (1, 2, 3, 0), word)
        dy = torch.tensor(np.random.default_rng(1).normal(size=expected.shape))
        for given_x, given_dy in ((x.detach().numpy(), dy.numpy()), (x.detach(), dy)):
            y, pullback = pad_vjp(given_x, [(3, 0), (1, 2)], mode)
            assert type(y) is type(given_x)
            np.testing.assert_array_equal(y, expected.detach())
            dx = torch.autograd.grad(expected, x, dy, retain_graph=True)[0]
            np.testing.assert_allclose(pullback(given_dy), dx, rtol=1e-14, atol=1e-14)


def test_examples_on_the_page_run():
    results = doctest.testfile(str(Path(__file__).parent.parent / "docs" / "pad.md"), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0
