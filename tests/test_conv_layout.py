"""How arrays lie: strides of any sign, memory read-only or unaligned, channels last, taps reversed, results in given memory."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import conv_cases, normals

import numconv


def how(case):
    return {"stride": case["stride"], "padding": case["pads"], "dilation": case["dilation"], "groups": case["groups"]}


def last(a):
    return np.moveaxis(a, 1, -1)


def first(a):
    return np.moveaxis(a, -1, 1)


def unaligned(a):
    memory = np.zeros(a.nbytes + 1, np.uint8)[1:]
    memory[:] = np.frombuffer(a.tobytes(), np.uint8)
    b = memory.view(a.dtype).reshape(a.shape)
    assert not b.flags.aligned
    return b


def read_only(a):
    a = a.copy()
    a.setflags(write=False)
    return a


def backwards(a):
    return np.ascontiguousarray(a[::-1, ..., ::-1])[::-1, ..., ::-1]


@pytest.mark.parametrize("lie", [unaligned, read_only, backwards, np.asfortranarray, lambda a: a.astype(a.dtype.newbyteorder())])
@given(conv_cases(max_channels=3, max_size=7))
def test_any_memory_will_do(lie, case):
    x, w = normals(case["seed"], case["x_shape"], case["w_shape"], dtype=np.float32)
    expected, pullback = numconv.conv_vjp(x, w, **how(case))
    y, own = numconv.conv_vjp(lie(x), lie(w), **how(case))
    np.testing.assert_array_equal(y, expected)
    for a, e in zip(own(lie(expected)), pullback(expected), strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("batched", [True, False])
@given(conv_cases(max_channels=3, max_size=7))
def test_channels_last(batched, case):
    x, w, b = normals(case["seed"], case["x_shape"], case["w_shape"], case["w_shape"][:1])
    expected, pullback = numconv.conv_vjp(x, w, b, **how(case))
    same = (lambda a: a) if batched else (lambda a: a[0])
    if not batched:
        x, expected = x[:1], expected[:1]
        pullback = numconv.conv_vjp(x, w, b, **how(case))[1]
    y, own = numconv.conv_vjp(same(last(x)), w, b, layout="channels_last", **how(case))
    np.testing.assert_array_equal(y, same(last(expected)))
    dx, dw, db = own(y)
    ex, ew, eb = pullback(expected)
    np.testing.assert_array_equal(dx, same(last(ex)))
    np.testing.assert_array_equal(dw, ew)
    np.testing.assert_allclose(db, eb, rtol=1e-12, atol=1e-12)
    shape = numconv.conv_output_shape(same(last(x)).shape, w.shape, layout="channels_last", **how(case))
    assert shape == y.shape
    settings = {"layout": "channels_last", **how(case)}
    np.testing.assert_array_equal(numconv.conv_input_grad(y, w, same(last(x)).shape, **settings), dx)
    np.testing.assert_array_equal(numconv.conv_weight_grad(same(last(x)), y, w.shape, **settings), dw)


@given(conv_cases(max_channels=3, max_size=7))
def test_reversed_taps(case):
    x, w = normals(case["seed"], case["x_shape"], case["w_shape"])
    turn = (..., *(slice(None, None, -1),) * (w.ndim - 2))
    expected, pullback = numconv.conv_vjp(x, w[turn], **how(case))
    y, own = numconv.conv_vjp(x, w, flip=True, **how(case))
    np.testing.assert_array_equal(y, expected)
    dx, dw = own(y)
    np.testing.assert_array_equal(dx, pullback(y)[0])
    np.testing.assert_array_equal(dw, pullback(y)[1][turn])
    z, back = numconv.conv_transpose_vjp(y, w, flip=True, output_size=x.shape[2:], **how(case))
    np.testing.assert_array_equal(z, dx)
    np.testing.assert_array_equal(back(x, wrt="w"), numconv.conv_weight_grad(x, y, w.shape, flip=True, **how(case)))


@given(conv_cases(max_channels=3, max_size=7), st.sampled_from(["whole", "strided", "last"]), st.booleans())
def test_out_is_written_and_returned(case, kind, transposed):
    x, w = normals(case["seed"], case["x_shape"], case["w_shape"])
    f, settings = numconv.conv, how(case)
    if transposed:
        x = numconv.conv(x, w, **settings)
        f, settings = numconv.conv_transpose, {**settings, "output_size": case["x_shape"][2:]}
    expected = f(x, w, **settings)
    if kind == "last":
        x, expected, settings = last(x), last(expected), {**settings, "layout": "channels_last"}
    out = np.full((2, *expected.shape), np.nan)[1] if kind != "strided" else np.full((*expected.shape, 2), np.nan)[..., 1]
    assert f(x, w, out=out, **settings) is out
    np.testing.assert_array_equal(out, expected)


def test_out_may_be_an_argument():
    x, w = normals(0, (2, 3, 8, 9), (3, 3, 3, 3))
    expected = numconv.conv2d(x, w, padding="same")
    assert numconv.conv2d(x, w, padding="same", out=x) is x
    np.testing.assert_array_equal(x, expected)


def test_out_is_used_as_it_is(monkeypatch):
    """No result is made elsewhere and copied."""
    x, w = normals(1, (1, 3, 40, 41), (4, 3, 3, 3), dtype=np.float32)
    out, made = np.empty((1, 4, 38, 39), np.float32), []
    empty = np.empty

    def seen(shape, dtype=float, **more):
        made.append((tuple(np.atleast_1d(shape)), np.dtype(dtype)))
        return empty(shape, dtype, **more)

    monkeypatch.setattr(np, "empty", seen)
    numconv.conv2d(x, w)
    assert (out.shape, out.dtype) in made
    made.clear()
    numconv.conv2d(x, w, out=out)
    assert (out.shape, out.dtype) not in made


REFUSALS = [
    (ValueError, r"layout='nhwc'; needed 'channels_first' or 'channels_last'", {"layout": "nhwc"}),
    (ValueError, r"out has shape \(1, 1, 4\), dtype float64; needed \(1, 1, 3\), float64", {"out": np.empty((1, 1, 4))}),
    (ValueError, r"out has shape \(1, 1, 3\), dtype float32; needed", {"out": np.empty((1, 1, 3), np.float32)}),
    (ValueError, r"out is read-only", {"out": read_only(np.empty((1, 1, 3)))}),
    (TypeError, r"out must be an array of the library of x .* got Array", {"out": array_api_strict.empty((1, 1, 3))}),
    (TypeError, r"out must be an array of the library of x .* got list", {"out": [0.0]}),
]


@pytest.mark.parametrize(("error", "words", "arguments"), REFUSALS, ids=[words for _, words, _ in REFUSALS])
def test_refusals(error, words, arguments):
    with pytest.raises(error, match=words):
        numconv.conv1d(np.ones((1, 1, 5)), np.ones((1, 1, 3)), **arguments)


def test_torch_tensors_that_record_gradients_are_refused_with_the_way_out():
    torch = pytest.importorskip("torch")
    x, w = torch.ones(1, 1, 5), torch.ones(1, 1, 3, requires_grad=True)
    with pytest.raises(TypeError, match=r"w records gradients .* needed a function of numconv\.interop\.torch, or w\.detach\(\)"):
        numconv.conv1d(x, w)
    assert numconv.conv1d(x, w.detach()).tolist() == [[[3.0, 3.0, 3.0]]]
    with torch.no_grad():
        assert numconv.conv1d(x, w).tolist() == [[[3.0, 3.0, 3.0]]]
    out = torch.empty(1, 1, 3)
    assert numconv.conv1d(x, w.detach(), out=out) is out
    assert out.tolist() == [[[3.0, 3.0, 3.0]]]


def test_torch_memory_is_shared():
    """What comes in is read where it lies, and what goes out is the kernel's own memory."""
    torch = pytest.importorskip("torch")
    from numconv import _lend

    x = torch.arange(6.0).reshape(2, 3)
    found = _lend.loan(torch, x)
    seen = found.lend(x)
    assert seen.ctypes.data == x.data_ptr()
    assert found.give_back(seen).data_ptr() == x.data_ptr()


def test_jax_differentiating_is_refused_with_the_way_out():
    jax = pytest.importorskip("jax")
    x, w = jax.numpy.ones((1, 1, 5)), jax.numpy.ones((1, 1, 3))
    with pytest.raises(TypeError, match=r"needed one of numconv\.interop\.jax"):
        jax.grad(lambda x: numconv.conv1d(x, w).sum())(x)
    assert jax.jit(numconv.conv1d)(x, w).tolist() == [[[3.0, 3.0, 3.0]]]
    with pytest.raises(TypeError, match=r"can be written to, got ArrayImpl"):
        numconv.conv1d(x, w, out=x)
