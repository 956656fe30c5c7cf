"""Losses as kernels against their own formulas in array API, for any memory and any number of threads."""

import array_api_compat.numpy as xp
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import normals

import numconv
from numconv import loss
from numconv._pointwise import Pointwise
from numconv.loss import classification, cpu, generic, regression, variational

FORMULAS = {
    f"{room.__name__.rpartition('.')[2]}.{name}": f
    for room in (classification, regression, variational)
    for name, f in vars(room).items()
    if isinstance(f, Pointwise)
}


PARAMETERS = {"delta": 0.8}


def arguments(f, size, dtype, seed=0):
    names = f.formula.__code__.co_varnames[1 : f.formula.__code__.co_argcount]
    arrays = normals(seed, *[(size,) for name in names if name not in PARAMETERS], dtype=dtype)
    return [*(3 * a for a in arrays), *(PARAMETERS[name] for name in names if name in PARAMETERS)]


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 1023, 5000])
def test_sums_and_terms_are_the_formulas(name, dtype, size):
    f = FORMULAS[name]
    given_arguments = arguments(f, size, dtype)
    wide = f.formula(xp, *(a.astype(np.float64) if isinstance(a, np.ndarray) else a for a in given_arguments))
    eps, scale = np.finfo(dtype).eps, 1 + float(np.max(np.abs(wide)))
    assert np.max(abs(f(xp, *given_arguments) - wide)) <= 16 * eps * scale
    assert abs(f.sum(xp, *given_arguments) - np.sum(wide)) <= (16 * size + 256 * size) * eps * scale
    share = np.asarray(0.25, dtype)
    assert np.max(abs(f.times(xp, share, *given_arguments) - 0.25 * wide)) <= 8 * eps * scale


@pytest.mark.parametrize("name", FORMULAS)
def test_sums_have_the_same_bits_on_any_number_of_threads(name):
    f = FORMULAS[name]
    given_arguments = arguments(f, 200_001, "float32")
    with numconv.threads(1):
        one = f.sum(xp, *given_arguments)
    assert f.sum(xp, *given_arguments) == one


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 70)] * 3), turned=st.tuples(st.booleans(), st.booleans()),
    dtype=st.sampled_from(["float32", "float64"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_products_are_generic(shape, turned, dtype, seed):
    m, n, k = shape
    a, b = normals(seed, (k, m) if turned[0] else (m, k), (n, k) if turned[1] else (k, n), dtype=dtype)
    a, b = a.T if turned[0] else a, b.T if turned[1] else b
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    bound = np.finfo(dtype).eps * (k + 1) * (abs(wide_a) @ abs(wide_b))
    assert np.all(abs(cpu.matmul(xp, a, b) - generic.matmul(xp, wide_a, wide_b)) <= bound)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 9), st.integers(1, 40)),
        st.tuples(st.integers(1, 3), st.integers(1, 12), st.sampled_from([1, 7, 256, 300]), st.integers(1, 3)),
    ),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]), dtype=st.sampled_from(["float32", "float64"]), per_term=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_cross_entropy_kernel_is_generic(shape, smoothing, dtype, per_term, seed):
    rng = np.random.default_rng(seed)
    logits = (5 * rng.standard_normal(shape)).astype(dtype)
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    share = rng.standard_normal(labels.shape if per_term else ()).astype(dtype)
    terms, pull = cpu.cross_entropy(xp, np.asfortranarray(logits), labels, smoothing)
    expected, expected_pull = generic.cross_entropy(xp, logits.astype(np.float64), labels, smoothing)
    eps, most = np.finfo(dtype).eps, float(np.max(np.abs(share)))
    np.testing.assert_allclose(terms, expected, rtol=0, atol=eps * (shape[1] + 100))
    np.testing.assert_allclose(pull(share), expected_pull(share), rtol=0, atol=eps * (shape[1] + 40) * most)


@pytest.mark.parametrize("shape", [(3000, 100), (3, 40, 1400)])
def test_cross_entropy_has_the_same_bits_on_any_number_of_threads(shape):
    (logits,) = normals(1, shape, dtype=np.float32)
    labels = np.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))
    results = []
    for n in (1, numba.config.NUMBA_NUM_THREADS):
        with numconv.threads(n):
            value, pullback = loss.cross_entropy_loss_vjp(logits, labels, label_smoothing=0.1)
            results.append((value, pullback()))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_cross_entropy_of_special_values():
    logits = np.zeros((6, 20), np.float32)
    logits[0, 3], logits[1, 3], logits[2, 3] = np.nan, np.inf, -np.inf
    logits[3], logits[4, :10] = -np.inf, 1e4
    labels = np.full(6, 2)
    with np.errstate(all="ignore"):
        expected, expected_pull = generic.cross_entropy(xp, logits, labels, 0.0)
        expected_dx = expected_pull(np.float32(1))
    terms, pull = cpu.cross_entropy(xp, logits, labels, 0.0)
    np.testing.assert_allclose(terms, expected, rtol=1e-6)
    np.testing.assert_allclose(pull(np.float32(1)), expected_dx, rtol=1e-6, atol=1e-7)


def test_labels_changed_after_the_value_do_not_lead_the_kernel_astray():
    labels = np.array([0, 1])
    _, pullback = loss.cross_entropy_loss_vjp(np.zeros((2, 2)), labels, reduction="sum")
    labels[:] = 10**9
    np.testing.assert_array_equal(pullback(), [[-0.5, 0.5], [0.5, -0.5]])


def test_an_empty_batch_costs_nothing():
    value, pullback = loss.cross_entropy_loss_vjp(np.zeros((0, 3)), np.zeros(0, int), reduction="sum")
    assert value == 0
    assert pullback().shape == (0, 3)
