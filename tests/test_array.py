"""Foundations: which arrays are welcome, what a pullback checks, how trees and windows take things apart and together."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numconv import _array, _window
from numconv._pullback import Pullback
from numconv._tree import from_named_leaves, leaves, named_leaves, tree_map


def test_float_helpers_name_the_argument():
    xp, a, none = _array.floats(a=np.ones(2, np.float32), b=None)
    assert (a.dtype, none) == (np.float32, None)
    assert xp.__name__ == "numpy"
    with pytest.raises(TypeError, match="labels has dtype float32; needed an integer dtype"):
        _array.integers(xp, labels=a)
    with pytest.raises(TypeError, match="z has dtype complex128; needed a real floating dtype"):
        _array.reals(z=np.ones(2, complex))
    with pytest.raises(TypeError, match="n has dtype int64; needed a floating dtype"):
        _array.floats(n=np.ones(2, int))


def test_arrays_on_two_devices_are_refused():
    a = array_api_strict.asarray(1.0)
    b = array_api_strict.asarray(1.0, device=array_api_strict.Device("device1"))
    with pytest.raises(TypeError, match=r"arrays must be on one device, got a: .*CPU.*, b: .*device1"):
        _array.namespace(a=a, b=b)


def test_pullback_of_one_argument_is_bare_and_of_several_a_tuple():
    y = np.ones(3, np.float32)
    np.testing.assert_array_equal(Pullback(y, x=lambda dy: 2 * dy)(y), 2 * y)
    both = Pullback(y, x=lambda dy: dy, w=lambda dy: -dy)
    assert len(both(y)) == 2
    (only,) = both(y, wrt=("w",))
    np.testing.assert_array_equal(only, -y)


def test_pullback_of_a_scalar_has_one_as_its_cotangent():
    pullback = Pullback(np.float32(5), x=lambda dy: dy * 3)
    assert pullback() == 3
    assert pullback(2.0).dtype == np.float32
    with pytest.raises(TypeError, match="the cotangent is from array_api_strict, the value from"):
        pullback(array_api_strict.asarray(1.0))


def test_pullback_converts_the_cotangent_to_the_dtype_of_the_value():
    assert Pullback(np.ones(2, np.float32), x=lambda dy: dy)(np.ones(2)).dtype == np.float32


trees = st.recursive(
    st.integers(),
    lambda t: st.lists(t, min_size=1, max_size=3).map(tuple) | st.dictionaries(st.sampled_from("abc"), t, min_size=1),
)


@given(trees)
def test_a_tree_comes_back_from_its_named_leaves(tree):
    named = dict(named_leaves(tree))
    assert len(named) == len(list(leaves(tree)))
    assert from_named_leaves(tree, named) == tree
    assert tree_map(lambda a, b: a - b, tree, tree) == tree_map(lambda a: 0, tree)


@given(st.integers(1, 9), st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(0, 4))
def test_spread_is_the_adjoint_of_under(outputs, stride, dilation, tap, tail):
    size = dilation * tap + stride * (outputs - 1) + 1 + tail
    x, y = np.random.default_rng(0).standard_normal((2, size)), np.random.default_rng(1).standard_normal((2, outputs))
    taken = x[_window.under((tap,), (outputs,), (stride,), (dilation,))]
    put = _window.spread(np, y, (tap,), (size,), (stride,), (dilation,))
    assert put.shape == x.shape
    assert abs(np.sum(taken * y) - np.sum(x * put)) < 1e-12
