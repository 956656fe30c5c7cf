"""Padding modes of convolution and its gradients against numpy.pad and loops, in every dtype and any number of axes."""

from typing import NamedTuple

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import conv_cases, loop_conv, normals, rounding_bound

import numconv
from numconv.conv import geometry
from numconv.conv.halo import slabs_of

NUMPY = {"zeros": "constant", "reflect": "reflect", "symmetric": "symmetric", "replicate": "edge", "circular": "wrap"}
MODES = sorted(NUMPY)


class Padded(NamedTuple):
    arguments: dict
    x_shape: tuple
    w_shape: tuple
    modes: tuple
    seed: int

    def pad(self, x):
        """Pad with NumPy, axis by axis."""
        rank = len(self.modes)
        for axis, (mode, pads) in enumerate(zip(self.modes, self.arguments["padding"], strict=True)):
            x = np.pad(x, [pads if other == axis + 2 else (0, 0) for other in range(rank + 2)], NUMPY[mode])
        return x

    def reference(self, x, w, b=None):
        """Convolve by loops, over a padded copy."""
        a = self.arguments
        nothing = ((0, 0),) * len(self.modes)
        return loop_conv(self.pad(x), w, b, stride=a["stride"], pads=nothing, dilation=a["dilation"], groups=a["groups"])


@st.composite
def padded_cases(draw):
    case = draw(conv_cases(max_channels=3, max_size=9))
    modes = tuple(draw(st.sampled_from(MODES)) for _ in case["stride"])
    arguments = {"stride": case["stride"], "padding": case["pads"], "dilation": case["dilation"], "groups": case["groups"]}
    return Padded(arguments, case["x_shape"], case["w_shape"], modes, case["seed"])


@given(padded_cases(), st.sampled_from([np.float32, np.float64]))
def test_convolution_is_that_of_a_padded_copy(case, dtype):
    x, w, b = normals(case.seed, case.x_shape, case.w_shape, case.w_shape[:1], dtype=dtype)
    y = numconv.conv(x, w, b, padding_mode=case.modes, **case.arguments)
    exact = [a.astype(np.float64) for a in (x, w, b)]
    terms = 2 * np.prod(case.w_shape[1:])
    bound = rounding_bound(dtype, terms + 8, case.reference(*map(abs, exact)))  # the halo adds one sum for each slab
    assert y.dtype == dtype
    assert np.all(abs(y - case.reference(*exact)) <= bound)


@given(padded_cases())
def test_gradients_are_the_adjoints(case):
    """<dy, conv(x, w)> is linear in x and in w, so the gradients reproduce it, and each entry is a convolution of a unit."""
    x, w = normals(case.seed, case.x_shape, case.w_shape)
    how = {"padding_mode": case.modes, **case.arguments}
    y, pullback = numconv.conv_vjp(x, w, **how)
    (dy,) = normals(case.seed + 1, y.shape)
    dx, dw = pullback(dy)
    size = 1e-12 * (1 + np.sum(abs(dy) * case.reference(abs(x), abs(w))))
    assert abs(np.sum(dy * y) - np.sum(dx * x)) <= size
    assert abs(np.sum(dy * y) - np.sum(dw * w)) <= size
    rng = np.random.default_rng(case.seed)
    for a, da, convolve in ((x, dx, lambda e: case.reference(e, w)), (w, dw, lambda e: case.reference(x, e))):
        unit = np.zeros_like(a)
        place = tuple(rng.integers(0, n) for n in a.shape)
        unit[place] = 1
        assert abs(np.sum(dy * convolve(unit)) - da[place]) <= 1e-11
    np.testing.assert_array_equal(numconv.conv_input_grad(dy, w, x.shape, **how), dx)
    np.testing.assert_array_equal(numconv.conv_weight_grad(x, dy, w.shape, **how), dw)


@given(padded_cases())
def test_transposed_convolution_is_the_adjoint_in_every_mode(case):
    x, w = normals(case.seed, case.x_shape, case.w_shape)
    y = numconv.conv(x, w, padding_mode=case.modes, **case.arguments)
    (dy,) = normals(case.seed + 1, y.shape)
    how = {**case.arguments, "padding_mode": case.modes, "output_size": x.shape[2:]}
    z, pullback = numconv.conv_transpose_vjp(dy, w, **how)
    assert abs(np.sum(dy * y) - np.sum(z * x)) <= 1e-11 * (1 + np.sum(abs(dy * y)))
    np.testing.assert_allclose(pullback(x, wrt="x"), y, atol=1e-11)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", ["direct", "winograd", "fft"])
def test_every_method_serves_every_mode(mode, method):
    x, w = normals(0, (2, 9, 17, 21), (10, 9, 3, 3))
    expected = numconv.conv2d(np.pad(x, ((0, 0), (0, 0), (2, 2), (3, 1)), NUMPY[mode]), w)
    y = numconv.conv2d(x, w, padding=(2, (3, 1)), padding_mode=mode, method=method)
    np.testing.assert_allclose(y, expected, atol=1e-11)


@pytest.mark.parametrize("mode", MODES)
def test_rectified_after_the_halo(mode):
    from numconv.conv.forward import rectified_conv_vjp

    x, w, b = normals(1, (2, 3, 9, 8), (4, 3, 3, 3), (4,))
    y, _ = rectified_conv_vjp(x, w, b, padding=1, padding_mode=mode)
    np.testing.assert_allclose(y, np.maximum(numconv.conv2d(x, w, b, padding=1, padding_mode=mode), 0), atol=1e-14)


@pytest.mark.parametrize("mode", MODES)
def test_no_other_library_than_the_callers(mode):
    x, w = normals(2, (2, 2, 7, 6), (4, 2, 3, 2))
    how = {"padding": ((2, 1), 3), "stride": (2, 1), "padding_mode": mode}
    y, pullback = numconv.conv2d_vjp(array_api_strict.asarray(x), array_api_strict.asarray(w), **how)
    expected, gradients = numconv.conv2d_vjp(x, w, **how)
    np.testing.assert_allclose(np.asarray(y), expected, atol=1e-13)
    for a, b in zip(pullback(y), gradients(expected), strict=True):
        assert type(a) is type(y)
        np.testing.assert_allclose(np.asarray(a), b, atol=1e-11)


def test_no_padded_copy():
    """Slabs are thin: beside an image of 1000 x 1000 they hold a hundredth of its samples."""
    g = geometry.conv((1, 1, 1000, 1000), (1, 1, 5, 5), 1, "same", 1, 1)
    slabs = slabs_of(g, ("circular", "reflect"))
    assert len(slabs) == 4
    assert sum(slab.numbers for slab in slabs) < 0.02 * 1000 * 1000
    assert slabs_of(g, ("zeros", "zeros")) == []


@settings(max_examples=10)
@given(st.sampled_from(MODES), st.integers(0, 99))
def test_planted_faults_are_caught(mode, seed):
    """A halo of the mode next in the list is another convolution."""
    x, w = normals(seed, (1, 1, 6, 6), (1, 1, 3, 3))
    other = MODES[(MODES.index(mode) + 1) % len(MODES)]
    a, b = (numconv.conv2d(x, w, padding=2, padding_mode=m) for m in (mode, other))
    assert abs(a - b).max() > 1e-6


def test_modes_are_refused_by_name():
    x, w = normals(3, (1, 1, 6, 6), (1, 1, 3, 3))
    with pytest.raises(ValueError, match=r"padding_mode='wrap'; needed one of 'zeros', .* or 2 of them"):
        numconv.conv2d(x, w, padding=1, padding_mode="wrap")
    with pytest.raises(TypeError, match=r"padding_mode=None of type NoneType; needed a word, or one per axis"):
        numconv.conv2d(x, w, padding=1, padding_mode=None)
    with pytest.raises(ValueError, match=r"padding_mode=\('zeros',\); needed"):
        numconv.conv2d(x, w, padding=1, padding_mode=["zeros"])
