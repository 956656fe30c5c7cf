"""Pooling of dask arrays: lazy, and the numbers of NumPy's arrays at chunk borders too."""

import dask.array as da
import numpy as np
import pytest
from chunked import lazily, of
from hypothesis import given
from hypothesis import strategies as st

from numconv import pool
from numconv._border import MODES


@st.composite
def cases(draw, with_modes=True):
    """Draw a shape and arguments of a pooling in which every window holds a sample."""
    rank = draw(st.integers(1, 3))
    axes = []
    for _ in range(rank):
        window, stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 2))
        span, pad = dilation * (window - 1) + 1, st.integers(0, (window - 1) // 2 * dilation)
        axes.append((draw(st.integers(span, 14 if rank < 3 else 7)), window, stride, dilation, (draw(pad), draw(pad))))
    size, window, stride, dilation, padding = zip(*axes, strict=True)
    modes = draw(st.lists(st.one_of(st.just("zeros"), st.sampled_from(MODES)), min_size=rank, max_size=rank))
    lead = draw(st.lists(st.integers(1, 3), min_size=1, max_size=2))
    arguments = {"window": window, "stride": stride, "dilation": dilation, "padding": padding}
    return (*lead, *size), {**arguments, "padding_mode": modes} if with_modes else arguments


def samples(data, shape):
    """Draw numbers with ties, NaN and -inf among them, or normal ones."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    few = rng.choice([-1.0, 0.0, 1.0, -np.inf, np.nan], shape, p=[0.3, 0.3, 0.3, 0.05, 0.05])
    return few if data.draw(st.booleans()) else rng.normal(size=shape)


def check(lazy, expected, exact=True):
    assert isinstance(lazy, da.Array)
    assert lazy.shape == expected.shape
    assert lazy.dtype == lazy._meta.dtype == expected.dtype
    computed = lazy.compute(scheduler="sync")
    assert computed.dtype == expected.dtype
    np.testing.assert_allclose(computed, expected, rtol=0 if exact else 1e-13, atol=0 if exact else 1e-13)


@given(cases(), st.data())
def test_max_pool(case, data):
    shape, arguments = case
    x = samples(data, shape)
    y, pullback = pool.max_pool_vjp(x, **arguments)
    _, indices = pool.max_pool_with_indices(x, **arguments)
    dy = np.random.default_rng(1).normal(size=y.shape)
    with lazily():
        lazy_y, lazy_pullback = pool.max_pool_vjp(of(data, x), **arguments)
        dx = lazy_pullback(of(data, dy))
        alone = pool.max_pool(of(data, x), **arguments)
        _, lazy_indices = pool.max_pool_with_indices(of(data, x), **arguments)
    check(lazy_y, y)
    check(alone, y)
    check(lazy_indices, indices)
    check(dx, pullback(dy), exact=False)


@given(cases(with_modes=False), st.data())
def test_indices_and_unpooling(case, data):
    shape, arguments = case
    x = samples(data, shape)
    y, indices = pool.max_pool_with_indices(x, **arguments)
    y = np.random.default_rng(1).normal(size=y.shape)
    size = shape[-len(arguments["window"]) :]
    back, pullback = pool.max_unpool_vjp(y, indices, output_size=size, **arguments)
    with lazily():
        _, lazy_indices = pool.max_pool_with_indices(of(data, x), **arguments)
        lazy, lazy_pullback = pool.max_unpool_vjp(of(data, y), lazy_indices, output_size=size, **arguments)
        dx = lazy_pullback(of(data, x))
    check(lazy_indices, indices)
    check(lazy, back, exact=False)
    check(dx, pullback(x))


@given(cases(), st.data(), st.booleans())
def test_avg_pool(case, data, include_pad):
    shape, arguments = case
    x = np.random.default_rng(0).normal(size=shape)
    y, pullback = pool.avg_pool_vjp(x, **arguments, count_include_pad=include_pad)
    dy = np.random.default_rng(1).normal(size=y.shape)
    with lazily():
        lazy_y, lazy_pullback = pool.avg_pool_vjp(of(data, x), **arguments, count_include_pad=include_pad)
        dx = lazy_pullback(of(data, dy))
    check(lazy_y, y, exact=False)
    check(dx, pullback(dy), exact=False)


def test_indices_of_other_windows_are_refused_when_they_are_seen():
    x = np.random.default_rng(0).normal(size=(1, 1, 8, 8))
    y, indices = pool.max_pool_with_indices(da.from_array(x, chunks=4), 2)
    for wrong in (indices + 1, indices - 64, indices + 64, indices + 8):
        lazy = pool.max_unpool(y, wrong, 2, output_size=8)
        with pytest.raises(ValueError, match="no sample in their own window"):
            lazy.compute()


def test_numpy_arrays_beside_dask():
    x = np.random.default_rng(0).normal(size=(1, 1, 8, 8))
    y, indices = pool.max_pool_with_indices(x, 2)
    expected = pool.max_unpool(y, indices, 2, output_size=8)
    check(pool.max_unpool(da.from_array(y, chunks=3), indices, 2, output_size=8), expected)
    check(pool.max_unpool(y, da.from_array(indices, chunks=3), 2, output_size=8), expected)


def test_bins():
    x = np.random.default_rng(0).normal(size=(2, 3, 20, 18))
    lazy_x = da.from_array(x, chunks=(1, 2, 7, 5))
    for f, more in ((pool.global_avg_pool_vjp, ()), (pool.adaptive_avg_pool_vjp, ((3, 5),))):
        y, pullback = f(x, *more)
        with lazily():
            lazy_y, lazy_pullback = f(lazy_x, *more)
            dx = lazy_pullback(lazy_y)
        check(lazy_y, y, exact=False)
        check(dx, pullback(y), exact=False)


def test_other_floats():
    x = np.random.default_rng(0).normal(size=(1, 2, 9, 9)).astype(np.float16)
    lazy = pool.max_pool(da.from_array(x, chunks=4), 3, stride=1)
    check(lazy, pool.max_pool(x, 3, stride=1))


def test_chunks_follow_those_of_x():
    x = da.zeros((2, 4, 64, 96), chunks=((1, 1), (2, 2), (16, 20, 28), 32), dtype=np.float32)
    y, pullback = pool.max_pool_vjp(x, 2)
    assert y.chunks == ((1, 1), (2, 2), (8, 10, 14), (16, 16, 16))
    assert pullback(y).chunks == x.chunks
