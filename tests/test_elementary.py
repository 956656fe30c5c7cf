"""Elementary functions for kernels against wider floats: dense sweeps, every special value, and hypothesis."""

import math
from types import FunctionType

import array_api_compat.numpy as xp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numconv import _elementary
from numconv._pointwise import pointwise

WIDER = {np.dtype("float32"): np.float64, np.dtype("float64"): np.longdouble}
DTYPES = pytest.mark.parametrize("dtype", [np.dtype("float32"), np.dtype("float64")], ids=str)
# Units in the last place, half a unit of rounding included: the documented figures, and what is lost where there is no FMA.
FUNCTIONS = {
    "exp": (pointwise(lambda xp, x: xp.exp(x)), np.exp, 1.4),
    "expm1": (pointwise(lambda xp, x: xp.expm1(x)), np.expm1, 2.0),
    "tanh": (pointwise(lambda xp, x: xp.tanh(x)), np.tanh, 3.0),
    "log": (pointwise(lambda xp, x: xp.log(x)), np.log, 1.0),
    "log1p": (pointwise(lambda xp, x: xp.log1p(x)), np.log1p, 1.6),
    "erfc": (pointwise(lambda xp, x: xp.erfc(x)), np.vectorize(math.erfc, otypes=[float]), 8.0),
}
EACH = pytest.mark.parametrize("name", FUNCTIONS)
ON_THE_CPU = pytest.mark.skipif(np.finfo(np.longdouble).nmant < 60, reason="no wider float to compare with")


def everywhere(name, dtype):
    """Numbers of all bit patterns, and a dense part of where the function is neither 0, infinite nor linear."""
    rng = np.random.default_rng(7)
    if name == "erfc":  # libc's, a number at a time
        end = 12 if dtype == np.float32 else 28
        return np.concatenate([rng.uniform(-6, end, 50_000), 2.0 ** rng.uniform(-60, 1, 20_000)]).astype(dtype)
    integer = f"uint{8 * dtype.itemsize}"
    bits = rng.integers(0, np.iinfo(integer).max, 1_000_000, integer, endpoint=True).view(dtype)
    dense = [rng.uniform(-750, 720, 300_000), rng.uniform(-110, 90, 300_000), rng.uniform(-1.5, 1.5, 300_000)]
    return np.concatenate([bits, *(d.astype(dtype) for d in dense), (2.0 ** rng.uniform(-60, 3, 300_000)).astype(dtype)])


def specials(dtype):
    f = np.finfo(dtype)
    edges = [0.0, f.smallest_subnormal, f.smallest_normal, 0.5, 1.0, f.max, np.inf]
    # Where exp overflows, turns subnormal and vanishes; where log1p ends.
    limits = [math.log(float(f.max)), math.log(float(f.smallest_normal)), math.log(float(f.smallest_normal)) - 16, 1 - f.epsneg]
    limits += [math.log(float(f.smallest_normal)) - (f.nmant + 1) * math.log(2)]
    there = np.array([*edges, *limits], dtype)
    with np.errstate(over="ignore"):
        near = np.concatenate([there, *(np.nextafter(there, dtype.type(end)) for end in (np.inf, -np.inf))])
    return np.concatenate([near, -near, np.array([np.nan], dtype)])


def off_by(name, x, y):
    """Units in the last place between y and the function, and whether y is NaN, infinite and finite where it should be."""
    _, reference, _ = FUNCTIONS[name]
    with np.errstate(all="ignore"):
        exact = reference(x.astype(float if name == "erfc" else WIDER[x.dtype]))
        rounded = exact.astype(x.dtype)
        finite = np.isfinite(rounded)
        np.testing.assert_array_equal(y[~finite], rounded[~finite])
        unit = np.spacing(np.maximum(abs(rounded[finite]), np.finfo(x.dtype).smallest_normal))
        return abs(y[finite] - exact[finite]) / unit


@EACH
@DTYPES
@ON_THE_CPU
def test_errors_are_what_is_said(name, dtype):
    f, _, ulps = FUNCTIONS[name]
    x = everywhere(name, dtype)
    assert np.max(off_by(name, x, f(xp, x))) <= ulps


@EACH
@DTYPES
@ON_THE_CPU
def test_special_values(name, dtype):
    f, _, ulps = FUNCTIONS[name]
    x = specials(dtype)
    y = f(xp, x)
    assert np.max(off_by(name, x, y)) <= ulps


@DTYPES
def test_zeros_and_the_smallest_numbers_keep_their_sign_and_digits(dtype):
    f = np.finfo(dtype)
    small = np.array([0.0, f.smallest_subnormal, 5 * f.smallest_subnormal, f.smallest_normal], dtype)
    for x in (small, -small):
        for name in ("expm1", "tanh", "log1p"):
            y = FUNCTIONS[name][0](xp, x)
            np.testing.assert_array_equal(y, x)
            np.testing.assert_array_equal(np.signbit(y), np.signbit(x))


@DTYPES
@pytest.mark.parametrize("name", ["cos", "sin"])
@ON_THE_CPU
def test_turns(name, dtype):
    f = pointwise({"cos": lambda xp, x: xp.cos_of_turn(x), "sin": lambda xp, x: xp.sin_of_turn(x)}[name])
    x = np.concatenate([np.random.default_rng(7).random(500_000), np.arange(17) / 16]).astype(dtype)
    exact = getattr(np, name)(2 * np.pi * x.astype(WIDER[dtype]))  # pi itself rounded: 2e-16 off at most
    assert np.max(abs(f(xp, x) - exact)) <= 2 * np.finfo(dtype).eps
    quarters = np.array([0, 0.5, 1], dtype)
    np.testing.assert_array_equal(f(xp, quarters), [1, -1, 1] if name == "cos" else [0, 0, 0])


@EACH
def test_a_small_error_would_be_seen(name):
    f, _, ulps = FUNCTIONS[name]
    x = everywhere(name, np.dtype("float32"))
    off = pointwise(lambda xp, x: f(xp, x) * (1 + 12 * 2.0**-23))
    assert np.max(off_by(name, x, off(xp, x))) > ulps


ARITHMETIC = [
    lambda xp, a, b: xp.maximum(a, b),
    lambda xp, a, b: xp.minimum(a, b),
    lambda xp, a, b: xp.clip(a, -1.0, 2.0) + xp.clip(b, 0.5),
    lambda xp, a, b: xp.clip(a, max=2.0) + b,
    lambda xp, a, b: xp.where(a < b, a, 2.0) + xp.where(a >= b, -1.0, b),
    lambda xp, a, b: xp.where(xp.logical_not(a <= b), xp.abs(a), -b),
    lambda xp, a, b: xp.astype(a > b, a.dtype) + xp.sign(a) + xp.ones_like(b),
    lambda xp, a, b: 1.0 - a / (2.0 + xp.abs(b)),
]  # fmt: skip
numbers = st.lists(st.tuples(*[st.floats(width=32)] * 2), min_size=1, max_size=40)


@pytest.mark.parametrize("formula", [pointwise(f) for f in ARITHMETIC], ids=range(len(ARITHMETIC)))
@given(pairs=numbers, dtype=st.sampled_from(["float32", "float64"]))
def test_arithmetic_is_numpys(formula, pairs, dtype):
    a, b = np.array(pairs, dtype).T
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(formula(xp, a, b), formula.formula(xp, a, b))


def test_the_namespace_has_what_formulas_use():
    """Names are the array API's, so that one formula serves both."""
    lent = {"erfc", "erfc_and_gaussian", "cos_of_turn", "sin_of_turn"}
    own = [f for f in vars(_elementary).values() if isinstance(f, FunctionType) and f.__module__ == _elementary.__name__]
    public = {f.__name__ for f in own if not f.__name__.startswith("_")}
    assert [name for name in public - lent if not hasattr(xp, name)] == []
