"""Second derivatives of convolution: the gradient functions against the trilinear form they are derived from."""

import numpy as np
import pytest
from hypothesis import given
from oracles import conv_cases, cropping, normals

import numconv
from numconv import (
    conv,
    conv_bias_grad_vjp,
    conv_input_grad_vjp,
    conv_output_shape,
    conv_transpose,
    conv_transpose_input_grad_vjp,
    conv_transpose_output_shape,
    conv_transpose_weight_grad_vjp,
    conv_vjp,
    conv_weight_grad_vjp,
)


def close(a, b, scale):
    """Sums of a few thousand products, in float64, in different orders."""
    assert abs(a - b) <= 1e-11 * max(scale, 1.0)


def check(f_vjp, form, arguments, last, settings, seed):
    """`f_vjp` must be the gradient of the trilinear form in what is left open, and its pullback that in its two arguments.

    The form is linear in each of its arguments, so a difference over a whole step is a derivative without a truncation error.
    """
    (first, a), (second, b) = arguments.items()
    value, pullback = f_vjp(a, b, last, **settings)
    v, da, db = normals(seed, value.shape, a.shape, b.shape)
    scale = np.abs(value).sum() * 3
    close((value * v).sum(), form(**{first: a, second: b}, v=v), scale)
    grad_a, grad_b = pullback(v)
    close((grad_a * da).sum(), form(**{first: a + da, second: b}, v=v) - form(**{first: a, second: b}, v=v), scale)
    close((grad_b * db).sum(), form(**{first: a, second: b + db}, v=v) - form(**{first: a, second: b}, v=v), scale)
    np.testing.assert_array_equal(pullback(v, wrt=first), grad_a)
    np.testing.assert_array_equal(pullback(v, wrt=second), grad_b)


@given(conv_cases())
def test_gradients_of_gradients(case):
    settings = {"stride": case["stride"], "padding": case["pads"], "dilation": case["dilation"], "groups": case["groups"]}
    y_shape = conv_output_shape(case["x_shape"], case["w_shape"], **settings)
    x, w, dy = normals(case["seed"], case["x_shape"], case["w_shape"], y_shape)
    arguments = {"dy": dy, "w": w}
    check(conv_input_grad_vjp, lambda dy, w, v: (conv(v, w, **settings) * dy).sum(), arguments, x.shape, settings, 1)
    arguments = {"x": x, "dy": dy}
    check(conv_weight_grad_vjp, lambda x, dy, v: (conv(x, v, **settings) * dy).sum(), arguments, w.shape, settings, 2)


@given(conv_cases(max_size=6))
def test_gradients_of_transposed_gradients(case):
    batch, groups, channels = case["x_shape"][0], case["groups"], case["w_shape"][0]
    x_shape = (batch, channels, *case["x_shape"][2:])
    pads = cropping(case, x_shape[2:])
    settings = {"stride": case["stride"], "padding": pads, "dilation": case["dilation"], "groups": groups}
    extra = {"output_padding": tuple(s - 1 for s in case["stride"])}
    y_shape = conv_transpose_output_shape(x_shape, case["w_shape"], **settings, **extra)
    x, w, dy = normals(case["seed"], x_shape, case["w_shape"], y_shape)

    def form(x, w, dy):
        return (conv_transpose(x, w, **settings, **extra) * dy).sum()

    arguments = {"dy": dy, "w": w}
    check(conv_transpose_input_grad_vjp, lambda dy, w, v: form(v, w, dy), arguments, x.shape, settings, 1)
    arguments = {"x": x, "dy": dy}
    check(conv_transpose_weight_grad_vjp, lambda x, dy, v: form(x, v, dy), arguments, w.shape, settings, 2)


@pytest.mark.parametrize("groups", [1, 2])
def test_other_settings_pass_on(groups):
    """Borders, flipped taps and channels last are settings like others."""
    settings = {"padding": (2, 1), "padding_mode": ("symmetric", "circular"), "flip": True, "layout": "channels_last"}
    settings |= {"groups": groups, "stride": (2, 1)}
    x, w = normals(0, (2, 7, 5, 4), (6, 4 // groups, 3, 2))
    (dy,) = normals(1, conv(x, w, **settings).shape)
    arguments = {"dy": dy, "w": w}
    check(conv_input_grad_vjp, lambda dy, w, v: (conv(v, w, **settings) * dy).sum(), arguments, x.shape, settings, 1)
    arguments = {"x": x, "dy": dy}
    check(conv_weight_grad_vjp, lambda x, dy, v: (conv(x, v, **settings) * dy).sum(), arguments, w.shape, settings, 2)

    def form(x, w, dy):
        return (conv_transpose(x, w, output_size=(7, 5), **settings) * dy).sum()

    arguments = {"dy": x, "w": w}
    check(conv_transpose_input_grad_vjp, lambda dy, w, v: form(v, w, dy), arguments, dy.shape, settings, 3)
    arguments = {"x": dy, "dy": x}
    check(conv_transpose_weight_grad_vjp, lambda x, dy, v: form(x, v, dy), arguments, w.shape, settings, 4)


def test_hessian_by_finite_differences():
    """A gradient penalty, |d loss / d x|^2: its gradient in the weights, through `conv_input_grad_vjp`, against differences."""
    x, w = normals(0, (2, 3, 6, 5), (4, 3, 3, 2))
    settings = {"stride": (2, 1), "padding": "same"}

    def penalty(w):
        y, pullback = conv_vjp(x, w, **settings)
        return (pullback(np.tanh(y), wrt="x") ** 2).sum() / 2

    y, _ = conv_vjp(x, w, **settings)
    dx, pullback = conv_input_grad_vjp(np.tanh(y), w, x.shape, **settings)
    d_dy, d_w = pullback(dx)
    d_w = d_w + conv_vjp(x, w, **settings)[1](d_dy / np.cosh(y) ** 2, wrt="w")
    (direction,) = normals(1, w.shape)
    step = 1e-5
    difference = (penalty(w + step * direction) - penalty(w - step * direction)) / (2 * step)
    assert (d_w * direction).sum() == pytest.approx(difference, rel=1e-8)


def test_unbatched_complex_and_mixed():
    """Cotangents and gradients lie as the arguments do; complex numbers are not conjugated."""
    x, w, dy, v = (a + 1j * b for a, b in zip(*(normals(s, (2, 9), (3, 2, 4), (3, 6), (2, 9)) for s in (0, 1)), strict=True))
    _, pullback = conv_input_grad_vjp(dy, w, x.shape)
    d_dy, d_w = pullback(v)
    assert d_dy.shape == dy.shape
    np.testing.assert_allclose((d_dy * dy).sum(), (conv(v, w) * dy).sum(), rtol=1e-12)
    np.testing.assert_allclose((d_w * w).sum(), (conv(v, w) * dy).sum(), rtol=1e-12)
    _, pullback = conv_transpose_input_grad_vjp(dy := normals(2, (2, 12))[0], w.real, (3, 9))
    assert pullback(normals(3, (3, 9))[0], wrt="dy").shape == dy.shape


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_bias(axis):
    dy, v = normals(0, (3, 4, 5), ((3, 4, 5)[axis],))
    db, pullback = conv_bias_grad_vjp(dy, channel_axis=axis)
    other = tuple(i for i in range(3) if i != axis % 3)
    np.testing.assert_allclose(db, dy.sum(other), rtol=1e-13)
    np.testing.assert_array_equal(pullback(v), np.broadcast_to(np.expand_dims(v, other), dy.shape))


def test_refusals():
    dy, w = normals(0, (1, 3, 6), (3, 2, 4))
    _, pullback = conv_input_grad_vjp(dy, w, (1, 2, 9))
    with pytest.raises(ValueError, match=r"cotangent has shape \(1, 2, 8\); needed the value's, \(1, 2, 9\)"):
        pullback(np.zeros((1, 2, 8)))
    with pytest.raises(ValueError, match=r"dy has shape"):
        conv_input_grad_vjp(dy, w, (1, 2, 8))
    with pytest.raises(TypeError, match="strid"):
        conv_input_grad_vjp(dy, w, (1, 2, 9), strid=2)
    assert numconv.conv_transpose_bias_grad_vjp is numconv.conv_bias_grad_vjp
