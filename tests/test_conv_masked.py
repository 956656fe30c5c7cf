"""Convolution of arrays with gaps against loops over what is there, and its gradients against differences."""

import array_api_strict
import numpy as np
import pytest
from capabilities import LIBRARIES
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


MODES = ["zeros", "reflect", "symmetric", "replicate", "circular", ("zeros", "circular"), ("reflect", "zeros")]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("outside", ["missing", "zeros"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nothing_is_seen_in_a_gap_as_large_as_the_window(dtype, outside, mode):
    """Weights whose sums round leave nothing of themselves where there is no sample: the result is `fill`, the share 0."""
    for taps, weight in ((3, 0.1), (5, 0.1), (5, 1 / 3), (7, None)):
        w = np.random.default_rng(taps).random((2, 2, taps, taps)) if weight is None else np.full((2, 2, taps, taps), weight)
        x = np.ones((1, 2, 24, 26))
        x[..., 6 : 8 + taps, 8 : 10 + taps] = np.nan  # three windows each way lie in it
        x, w = x.astype(dtype), w.astype(dtype)
        how = {"padding": taps // 2, "padding_mode": mode, "outside": outside}
        inside = np.zeros((1, 2, 24, 26), bool)
        inside[..., 6 + taps // 2 : 8 + taps - taps // 2, 8 + taps // 2 : 10 + taps - taps // 2] = True
        for normalize in ("weights", "count"):
            y = numconv.masked_conv(x, w, normalize=normalize, fill=-7.0, **how)
            np.testing.assert_array_equal(y == -7, inside)
            share = numconv.conv_coverage(~np.isnan(x), w, normalize=normalize, **how)
            assert share.dtype == dtype
            np.testing.assert_array_equal(share == 0, inside)
            assert share.min() >= 0
            assert share.max() <= 1


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
@pytest.mark.parametrize("padding", [((2, 0), (1, 3)), "same", "full", "valid"])
def test_zeros_outside_are_samples(padding, layout):
    """What a zero of the padding counts is what a zero of x would; a stride may leave the last of them unseen."""
    x, w = gappy({"seed": 5, "x_shape": (2, 2, 8, 9), "w_shape": (2, 2, 2, 3)})
    lo_hi = {"same": ((0, 0), (1, 1)), "full": ((1, 1), (2, 2)), "valid": ((0, 0), (0, 0))}.get(padding, padding)
    padded = np.pad(x, ((0, 0), (0, 0), *lo_hi))
    expected = numconv.masked_conv(padded, w, stride=(3, 2))
    share = numconv.conv_coverage(~np.isnan(padded), w, stride=(3, 2))
    last = (lambda a: np.moveaxis(a, 1, -1)) if layout == "channels_last" else np.asarray
    how = {"stride": (3, 2), "padding": padding, "outside": "zeros", "layout": layout}
    np.testing.assert_allclose(numconv.masked_conv(last(x), w, **how), last(expected), rtol=1e-12)
    np.testing.assert_allclose(numconv.conv_coverage(~np.isnan(last(x)), w, **how), last(share), rtol=1e-12)
    np.testing.assert_allclose(numconv.masked_conv(last(x)[0], w, **how), last(expected)[0], rtol=1e-12)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_out(layout):
    x, w = gappy({"seed": 2, "x_shape": (2, 3, 3), "w_shape": (3, 3, 1)})
    expected = numconv.masked_conv(x, w, layout=layout)
    out = np.full_like(expected, 5)
    assert numconv.masked_conv(x, w, layout=layout, out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert numconv.masked_conv(x, w, layout=layout, out=x) is x  # read before it is written
    np.testing.assert_array_equal(x, expected)


def test_out_is_refused_before_it_is_written():
    x, w, out = np.ones((1, 5)), np.ones((1, 1, 2)), np.zeros((1, 5))
    with pytest.raises(ValueError, match=r"out has shape \(1, 5\), dtype float64; needed \(1, 4\), float64"):
        numconv.masked_conv(x, w, out=out)
    for f in (numconv.masked_conv_vjp, numconv.conv_coverage):
        with pytest.raises(TypeError, match=rf"{f.__name__}\(\) got an unexpected keyword argument 'out'"):
            f(x, w, out=np.zeros((1, 4)))
    assert not out.any()


BAD_MASKS = [
    ([1.0, -0.5, 1.0], "-0.5 to 1.0"),
    ([0.0, 2.0, 1.0], "0.0 to 2.0"),
    ([1.0, np.nan, 1.0], "nan to nan"),
    ([np.inf] * 3, "inf"),
]


@pytest.mark.parametrize(("numbers", "words"), BAD_MASKS, ids=[words for _, words in BAD_MASKS])
def test_masks_hold_numbers_from_0_to_1(numbers, words):
    mask, w = np.array([numbers]), np.ones((1, 1, 2))
    for f in (lambda: numconv.masked_conv(np.ones((1, 3)), w, mask=mask), lambda: numconv.conv_coverage(mask, w)):
        with pytest.raises(ValueError, match=f"mask holds numbers from .*{words}.*; needed 0 to 1"):
            f()


@pytest.mark.parametrize("normalize", ["weights", "count", None])
def test_a_kernel_of_zeros_sums_to_zero(normalize):
    """Where any sample is, its sum is the bias: not a share of nothing. So weights that begin at 0 can be trained."""
    x, w, b = np.array([[1.0, np.nan, np.nan, 4.0, 5.0]]), np.zeros((2, 1, 2)), np.array([3.0, 4.0])
    w[1] = 0.1
    y, pullback = numconv.masked_conv_vjp(x, w, b, normalize=normalize, fill=-1.0)
    np.testing.assert_allclose(y, [[3, 3 if normalize is None else -1, 3, 3], [4 + (a or 0) for a in y[1] - 4]])
    dx, dw, db = pullback(np.ones_like(y))
    assert np.isfinite(dx).all()
    assert np.isfinite(db).all()
    assert (dw[0] > 0).all()
    share = numconv.conv_coverage(~np.isnan(x), w)
    np.testing.assert_array_equal(share, [[0.5, 0, 0.5, 1]] * 2)
    np.testing.assert_array_equal(numconv.conv_coverage(np.ones((1, 1, 5), bool), w, groups=1), np.ones((1, 2, 4)))


def test_nan_among_weights_is_not_hidden():
    y = numconv.masked_conv(np.ones((1, 4)), np.array([[[np.nan, 1.0]], [[1.0, 1.0]]]), fill=0.0)
    np.testing.assert_array_equal(y, [[np.nan] * 3, [2.0] * 3])


@pytest.mark.parametrize("normalize", ["weights", "count", None])
@pytest.mark.parametrize("missing", [np.nan, np.inf])
def test_all_is_missing(normalize, missing):
    """Gradients are 0, whatever the cotangent holds there."""
    x, w, b = np.full((2, 2, 5, 6), missing), np.ones((3, 2, 2, 3)), np.ones(3)
    y, pullback = numconv.masked_conv_vjp(x, w, b, mask=np.zeros((5, 6)), normalize=normalize, padding=1, min_coverage=0.2)
    assert np.isnan(y).all()
    for gradient in pullback(np.full_like(y, np.nan)):
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))


def test_missing_samples_have_no_gradient_whatever_the_weights():
    x, w = np.array([[1.0, np.nan, 3.0]]), np.array([[[np.inf, 1.0]]])
    with np.errstate(invalid="ignore"):
        _, pullback = numconv.masked_conv_vjp(x, w, normalize="count")
        assert pullback(np.ones((1, 2)), wrt="x")[0, 1] == 0


@given(conv_cases(max_channels=2, max_size=6), st.sampled_from(["weights", "count", None]), st.sampled_from(["missing", "zeros"]))
def test_the_pullback_is_the_adjoint(case, normalize, outside):
    """With its scale held fast the value is linear in x, so <dy, y(x)> = <dx, x>; fractions in the mask, and filled places."""
    x, w = normals(case["seed"], case["x_shape"], case["w_shape"])
    rng = np.random.default_rng(case["seed"])
    mask = rng.random(x.shape) * (rng.random(x.shape) < 0.6)
    how = {"normalize": normalize, "outside": outside, "mask": mask, "min_coverage": 0.05, "fill": 0.0, **settings_of(case)}
    y, pullback = numconv.masked_conv_vjp(x, w, **how)
    dy = rng.standard_normal(y.shape)
    dx = pullback(dy, wrt="x")
    assert abs(np.sum(dy * y) - np.sum(dx * x)) <= 1e-10 * (1 + np.sum(abs(dx * x)))
    assert (dx[mask == 0] == 0).all()


@pytest.mark.parametrize("normalize", ["weights", "count", None])
def test_16_bits_are_rounded_once(normalize):
    """Sums, scales and their products are made in 32 bits: a count past 65504, and no more than one rounding."""
    x, w = (a.astype(np.float16) for a in gappy({"seed": 3, "x_shape": (2, 3, 9, 8), "w_shape": (4, 3, 3, 3)}))
    y, pullback = numconv.masked_conv_vjp(x, w, normalize=normalize, padding=1)
    wide, wide_pullback = numconv.masked_conv_vjp(x.astype("f4"), w.astype("f4"), normalize=normalize, padding=1)
    np.testing.assert_array_equal(y, wide.astype(np.float16))
    for a, e in zip(pullback(np.ones_like(y)), wide_pullback(np.ones_like(wide)), strict=True):
        assert a.dtype == np.float16
        np.testing.assert_array_equal(a, e.astype(np.float16))
    large = np.full((1, 1, 260, 260), 0.5, np.float16)
    tiny = np.full((1, 1, 260, 260), 1e-5, np.float16)
    assert np.isfinite(numconv.masked_conv(large, tiny, normalize=normalize)).all()


def test_masks_of_bfloat16():
    """NumPy does not know that they are floats."""
    x = np.ones((1, 1, 4), pytest.importorskip("ml_dtypes").bfloat16)
    y = numconv.masked_conv(x, x[..., :2], mask=x * 0.5)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.astype(float), np.full((1, 1, 3), 2.0))
    with pytest.raises(ValueError, match=r"mask holds numbers from 2\.0 to 2\.0; needed 0 to 1"):
        numconv.conv_coverage(x * 2, x[..., :2])


def test_masks_that_cannot_be_read_yet():
    """Under `jax.jit` a mask has no numbers to look at."""
    jax = pytest.importorskip("jax")
    x, w = np.array([[1.0, 2.0, 4.0]], np.float32), np.ones((1, 1, 2), np.float32)
    mask = np.array([[1, 0, 0.5]], np.float32)
    y = jax.jit(lambda x, w, mask: numconv.masked_conv(x, w, mask=mask, padding=1, outside="zeros"))(x, w, mask)
    np.testing.assert_allclose(y, numconv.masked_conv(x, w, mask=mask, padding=1, outside="zeros"), rtol=1e-6)


@pytest.mark.parametrize("library", ["array_api_strict", "torch", "dask"])
@pytest.mark.parametrize(
    "how", [{}, {"outside": "zeros"}, {"normalize": None}, {"normalize": "count", "min_coverage": 0.5}], ids=str
)
def test_every_way_in_other_libraries(library, how):
    pytest.importorskip(library)
    there = LIBRARIES["strict" if library == "array_api_strict" else library]
    x, w = gappy({"seed": 1, "x_shape": (2, 2, 6, 7), "w_shape": (3, 2, 2, 3)})
    how = {"padding": 1, "fill": 0.5, **how}
    expected, pullback = numconv.masked_conv_vjp(x, w, mask=~np.isnan(x), **how)
    y, own = numconv.masked_conv_vjp(there.make(x), there.make(w), mask=there.make(~np.isnan(x)), **how)
    np.testing.assert_allclose(there.read(y), expected, rtol=1e-10, atol=1e-12)
    for a, e in zip(own(there.make(np.ones_like(expected))), pullback(np.ones_like(expected)), strict=True):
        np.testing.assert_allclose(there.read(a), e, rtol=1e-9, atol=1e-11)
    for mask in (~np.isnan(x), np.where(np.isnan(x), 0, 0.5)):
        share = numconv.conv_coverage(there.make(mask), there.make(w), padding=1)
        np.testing.assert_allclose(there.read(share), numconv.conv_coverage(mask, w, padding=1), rtol=1e-12)


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
    (ValueError, r"b has shape \(3,\); needed \(1,\), one number per output channel", {"b": np.ones(3)}),
    (ValueError, r"b has shape \(\); needed \(1,\)", {"b": np.array(1.0)}),
]


@pytest.mark.parametrize(("error", "words", "arguments"), REFUSALS, ids=[words for _, words, _ in REFUSALS])
def test_refusals(error, words, arguments):
    with pytest.raises(error, match=words):
        numconv.masked_conv(np.ones((1, 1, 5)), np.ones((1, 1, 2)), **arguments)


COVERAGE_REFUSALS = [
    (ValueError, r"method='fast'; needed one of", (1, 2, 5), {"method": "fast"}),
    (ValueError, r"precision='low'; needed one of", (1, 2, 5), {"precision": "low"}),
    (ValueError, r"mask has shape \(5,\); with w \(4, 2, 3\), needed 3 axes, or 2", (5,), {}),
    (ValueError, r"mask has shape \(1, 3, 5\); with w \(4, 2, 3\) and groups=1, needed 2 channels or 1", (1, 3, 5), {}),
    (ValueError, r"w has shape \(4, 2, 3\) and groups=3; needed 4 to be a multiple of groups", (1, 1, 5), {"groups": 3}),
    (ValueError, r"groups=0", (1, 2, 5), {"groups": 0}),
    (TypeError, r"conv_coverage\(\) got an unexpected keyword argument 'b'", (1, 2, 5), {"b": np.ones(4)}),
]


@pytest.mark.parametrize(("error", "words", "shape", "arguments"), COVERAGE_REFUSALS, ids=[c[1] for c in COVERAGE_REFUSALS])
def test_refusals_of_coverage(error, words, shape, arguments):
    with pytest.raises(error, match=words):
        numconv.conv_coverage(np.ones(shape), np.ones((4, 2, 3)), **arguments)
