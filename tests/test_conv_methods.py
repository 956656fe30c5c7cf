"""The choice among methods of convolution: what each computes, what `auto` takes, what `explain` says, what is refused."""

import array_api_strict
import numpy as np
import pytest
from oracles import normals

import numconv
from numconv.conv import cpu, generic, geometry

FORMS = {"conv": numconv.conv2d_vjp, "conv_transpose": numconv.conv_transpose2d_vjp}


@pytest.mark.parametrize("method", ["auto", "direct", "winograd", "fft"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_method_computes_the_same(method, form, dtype):
    x, w, b = normals(0, (2, 12, 17, 19), (12, 12, 3, 3), (12,), dtype=dtype)
    y, pullback = FORMS[form](x, w, b, padding=1, method=method)
    exact, exact_pullback = FORMS[form](*(a.astype(float) for a in (x, w, b)), padding=1, precision="highest")
    dy = np.asarray(normals(1, y.shape)[0])
    for mine, right in zip((y, *pullback(dy.astype(dtype))), (exact, *exact_pullback(dy)), strict=True):
        assert mine.dtype == dtype
        assert np.max(abs(mine - right)) < 100 * np.finfo(dtype).eps * np.max(abs(right))


@pytest.mark.parametrize(
    ("x", "w", "method"),
    [
        ((4, 64, 56, 56), (64, 64, 3, 3), "winograd"),
        ((1, 1, 1024, 1024), (1, 1, 3, 3), "direct"),
        ((1, 1, 1024, 1024), (1, 1, 15, 15), "direct"),
        ((1, 1, 1024, 1024), (1, 1, 63, 63), "fft"),
        ((1, 1, 1_000_000), (1, 1, 8192), "fft"),
    ],
)
def test_auto_goes_by_shape(x, w, method):
    arrays = [np.broadcast_to(np.float32(0), shape) for shape in (x, w)]
    explained = numconv.explain(numconv.conv, *arrays, padding="same")
    assert [step.method for step in explained] == [method] * 3
    assert all(step.workspace < 64 << 20 for step in explained)
    assert numconv.explain(numconv.conv, *arrays, padding="same", precision="highest").forward.method == "direct"


def test_auto_uses_no_transform_on_what_is_not_finite():
    x, w = normals(0, (1, 1, 300, 300), (1, 1, 63, 63))
    assert numconv.explain(numconv.conv2d, x, w).forward.method == "fft"
    x[0, 0, 10, 290] = np.nan
    y = numconv.conv2d(x, w)
    assert 0 < np.isnan(y).sum() < y.size / 2
    assert np.isnan(numconv.conv2d(x, w, method="fft")).sum() > np.isnan(y).sum()


def test_explain_names_what_runs_elsewhere():
    x, w = np.ones((1, 2, 8, 8)), np.ones((3, 2, 3, 3))
    strict = numconv.explain(numconv.conv2d, array_api_strict.asarray(x), array_api_strict.asarray(w))
    assert {step.method for step in strict} == {"generic"}
    assert numconv.explain(numconv.conv2d, x.astype(np.longdouble), w.astype(np.longdouble)).forward.method == "generic"
    assert "weight grad" in str(numconv.explain(numconv.conv_transpose2d_vjp, np.ones((1, 3, 8, 8)), w, stride=2))


def test_announced_error_is_near_the_measured_one():
    x, w = normals(0, (1, 64, 28, 28), (64, 64, 3, 3), dtype=np.float32)
    g = geometry.conv(x.shape, w.shape, 1, 1, 1, 1)
    exact = generic.contract_y(x.astype(float), w.astype(float), g)
    for method in ("direct", "winograd", "fft"):
        error = cpu.by(method).contract_y(x, w, g) - exact
        announced = numconv.explain(numconv.conv2d, x, w, padding=1, method=method).forward.error
        assert announced / 4 < np.sqrt(np.mean(error**2) / np.mean(exact**2)) < 4 * announced


X, W = np.ones((2, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)


def strided_and_dilated():
    numconv.conv2d(X, W, stride=2, dilation=3, method="winograd")


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, r"method='wino'; needed one of 'auto'", lambda: numconv.conv2d(X, W, method="wino")),
        (ValueError, r"precision='bf16'; needed one of", lambda: numconv.conv2d(X, W, precision="bf16")),
        (ValueError, r"either stride or dilation 1; got taps \(3, 3\), stride \(2, 2\), dilation \(3, 3\)", strided_and_dilated),
        (ValueError, r"rounds more than", lambda: numconv.conv2d(X, W, method="fft", precision="highest")),
        (ValueError, r"is for arrays on the CPU", lambda: numconv.conv2d(*map(array_api_strict.asarray, (X, W)), method="fft")),
        (ValueError, r"integers are exact", lambda: numconv.conv2d(X.astype(int), W.astype(int), method="fft")),
        (ValueError, r"needs 2 to 5 taps", lambda: numconv.explain(numconv.conv2d, X, W[..., :1, :1], method="winograd")),
        (ValueError, r"conv1d: w has shape", lambda: numconv.explain(numconv.conv1d, X, W)),
        (TypeError, r"f must be numconv.conv", lambda: numconv.explain(numconv.linear, X, W)),
        (TypeError, r"bogus", lambda: numconv.explain(numconv.conv2d, X, W, bogus=1)),
    ],
)
def test_refusals(error, words, call):
    with pytest.raises(error, match=words):
        call()
