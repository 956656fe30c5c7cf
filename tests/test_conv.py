"""Convolution and transposed convolution through their doors, on every drawer, against independent oracles."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import conv_cases, cropping, loop_conv, loop_conv_transpose, normals, rounding_bound
from scipy import signal

import numconv

# One name per drawer that runs here: NumPy's float32 and float64 go to Numba, its other dtypes and other libraries to generic.
DRAWERS = ["float32", "float64", "complex128", "strict"]


def drawn(drawer, *arrays):
    """Return the arrays as the drawer wants them, and as NumPy float64 or complex128 with the same values."""
    if drawer == "strict":
        return [array_api_strict.asarray(a) for a in arrays], arrays
    if drawer == "complex128":
        arrays = [a + 1j * np.roll(a, 1) for a in arrays]
        return arrays, arrays
    rounded = [a.astype(drawer) for a in arrays]
    return rounded, [a.astype(np.float64) for a in rounded]


def working_dtype(drawer):
    return np.float32 if drawer == "float32" else np.float64


@pytest.mark.parametrize("drawer", DRAWERS)
@given(case=conv_cases())
def test_conv_is_the_sum_over_windows(drawer, case):
    settings = {k: case[k] for k in ("stride", "dilation", "groups")}
    x, w, b = normals(case["seed"], case["x_shape"], case["w_shape"], case["w_shape"][:1])
    given_arrays, (x, w, b) = drawn(drawer, x, w, b)
    y = numconv.conv(*given_arrays, padding=case["pads"], **settings)
    expected = loop_conv(x, w, b, pads=case["pads"], **settings)
    magnitude = loop_conv(abs(x), abs(w), abs(b), pads=case["pads"], **settings)
    terms = w[0].size * (4 if drawer == "complex128" else 1)
    assert y.shape == expected.shape
    assert y.dtype == given_arrays[0].dtype
    assert np.all(abs(np.asarray(y) - expected) <= rounding_bound(working_dtype(drawer), terms, magnitude))


@pytest.mark.parametrize("drawer", DRAWERS)
@given(case=conv_cases(max_channels=4), extra=st.lists(st.integers(0, 2), min_size=3, max_size=3))
def test_conv_transpose_spreads_every_sample(drawer, case, extra):
    settings = {k: case[k] for k in ("stride", "dilation", "groups")}
    (groups, w_shape, size) = case["groups"], case["w_shape"], case["x_shape"][2:]
    x_shape = (case["x_shape"][0], w_shape[0], *size)
    output_padding = tuple(min(e, max(s, d) - 1) for e, s, d in zip(extra, case["stride"], case["dilation"], strict=False))
    pads = cropping(case, size)
    x, w, b = normals(case["seed"], x_shape, w_shape, (groups * w_shape[1],))
    given_arrays, (x, w, b) = drawn(drawer, x, w, b)
    y = numconv.conv_transpose(*given_arrays, padding=pads, output_padding=output_padding, **settings)
    loops = {"pads": pads, "output_padding": output_padding, **settings}
    expected, magnitude = loop_conv_transpose(x, w, b, **loops), loop_conv_transpose(abs(x), abs(w), abs(b), **loops)
    terms = w[:, 0].size * (4 if drawer == "complex128" else 1)
    assert y.shape == expected.shape
    assert y.dtype == given_arrays[0].dtype
    assert np.all(abs(np.asarray(y) - expected) <= rounding_bound(working_dtype(drawer), terms, magnitude))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("drawer", ["float32", "float64", "strict"])
@given(case=conv_cases(max_channels=4))
def test_pullbacks_are_the_adjoints(drawer, transposed, case):
    """<dy, f(x, w)> = <x, dx> = <w, dw> for the bilinear part, exactly up to rounding: no finite differences needed."""
    settings = {"stride": case["stride"], "padding": case["pads"], "dilation": case["dilation"], "groups": case["groups"]}
    x_shape, w_shape = case["x_shape"], case["w_shape"]
    if transposed:
        x_shape = (x_shape[0], w_shape[0], *x_shape[2:])
        settings["padding"] = cropping(case, x_shape[2:])
    f = numconv.conv_transpose_vjp if transposed else numconv.conv_vjp
    channels = case["groups"] * w_shape[1] if transposed else w_shape[0]
    x, w, b = normals(case["seed"], x_shape, w_shape, (channels,))
    (gx, gw, gb), (x, w, b) = drawn(drawer, x, w, b)
    y, pullback = f(gx, gw, gb, **settings)
    (dy,) = normals(case["seed"] + 1, y.shape)
    (gdy,), (dy,) = drawn(drawer, dy)
    dx, dw, db = (np.asarray(a, dtype=np.float64) for a in pullback(gdy))
    value = np.sum(dy * (np.asarray(y, dtype=np.float64) - b.reshape(-1, *(1,) * (x.ndim - 2))))
    magnitude = np.sum(abs(dy) * f(abs(x), abs(w), abs(b), **settings)[0])
    bound = rounding_bound(working_dtype(drawer), w.size + dy.size, 2 * magnitude)
    assert (dx.shape, dw.shape, db.shape) == (x.shape, w.shape, b.shape)
    assert abs(np.sum(x * dx) - value) <= bound
    assert abs(np.sum(w * dw) - value) <= bound
    expected_db = dy.sum(axis=(0, *range(2, dy.ndim)))
    assert np.all(abs(db - expected_db) <= rounding_bound(working_dtype(drawer), dy.size, abs(dy).sum()))


@given(case=conv_cases())
def test_scipy_agrees_where_it_can_say_it(case):
    """scipy.signal knows one channel, no stride and no dilation: sum its answers over channels, thin them out, stuff zeros."""
    x, w = normals(case["seed"], case["x_shape"], case["w_shape"])
    x, w = x[:1, : w.shape[1]], w[:1]
    dilated = np.zeros((*w.shape[:2], *(d * (k - 1) + 1 for d, k in zip(case["dilation"], w.shape[2:], strict=True))))
    dilated[(..., *(slice(None, None, d) for d in case["dilation"]))] = w
    full = sum(signal.correlate(x[0, i], dilated[0, i], mode="full", method="direct") for i in range(w.shape[1]))
    expected = full[tuple(slice(None, None, s) for s in case["stride"])]
    y = numconv.conv(x, w, stride=case["stride"], dilation=case["dilation"], padding="full")
    magnitude = abs(w).sum() * abs(x).max()
    assert np.all(abs(y[0, 0] - expected) <= 2 * rounding_bound(np.float64, w.size, magnitude))


@given(case=conv_cases(max_channels=4))
def test_torch_agrees(case):
    torch = pytest.importorskip("torch")
    rank = len(case["stride"])
    x, w = normals(case["seed"], case["x_shape"], case["w_shape"])
    y, pullback = numconv.conv_vjp(
        x, w, stride=case["stride"], dilation=case["dilation"], groups=case["groups"], padding=case["pads"]
    )
    (dy,) = normals(case["seed"] + 1, y.shape)
    tx, tw = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)
    padded = torch.nn.functional.pad(tx, [n for pair in reversed(case["pads"]) for n in pair])
    f = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[rank - 1]
    ty = f(padded, tw, stride=case["stride"], dilation=case["dilation"], groups=case["groups"])
    theirs = [ty.detach(), *torch.autograd.grad(ty, (tx, tw), torch.tensor(dy))]
    terms = dy.size + w.size + x.size
    for ours, t in zip((y, *pullback(dy)), theirs, strict=True):
        magnitude = abs(x).max() * abs(w).max() * terms + abs(dy).max() * max(abs(x).max(), abs(w).max()) * terms
        assert np.all(abs(ours - t.numpy()) <= rounding_bound(np.float64, terms, magnitude))


def test_explicit_gradients_are_the_pullbacks():
    x, w = normals(0, (2, 4, 9, 8), (6, 2, 3, 2))
    settings = {"stride": (2, 3), "padding": ((1, 0), (2, 1)), "dilation": (2, 1), "groups": 2}
    y, pullback = numconv.conv_vjp(x, w, np.zeros(6), **settings)
    (dy,) = normals(1, y.shape)
    dx, dw, db = pullback(dy)
    np.testing.assert_array_equal(numconv.conv_input_grad(dy, w, x.shape, **settings), dx)
    np.testing.assert_array_equal(numconv.conv_weight_grad(x, dy, w.shape, **settings), dw)
    np.testing.assert_array_equal(numconv.conv_bias_grad(dy), db)
    y, pullback = numconv.conv_transpose_vjp(dy, w, np.zeros(4), output_padding=(1, 1), **settings)
    (g,) = normals(2, y.shape)
    dx, dw, db = pullback(g)
    np.testing.assert_array_equal(numconv.conv_transpose_input_grad(g, w, dy.shape, **settings), dx)
    np.testing.assert_array_equal(numconv.conv_transpose_weight_grad(dy, g, w.shape, **settings), dw)
    np.testing.assert_array_equal(numconv.conv_transpose_bias_grad(g), db)


@pytest.mark.parametrize("f", [numconv.conv_vjp, numconv.conv_transpose_vjp])
def test_unbatched_input_is_a_batch_of_one(f):
    x, w, b = normals(3, (4, 7, 6), (4, 4, 3, 2), (4,))
    (y1, pullback1), (y, pullback) = f(x, w, b, stride=2), f(x[None], w, b, stride=2)
    assert y1.shape == y.shape[1:]
    np.testing.assert_array_equal(y1, y[0])
    (dy,) = normals(4, y1.shape)
    for one, many in zip(pullback1(dy), pullback(dy[None]), strict=True):
        np.testing.assert_array_equal(one, many.reshape(one.shape))
    np.testing.assert_array_equal(numconv.conv_bias_grad(dy, channel_axis=0), pullback1(dy, wrt="b"))


def test_wrt_chooses_gradients():
    x, w, b = normals(5, (1, 2, 5), (3, 2, 2), (3,))
    y, pullback = numconv.conv1d_vjp(x, w, b)
    dx, dw, db = pullback(y)
    np.testing.assert_array_equal(pullback(y, wrt="w"), dw)
    for given_gradient, expected in zip(pullback(y, wrt=("b", "x")), (db, dx), strict=True):
        np.testing.assert_array_equal(given_gradient, expected)
    with pytest.raises(ValueError, match=r"wrt names 'bias'; there are gradients for 'x', 'w', 'b'"):
        pullback(y, wrt="bias")


@pytest.mark.parametrize(
    "make", [np.asfortranarray, lambda a: a[::-1, ..., ::-1], lambda a: a.astype(">f8"), lambda a: np.repeat(a, 2, -1)[..., ::2]]
)
def test_any_memory_layout_gives_the_same_answer(make):
    x, w, b = normals(6, (2, 3, 8, 7), (4, 3, 3, 3), (4,))
    x, w = make(x), make(w)
    x.flags.writeable = w.flags.writeable = b.flags.writeable = False
    plain = [np.ascontiguousarray(a, dtype=np.float64) for a in (x, w, b)]
    (y, pullback), (y0, pullback0) = numconv.conv2d_vjp(x, w, b), numconv.conv2d_vjp(*plain)
    np.testing.assert_array_equal(y, y0)
    (dx, dw, db), (dx0, dw0, db0) = pullback(np.asfortranarray(y)), pullback0(y0)
    np.testing.assert_array_equal(dx, dx0)
    np.testing.assert_array_equal(dw, dw0)
    assert np.all(abs(db - db0) <= rounding_bound(np.float64, y.size, 2 * abs(y).sum()))  # NumPy sums in the order of memory


def test_integers_are_exact_and_stay_integers():
    x, w = np.arange(24).reshape(1, 2, 12), np.arange(6).reshape(1, 2, 3) - 2
    y = numconv.conv1d(x, w, padding=1)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, loop_conv(x, w, stride=(1,), pads=((1, 1),), dilation=(1,), groups=1))


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_an_empty_batch_gives_an_empty_answer(dtype):
    x, w = np.ones((0, 2, 5), dtype), np.ones((3, 2, 2), dtype)
    y, pullback = numconv.conv1d_vjp(x, w)
    dx, dw = pullback(y)
    assert (y.shape, dx.shape, y.dtype) == ((0, 3, 4), x.shape, dtype)
    np.testing.assert_array_equal(dw, np.zeros_like(w))
    assert numconv.conv_transpose1d(y, w).shape == (0, 2, 5)


def test_mixed_precisions_are_promoted_as_the_standard_says():
    x, w = np.ones((1, 1, 4), np.float32), np.ones((1, 1, 2))
    assert numconv.conv1d(x, w).dtype == np.float64


def test_nan_stays_where_its_windows_are():
    x = np.zeros((1, 1, 64), np.float32)
    x[..., 40] = np.nan
    y, pullback = numconv.conv1d_vjp(x, np.ones((2, 1, 3), np.float32), padding=1)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(y[0, 0])), [39, 40, 41])
    dy = np.zeros_like(y)
    dy[..., 10] = 1
    assert np.all(np.isfinite(pullback(dy, wrt="x")))


def test_memory_maps_are_arrays(tmp_path):
    x = np.memmap(tmp_path / "x.dat", np.float32, "w+", shape=(1, 1, 4))
    x[:] = 1
    assert type(numconv.conv1d(x, np.ones((1, 1, 2), np.float32))) is np.ndarray
