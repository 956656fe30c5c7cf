"""Weight gradients per sample: against a loop over samples, their sum, and the linear form they are coefficients of."""

import numpy as np
import pytest
from hypothesis import given
from oracles import conv_cases, cropping, normals

import numconv
from numconv import (
    conv,
    conv_output_shape,
    conv_per_sample_weight_grad,
    conv_per_sample_weight_grad_vjp,
    conv_transpose,
    conv_transpose_output_shape,
    conv_transpose_per_sample_weight_grad,
    conv_transpose_per_sample_weight_grad_vjp,
    conv_transpose_weight_grad,
    conv_weight_grad,
)


def check(f, f_vjp, summed, apply, x, dy, w_shape, settings):
    dw = f(x, dy, w_shape, **settings)
    assert dw.shape == (len(x), *w_shape)
    assert dw.dtype == x.dtype
    each = [summed(x[n : n + 1], dy[n : n + 1], w_shape, **settings) for n in range(len(x))]
    np.testing.assert_allclose(dw, np.stack(each), rtol=1e-11, atol=1e-11)
    (v,) = normals(5, dw.shape)
    value, pullback = f_vjp(x, dy, w_shape, **settings)
    np.testing.assert_array_equal(value, dw)
    ddx, ddy = pullback(v)
    assert (ddx.shape, ddy.shape) == (x.shape, dy.shape)
    # The value is bilinear in x and dy, and v picks what stands before each: a convolution of a sample with its own weights.
    for n in range(len(x)):
        np.testing.assert_allclose(ddy[n : n + 1], apply(x[n : n + 1], v[n]), rtol=1e-11, atol=1e-11)
        assert (ddx[n] * x[n]).sum() == pytest.approx((dw[n] * v[n]).sum(), rel=1e-9, abs=1e-9)


@given(conv_cases(max_channels=4, max_size=9))
def test_a_loop_over_samples(case):
    settings = {"stride": case["stride"], "padding": case["pads"], "dilation": case["dilation"], "groups": case["groups"]}
    y_shape = conv_output_shape(case["x_shape"], case["w_shape"], **settings)
    x, dy = normals(case["seed"], case["x_shape"], y_shape)
    f, f_vjp = conv_per_sample_weight_grad, conv_per_sample_weight_grad_vjp
    check(f, f_vjp, conv_weight_grad, lambda x, w: conv(x, w, **settings), x, dy, case["w_shape"], settings)


@given(conv_cases(max_channels=4, max_size=6))
def test_a_loop_over_samples_transposed(case):
    x_shape = (case["x_shape"][0], case["w_shape"][0], *case["x_shape"][2:])
    pads = cropping(case, x_shape[2:])
    settings = {"stride": case["stride"], "padding": pads, "dilation": case["dilation"], "groups": case["groups"]}
    extra = {"output_padding": tuple(s - 1 for s in case["stride"])}
    y_shape = conv_transpose_output_shape(x_shape, case["w_shape"], **settings, **extra)
    x, dy = normals(case["seed"], x_shape, y_shape)
    f, f_vjp = conv_transpose_per_sample_weight_grad, conv_transpose_per_sample_weight_grad_vjp

    def apply(x, w):
        return conv_transpose(x, w, **settings, **extra)

    check(f, f_vjp, conv_transpose_weight_grad, apply, x, dy, case["w_shape"], settings)


def test_other_settings_pass_on():
    """Borders, flipped taps and channels last are settings like others."""
    settings = {"padding": (2, 1), "padding_mode": ("symmetric", "circular"), "flip": True, "layout": "channels_last"}
    settings |= {"groups": 2, "stride": (2, 1)}
    x, w = normals(0, (3, 7, 5, 4), (6, 2, 3, 2))
    (dy,) = normals(1, conv(x, w, **settings).shape)
    f, f_vjp = conv_per_sample_weight_grad, conv_per_sample_weight_grad_vjp
    check(f, f_vjp, conv_weight_grad, lambda x, w: conv(x, w, **settings), x, dy, w.shape, settings)
    f, f_vjp = conv_transpose_per_sample_weight_grad, conv_transpose_per_sample_weight_grad_vjp

    def apply(x, w):
        return conv_transpose(x, w, output_size=(7, 5), **settings)

    check(f, f_vjp, conv_transpose_weight_grad, apply, dy, x, w.shape, settings)


def test_float32_and_any_number_of_threads():
    x, dy = normals(0, (9, 8, 12, 11), (9, 16, 12, 11), dtype=np.float32)
    dw = []
    for threads in (1, 2):
        with numconv.threads(threads):
            dw.append(conv_per_sample_weight_grad(x, dy, (16, 8, 3, 3), padding="same"))
    np.testing.assert_array_equal(*dw)
    exact = conv_weight_grad(x.astype(np.float64), dy.astype(np.float64), (16, 8, 3, 3), padding="same")
    np.testing.assert_allclose(dw[0].sum(0, dtype=np.float64), exact, atol=9 * 132 * 2.0**-24 * np.abs(x).max() * 4)


def test_refusals():
    x, dy = normals(0, (2, 3, 8), (2, 4, 6))
    with pytest.raises(ValueError, match=r"x has shape \(3, 8\); .* needed 3 axes"):
        conv_per_sample_weight_grad(x[0], dy[0], (4, 3, 3))
    with pytest.raises(ValueError, match=r"dy has shape \(1, 4, 6\)"):
        conv_per_sample_weight_grad(x, dy[:1], (4, 3, 3))
    with pytest.raises(ValueError, match="at least one sample"):
        conv_per_sample_weight_grad(x[:0], dy[:0], (4, 3, 3))
    with pytest.raises(ValueError, match="x has"):
        conv_per_sample_weight_grad(x, dy, (4, 2, 3))
