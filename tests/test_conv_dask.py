"""Convolution of dask arrays: lazy, exact at chunk borders, of bounded memory."""

import doctest
import subprocess
import sys
from functools import partial
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
from chunked import lazily, of
from dask.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import conv_cases, cropping, normals, rounding_bound

import numconv
from numconv._border import MODES
from numconv.conv.forward import rectified_conv_vjp
from numconv.conv.transpose import rectified_conv_transpose_vjp


def check(lazy, expected, bound):
    assert isinstance(lazy, da.Array)
    assert lazy.shape == expected.shape
    assert lazy.dtype == lazy._meta.dtype == expected.dtype
    computed = lazy.compute(scheduler="sync")
    assert computed.shape == expected.shape
    assert computed.dtype == expected.dtype
    assert (abs(computed - expected) <= 2 * bound).all()  # both round


def compare(f, data, x, w, b, **arguments):
    """Compare a convolution and its gradients with those of NumPy's arrays, up to what rounding may do."""
    y, pullback = f(x, w, b, **arguments)
    dy = normals(3, y.shape, dtype=x.dtype)[0]
    with lazily():
        lazy_y, lazy_pullback = f(of(data, x), of(data, w), of(data, b), **arguments)
        lazy_gradients = lazy_pullback(of(data, dy))
    magnitude, magnitude_pullback = f(abs(x), abs(w), abs(b), **arguments)
    terms = max(x.size, y.size)
    check(lazy_y, y, rounding_bound(x.dtype, terms, magnitude))
    magnitudes = magnitude_pullback(abs(dy))
    for lazy, expected, magnitude in zip(lazy_gradients, pullback(dy), magnitudes, strict=True):
        check(lazy, expected, rounding_bound(x.dtype, terms, magnitude))


modes_of = st.one_of(st.just("zeros"), st.sampled_from(MODES))


@given(conv_cases(max_channels=3), st.data(), st.sampled_from([np.float32, np.float64]))
def test_conv(case, data, dtype):
    rank = len(case["stride"])
    modes = data.draw(st.lists(modes_of, min_size=rank, max_size=rank))
    x, w, b = normals(case["seed"], case["x_shape"], case["w_shape"], case["w_shape"][:1], dtype=dtype)
    f = getattr(numconv, f"conv{rank}d_vjp")
    arguments = {key: case[key] for key in ("stride", "dilation", "groups")}
    compare(f, data, x, w, b, padding=case["pads"], padding_mode=modes, **arguments)


@given(conv_cases(max_channels=3, max_size=9), st.data())
def test_conv_transpose(case, data):
    rank = len(case["stride"])
    shape = (case["x_shape"][0], case["w_shape"][0], *case["x_shape"][2:])
    x, w, b = normals(case["seed"], shape, case["w_shape"], (case["groups"] * case["w_shape"][1],))
    f = getattr(numconv, f"conv_transpose{rank}d_vjp")
    extra = [data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(case["stride"], case["dilation"], strict=True)]
    arguments = {key: case[key] for key in ("stride", "dilation", "groups")}
    compare(f, data, x, w, b, padding=cropping(case, shape[2:]), output_padding=extra, **arguments)


@given(conv_cases(max_channels=3), st.data())
def test_adjoint_identities(case, data):
    """<y, Y(x, w)> = <x, X(y, w)> = <w, W(x, y)>, with samples repeated beyond the borders."""
    rank = len(case["stride"])
    modes = data.draw(st.lists(st.sampled_from(MODES), min_size=rank, max_size=rank))
    arguments = {key: case[key] for key in ("stride", "dilation", "groups")}
    arguments.update(padding=case["pads"], padding_mode=modes)
    x, w = normals(case["seed"], case["x_shape"], case["w_shape"])
    lazy_x, lazy_w = of(data, x), of(data, w)
    y = numconv.conv(lazy_x, lazy_w, **arguments)
    dy = normals(case["seed"] + 1, y.shape)[0]
    with lazily():
        dx = numconv.conv_input_grad(of(data, dy), lazy_w, x.shape, **arguments)
        dw = numconv.conv_weight_grad(lazy_x, of(data, dy), w.shape, **arguments)
    y, dx, dw = (a.compute(scheduler="sync") for a in (y, dx, dw))
    scale = abs(dy * y).sum() + abs(x * dx).sum() + abs(w * dw).sum()
    np.testing.assert_allclose([(x * dx).sum(), (w * dw).sum()], (dy * y).sum(), rtol=0, atol=1e-13 * scale + 1e-300)


@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.uint8, np.complex64])
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_dtypes(dtype, mode):
    x = np.random.default_rng(0).integers(0, 4, (2, 2, 13, 11)).astype(dtype)
    w, b = (np.arange(36) % 3).reshape(2, 2, 3, 3).astype(dtype), np.arange(2).astype(dtype)
    expected, pullback = numconv.conv2d_vjp(x, w, b, padding=1, padding_mode=mode)
    with lazily():
        y, lazy_pullback = numconv.conv2d_vjp(da.from_array(x, chunks=(1, 1, 5, 4)), w, b, padding=1, padding_mode=mode)
        dx, dw, db = lazy_pullback(y)
    assert y.dtype == dx.dtype == dw.dtype == dtype
    for lazy, e in zip((y, dx, dw, db), (expected, *pullback(expected)), strict=True):
        np.testing.assert_array_equal(lazy.compute(), e)  # sums of small integers are exact, and rounded once


def test_four_axes_and_no_batch():
    x, w = normals(0, (2, 5, 6, 7, 4), (3, 2, 2, 3, 2, 2))
    lazy = numconv.conv(da.from_array(x, chunks=(1, 2, 3, 3, 2)), w, padding="same")
    np.testing.assert_allclose(lazy.compute(), numconv.conv(x, w, padding="same"), atol=1e-12)


def test_flip_layout_and_methods():
    x, w = normals(0, (2, 20, 19, 3), (4, 3, 3, 3))
    for method in ("direct", "winograd", "fft"):
        arguments = {"flip": True, "layout": "channels_last", "method": method, "padding": "same"}
        lazy = numconv.conv2d(da.from_array(x, chunks=(1, 6, 7, 3)), w, **arguments)
        np.testing.assert_allclose(lazy.compute(), numconv.conv2d(x, w, **arguments), atol=1e-11)
    assert numconv.explain(numconv.conv2d, da.zeros((1, 1, 9, 9)), np.ones((1, 1, 3, 3))).forward.method == "dask"


def test_words_are_checked_before_anything_is_computed():
    x, w = da.zeros((1, 1, 9, 9), dtype=int), np.ones((1, 1, 3, 3), int)
    with pytest.raises(ValueError, match="integers are exact"):
        numconv.conv2d(x, w, method="fft")
    with pytest.raises(ValueError, match="padding_mode='nothing'"):
        numconv.conv2d(x, w, padding_mode="nothing")


def test_chunks_follow_those_of_x():
    x = da.zeros((2, 4, 64, 96), chunks=((1, 1), (2, 2), (16, 20, 28), 32), dtype=np.float32)
    w = np.ones((6, 4, 3, 3), np.float32)
    assert numconv.conv2d(x, w, padding="same").chunks == ((1, 1), (6,), (16, 20, 28), (32, 32, 32))
    assert numconv.conv2d(x, w).chunks == ((1, 1), (6,), (15, 20, 27), (31, 32, 31))
    y, pullback = numconv.conv2d_vjp(x, w[:, :2], stride=4, padding="same", groups=2)
    assert y.chunks == ((1, 1), (3, 3), (4, 5, 7), (8, 8, 8))
    assert pullback(y, wrt="x").chunks == x.chunks
    assert numconv.conv_transpose2d(y, np.ones((6, 1, 4, 4), np.float32), stride=4).chunks[2:] == ((16, 20, 28), (32, 32, 32))


def test_numpy_arrays_beside_dask():
    """Weights and bias may be NumPy's, and so may x where the weights are dask's; results are dask's, cotangents must be."""
    x, w, b = normals(0, (2, 3, 12, 12), (4, 3, 3, 3), (4,))
    expected = numconv.conv2d(x, w, b)
    lazy_x = da.from_array(x, chunks=5)
    y, pullback = numconv.conv2d_vjp(lazy_x, w, b)
    np.testing.assert_allclose(y.compute(), expected, atol=1e-12)
    np.testing.assert_allclose(numconv.conv2d(x, da.from_array(w, chunks=2), b).compute(), expected, atol=1e-12)
    assert all(isinstance(gradient, da.Array) for gradient in pullback(y))
    with pytest.raises(TypeError, match="cotangent is from numpy"):
        pullback(expected)
    assert numconv.conv2d(lazy_x, w.astype(np.float32)).dtype == np.float64


def test_unknown_chunks_are_refused():
    x = da.zeros((1, 1, 9), chunks=3)
    with pytest.raises(ValueError, match="chunks of unknown size"):
        numconv.conv1d(x[:, :, da.ones(9, chunks=3) > 0], np.ones((1, 1, 3)))


def test_names_are_those_of_the_arguments():
    x, w = da.zeros((1, 1, 9, 9), chunks=3), np.ones((1, 1, 3, 3))
    names = {numconv.conv2d(x, w, **a).name for a in ({}, {"padding": 1}, {"padding": 1, "padding_mode": "reflect"})}
    assert len(names) == 3
    assert numconv.conv2d(x, w, padding=1).name in names


def test_tasks_grow_with_chunks_and_read_little_more_than_one():
    """A graph of n chunks has at most 40 n tasks, and nothing a task makes is larger than a chunk and its borders."""
    w = np.ones((1, 1, 5, 5), np.float32)
    largest = 0

    def seen(key, result, *_):
        nonlocal largest
        largest = max(largest, getattr(result, "size", 0))

    counts = []
    for n in (128, 256):
        x = da.ones((1, 1, n, n), chunks=(1, 1, 16, 16), dtype=np.float32)
        y, pullback = numconv.conv2d_vjp(x, w, padding="same", padding_mode="symmetric")
        results = pullback(y)
        with Callback(posttask=seen):
            dask.persist(y, *results, scheduler="sync", optimize_graph=False)
        counts.append(max(len(a.__dask_graph__()) for a in (y, *results)))
        assert counts[-1] <= 40 * x.npartitions
    assert counts[1] <= 4.2 * counts[0]
    assert largest <= 16 * 16


def test_image_larger_than_memory():
    """Half a gigabyte filtered in a process that grows by less than a quarter of it."""
    code = """
import resource, numpy as np, dask, dask.array as da, numconv
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
def rows(block_info=None): return np.full((1, 1, 128, 8192), block_info[None]["chunk-location"][2] % 7, np.float32)
def filtered(rows_of_chunks):
    chunks, meta = ((1,), (1,), (128,) * rows_of_chunks, (8192,)), np.empty((0,) * 4, np.float32)
    x = da.map_blocks(rows, chunks=chunks, dtype=np.float32, meta=meta)
    y = numconv.conv2d(x, np.ones((1, 1, 3, 3), np.float32), padding=1, padding_mode="circular")
    return x.nbytes, x.sum(dtype=float), y.sum(dtype=float)
dask.config.set(scheduler="threads", num_workers=2)
dask.compute(*filtered(4)[1:])
before = peak()
size, x, y = filtered(128)
x, y = dask.compute(x, y)
print(y == 9 * x, size >> 20, (peak() - before) >> 20)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert found[0] == "True"
    assert int(found[2]) < int(found[1]) / 4


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_two_processes():
    distributed = pytest.importorskip("distributed")
    x, w = normals(0, (2, 3, 60, 50), (4, 3, 5, 3), dtype=np.float32)
    y, pullback = numconv.conv2d_vjp(x, w, padding=2, padding_mode="circular")
    cluster = partial(distributed.LocalCluster, n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster() as workers, distributed.Client(workers) as client:
        lazy_y, lazy_pullback = numconv.conv2d_vjp(da.from_array(x, chunks=(1, 3, 17, 19)), w, padding=2, padding_mode="circular")
        computed = client.gather(client.compute([lazy_y, *lazy_pullback(lazy_y)]))
    bound = rounding_bound(np.float32, x.size, 1) * 60 * 60
    for a, b in zip(computed, (y, *pullback(y)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=bound)


@settings(max_examples=20)
@given(st.data())
def test_weight_gradients_are_the_same_bits_in_any_order(data):
    x, dy = normals(0, (3, 2, 21, 22), (3, 3, 21, 22), dtype=np.float32)
    dw = numconv.conv_weight_grad(of(data, x), of(data, dy), (3, 2, 3, 3), padding=1)
    assert (dw.compute(scheduler="sync") == dw.compute(scheduler="threads", num_workers=3)).all()


def test_page():
    page = Path(__file__).parent.parent / "docs" / "large-arrays.md"
    assert doctest.testfile(str(page), module_relative=False).failed == 0


def test_rectified():
    x, w, b = normals(0, (2, 3, 12, 12), (4, 3, 3, 3), (4,))
    rectified, _ = rectified_conv_vjp(da.from_array(x, chunks=5), w, b)
    np.testing.assert_allclose(rectified.compute(), np.maximum(numconv.conv2d(x, w, b), 0), atol=1e-12)
    back, _ = rectified_conv_transpose_vjp(da.from_array(x, chunks=5), w[:3], b[:3], padding=1)
    np.testing.assert_allclose(back.compute(), np.maximum(numconv.conv_transpose2d(x, w[:3], b[:3], padding=1), 0), atol=1e-12)
