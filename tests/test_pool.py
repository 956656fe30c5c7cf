"""Pooling against loops over windows, its drawers against each other, its pullbacks by adjoint identities and differences."""

import ctypes
import doctest
import importlib
from itertools import product
from math import prod
from pathlib import Path

import array_api_strict
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numconv import _jit, pool
from numconv.pool import cpu, generic, geometry

DRAWERS = ["float32", "float64", "strict"]
LIBRARY = {"strict": array_api_strict.asarray, "float32": np.float32, "float64": np.float64}


def eps(drawer):
    return np.finfo("float64" if drawer == "strict" else drawer).eps


@st.composite
def cases(draw, max_rank=3):
    """Shapes and arguments of a pooling in which every window holds a sample."""
    rank = draw(st.integers(1, max_rank))
    axes = []
    for axis in range(rank):
        window, stride, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
        # Rows long enough for the kernels' vectors, where that does not make the loops over windows slow.
        size, lo, hi = (
            draw(st.integers(1, 40 if rank < 3 and axis == rank - 1 else 7)),
            draw(st.integers(0, 2)),
            draw(st.integers(0, 2)),
        )
        span = dilation * (window - 1) + 1
        size = max(size, span - lo - hi)
        positions = range(-lo, size + hi - span + 1, stride)
        if not all(any(0 <= p + dilation * k < size for k in range(window)) for p in positions):
            lo, hi, size = 0, 0, max(size, span)
        axes.append((size, window, stride, dilation, (lo, hi)))
    size, window, stride, dilation, padding = zip(*axes, strict=True)
    lead = (draw(st.integers(0, 2)),) * draw(st.booleans()) + (draw(st.integers(1, 3)),)
    arguments = {"window": window, "stride": stride, "dilation": dilation, "padding": padding}
    return (*lead, *size), arguments


def numbers(seed, shape, ties=False):
    """Normal numbers, or few different ones with NaN and -inf among them."""
    rng = np.random.default_rng(seed)
    if not ties:
        return rng.normal(size=shape)
    return rng.choice([-1.0, -0.0, 0.0, 1.0, 2.0, -np.inf, np.nan], size=shape, p=[0.2, 0.15, 0.15, 0.2, 0.1, 0.15, 0.05])


def windows(shape, window, stride, dilation, padding):
    """Yield each output position with the list of sample positions in its window, None for those on the padding."""
    rank = len(window)
    size = shape[-rank:]
    out = [
        (n + lo + hi - d * (k - 1) - 1) // s + 1
        for n, (lo, hi), d, k, s in zip(size, padding, dilation, window, stride, strict=True)
    ]
    for p in product(*map(range, out)):
        taps = []
        for k in product(*map(range, window)):
            q = tuple(s * pi + d * ki - lo for s, pi, d, ki, (lo, _) in zip(stride, p, dilation, k, padding, strict=True))
            taps.append(q if all(0 <= qi < n for qi, n in zip(q, size, strict=True)) else None)
        yield p, taps


def loop_max(x, arguments):
    """The maxima and their indices, by looking at one sample after another."""
    rank = len(arguments["window"])
    lead, size = x.shape[:-rank], x.shape[-rank:]
    y, indices = {}, {}
    for p, taps in windows(x.shape, **arguments):
        for n in np.ndindex(*lead):
            inside = [q for q in taps if q is not None]
            best = inside[0]
            for q in inside[1:]:
                old, new = x[n + best], x[n + q]
                if not np.isnan(old) and (np.isnan(new) or new > old):
                    best = q
            y[n + p], indices[n + p] = x[n + best], np.ravel_multi_index(best, size)
    shape = pool.pool_output_shape(x.shape, **arguments)
    assert len(y) == prod(shape)
    full = np.empty(shape), np.empty(shape, int)
    for at in y:
        full[0][at], full[1][at] = y[at], indices[at]
    return full


def loop_mean(x, arguments, include_pad):
    rank = len(arguments["window"])
    y = np.empty(pool.pool_output_shape(x.shape, **arguments))
    for p, taps in windows(x.shape, **arguments):
        inside = [q for q in taps if q is not None]
        for n in np.ndindex(*x.shape[:-rank]):
            y[n + p] = sum(x[n + q] for q in inside) / (len(taps) if include_pad else len(inside))
    return y


@pytest.mark.parametrize("drawer", DRAWERS)
@given(case=cases(), ties=st.booleans(), seed=st.integers(0, 999))
def test_max_pool_is_the_largest_in_each_window(drawer, case, ties, seed):
    check_max_pool(drawer, case, numbers(seed, case[0], ties))


def check_max_pool(drawer, case, x):
    _, arguments = case
    given_x = LIBRARY[drawer](x)
    x = np.asarray(given_x)
    expected, expected_indices = loop_max(x, arguments)
    y = pool.max_pool(given_x, **arguments)
    y_too, indices = pool.max_pool_with_indices(given_x, **arguments)
    assert type(y) is type(indices) is type(given_x)
    assert y.dtype == given_x.dtype
    assert y.shape == expected.shape == pool.pool_output_shape(given_x.shape, **arguments)
    np.testing.assert_array_equal(np.asarray(y), expected)
    np.testing.assert_array_equal(np.asarray(y_too), expected)
    np.testing.assert_array_equal(np.asarray(indices), expected_indices)
    np.testing.assert_array_equal(np.signbit(np.asarray(y)), np.signbit(expected))  # the first of -0.0 and 0.0


@pytest.mark.parametrize("drawer", DRAWERS)
@given(case=cases(), include_pad=st.booleans(), seed=st.integers(0, 999))
def test_avg_pool_is_the_mean_of_each_window(drawer, case, include_pad, seed):
    shape, arguments = case
    given_x = LIBRARY[drawer](numbers(seed, shape))
    y = pool.avg_pool(given_x, **arguments, count_include_pad=include_pad)
    x = np.asarray(given_x).astype(float)
    bound = (prod(arguments["window"]) + 1) * eps(drawer) * loop_mean(abs(x), arguments, include_pad)
    assert type(y) is type(given_x)
    assert y.dtype == given_x.dtype
    assert np.all(abs(np.asarray(y) - loop_mean(x, arguments, include_pad)) <= bound)


def check_adjoint(drawer, y, pullback, x, magnitude, terms, seed):
    """<dy, f(x)> = <dx, x> for a linear f, up to `terms` roundings; magnitude is f(|x|) for f with nonnegative weights."""
    dy = LIBRARY[drawer](numbers(seed + 1, y.shape))
    dx = pullback(dy)
    assert type(dx) is type(y)
    assert dx.dtype == y.dtype
    assert dx.shape == x.shape
    y, dx, x, dy, magnitude = (np.asarray(a).astype(float) for a in (y, dx, x, dy, magnitude))
    total = np.sum(abs(dy) * magnitude)
    assert abs(np.sum(dy * y) - np.sum(dx * x)) <= (terms * eps(drawer) + (x.size + y.size) * eps("float64")) * total


@pytest.mark.parametrize("drawer", DRAWERS)
@given(case=cases(), include_pad=st.booleans(), seed=st.integers(0, 999))
def test_pullback_of_avg_pool_is_the_adjoint(drawer, case, include_pad, seed):
    shape, arguments = case
    x = LIBRARY[drawer](numbers(seed, shape))
    y, pullback = pool.avg_pool_vjp(x, **arguments, count_include_pad=include_pad)
    np.testing.assert_array_equal(np.asarray(y), np.asarray(pool.avg_pool(x, **arguments, count_include_pad=include_pad)))
    magnitude = pool.avg_pool(LIBRARY[drawer](abs(np.asarray(x))), **arguments, count_include_pad=include_pad)
    check_adjoint(drawer, y, pullback, x, magnitude, 2 * prod(arguments["window"]) + 4, seed)


@pytest.mark.parametrize("drawer", DRAWERS)
@given(case=cases(), seed=st.integers(0, 999))
def test_max_unpool_puts_samples_where_they_were_and_its_pullback_is_the_adjoint(drawer, case, seed):
    shape, arguments = case
    rank = len(arguments["window"])
    _, indices = pool.max_pool_with_indices(LIBRARY[drawer](numbers(seed, shape)), **arguments)
    x = LIBRARY[drawer](numbers(seed + 1, indices.shape))
    y, pullback = pool.max_unpool_vjp(x, indices, **arguments, output_size=shape[-rank:])
    np.testing.assert_array_equal(np.asarray(y), np.asarray(pool.max_unpool(x, indices, **arguments, output_size=shape[-rank:])))
    expected, magnitude = np.zeros((2, *shape[:-rank], prod(shape[-rank:])))
    for at in np.ndindex(indices.shape):
        expected[(*at[:-rank], int(indices[at]))] += float(x[at])
        magnitude[(*at[:-rank], int(indices[at]))] += abs(float(x[at]))
    terms = prod(arguments["window"])
    assert np.all(abs(np.asarray(y) - expected.reshape(shape)) <= terms * eps(drawer) * magnitude.reshape(shape))
    check_adjoint(drawer, y, pullback, x, magnitude.reshape(shape), terms, seed)


@pytest.mark.parametrize("drawer", ["float64", "strict"])
@given(case=cases(), seed=st.integers(0, 999))
def test_gradient_of_max_pool_by_finite_differences(drawer, case, seed):
    shape, arguments = case
    rng = np.random.default_rng(seed)
    # All samples differ by more than the steps, so no maximum moves and the function is linear between the two points.
    x = rng.permutation(prod(shape)).reshape(shape).astype(float)
    v, h = rng.uniform(-1, 1, shape), 2.0**-5
    y, pullback = pool.max_pool_vjp(LIBRARY[drawer](x), **arguments)
    dy = rng.normal(size=y.shape)
    ends = (np.asarray(pool.max_pool(LIBRARY[drawer](x + step), **arguments)) for step in (h * v, -h * v))
    difference = np.sum(dy * np.subtract(*ends)) / (2 * h)
    dx = np.asarray(pullback(LIBRARY[drawer](dy)))
    rounding = 2 * eps("float64") * (x.max(initial=1) / h + dy.size + x.size) * np.sum(abs(dy))
    assert abs(difference - np.sum(v * dx)) <= rounding


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(case=cases(), ties=st.booleans(), include_pad=st.booleans(), seed=st.integers(0, 999))
def test_kernels_agree_with_generic(dtype, case, ties, include_pad, seed):
    shape, arguments = case
    g = geometry.pool(shape, *(arguments[name] for name in ("window", "stride", "padding", "dilation")))
    x = numbers(seed, shape, ties).astype(dtype)
    maxima, indices = generic.max_with_indices(x, g)
    assert cpu.max_y(x, g).tobytes() == maxima.tobytes()
    assert [a.tobytes() for a in cpu.max_with_indices(x, g)] == [maxima.tobytes(), indices.tobytes()]
    narrow = cpu.max_with_narrow_indices(x, g)
    assert [a.tobytes() for a in narrow] == [maxima.tobytes(), indices.astype(np.int32).tobytes()]
    y, terms = numbers(seed, g.y_shape).astype(dtype), prod(g.window)
    assert cpu.scatter(y, narrow[1], g).tobytes() == cpu.scatter(y, indices, g).tobytes()
    assert cpu.gather(x, indices, g).tobytes() == generic.gather(x, indices, g).tobytes() == maxima.tobytes()
    bound = terms * eps(dtype) * generic.scatter(abs(y), indices, g)
    assert np.all(abs(cpu.scatter(y, indices, g) - generic.scatter(y, indices, g)) <= bound)
    x = numbers(seed, shape).astype(dtype)
    bound = (terms + 1) * eps(dtype) * generic.mean_y(abs(x), g, include_pad)
    assert np.all(abs(cpu.mean_y(x, g, include_pad) - generic.mean_y(x, g, include_pad)) <= bound)
    bound = (terms + 1) * eps(dtype) * generic.mean_x(abs(y), g, include_pad)
    assert np.all(abs(cpu.mean_x(y, g, include_pad) - generic.mean_x(y, g, include_pad)) <= bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_and_two_threads_give_the_same_bytes(dtype):
    x = numbers(0, (3, 5, 17, 19)).astype(dtype)
    answers = []
    before = numba.get_num_threads()
    for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
        numba.set_num_threads(threads)
        try:
            (y, indices), pull_max = pool.max_pool_with_indices_vjp(x, 3, stride=2, padding="same")
            mean, pull_mean = pool.avg_pool_vjp(x, 3, stride=2, padding="same", count_include_pad=False)
            z, pull_z = pool.max_unpool_vjp(y, indices, 3, stride=2, padding="same", output_size=(17, 19))
            plain = pool.max_pool(x, 3, stride=2, padding="same")
            answers.append([a.tobytes() for a in (y, indices, plain, pull_max(y), mean, pull_mean(mean), z, pull_z(z))])
        finally:
            numba.set_num_threads(before)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("arguments", [{"window": 3, "padding": 1}, {"window": 2, "stride": 1, "dilation": 3, "padding": (0, 1)}])
def test_what_scratch_memory_held_does_not_show(dtype, arguments):
    x = numbers(0, (2, 3, 9, 21)).astype(dtype)
    answers = []
    for byte in (0xFF, 0x00):  # all bits set is NaN
        values = []
        for door in (pool.max_pool_vjp, pool.avg_pool_vjp):
            ctypes.memset(_jit.scratch(1 << 20), byte, 1 << 20)
            y, pullback = door(x, **arguments)
            ctypes.memset(_jit.scratch(1 << 20), byte, 1 << 20)
            values += [y.tobytes(), pullback(y).tobytes()]
        answers.append(values)
    assert answers[0] == answers[1]


def test_a_last_tap_that_wins_ties_is_caught(monkeypatch):
    case = (1, 1, 4, 4), {"window": (2, 2), "stride": (2, 2), "dilation": (1, 1), "padding": ((0, 0), (0, 0))}
    check_max_pool("strict", case, np.ones(case[0]))
    taps = generic.taps
    monkeypatch.setattr(generic, "taps", lambda window: reversed(list(taps(window))))
    with pytest.raises(AssertionError):
        check_max_pool("strict", case, np.arange(16.0).reshape(case[0]) // 8)


def test_a_wrong_divisor_is_caught(monkeypatch):
    x = numbers(0, (1, 1, 6))
    y, pullback = pool.avg_pool_vjp(x, 3, padding=1, count_include_pad=False)
    magnitude = pool.avg_pool(abs(x), 3, padding=1, count_include_pad=False)
    check_adjoint("float64", y, pullback, x, magnitude, 10, 0)
    right = cpu.mean_x
    monkeypatch.setattr(cpu, "mean_x", lambda y, g, include_pad: right(y, g, True))
    with pytest.raises(AssertionError):
        check_adjoint("float64", y, pullback, x, magnitude, 10, 0)


@pytest.mark.parametrize(
    ("size", "window", "stride", "padding", "dilation"),
    [
        ((9,), 2, None, 0, 1),
        ((9, 8), 3, 2, 1, 1),
        ((9, 8), 3, 1, 1, 2),
        ((7, 8), (2, 3), (1, 2), (1, 0), 1),
        ((5, 6, 7), 2, 2, 1, 1),
    ],
)
def test_values_indices_and_gradients_are_those_of_torch(size, window, stride, padding, dilation):
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    rank = len(size)
    x = torch.tensor(numbers(0, (2, 3, *size)), requires_grad=True)
    expected, expected_indices = getattr(f, f"max_pool{rank}d")(x, window, stride, padding, dilation, return_indices=True)
    (y, indices), pullback = pool.max_pool_with_indices_vjp(
        x.detach().numpy(), window, stride=stride, padding=padding, dilation=dilation
    )
    np.testing.assert_array_equal(y, expected.detach())
    np.testing.assert_array_equal(indices, expected_indices)
    dy = numbers(1, y.shape)
    dx = torch.autograd.grad(expected, x, torch.tensor(dy))[0]
    np.testing.assert_allclose(pullback(dy), dx, rtol=0, atol=64 * eps("float64"))
    if dilation == 1:
        for include_pad in (False, True):
            expected = getattr(f, f"avg_pool{rank}d")(x, window, stride, padding, count_include_pad=include_pad)
            y, pullback = pool.avg_pool_vjp(
                x.detach().numpy(), window, stride=stride, padding=padding, count_include_pad=include_pad
            )
            np.testing.assert_allclose(y, expected.detach(), rtol=0, atol=64 * eps("float64"))
            dx = torch.autograd.grad(expected, x, torch.tensor(dy))[0]
            np.testing.assert_allclose(pullback(dy), dx, rtol=0, atol=64 * eps("float64"))


def test_torch_in_torch_out():
    torch = pytest.importorskip("torch")
    x = numbers(0, (2, 3, 7, 8))
    for door, arguments in (
        (pool.max_pool_vjp, {"window": 3, "padding": 1}),
        (pool.avg_pool_vjp, {"window": 3, "padding": 1, "count_include_pad": False}),
        (pool.adaptive_avg_pool_vjp, {"output_size": 3}),
        (pool.global_avg_pool_vjp, {}),
    ):
        expected, pull = door(x, **arguments)
        y, pullback = door(torch.tensor(x), **arguments)
        assert isinstance(y, torch.Tensor)
        np.testing.assert_allclose(y, expected, rtol=0, atol=64 * eps("float64"))
        np.testing.assert_allclose(pullback(y), pull(expected), rtol=0, atol=64 * eps("float64"))
        for dtype in (torch.float16, torch.bfloat16):
            y, pullback = door(torch.tensor(x, dtype=dtype), **arguments)
            assert y.dtype == pullback(y).dtype == dtype


def loop_bins(x, rank, out):
    for axis, bins in zip(range(x.ndim - rank, x.ndim), out, strict=True):
        n = x.shape[axis]
        edges = [(p * n // bins, -(-(p + 1) * n // bins)) for p in range(bins)]
        x = np.stack([np.mean(np.take(x, range(a, b), axis=axis), axis=axis) for a, b in edges], axis=axis)
    return x


@pytest.mark.parametrize("drawer", DRAWERS)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 6)), min_size=1, max_size=3), batched=st.booleans(),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_adaptive_avg_pool(drawer, sizes, batched, seed):
    x = LIBRARY[drawer](numbers(seed, (*(2,) * batched, 3, *(n for n, _ in sizes))))
    out = [o for _, o in sizes]
    y, pullback = pool.adaptive_avg_pool_vjp(x, out)
    wide = np.asarray(x).astype(float)
    expected, magnitude = loop_bins(wide, len(out), out), loop_bins(abs(wide), len(out), out)
    terms = sum(n + 3 for n, _ in sizes)
    assert y.shape == expected.shape
    assert np.all(abs(np.asarray(y) - expected) <= terms * eps(drawer) * magnitude)
    np.testing.assert_array_equal(np.asarray(pool.adaptive_avg_pool(x, out)), np.asarray(y))
    assert not np.shares_memory(np.asarray(y), np.asarray(x))
    check_adjoint(drawer, y, pullback, x, magnitude, terms + sum(out) + 6, seed)


def test_adaptive_avg_pool_is_that_of_torch():
    torch = pytest.importorskip("torch")
    x = torch.tensor(numbers(0, (2, 3, 7, 10)), requires_grad=True)
    for out in ((1, 1), (3, 4), (7, 5), (9, 12)):
        expected = torch.nn.functional.adaptive_avg_pool2d(x, out)
        y, pullback = pool.adaptive_avg_pool_vjp(x.detach().numpy(), out)
        dy = numbers(1, y.shape)
        np.testing.assert_allclose(y, expected.detach(), rtol=0, atol=128 * eps("float64"))
        dx = torch.autograd.grad(expected, x, torch.tensor(dy))[0]
        np.testing.assert_allclose(pullback(dy), dx, rtol=0, atol=128 * eps("float64"))


@pytest.mark.parametrize("drawer", DRAWERS)
@pytest.mark.parametrize("size", [(7,), (4, 5), (3, 4, 2)])
def test_global_avg_pool(drawer, size):
    x = LIBRARY[drawer](numbers(0, (2, 3, *size)))
    y, pullback = pool.global_avg_pool_vjp(x)
    wide = np.asarray(x).astype(float)
    axes = tuple(range(2, wide.ndim))
    magnitude = abs(wide).mean(axis=axes)
    assert y.shape == (2, 3)
    assert np.all(abs(np.asarray(y) - wide.mean(axis=axes)) <= (prod(size) + 1) * eps(drawer) * magnitude)
    np.testing.assert_array_equal(np.asarray(pool.global_avg_pool(x)), np.asarray(y))
    check_adjoint(drawer, y, pullback, x, magnitude, prod(size) + 4, 0)
    assert np.asarray(pullback(y)).flags.writeable


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_views_and_read_only_arrays_are_taken_and_left_alone(dtype):
    x = numbers(0, (2, 3, 7, 8)).astype(dtype)
    swapped = x.astype(x.dtype.newbyteorder())
    for view in (np.repeat(x, 2, axis=-1)[..., ::2], np.asfortranarray(x), x.copy(), swapped):
        view.setflags(write=False)
        for door, arguments in ((pool.max_pool_vjp, {"padding": 1}), (pool.avg_pool_vjp, {"stride": 1})):
            y, pullback = door(view, 3, **arguments)
            expected, pull = door(x, 3, **arguments)
            assert y.dtype.type == view.dtype.type
            np.testing.assert_array_equal(y, expected)
            y.setflags(write=False)
            np.testing.assert_array_equal(pullback(y), pull(expected))
            np.testing.assert_array_equal(view, x)


def test_an_int_means_all_axes_and_padding_words_work():
    x = numbers(0, (2, 3, 7, 8))
    np.testing.assert_array_equal(pool.max_pool(x, 2), pool.max_pool(x, (2, 2), stride=(2, 2)))
    np.testing.assert_array_equal(pool.max_pool(x[0], (2, 2)), pool.max_pool(x, 2)[0])
    assert pool.pool_output_shape((2, 3, 7, 8), 3, stride=2, padding="same") == (2, 3, 4, 4)
    assert pool.pool_output_shape((2, 3, 7, 8), 3, stride=1, padding="full") == (2, 3, 9, 10)
    assert pool.max_pool(np.ones((0, 3, 4)), 2).shape == (0, 3, 2)


def test_examples_run():
    for name in ("numconv.pool", "numconv.pool.bins"):
        assert doctest.testmod(importlib.import_module(name)).failed == 0
    results = doctest.testfile(str(Path(__file__).parent.parent / "docs" / "pool.md"), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0
