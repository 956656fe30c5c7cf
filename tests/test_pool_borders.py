"""Pooling with padding that repeats samples: against pooling what numpy.pad made, in blocks, and against torch."""

from math import prod

import array_api_strict
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numconv import _border, pool
from numconv.pool import cpu
from numconv.pool.cpu import borders

DRAWERS = ["float32", "float64", "strict"]
LIBRARY = {"strict": array_api_strict.asarray, "float32": np.float32, "float64": np.float64}
NUMPY = {"reflect": "reflect", "symmetric": "symmetric", "replicate": "edge", "circular": "wrap"}


@pytest.fixture(params=[2**4, 2**8, 2**19])
def block(request, monkeypatch):
    """Boxes of one output, of some, and of all."""
    monkeypatch.setattr(borders, "_BLOCK", request.param)
    borders._slabs.cache_clear()
    yield request.param
    borders._slabs.cache_clear()


@st.composite
def cases(draw):
    """A shape, and arguments of a pooling whose padding may be far wider than x."""
    rank = draw(st.integers(1, 3))
    axes = []
    for axis in range(rank):
        window, stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
        mode, most = draw(st.sampled_from(_border.MODES)), draw(st.sampled_from([1, 2, 9]))
        lo, hi = draw(st.integers(0, most)), draw(st.integers(0, most))
        span = dilation * (window - 1) + 1
        size = max(draw(st.integers(1, 30 if rank < 3 and axis == rank - 1 else 7)), span - lo - hi)
        if mode == "zeros":
            lo, hi, size = min(lo, window - 1) // 2, min(hi, window - 1) // 2, max(size, span)
        axes.append((size, window, stride, dilation, (lo, hi), mode))
    size, window, stride, dilation, padding, mode = zip(*axes, strict=True)
    lead = (draw(st.integers(0, 2)),) * draw(st.booleans()) + (draw(st.integers(1, 3)),)
    arguments = {"window": window, "stride": stride, "dilation": dilation, "padding": padding, "padding_mode": mode}
    return (*lead, *size), arguments


def padded(x, arguments):
    """x continued by NumPy along the axes that repeat, and the arguments of pooling the rest."""
    first = x.ndim - len(arguments["padding"])
    left = []
    for axis, (pad, mode) in enumerate(zip(arguments["padding"], arguments["padding_mode"], strict=True), first):
        left.append(pad if mode == "zeros" else (0, 0))
        if mode != "zeros" and x.size:
            x = np.pad(x, [(0, 0)] * axis + [pad] + [(0, 0)] * (x.ndim - axis - 1), NUMPY[mode])
        elif mode != "zeros":
            x = np.zeros([n + sum(pad) * (a == axis) for a, n in enumerate(x.shape)], x.dtype)
    return x, {**arguments, "padding": tuple(left), "padding_mode": "zeros"}


def plane_indices(shape, rank):
    return np.broadcast_to(np.arange(prod(shape[-rank:])).reshape(shape[-rank:]), shape)


def numbers(seed, shape, ties=False):
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 0.0, 1.0, -np.inf, np.nan], size=shape) if ties else rng.normal(size=shape)


def check_maxima(drawer, case, seed, ties):
    shape, arguments = case
    rank = len(arguments["window"])
    x = numbers(seed, shape, ties)
    wide, rest = padded(x, arguments)
    expected, at = pool.max_pool_with_indices(LIBRARY[drawer](wide), **rest)
    source = padded(plane_indices(shape, rank), arguments)[0].reshape(*shape[:-rank], prod(wide.shape[-rank:]))
    flat = np.take_along_axis(source, np.asarray(at).reshape(*shape[:-rank], prod(at.shape[-rank:])), -1)
    given_x = LIBRARY[drawer](x)
    (y, indices), pullback = pool.max_pool_with_indices_vjp(given_x, **arguments)
    assert type(y) is type(given_x)
    assert y.dtype == given_x.dtype
    np.testing.assert_array_equal(np.asarray(y), np.asarray(expected))
    np.testing.assert_array_equal(np.asarray(indices), flat.reshape(at.shape))
    np.testing.assert_array_equal(np.asarray(pool.max_pool(given_x, **arguments)), np.asarray(y))
    again, pullback_too = pool.max_pool_vjp(given_x, **arguments)
    np.testing.assert_array_equal(np.asarray(again), np.asarray(y))
    dy = np.random.default_rng(seed).integers(-9, 10, y.shape).astype(float)  # their sums are exact
    dx = np.zeros((*shape[:-rank], prod(shape[-rank:])))
    for lead in np.ndindex(*shape[:-rank]):
        np.add.at(dx[lead], flat[lead], dy[lead].reshape(-1))
    for pull in (pullback, pullback_too):
        np.testing.assert_array_equal(np.asarray(pull(LIBRARY[drawer](dy))), dx.reshape(shape))


def check_means(drawer, case, seed, include_pad):
    shape, arguments = case
    rank = len(arguments["window"])
    eps = np.finfo("float64" if drawer == "strict" else drawer).eps
    x = np.asarray(LIBRARY[drawer](numbers(seed, shape))).astype(float)
    wide, rest = padded(x, arguments)
    expected, pull = pool.avg_pool_vjp(wide, **rest, count_include_pad=include_pad)
    y, pullback = pool.avg_pool_vjp(LIBRARY[drawer](x), **arguments, count_include_pad=include_pad)
    terms = prod(arguments["window"]) + 3
    bound = terms * eps * pool.avg_pool(abs(wide), **rest, count_include_pad=include_pad)
    assert np.all(abs(np.asarray(y) - expected) <= bound)
    dy = np.asarray(LIBRARY[drawer](numbers(seed + 1, y.shape))).astype(float)
    source = padded(plane_indices(shape, rank), arguments)[0]
    terms = prod(wide.shape[-rank:]) * prod(arguments["window"]) + 3
    dx, magnitude = np.zeros((2, *shape[:-rank], prod(shape[-rank:])))
    for to, cotangent in ((dx, dy), (magnitude, abs(dy))):
        wide_dx = pull(cotangent)
        for lead in np.ndindex(*shape[:-rank]):
            np.add.at(to[lead], source[lead].reshape(-1), wide_dx[lead].reshape(-1))
    found = np.asarray(pullback(LIBRARY[drawer](dy)))
    assert found.shape == shape
    assert np.all(abs(found - dx.reshape(shape)) <= terms * eps * magnitude.reshape(shape))


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("drawer", DRAWERS)
def test_maxima_and_their_gradients(drawer):
    given(case=cases(), seed=st.integers(0, 999), ties=st.booleans())(
        lambda case, seed, ties: check_maxima(drawer, case, seed, ties)
    )()


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("drawer", DRAWERS)
def test_means_and_their_gradients(drawer):
    given(case=cases(), seed=st.integers(0, 999), include_pad=st.booleans())(
        lambda case, seed, include_pad: check_means(drawer, case, seed, include_pad)
    )()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_of_any_size_give_the_same_bytes_on_one_and_two_threads(dtype, monkeypatch):
    x = numbers(0, (3, 5, 37, 41)).astype(dtype)
    answers = []
    before = numba.get_num_threads()
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        for block in (2**9, 2**30):
            monkeypatch.setattr(borders, "_BLOCK", block)
            borders._slabs.cache_clear()
            numba.set_num_threads(threads)
            try:
                arguments = {"window": 3, "stride": 2, "padding": "same", "padding_mode": "symmetric"}
                (y, indices), pull = pool.max_pool_with_indices_vjp(x, **arguments)
                mean = pool.avg_pool(x, **arguments)
                answers.append([a.tobytes() for a in (y, indices, pull(y), mean)])
            finally:
                numba.set_num_threads(before)
    borders._slabs.cache_clear()
    assert answers[0] == answers[1] == answers[2] == answers[3]


@pytest.mark.parametrize("shape", [(2, 40, 128, 128), (1, 1, 2000, 1500), (1, 1, 1, 3_000_000), (1, 1, 200, 130, 120)])
def test_x_is_not_padded_in_whole(monkeypatch, shape):
    """Blocks are of bounded size, and hold little more than x in all."""
    cut, seen = borders.extended, []
    monkeypatch.setattr(borders, "extended", lambda *arguments: seen.append(cut(*arguments)) or seen[-1])
    x = numbers(0, shape).astype(np.float32)
    y = pool.max_pool(x, 3, stride=2, padding=1, padding_mode="circular")
    wide = np.pad(x, [(0, 0), (0, 0), *((1, 1),) * (x.ndim - 2)], "wrap")
    assert max(block.size for block in seen) <= borders._BLOCK
    assert sum(block.size for block in seen) < 1.3 * wide.size
    np.testing.assert_array_equal(y, pool.max_pool(wide, 3, stride=2))


def test_padding_that_no_window_reaches_changes_nothing():
    x = numbers(0, (1, 2, 8))
    for mode in _border.MODES:
        np.testing.assert_array_equal(pool.avg_pool(x, 2, padding_mode=mode), pool.avg_pool(x, 2))
        np.testing.assert_array_equal(pool.avg_pool(x, 2, padding=[(0, 1)], padding_mode=mode), pool.avg_pool(x, 2))


def test_a_window_wholly_in_the_padding_is_refused_only_where_that_has_no_samples():
    x = np.arange(3.0)[None, None]
    with pytest.raises(ValueError, match="holds no sample"):
        pool.max_pool(x, 2, padding=4)
    np.testing.assert_array_equal(pool.max_pool(x, 2, padding=4, padding_mode="replicate"), [[[0, 0, 1, 2, 2]]])
    assert pool.pool_output_shape(x.shape, 2, padding=4, padding_mode="replicate") == (1, 1, 5)
    with pytest.raises(ValueError, match="padding_mode='edge'; needed one of"):
        pool.avg_pool(x, 2, padding=1, padding_mode="edge")


def test_a_swapped_sample_is_caught(monkeypatch):
    case = (1, 1, 6), {"window": (3,), "stride": (1,), "dilation": (1,), "padding": ((1, 1),), "padding_mode": ("circular",)}
    check_maxima("float64", case, 0, ties=False)
    right = borders._own
    monkeypatch.setattr(borders, "_own", lambda g, pads: right(g, pads)[::-1])
    with pytest.raises(AssertionError):
        check_maxima("float64", case, 0, ties=False)
    assert cpu.max_y is borders.max_y


@pytest.mark.parametrize(("mode", "word"), [("reflect", "reflect"), ("replicate", "replicate"), ("circular", "circular")])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_values_and_gradients_are_those_of_torch(mode, word, library):
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    x = torch.tensor(numbers(0, (2, 3, 9, 10)), requires_grad=True)
    wide = f.pad(x, (1, 1, 1, 1), word)
    given_x = x.detach().numpy() if library == "numpy" else x.detach()
    for door, expected in ((pool.max_pool_vjp, f.max_pool2d(wide, 3, 2)), (pool.avg_pool_vjp, f.avg_pool2d(wide, 3, 2))):
        y, pullback = door(given_x, 3, stride=2, padding=1, padding_mode=mode)
        np.testing.assert_allclose(y, expected.detach(), rtol=0, atol=1e-14)
        dy = torch.tensor(numbers(1, expected.shape))
        dx = torch.autograd.grad(expected, x, dy, retain_graph=True)[0]
        np.testing.assert_allclose(pullback(dy.numpy() if library == "numpy" else dy), dx, rtol=0, atol=1e-13)
