"""Activations against scipy, libc and torch, their gradients against finite differences and autograd."""

import doctest
import math
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from numconv import activation
from numconv._pointwise import pointwise
from numconv.activation import axiswise, generic
from numconv.activation.erf import erf, erfc

erfc_of_libc = np.vectorize(math.erfc, otypes=[float])


def gelu_by_libc(x):
    return 0.5 * x * erfc_of_libc(-x / math.sqrt(2))


def gelu_tanh_by_tanh(x):
    u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return x * scipy.special.expit(2 * u)


# name, arguments, the function in float64 by other means, how a relative error of the argument is magnified
POINTWISE = [
    ("relu", {}, lambda x: np.maximum(x, 0), lambda x: 0),
    ("leaky_relu", {"negative_slope": 0.3}, lambda x: np.where(x > 0, x, 0.3 * x), lambda x: 1),
    ("elu", {}, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), lambda x: 0),
    ("elu", {"alpha": 1.7}, lambda x: np.where(x > 0, x, 1.7 * np.expm1(np.minimum(x, 0))), lambda x: 1),
    ("gelu", {}, gelu_by_libc, lambda x: x * x),
    ("gelu", {"approximate": "tanh"}, gelu_tanh_by_tanh, lambda x: 5 * (abs(x) + 0.05 * abs(x) ** 3)),
    ("silu", {}, lambda x: x * scipy.special.expit(x), lambda x: 0),
    ("sigmoid", {}, scipy.special.expit, lambda x: 0),
    ("tanh", {}, np.tanh, lambda x: 0),
    ("softplus", {}, lambda x: np.logaddexp(0, x), lambda x: 0),
    ("softplus", {"beta": 2.5}, lambda x: np.logaddexp(0, 2.5 * x) / 2.5, lambda x: 2.5 * abs(x)),
]
NAMES = [name + "".join(f"-{v}" for v in arguments.values()) for name, arguments, _, _ in POINTWISE]
POINTWISE_CASES = pytest.mark.parametrize(("name", "arguments", "reference", "condition"), POINTWISE, ids=NAMES)
ALONG_AXIS = pytest.mark.parametrize("name", ["softmax", "log_softmax"])


def door(name):
    return getattr(activation, name), getattr(activation, name + "_vjp")


def samples(dtype):
    rng = np.random.default_rng(5)
    return np.concatenate([rng.normal(size=4000) * 3, rng.uniform(-40, 40, 2000), [0.0, 1e-30, -1e-30]]).astype(dtype)


@POINTWISE_CASES
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values(name, arguments, reference, condition, dtype):
    x, eps = samples(dtype), np.finfo(dtype).eps
    y = door(name)[0](x, **arguments)
    wide = x.astype(np.float64)
    expected = reference(wide)
    assert y.dtype == x.dtype
    # 8 roundings, of which exp, expm1, log1p and tanh of the library take up to 4 units in the last place.
    # Below the normal numbers fewer digits are left.
    bound = eps * (8 + 2 * condition(wide)) * abs(expected) + (1 + abs(wide)) * np.finfo(dtype).smallest_normal
    assert np.all(abs(y - expected) <= bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_erf_and_erfc(dtype):
    x = np.concatenate([np.linspace(-6, 6, 60001), np.linspace(-30, 30, 6001), 10.0 ** np.arange(-30, 0)]).astype(dtype)
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).smallest_normal
    wide = x.astype(np.float64)
    np.testing.assert_allclose(erf(np, x), scipy.special.erf(wide), rtol=4 * eps, atol=tiny)
    # scipy's erfc loses two digits on its way down, libc's does not.
    np.testing.assert_allclose(erfc(np, x), erfc_of_libc(wide), rtol=8 * eps, atol=tiny)
    np.testing.assert_array_equal(erf(np, np.array([np.nan, np.inf, -np.inf])), [np.nan, 1, -1])
    np.testing.assert_array_equal(erfc(np, np.array([np.nan, np.inf, -np.inf])), [np.nan, 0, 2])


def check_directional_derivative(f, f_vjp, x, seed):
    """Central differences along a random direction, for a random cotangent, in float64."""
    rng = np.random.default_rng(seed)
    v, dy = rng.uniform(-1, 1, (2, *x.shape))
    h = 2.0**-17
    y, pullback = f_vjp(x)
    np.testing.assert_array_equal(y, f(x))
    difference = np.sum(dy * (f(x + h * v) - f(x - h * v))) / (2 * h)
    # Truncation h**2 / 6 * f''' (here below 12 for every function), rounding eps * |f| / h for each entry.
    entries = abs(dy) * (2 * h**2 + 8 * np.finfo(float).eps * (abs(y) + abs(x)) / h)
    assert abs(difference - np.sum(v * pullback(dy))) <= np.sum(entries)


@POINTWISE_CASES
def test_gradients_by_finite_differences(name, arguments, reference, condition):
    f, f_vjp = door(name)
    x = np.random.default_rng(1).uniform(-5, 5, (200,))
    x = x[abs(x) > 1e-3]  # the kinks are at 0
    for seed in range(20):
        check_directional_derivative(lambda x: f(x, **arguments), lambda x: f_vjp(x, **arguments), x, seed)


@ALONG_AXIS
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_gradients_by_finite_differences(name, axis):
    f, f_vjp = door(name)
    x = np.random.default_rng(2).normal(size=(4, 5, 6)) * 3
    for seed in range(20):
        check_directional_derivative(lambda x: f(x, axis=axis), lambda x: f_vjp(x, axis=axis), x, seed)


def test_a_wrong_slope_is_caught(monkeypatch):
    fault = pointwise(lambda xp, x: generic.sigmoid(xp, x) + x * generic.sigmoid_slope(xp, 1.001 * x))
    monkeypatch.setattr(generic, "silu_slope", fault)
    with pytest.raises(AssertionError):
        check_directional_derivative(activation.silu, activation.silu_vjp, np.linspace(1, 2, 50), 0)


@POINTWISE_CASES
def test_values_and_gradients_are_those_of_torch(name, arguments, reference, condition):
    torch = pytest.importorskip("torch")
    given_x = torch.tensor(samples("float64")[:-3], requires_grad=True)
    f = getattr(torch.nn.functional, name, None) or getattr(torch, name)
    expected = f(given_x, **arguments)
    dy = torch.tensor(np.random.default_rng(3).normal(size=expected.shape))
    (expected_dx,) = torch.autograd.grad(expected, given_x, dy)
    y, pullback = door(name)[1](given_x.detach().numpy(), **arguments)
    dx = pullback(dy.numpy())
    # torch takes 1 + erf, and 1 - y * y, and softplus beyond beta * x = 20 as x: absolute errors of some eps, and of exp(-20).
    wide = abs(given_x.detach().numpy())
    bound = 32 * np.finfo(float).eps * (1 + wide) + (2.1e-9 if name == "softplus" else 0)
    assert np.all(abs(y - expected.detach().numpy()) <= bound)
    assert np.all(abs(dx - expected_dx.numpy()) <= bound * (1 + abs(dy.numpy())))


@POINTWISE_CASES
def test_no_overflow_and_nan_stays(name, arguments, reference, condition):
    f, f_vjp = door(name)
    for dtype in ("float16", "float32", "float64"):
        x = np.array([-1e4, -100, -12, 0, 12, 100, 1e4], dtype)
        y, pullback = f_vjp(x, **arguments)  # warnings are errors
        dx = pullback(np.ones_like(x))
        assert np.all(np.isfinite(y)), dtype
        assert np.all(np.isfinite(dx)), dtype
        assert y.dtype == dx.dtype == x.dtype
        assert np.isnan(f(np.array([np.nan, 1], dtype), **arguments)).tolist() == [True, False]


def test_limits_at_infinity():
    x = np.array([-np.inf, np.inf])
    ends = {
        "relu": (0, np.inf), "elu": (-1, np.inf), "gelu": (0, np.inf), "silu": (0, np.inf),
        "sigmoid": (0, 1), "tanh": (-1, 1), "softplus": (0, np.inf),
    }  # fmt: skip
    slopes = {"tanh": (0, 0), "sigmoid": (0, 0)}
    for name, expected in ends.items():
        y, pullback = door(name)[1](x)
        np.testing.assert_array_equal(y, expected, err_msg=name)
        np.testing.assert_array_equal(pullback(np.ones(2)), slopes.get(name, (0, 1)), err_msg=name)
    y, pullback = activation.gelu_vjp(x, approximate="tanh")
    np.testing.assert_array_equal((y, pullback(np.ones(2))), [(0, np.inf), (0, 1)])


def test_slopes_at_the_kinks():
    zero, one = np.zeros(1), np.ones(1)
    assert activation.relu_vjp(zero)[1](one) == 0
    assert activation.relu_vjp(-zero)[1](one) == 0
    assert activation.leaky_relu_vjp(zero, negative_slope=0.25)[1](one) == 0.25
    assert activation.elu_vjp(zero, alpha=1.5)[1](one) == 1.5


@POINTWISE_CASES
def test_half_precision_is_rounded_once(name, arguments, reference, condition):
    x = samples("float16")
    y = door(name)[0](x, **arguments)
    np.testing.assert_array_equal(y, door(name)[0](x.astype(np.float32), **arguments).astype(np.float16))


@ALONG_AXIS
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), data=st.data(), seed=st.integers(0, 99),
    dtype=st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_softmax_values(name, shape, data, seed, dtype):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = (np.random.default_rng(seed).normal(size=shape) * 20).astype(dtype)
    y = door(name)[0](x, axis=axis)
    expected = getattr(scipy.special, name)(x.astype(np.float64), axis=axis)
    spread = x.max(axis=axis, keepdims=True).astype(float) - x
    eps, n = np.finfo(dtype).eps, x.shape[axis]
    # Subtracting the maximum is off by eps / 2 of the spread, which exp turns into a relative error.
    bound = eps * (4 + n + spread) * abs(expected) if name == "softmax" else eps * (4 + n + spread + abs(expected))
    assert y.dtype == x.dtype
    assert np.all(abs(y - expected) <= bound + np.finfo(dtype).smallest_normal)


@ALONG_AXIS
def test_softmax_extremes(name):
    f, f_vjp = door(name)
    for dtype in ("float16", "float32", "float64"):
        x = np.array([[1e4, -1e4, 1e4], [-1e4, 0, -1e4]], dtype)
        y, pullback = f_vjp(x)
        assert np.all(np.isfinite(y))
        assert np.all(np.isfinite(pullback(np.ones_like(y))))
        assert np.isnan(f(np.array([[np.nan, 1], [1, 2]], dtype))).tolist() == [[True, True], [False, False]]
    masked = f(np.array([0.0, -np.inf, 0.0]))
    np.testing.assert_array_equal(np.exp(masked) if name == "log_softmax" else masked, [0.5, 0, 0.5])


@pytest.mark.parametrize("name", sorted({name for name, *_ in POINTWISE} | {"softmax", "log_softmax"}))
def test_answers_come_back_in_the_callers_library_and_inputs_are_left_alone(name):
    f, f_vjp = door(name)
    x = np.random.default_rng(4).normal(size=(6, 8)).astype(np.float32)
    expected, dx = f(x), f_vjp(x)[1](x)
    ulps = {"rtol": 8 * np.finfo("float32").eps, "atol": 8 * np.finfo("float32").eps}  # the order of a sum follows the memory's
    views = np.repeat(x, 2, axis=1)[:, ::2], np.asfortranarray(x)
    for view in views:
        view.setflags(write=False)
        kept = view.copy()
        y, pullback = f_vjp(view)
        np.testing.assert_allclose(y, expected, **ulps)
        np.testing.assert_allclose(pullback(view), dx, **ulps)
        np.testing.assert_array_equal(view, kept)
        assert not np.shares_memory(y, view)
    given_x = array_api_strict.asarray(x)
    y, pullback = f_vjp(given_x)
    back = pullback(given_x)
    assert type(y) is type(back) is type(f(given_x)) is type(given_x)
    np.testing.assert_allclose(np.asarray(y), expected, **ulps)
    np.testing.assert_allclose(np.asarray(back), dx, **ulps)


@pytest.mark.parametrize("name", sorted({name for name, *_ in POINTWISE} | {"softmax", "log_softmax"}))
def test_torch_in_torch_out(name):
    torch = pytest.importorskip("torch")
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        x = torch.linspace(-3, 3, 12, dtype=torch.float64).to(dtype)
        y, pullback = door(name)[1](x)
        dx = pullback(y)
        assert y.dtype == dx.dtype == dtype
        expected = door(name)[0](x.to(torch.float64))
        assert torch.all(abs(y.to(torch.float64) - expected) <= 16 * torch.finfo(dtype).eps * (1 + abs(expected)))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: activation.relu([1.0]), TypeError, "x must be an array .* got list"),
        (lambda: activation.gelu(np.arange(3)), TypeError, "x has dtype int64; needed a real floating dtype"),
        (lambda: activation.sigmoid(np.ones(2, complex)), TypeError, "x has dtype complex128"),
        (lambda: activation.gelu(np.ones(2), approximate="erf"), ValueError, "approximate='erf'; needed 'none' or 'tanh'"),
        (lambda: activation.elu(np.ones(2), alpha="1"), TypeError, "alpha is '1' of type str; needed a number"),
        (lambda: activation.elu(np.ones(2), alpha=np.nan), ValueError, "alpha=nan; needed a finite number"),
        (lambda: activation.leaky_relu(np.ones(2), negative_slope=True), TypeError, "negative_slope is True of type bool"),
        (lambda: activation.softplus(np.ones(2), beta=0), ValueError, "beta=0; needed a number above 0"),
        (lambda: activation.softmax(np.ones((2, 3)), axis=2), ValueError, r"axis=2, but .* \(2, 3\); needed -2 <= axis < 2"),
        (lambda: activation.softmax(np.ones((2, 3)), axis=0.5), TypeError, "axis is 0.5 of type float; needed an int"),
        (lambda: activation.softmax(np.array(1.0)), ValueError, r"axis=-1, but x has shape \(\)"),
        (lambda: activation.log_softmax(np.ones((2, 0))), ValueError, r"x has shape \(2, 0\); needed at least one entry"),
        (lambda: activation.tanh_vjp(np.ones(2))[1](np.ones(3)), ValueError, r"cotangent has shape \(3,\); needed .* \(2,\)"),
    ],
)  # fmt: skip
def test_refusals(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_examples_run():
    for module in (activation, axiswise):
        assert doctest.testmod(module).failed == 0
    page = Path(__file__).parent.parent / "docs" / "activation.md"
    results = doctest.testfile(str(page), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0
