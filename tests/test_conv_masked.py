"""Convolution of arrays with gaps against loops over what is there, and its gradients against differences."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import conv_cases, loop_conv, normals

import numconv


def by_loops(case, x, w, m, normalize, outside, min_coverage=0.0):
    """Sum over each window what the mask lets through; NaN where too little is there."""
    keys = {key: case[key] for key in ("stride", "pads", "dilation", "groups")}
    v = abs(w) if normalize == "weights" else np.ones_like(w)
    sums = loop_conv(np.where(m > 0, x, 0) * m, w, **keys)
    whole = v.sum(axis=tuple(range(1, w.ndim))).reshape(-1, *(1,) * (w.ndim - 2))
    covered = loop_conv(m, v, **keys) if outside == "missing" else whole - loop_conv(1 - m, v, **keys)
    known = covered > 1e-12 * whole + min_coverage * whole
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(known, sums * whole / covered, np.nan)


def settings_of(case):
    return {"stride": case["stride"], "padding": case["pads"], "dilation": case["dilation"], "groups": case["groups"]}


def gappy(case, share=0.4):
    x, w = normals(case["seed"], case["x_shape"], case["w_shape"])
    rng = np.random.default_rng(case["seed"])
    x[rng.random(x.shape) < share] = np.nan
    return x, w


@given(conv_cases(max_channels=3, max_size=8), st.sampled_from(["weights", "count"]), st.sampled_from(["missing", "zeros"]))
def test_value(case, normalize, outside):
    x, w = gappy(case)
    expected = by_loops(case, x, w, (~np.isnan(x)).astype(float), normalize, outside)
    y = numconv.masked_conv(x, w, normalize=normalize, outside=outside, **settings_of(case))
    seen = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(y), seen)
    np.testing.assert_allclose(y[seen], expected[seen], rtol=1e-9, atol=1e-10)


@given(conv_cases(max_channels=2, max_size=6), st.sampled_from(["weights", "count", None]), st.sampled_from(["missing", "zeros"]))
def test_gradients(case, normalize, outside):
    """Central differences along random directions, in x, w and b."""
    x, w = gappy(case, 0.3)
    (b,) = normals(1, case["w_shape"][:1])
    w = np.where(abs(w) < 0.1, 0.5, w)  # the magnitude has a kink at 0
    how = {"normalize": normalize, "outside": outside, "min_coverage": 0.1, **settings_of(case)}
    y, pullback = numconv.masked_conv_vjp(x, w, b, **how)
    known = np.isfinite(y)
    dy = np.where(known, np.random.default_rng(0).standard_normal(y.shape), np.nan)  # what is beside values does not matter
    gradients = pullback(dy)
    for i, a in enumerate((x, w, b)):
        step = np.random.default_rng(2 + i).standard_normal(a.shape) * 1e-6
        ends = [numconv.masked_conv(*(v + s * step if j == i else v for j, v in enumerate((x, w, b))), **how) for s in (1, -1)]
        if not all(np.array_equal(np.isfinite(end), known) for end in ends):
            continue  # a window at the very edge of min_coverage
        slope = np.sum((dy * (ends[0] - ends[1]))[known]) / 2
        assert np.isfinite(gradients[i]).all()
        assert abs(slope - np.sum(gradients[i] * step)) <= 1e-11 + 1e-6 * abs(slope)
    assert (gradients[0][np.isnan(x)] == 0).all()


def test_positive_kernels_interpolate():
    """A weighted mean of what is there: constants stay constant, over gaps and at the border."""
    x = np.full((1, 1, 20, 20), 7.0)
    x[0, 0, 5:9, 4:12] = np.nan
    kernel = np.exp(-0.5 * (np.arange(-6, 7) ** 2)[:, None] / 4 - 0.5 * np.arange(-6, 7) ** 2 / 4)
    y = numconv.masked_conv(x, (kernel / kernel.sum())[None, None], padding="same")
    np.testing.assert_allclose(y, 7, rtol=1e-12)
    zeros = numconv.masked_conv(x, (kernel / kernel.sum())[None, None], padding="same", outside="zeros")
    assert zeros[0, 0, 0, 0] < 3
    np.testing.assert_allclose(zeros[0, 0, 10:14, 10:14], 7, rtol=1e-12)


@pytest.mark.parametrize("hidden", [np.nan, np.inf, 1e30])
def test_what_a_mask_hides_is_never_multiplied(hidden):
    x, w = normals(0, (2, 3, 9, 8), (4, 3, 3, 3))
    mask = np.random.default_rng(1).random((2, 1, 9, 8)) < 0.7
    shown = numconv.masked_conv(np.where(mask, x, 0), w, mask=mask, padding=1)
    y, pullback = numconv.masked_conv_vjp(np.where(mask, x, hidden), w, mask=mask, padding=1)
    np.testing.assert_array_equal(y, shown)
    dx, dw = pullback(np.ones_like(y))
    assert np.isfinite(dw).all()
    assert (dx[~np.broadcast_to(mask, x.shape)] == 0).all()


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("shape", [(2, 1, 9, 8), (1, 1, 9, 8), (9, 8), (9, 1), (2, 6, 9, 8)])
def test_masks_broadcast(layout, shape):
    x, w, dy = normals(2, (2, 6, 9, 8), (4, 3, 3, 3), (2, 4, 9, 8))
    mask = np.random.default_rng(1).random(shape) < 0.6
    whole = np.broadcast_to(mask, x.shape)
    how = {"padding": 1, "groups": 2, "fill": -1.0}
    expected, pullback = numconv.masked_conv_vjp(x, w, mask=whole.copy(), **how)
    if layout == "channels_last":
        x, dy = np.moveaxis(x, 1, -1), np.moveaxis(dy, 1, -1)
        mask = np.moveaxis(np.broadcast_to(mask, (*(1,) * (4 - mask.ndim), *mask.shape)), 1, -1)
    y, own = numconv.masked_conv_vjp(x, w, mask=mask, layout=layout, **how)
    dx, dw = own(dy)
    back = (lambda a: np.moveaxis(a, -1, 1)) if layout == "channels_last" else (lambda a: a)
    np.testing.assert_allclose(back(y), expected, atol=1e-12)
    ex, ew = pullback(back(dy))
    np.testing.assert_allclose(back(dx), ex, atol=1e-11)
    np.testing.assert_allclose(dw, ew, atol=1e-10)


def test_degrees_of_certainty():
    """Half a sample twice is a whole one."""
    x, w = np.array([[[2.0, 6.0]]]), np.ones((1, 1, 2))
    assert numconv.masked_conv(x, w, mask=np.array([[[0.5, 0.5]]]))[0, 0, 0] == 8
    assert numconv.masked_conv(x, w, mask=np.array([[[1.0, 0.5]]]))[0, 0, 0] == pytest.approx(2 * (2 + 3) / 1.5)
    assert numconv.conv_coverage(np.array([[[1.0, 0.5]]]), w)[0, 0, 0] == 0.75


def test_too_little_is_there():
    x = np.array([[1.0, np.nan, np.nan, np.nan, 5.0]])
    w = np.ones((1, 1, 3))
    np.testing.assert_array_equal(numconv.masked_conv(x, w, fill=-9.0), [[3.0, -9.0, 15.0]])
    np.testing.assert_array_equal(numconv.masked_conv(x, w, min_coverage=0.5), [[np.nan] * 3])
    np.testing.assert_array_equal(numconv.masked_conv(x, w, normalize=None), [[1.0, 0.0, 5.0]])


def test_borders_that_repeat_samples_repeat_gaps():
    x, w = normals(3, (1, 2, 7, 9), (3, 2, 3, 3))
    x[0, :, 0, 3] = np.nan
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), "wrap")
    y = numconv.masked_conv(x, w, padding=1, padding_mode="circular")
    np.testing.assert_allclose(y, numconv.masked_conv(padded, w), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_libraries_and_dtypes(dtype):
    x, w = (a.astype(dtype) for a in gappy({"seed": 1, "x_shape": (2, 2, 6, 7), "w_shape": (3, 2, 2, 3)}))
    y, pullback = numconv.masked_conv_vjp(*map(array_api_strict.asarray, (x, w)), padding=1)
    expected, gradients = numconv.masked_conv_vjp(x, w, padding=1)
    assert expected.dtype == dtype
    np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-4 if dtype == np.float32 else 1e-10)
    dy = np.ones_like(expected)
    for a, e in zip(pullback(array_api_strict.asarray(dy)), gradients(dy), strict=True):
        assert str(a.dtype).endswith(np.dtype(dtype).name)
        np.testing.assert_allclose(np.asarray(a), e, rtol=1e-3 if dtype == np.float32 else 1e-9, atol=1e-4)


@pytest.mark.parametrize("taps", [3, 31])
def test_one_nan_never_poisons_an_image(taps):
    """Plain convolution too: a transform would let it, and is not chosen then."""
    x, w = normals(4, (1, 1, 300, 300), (1, 1, taps, taps))
    assert (numconv.explain(numconv.conv2d, x, w, padding="same").forward.method == "fft") == (taps == 31)
    x[0, 0, 150, 100] = np.nan
    y, pullback = numconv.conv2d_vjp(x, w, padding="same")
    assert np.isnan(y).sum() == taps**2
    assert np.isnan(pullback(y, wrt="x")).sum() <= (2 * taps - 1) ** 2


REFUSALS = [
    (ValueError, r"normalize='mean'; needed 'weights', 'count' or None", {"normalize": "mean"}),
    (ValueError, r"outside='reflect'; needed 'missing' or 'zeros'", {"outside": "reflect"}),
    (ValueError, r"min_coverage=1.5; needed a share", {"min_coverage": 1.5}),
    (TypeError, r"fill is None of type NoneType; needed a number", {"fill": None}),
    (TypeError, r"mask has dtype int64; needed bool or a real floating dtype", {"mask": np.ones((1, 1, 5), int)}),
    (ValueError, r"mask has shape \(4,\); needed one that broadcasts to that of x, \(1, 1, 5\)", {"mask": np.ones(4)}),
    (TypeError, r"arrays must come from one library", {"mask": array_api_strict.ones((1, 1, 5))}),
    (TypeError, r"unexpected keyword argument 'strides'", {"strides": 2}),
]


@pytest.mark.parametrize(("error", "words", "arguments"), REFUSALS, ids=[words for _, words, _ in REFUSALS])
def test_refusals(error, words, arguments):
    with pytest.raises(error, match=words):
        numconv.masked_conv(np.ones((1, 1, 5)), np.ones((1, 1, 2)), **arguments)
