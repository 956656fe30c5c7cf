"""Unfolding and folding against loops over windows and torch, and as each other's adjoint."""

import doctest
from itertools import product
from math import prod
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from oracles import conv_cases

from numconv import fold, fold_vjp, unfold, unfold_vjp

LIBRARIES = {"numpy": np.asarray, "strict": array_api_strict.asarray}


def arguments_of(case):
    return {"window": case["w_shape"][2:], "stride": case["stride"], "padding": case["pads"], "dilation": case["dilation"]}


def loop_unfold(x, *, window, stride, padding, dilation):
    """Look up every sample under every tap, one at a time."""
    rank = len(window)
    out = [
        (n + lo + hi - d * (k - 1) - 1) // s + 1
        for n, (lo, hi), d, k, s in zip(x.shape[-rank:], padding, dilation, window, stride, strict=True)
    ]
    y = np.zeros((*x.shape[:-rank], *window, *out), x.dtype)
    for k, p in product(product(*map(range, window)), product(*map(range, out))):
        q = tuple(s * pi + d * ki - lo for s, pi, d, ki, (lo, _) in zip(stride, p, dilation, k, padding, strict=True))
        if all(0 <= qi < n for qi, n in zip(q, x.shape[-rank:], strict=True)):
            y[(..., *k, *p)] = x[(..., *q)]
    return y


def whole_numbers(seed, shape):
    """Numbers whose sums are exact."""
    return np.random.default_rng(seed).integers(-9, 10, shape)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["int16", "float32", "float64", "complex128"])
@given(case=conv_cases(max_size=9, max_taps=3))
def test_samples_are_those_under_the_taps(library, dtype, case):
    arguments = arguments_of(case)
    x = whole_numbers(case["seed"], case["x_shape"]).astype(dtype)
    for given_x in (x, x[0]):
        y = unfold(LIBRARIES[library](given_x), **arguments)
        assert type(y) is type(LIBRARIES[library](x))
        assert str(y.dtype).endswith(dtype)
        np.testing.assert_array_equal(np.asarray(y), loop_unfold(given_x, **arguments))


@pytest.mark.parametrize("library", LIBRARIES)
@given(case=conv_cases(max_size=9, max_taps=3))
def test_folding_is_the_adjoint(library, case):
    """<dy, unfold(x)> = <fold(dy), x> to the last bit, and each is the other's pullback."""
    arguments, size = arguments_of(case), case["x_shape"][2:]
    x = whole_numbers(case["seed"], case["x_shape"]).astype(float)
    y, pullback = unfold_vjp(LIBRARIES[library](x), **arguments)
    dy = whole_numbers(case["seed"] + 1, y.shape).astype(float)
    dx = pullback(LIBRARIES[library](dy))
    z, back = fold_vjp(LIBRARIES[library](dy), size, **arguments)
    assert np.sum(np.asarray(dx) * x) == np.sum(dy * loop_unfold(x, **arguments))
    np.testing.assert_array_equal(np.asarray(z), np.asarray(dx))
    np.testing.assert_array_equal(np.asarray(fold(LIBRARIES[library](dy[0]), size, **arguments)), np.asarray(dx)[0])
    np.testing.assert_array_equal(np.asarray(back(LIBRARIES[library](x))), np.asarray(y))


def test_a_nan_reaches_the_places_of_its_sample_only():
    x = np.zeros((1, 1, 6))
    x[0, 0, 2] = np.nan
    y, pullback = unfold_vjp(x, 3, padding=1)
    np.testing.assert_array_equal(np.argwhere(np.isnan(y[0, 0])), [[0, 3], [1, 2], [2, 1]])
    dy = np.zeros_like(y)
    dy[0, 0, 0, 0] = np.inf  # on the padding
    np.testing.assert_array_equal(pullback(dy), np.zeros_like(x))


def test_ints_words_and_views():
    x = whole_numbers(0, (2, 3, 8, 9)).astype(np.float32)
    np.testing.assert_array_equal(unfold(x, 2), unfold(x, (2, 2), stride=(1, 1), padding=0))
    assert unfold(x, 3, stride=2, padding="same").shape == (2, 3, 3, 3, 4, 5)
    view = np.asfortranarray(x)
    view.setflags(write=False)
    np.testing.assert_array_equal(unfold(view, 3), unfold(x, 3))
    assert unfold(np.ones((0, 3, 4)), 2).shape == (0, 3, 2, 3)
    assert fold(unfold(x, 2), (8, 9), 2).shape == x.shape
    assert not np.shares_memory(unfold(x, 1), x)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "x must be an array", lambda: unfold([1.0], 2)),
        (TypeError, "x has dtype bool", lambda: unfold(np.ones((1, 1, 3), bool), 2)),
        (TypeError, "x has dtype int64; needed a floating", lambda: unfold_vjp(np.ones((1, 1, 3), int), 2)),
        (ValueError, "window spans .4,. samples", lambda: unfold(np.ones((1, 1, 3)), 4)),
        (ValueError, "with window=2, needed 3 to 5 axes", lambda: unfold(np.ones((1, 3)), 2)),
        (ValueError, "columns has shape .*; the other arguments make it", lambda: fold(np.ones((1, 1, 2, 3)), 5, 2)),
        (ValueError, "columns has shape .*needed .batch, channels", lambda: fold(np.ones((1, 2, 3)), 4, 2)),
        (ValueError, "columns has shape .*needed .channels, .*or .batch", lambda: fold(np.ones((2, 3)), [4], 2)),
        (ValueError, r"size=\(4, 4\); needed one int, or 1", lambda: fold(np.ones((1, 1, 2, 3)), (4, 4), (2,))),
    ],
)
def test_refusals(error, message, call):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_numbers_are_those_of_torch(library):
    torch = pytest.importorskip("torch")
    x = torch.tensor(whole_numbers(0, (2, 3, 9, 10)).astype(float))
    for window, stride, padding, dilation in ((3, 1, 0, 1), (3, 2, 1, 1), ((2, 3), (3, 1), (1, 2), (2, 1))):
        arguments = {"stride": stride, "padding": padding, "dilation": dilation}
        columns = torch.nn.functional.unfold(x, window, **arguments)
        folded = torch.nn.functional.fold(columns, (9, 10), window, **arguments)
        y, pullback = unfold_vjp(x.numpy() if library == "numpy" else x, window, **arguments)
        assert isinstance(y, np.ndarray if library == "numpy" else torch.Tensor)
        taps = window if isinstance(window, tuple) else (window,) * 2
        np.testing.assert_array_equal(y.reshape(2, 3 * prod(taps), -1), columns)
        np.testing.assert_array_equal(pullback(y), folded)


def test_examples_on_the_page_run():
    results = doctest.testfile(str(Path(__file__).parent.parent / "docs" / "unfold.md"), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0
