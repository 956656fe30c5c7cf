"""Activations as kernels: the formulas that `generic` states, in any memory, on any number of threads, at any value."""

import ctypes

import array_api_compat.numpy as xp
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import normals

import numconv
from numconv import _jit, activation
from numconv._pointwise import Pointwise, pointwise
from numconv.activation import cpu, generic

PARAMETER = {"leaky_relu": (0.3,), "elu": (1.7,), "softplus": (2.5,)}
NAMES = sorted(name for name, f in vars(generic).items() if isinstance(f, Pointwise))
EACH = pytest.mark.parametrize("name", NAMES)
ALONG = ["softmax", "log_softmax"]
DTYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])


def formula(name):
    return getattr(generic, name), PARAMETER.get(name.removesuffix("_slope"), ())


@EACH
@DTYPES
def test_kernels_are_the_formulas(name, dtype):
    f, parameter = formula(name)
    x, dy = normals(1, (5, 411), (5, 411), dtype=dtype)
    x *= 4
    wide = f.formula(xp, x.astype(np.float64), *parameter)
    # Roundings of the formula, times how much it magnifies those of the argument: gelu's tanh form most, 5 (|x| + |x|**3 / 20).
    # Slopes are differences; and below the normal numbers fewer digits are left.
    eps, tiny = np.finfo(dtype).eps, np.finfo(dtype).smallest_normal
    bound = eps * (12 + 10 * (abs(x) + 0.05 * abs(x) ** 3)) * abs(wide) + 20 * tiny + eps * name.endswith("slope")
    assert np.all(abs(f(xp, x, *parameter) - wide) <= bound)
    assert np.all(abs(f.times(xp, dy, x, *parameter) - dy * wide) <= (bound + eps * abs(wide)) * abs(dy) + tiny)
    assert np.all(abs(f.times(xp, dy[0, 0], x, *parameter) - dy[0, 0] * wide) <= (bound + eps * abs(wide)) * abs(dy[0, 0]) + tiny)


@EACH
@DTYPES
def test_special_values_are_those_of_the_formula(name, dtype):
    f, parameter = formula(name)
    finfo = np.finfo(dtype)
    large = [np.inf, finfo.max, 1e4, 700, 90, 20, 0.0, finfo.smallest_subnormal, finfo.smallest_normal]
    x = np.array([np.nan, *large, *(-a for a in large)], dtype)
    with np.errstate(all="ignore"):
        expected = f.formula(xp, x, *parameter)
    np.testing.assert_allclose(f(xp, x, *parameter), expected, rtol=1e-5, atol=float(finfo.tiny))


@EACH
def test_the_same_bits_on_any_number_of_threads(name):
    f, parameter = formula(name)
    x, dy = normals(2, (130_003,), (130_003,), dtype=np.float32)
    with numconv.threads(1):
        one = f(xp, x, *parameter), f.times(xp, dy, x, *parameter), f.sum(xp, x, *parameter)
    assert _jit.workers(2, x.size) == min(2, numba.config.NUMBA_NUM_THREADS)  # else nothing would be compared
    for a, b in zip(one, (f(xp, x, *parameter), f.times(xp, dy, x, *parameter), f.sum(xp, x, *parameter)), strict=True):
        np.testing.assert_array_equal(a, b)


@given(
    shape=st.lists(st.integers(0, 40), max_size=3).map(tuple), dtype=st.sampled_from(["float32", "float64"]),
    layout=st.sampled_from(["C", "F", "strided", "reversed", "unaligned", "read-only"]),
)  # fmt: skip
def test_any_shape_and_memory(shape, dtype, layout):
    (x,) = normals(3, shape, dtype=dtype)
    expected = np.maximum(x, 0)
    given_x = x
    if layout == "F" and shape:
        given_x = np.asfortranarray(x)
    elif layout == "strided" and shape:
        given_x = np.repeat(x, 2, axis=-1)[..., ::2]
    elif layout == "reversed" and shape:
        given_x = x[::-1].copy()[::-1]
    elif layout == "unaligned":
        given_x = np.frombuffer(b"?" + x.tobytes(), dtype, offset=1, count=x.size).reshape(shape)
    given_x = given_x.view()
    given_x.setflags(write=layout not in ("read-only", "unaligned"))
    y, pullback = activation.relu_vjp(given_x)
    assert (y.shape, y.dtype) == (shape, x.dtype)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(pullback(given_x), expected)


def test_sums_of_many_numbers_stay_accurate():
    (x,) = normals(4, (1_000_001,), dtype=np.float32)
    square = pointwise(lambda xp, x: x * x)
    exact = np.sum(x.astype(np.float64) ** 2)
    # 1024 numbers are summed in float32, in at least 4 lanes: 256 roundings at most, with the last one.
    assert abs(square.sum(xp, x) - exact) <= 257 * 2.0**-24 * exact
    assert square.sum(xp, x[:0]) == 0


def test_what_no_kernel_takes_is_left_to_the_formula():
    x = np.arange(-3.0, 3.0).astype(np.longdouble)
    assert generic.silu(xp, x).dtype == np.longdouble
    swapped = np.array([-1.0, 2.0], ">f4")
    np.testing.assert_array_equal(activation.relu(swapped), [0, 2])


@pytest.mark.parametrize("name", ALONG)
@settings(max_examples=60, deadline=None)
@given(
    shape=st.one_of(
        st.lists(st.integers(1, 9), min_size=1, max_size=4),
        st.tuples(st.integers(1, 3), st.integers(1, 70), st.sampled_from([1, 255, 256, 300, 600])),
    ),
    data=st.data(), dtype=st.sampled_from(["float32", "float64"]),
)  # fmt: skip
def test_softmax_kernels_are_generic(name, shape, data, dtype):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x, dy = normals(5, shape, shape, dtype=dtype)
    x *= 5
    fill_scratch()
    y = getattr(cpu, name)(xp, x, axis)
    wide = getattr(generic, name)(xp, x.astype(np.float64), axis)
    eps, n = np.finfo(dtype).eps, shape[axis]
    np.testing.assert_allclose(y, wide, rtol=eps * (n + 40), atol=eps * (n + 40))
    fill_scratch()
    dx = getattr(cpu, f"{name}_pullback")(xp, y, dy, axis)
    expected = getattr(generic, f"{name}_pullback")(xp, y.astype(np.float64), dy, axis)
    np.testing.assert_allclose(dx, expected, rtol=0, atol=eps * (n + 8) * max(1, float(np.sum(abs(dy)))))


def fill_scratch():
    """What a kernel reads from scratch memory before it has written there shows as NaN."""
    ctypes.memset(_jit.scratch(1 << 20), 0xFF, 1 << 20)


@pytest.mark.parametrize("name", ALONG)
@pytest.mark.parametrize(("shape", "axis"), [((700, 301), 1), ((9, 40, 700), 1)])
def test_softmax_has_the_same_bits_on_any_number_of_threads(name, shape, axis):
    x, dy = normals(6, shape, shape, dtype=np.float32)
    results = []
    for n in (1, numba.config.NUMBA_NUM_THREADS):
        with numconv.threads(n):
            y = getattr(cpu, name)(xp, x, axis)
            results.append((y, getattr(cpu, f"{name}_pullback")(xp, y, dy, axis)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize("name", ALONG)
@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_of_special_values(name, axis):
    x = np.zeros((40, 40))
    x[3, 5], x[7, 11], x[20, 30] = np.nan, np.inf, -np.inf
    x[:, 39] = x[39, :] = -np.inf
    with np.errstate(all="ignore"):
        expected = getattr(generic, name)(xp, x, axis)
    np.testing.assert_allclose(getattr(cpu, name)(xp, x, axis), expected, rtol=1e-14)
