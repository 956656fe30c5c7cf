"""Linear maps against sums written out, and their gradients by the bilinear identity."""

import doctest
import sys
from pathlib import Path

import array_api_strict
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import rounding_bound

import numconv
from numconv.linear import cpu, linear, linear_vjp

DTYPES = ["float32", "float64", "strict"]
SHAPES = {
    "lead": st.lists(st.integers(0, 4), max_size=3),
    "c_in": st.integers(1, 9),
    "c_out": st.integers(1, 9),
    "seed": st.integers(0, 999),
}


def as_given(dtype, a):
    return array_api_strict.asarray(a) if dtype == "strict" else a.astype(dtype)


def drawn(dtype, seed, *shapes):
    rng = np.random.default_rng(seed)
    arrays = [as_given(dtype, rng.normal(size=shape)) for shape in shapes]
    return arrays, [np.asarray(a).astype(np.float64) for a in arrays]


def eps(dtype):
    return np.finfo("float64" if dtype == "strict" else dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
@given(**SHAPES)
def test_linear_is_the_sum_over_inputs(dtype, lead, c_in, c_out, seed):
    (gx, gw, gb), (x, w, b) = drawn(dtype, seed, (*lead, c_in), (c_out, c_in), (c_out,))
    y = linear(gx, gw, gb)
    assert y.shape == (*lead, c_out)
    assert type(y) is type(gx)
    assert y.dtype == gx.dtype
    for n in np.ndindex(*lead):
        for o in range(c_out):
            products = [w[o, i] * x[(*n, i)] for i in range(c_in)] + [b[o]]
            assert abs(np.asarray(y)[(*n, o)] - sum(products)) <= (c_in + 2) * eps(dtype) * sum(map(abs, products))


def check_bilinear_identity(dtype, lead, c_in, c_out, seed):
    """<dy, linear(x, w)> = <dx, x> = <dw, w>, and <dy, b> = <db, b> for the bias, up to rounding."""
    (gx, gw, gb, gdy), (x, w, b, dy) = drawn(dtype, seed, (*lead, c_in), (c_out, c_in), (c_out,), (*lead, c_out))
    _, pullback = linear_vjp(gx, gw, gb)
    gradients = pullback(gdy)
    dx, dw, db = (np.asarray(a).astype(np.float64) for a in gradients)
    assert [a.shape for a in gradients] == [gx.shape, gw.shape, gb.shape]
    assert all(a.dtype == gx.dtype for a in gradients)
    value, magnitude = np.sum(dy * (x @ w.T)), np.sum(abs(dy) * (abs(x) @ abs(w).T))
    rows = int(np.prod(lead))
    # Each gradient sums over rows or outputs in the given dtype; the check sums over everything else in float64.
    bound = (max(rows, c_out) + 2) * eps(dtype) * magnitude + (rows * (c_in + c_out) + c_in * c_out) * eps("float64") * magnitude
    assert abs(np.sum(dx * x) - value) <= bound
    assert abs(np.sum(dw * w) - value) <= bound
    assert abs(np.sum(db * b) - np.sum(dy * b)) <= (rows + c_out + 2) * eps(dtype) * np.sum(abs(dy) * abs(b))


@pytest.mark.parametrize("dtype", DTYPES)
@given(**SHAPES)
def test_pullbacks_are_the_adjoints(dtype, lead, c_in, c_out, seed):
    check_bilinear_identity(dtype, lead, c_in, c_out, seed)


def test_a_wrong_weight_gradient_is_caught(monkeypatch):
    right = cpu.contract_w
    monkeypatch.setattr(cpu, "contract_w", lambda x, y: right(x[1:], y[1:]))  # forgets a row
    with pytest.raises(AssertionError):
        check_bilinear_identity("float32", [4], 5, 3, 0)


def test_gradients_are_those_of_torch_and_torch_in_torch_out():
    torch = pytest.importorskip("torch")
    (x, w, b, dy), _ = drawn("float64", 0, (4, 3, 7), (5, 7), (5,), (4, 3, 5))
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    expected = torch.nn.functional.linear(*leaves)
    y, pullback = linear_vjp(*(leaf.detach() for leaf in leaves))
    torch.testing.assert_close(y, expected.detach(), rtol=1e-14, atol=1e-14)
    for mine, theirs in zip(pullback(torch.tensor(dy)), torch.autograd.grad(expected, leaves, torch.tensor(dy)), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-14, atol=1e-13)


def test_without_bias_and_by_name():
    (x, w, dy), _ = drawn("float64", 0, (4, 7), (5, 7), (4, 5))
    y, pullback = linear_vjp(x, w)
    np.testing.assert_array_equal(y, linear(x, w))
    dx, dw = pullback(dy)
    np.testing.assert_array_equal(pullback(dy, wrt="w"), dw)
    np.testing.assert_array_equal(pullback(dy, wrt=("x",))[0], dx)
    with pytest.raises(ValueError, match="wrt names 'b'"):
        pullback(dy, wrt="b")


def test_integers_stay_exact_and_halves_stay_halves():
    big = np.array([[2**60, 3]])
    np.testing.assert_array_equal(linear(big, np.array([[1, 1], [2, -1]])), [[2**60 + 3, 2**61 - 3]])
    assert linear(np.ones((2, 3), np.float16), np.ones((4, 3), np.float16)).dtype == np.float16


def test_views_and_read_only_arrays_are_taken_and_left_alone():
    (x, w, b, dy), _ = drawn("float64", 1, (4, 3, 7), (5, 7), (5,), (4, 3, 5))
    views = [np.repeat(a, 2, axis=-1)[..., ::2] for a in (x, w, b, dy)]
    for view in views:
        view.setflags(write=False)
    kept = [view.copy() for view in views]
    y, pullback = linear_vjp(*views[:3])
    np.testing.assert_allclose(y, linear(x, w, b), rtol=1e-14, atol=1e-14)
    pullback(views[3])
    for view, copy in zip(views, kept, strict=True):
        np.testing.assert_array_equal(view, copy)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((np.ones((2, 3)), np.ones(3)), ValueError, r"w has shape \(3,\); needed 2 axes: \(out, in\)"),
        ((np.ones((2, 3)), np.ones((4, 2))), ValueError, r"x has shape \(2, 3\); with w \(4, 2\), needed a last axis of 2"),
        ((np.array(1.0), np.ones((4, 2))), ValueError, r"x has shape \(\); with w"),
        ((np.ones(2), np.ones((4, 2)), np.ones(2)), ValueError, r"b has shape \(2,\); needed \(4,\), one number per row of w"),
        ((np.ones(2), np.ones((4, 2)), 1.0), TypeError, "b must be an array .* got float"),
        ((np.ones(2, int), np.ones((4, 2))), TypeError, "integers and floats do not mix"),
        ((np.ones(2), array_api_strict.ones((4, 2))), TypeError, "arrays must come from one library"),
    ],
)
def test_refusals(arguments, error, text):
    for door in (linear, linear_vjp):
        with pytest.raises(error, match=text):
            door(*arguments)


def test_examples_run():
    assert doctest.testmod(sys.modules["numconv.linear"]).failed == 0
    results = doctest.testfile(str(Path(__file__).parent.parent / "docs" / "linear.md"), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "c_in", "c_out"), [(1, 600, 40), (101, 7, 33), (97, 300, 17), (200, 520, 130), (13, 3, 300), (250, 31, 256)]
)
def test_blocks_and_edges_of_the_tile(dtype, n, c_in, c_out):
    """Shapes that fill blocks of rows, panels of columns and depths of the sum, and that do not, on one thread and on all."""
    x, w, b, dy = (a.astype(dtype) for a in drawn("float64", n, (n, c_in), (c_out, c_in), (c_out,), (n, c_out))[1])
    exact_x, exact_w, exact_dy = (a.astype(np.float64) for a in (x, w, dy))
    results = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS):
        with numconv.threads(threads):
            y, pullback = linear_vjp(x, w, b)
            results.append((y, *pullback(dy, wrt=("x", "w"))))
    expected = (exact_x @ exact_w.T + b, exact_dy @ exact_w, exact_dy.T @ exact_x)
    magnitude = (abs(exact_x) @ abs(exact_w).T + abs(b), abs(exact_dy) @ abs(exact_w), abs(exact_dy).T @ abs(exact_x))
    for one, many, e, m, terms in zip(*results, expected, magnitude, (c_in, c_out, n), strict=True):
        np.testing.assert_array_equal(one, many)
        assert np.all(abs(one - e) <= rounding_bound(dtype, terms, m))
