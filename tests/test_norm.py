"""Normalisation against loops over sets, its drawers against each other, its pullbacks by central differences."""

import ctypes
import doctest
import importlib
import math
from pathlib import Path

import array_api_strict
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import numconv
from numconv import _jit, norm
from numconv.norm import cpu, generic, geometry

DRAWERS = ["float32", "float64", "strict"]
LIBRARY = {"strict": array_api_strict.asarray, "float32": np.float32, "float64": np.float64}
KINDS = ["batch", "layer", "group", "instance"]


def eps(drawer):
    return np.finfo("float64" if drawer == "strict" else drawer).eps


@st.composite
def cases(draw):
    """(kind, shape of x, settings, shape of scale): small, or with rows longer than the kernels' vectors and chunks."""
    kind = draw(st.sampled_from(KINDS))
    rows, groups, parts = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    if kind == "layer":
        lead = draw(st.lists(st.integers(0, 3), max_size=2))
        normal = (*draw(st.lists(st.integers(1, 3), max_size=2)), draw(st.one_of(st.integers(1, 70), st.integers(1000, 1100))))
        return kind, (*lead, *normal), {"axes": len(normal)}, normal
    size = draw(st.one_of(st.just(()), st.tuples(st.integers(1, 70)), st.tuples(st.integers(1, 9), st.integers(1, 9)),
                          st.just((3, 2, 5)), st.just((1030,))))  # fmt: skip
    if kind == "instance" and not size:
        size = (5,)
    settings = {"groups": groups} if kind == "group" else {}
    return kind, (rows, groups * parts, *size), settings, (groups * parts,)


def sets_of(kind, shape, settings):
    """Yield for each set the index that picks it from x."""
    if kind == "batch":
        yield from ((slice(None), c) for c in range(shape[1]))
    elif kind == "layer":
        yield from np.ndindex(*shape[: len(shape) - settings.get("axes", 1)])
    else:
        per = shape[1] // settings.get("groups", shape[1])
        yield from ((n, slice(c, c + per)) for n in range(shape[0]) for c in range(0, shape[1], per))


def facing(kind, a, ndim):
    """Lay out one number per channel so that it broadcasts over x."""
    return a if kind == "layer" else np.reshape(a, (-1, *(1,) * (ndim - 2)))


def centred(members):
    """Deviations from the mean, which is taken from what a first mean has left, and the mean of their squares."""
    d = np.array(members, float).reshape(-1)
    for _ in range(2):
        d = d - math.fsum(d.tolist()) / d.size
    return d.reshape(np.shape(members)), math.fsum((d * d).tolist()) / d.size


def loop_norm(kind, x, scale, shift, settings, small):
    """Each set on its own, in float64, with sums that round once."""
    y = np.array(x, float)
    for index in sets_of(kind, x.shape, settings):
        d, var = centred(y[index])
        y[index] = d / math.sqrt(var + small)
    return y * facing(kind, scale, x.ndim) + facing(kind, shift, x.ndim)


def doors(kind):
    return getattr(norm, f"{kind}_norm"), getattr(norm, f"{kind}_norm_vjp")


def drawn(drawer, seed, *shapes):
    rng = np.random.default_rng(seed)
    arrays = [LIBRARY[drawer](rng.normal(size=shape)) for shape in shapes]
    return arrays, [np.asarray(a).astype(float) for a in arrays]


@pytest.mark.parametrize("drawer", DRAWERS)
@given(case=cases(), offset=st.sampled_from([0.0, 100.0]), seed=st.integers(0, 999))
def test_values_are_those_of_each_set_on_its_own(drawer, case, offset, seed):
    check_values(drawer, case, offset, seed)


def check_values(drawer, case, offset, seed):
    kind, shape, settings, channels = case
    (gx, gscale, gshift), (_, scale, shift) = drawn(drawer, seed, shape, channels, channels)
    gx = gx + LIBRARY[drawer](np.asarray(offset))
    x = np.asarray(gx).astype(float)
    f, f_vjp = doors(kind)
    y = f(gx, gscale, gshift, eps=0.1, **settings)
    assert type(y) is type(gx)
    assert y.dtype == gx.dtype
    assert y.shape == gx.shape
    expected = loop_norm(kind, x, scale, shift, settings, 0.1)
    # d = x - mean and r are right to some rounding units of the largest deviation, up to 1 / sqrt(eps) of which y shows.
    magnitude = abs(facing(kind, scale, x.ndim)) * (1 + abs(x - offset).max(initial=0) / math.sqrt(0.1)) + abs(expected)
    assert np.all(abs(np.asarray(y) - expected) <= 8 * eps(drawer) * magnitude)
    np.testing.assert_array_equal(np.asarray(f_vjp(gx, gscale, gshift, eps=0.1, **settings)[0]), np.asarray(y))
    bare = loop_norm(kind, x, np.ones(channels), np.zeros(channels), settings, 0.1)
    np.testing.assert_allclose(
        np.asarray(f(gx, eps=0.1, **settings)), bare, rtol=0, atol=8 * eps(drawer) * (20 + abs(bare).max(initial=0))
    )


@pytest.mark.parametrize("drawer", ["float64", "strict"])
@pytest.mark.parametrize("given_moments", [False, True])
@given(case=cases(), seed=st.integers(0, 999))
def test_gradients_are_central_differences(drawer, given_moments, case, seed):
    kind, shape, settings, channels = case
    if given_moments:
        kind, shape, settings, channels = "batch", (2, 3, 5), {"mean": np.arange(3.0), "var": np.array([0.5, 1.0, 2.0])}, (3,)
        settings = {name: LIBRARY[drawer](a) for name, a in settings.items()}
    (x, scale, shift, dy), (*at, _) = drawn(drawer, seed, shape, channels, channels, shape)
    f, f_vjp = doors(kind)
    y, pullback = f_vjp(x, scale, shift, eps=0.1, **settings)
    gradients = pullback(dy)
    assert [a.shape for a in gradients] == [x.shape, scale.shape, shift.shape]
    assert all(type(a) is type(y) and a.dtype == y.dtype for a in gradients)
    rng, h = np.random.default_rng(seed + 1), 1e-5
    for gradient, position in zip(gradients, range(3), strict=True):
        v = rng.normal(size=at[position].shape)
        ends = []
        for step in (h, -h):
            moved = [a + step * v if i == position else a for i, a in enumerate(at)]
            ends.append(np.asarray(f(*map(LIBRARY[drawer], moved), eps=0.1, **settings)))
        difference = np.sum(np.asarray(dy) * (ends[0] - ends[1])) / (2 * h)
        scale_of = np.sum(abs(np.asarray(dy))) * (1 + abs(np.asarray(y)).max(initial=0)) + abs(difference)
        # Near the cube root of the rounding unit, errors of both kinds are about 1e-10 of values and third derivatives.
        assert abs(difference - np.sum(np.asarray(gradient) * v)) <= 1e-7 * scale_of


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(case=cases(), fixed=st.booleans(), seed=st.integers(0, 999))
def test_kernels_agree_with_generic(dtype, case, fixed, seed):
    kind, shape, settings, channels = case
    fixed = fixed and kind == "batch"
    g = getattr(geometry, kind)(shape, *settings.values())
    (x, scale, shift, dy), _ = drawn(dtype, seed, shape, channels, channels, shape)
    given_moments = (scale, abs(shift)) if fixed else None
    answers = []
    for drawer in (cpu, generic):
        y, kept = drawer.normal_y(x, scale, shift, given_moments, g, 0.1)
        dx, dscale, dshift = drawer.gradients(dy, x, scale, kept, g, True)
        nothing, *alone = drawer.gradients(dy, x, scale, kept, g, False)
        assert nothing is None
        for a, b in zip(alone, (dscale, dshift), strict=True):
            np.testing.assert_array_equal(a, b)
        answers.append((y, dx, dscale, dshift, *drawer.moments(x, g)))
    terms = 30 * math.sqrt(max(1, x.size))  # roundings of sums go with the root of their number; factors up to 1 / sqrt(0.1)^3
    for a, b in zip(*answers, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=terms * eps(dtype) * (1 + abs(b).max(initial=0)))


@pytest.mark.parametrize("drawer", DRAWERS)
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_far_from_zero_keep_their_digits(drawer, kind):
    """At 1e4 with deviations of 1e-2, float32 has some ten steps per deviation: only what x itself has lost may be missing."""
    rng = np.random.default_rng(0)
    gx = LIBRARY[drawer](1e4 + 1e-2 * rng.normal(size=(6, 4, 40)))
    x = np.asarray(gx).astype(float)
    settings = {"groups": 2} if kind == "group" else {}
    channels = (40,) if kind == "layer" else (4,)
    expected = loop_norm(kind, x, np.ones(channels), np.zeros(channels), settings, 1e-8)
    y, pullback = doors(kind)[1](gx, LIBRARY[drawer](np.ones(channels)), eps=1e-8, **settings)
    np.testing.assert_allclose(np.asarray(y), expected, rtol=0, atol=40 * eps(drawer))
    dy = rng.normal(size=x.shape)
    dx, dscale = (np.asarray(a).astype(float) for a in pullback(LIBRARY[drawer](dy)))
    np.testing.assert_allclose(dx, loop_gradient(kind, x, dy, settings, 1e-8), rtol=0, atol=100 * eps(drawer) * abs(dx).max())
    over = (0, 1) if kind == "layer" else (0, 2)
    bound = 100 * eps(drawer) * np.sum(abs(dy * expected), axis=over)
    assert np.all(abs(dscale - np.sum(dy * expected, axis=over)) <= bound)


def loop_gradient(kind, x, dy, settings, small):
    """The gradient in x written out for each set in float64, with unit scale."""
    dx = np.zeros_like(x)
    for index in sets_of(kind, x.shape, settings):
        d, var = centred(x[index])
        r, h = 1 / math.sqrt(var + small), dy[index]
        dx[index] = r * (h - h.mean() - d * r * r * np.mean(h * d))
    return dx


def test_a_mean_in_one_number_would_be_caught(monkeypatch):
    right = generic._centred

    def rounded(xp, x, g):
        mean, rest, _ = right(xp, x, g)
        return mean, 0 * rest, xp.reshape(x, g.view) - mean

    monkeypatch.setattr(generic, "_centred", rounded)
    monkeypatch.setattr(norm, "drawer", lambda xp, dtype: generic)
    with pytest.raises(AssertionError):
        test_numbers_far_from_zero_keep_their_digits("float32", "layer")


def test_statistics_are_mean_and_mean_square_deviation():
    for drawer in DRAWERS:
        (x,), (wide,) = drawn(drawer, 3, (5, 3, 7, 2))
        mean, var = norm.batch_norm_statistics(x)
        assert mean.dtype == x.dtype
        np.testing.assert_allclose(np.asarray(mean), wide.mean(axis=(0, 2, 3)), rtol=0, atol=8 * eps(drawer))
        np.testing.assert_allclose(np.asarray(var), wide.var(axis=(0, 2, 3)), rtol=8 * eps(drawer))
        y = norm.batch_norm(x, mean=mean, var=var)
        np.testing.assert_allclose(np.asarray(y), np.asarray(norm.batch_norm(x)), rtol=0, atol=40 * eps(drawer))


def test_given_statistics_make_it_linear_in_x():
    (x, z, mean), _ = drawn("float64", 0, (4, 3, 5), (4, 3, 5), (3,))
    settings = {"mean": mean, "var": mean * mean, "eps": 0.5}
    f = norm.batch_norm
    at_zero = f(np.zeros_like(x), **settings)
    left, right = f(x + z, **settings) - at_zero, f(x, **settings) + f(z, **settings) - 2 * at_zero
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-14)
    assert norm.batch_norm(np.ones((0, 3, 5)), **settings).shape == (0, 3, 5)


@pytest.mark.parametrize("drawer", DRAWERS)
def test_a_pullback_gives_what_is_asked_for(drawer):
    (x, scale, shift, dy), _ = drawn(drawer, 0, (3, 4, 6), (4,), (4,), (3, 4, 6))
    _, pullback = norm.group_norm_vjp(x, scale, shift, groups=2)
    dx, dscale, dshift = map(np.asarray, pullback(dy))
    np.testing.assert_array_equal(np.asarray(pullback(dy, wrt="x")), dx)
    np.testing.assert_array_equal(np.asarray(pullback(dy, wrt="scale")), dscale)
    for chosen in (("scale", "x", "shift"), ("shift", "x")):
        for name, a in zip(chosen, pullback(dy, wrt=chosen), strict=True):
            np.testing.assert_array_equal(np.asarray(a), {"x": dx, "scale": dscale, "shift": dshift}[name])
    only, pull = norm.group_norm_vjp(x, groups=2)
    assert pull(dy).shape == only.shape
    _, pull = norm.group_norm_vjp(x, None, shift, groups=2)
    np.testing.assert_array_equal(np.asarray(pull(dy)[1]), dshift)
    with pytest.raises(ValueError, match="wrt names 'scale'; there are gradients for 'x', 'shift'"):
        pull(dy, wrt="scale")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("shape", [(1, 1), (64, 5), (65, 3), (200, 37), (1000, 9), (130, 2, 1)])
def test_columns_of_many_rows(dtype, offset, shape):
    case = ("batch", shape, {}, shape[1:2])
    check_values(dtype, case, offset, 3)
    (x, scale, dy), (wide, wide_scale, wide_dy) = drawn(dtype, 3, shape, shape[1:2], shape)
    x, wide = x + x.dtype.type(offset), np.asarray(x + x.dtype.type(offset)).astype(float)
    _, pullback = norm.batch_norm_vjp(x, scale, scale, eps=0.1)
    _, expected = norm.batch_norm_vjp(*map(array_api_strict.asarray, (wide, wide_scale, wide_scale)), eps=0.1)
    for got, wanted in zip(pullback(dy), expected(array_api_strict.asarray(wide_dy)), strict=True):
        wanted = np.asarray(wanted)
        np.testing.assert_allclose(got, wanted, rtol=0, atol=64 * eps(dtype) * math.sqrt(shape[0]) * (1 + abs(wanted).max()))


def test_a_number_that_is_none_stays_in_its_column():
    x = np.random.default_rng(0).normal(size=(150, 7)).astype("float32")
    x[70, 2] = np.nan
    y, pullback = norm.batch_norm_vjp(x)
    others = [0, 1, 3, 4, 5, 6]
    for a in (y, pullback(np.ones_like(y))):
        assert np.isnan(a[:, 2]).all()
        assert np.isfinite(a[:, others]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_columns_have_the_same_bits_on_any_number_of_threads(dtype):
    x, scale, dy = drawn(dtype, 1, (1001, 150), (150,), (1001, 150))[0]
    answers = []
    for n in (1, numba.config.NUMBA_NUM_THREADS):
        with numconv.threads(n):
            y, pullback = norm.batch_norm_vjp(x, scale, scale)
            answers.append([a.tobytes() for a in (y, *pullback(dy), *norm.batch_norm_statistics(x))])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_threads_and_what_memory_held_do_not_show(dtype, kind):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 150, 6, 130)).astype(dtype)
    settings = {"groups": 3} if kind == "group" else {}
    scale = rng.normal(size=130 if kind == "layer" else 6).astype(dtype)
    answers = []
    before = numba.get_num_threads()
    for threads, byte in ((1, 0x00), (min(2, numba.config.NUMBA_NUM_THREADS), 0xFF)):
        numba.set_num_threads(threads)
        ctypes.memset(_jit.scratch(1 << 20), byte, 1 << 20)
        try:
            y, pullback = doors(kind)[1](x, scale, scale, **settings)
            answers.append([a.tobytes() for a in (y, *pullback(dy), *pullback(dy, wrt=("scale", "shift")))])
        finally:
            numba.set_num_threads(before)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("kind", "shape", "settings"),
    [
        ("batch", (6, 5), {}),
        ("batch", (4, 5, 7, 9), {}),
        ("group", (3, 6, 7, 7), {"groups": 2}),
        ("group", (3, 6), {"groups": 2}),
        ("instance", (3, 4, 33), {}),
        ("layer", (70, 5, 130), {}),
        ("layer", (7, 5, 13), {"axes": 2}),
    ],
)
def test_values_and_gradients_are_those_of_torch(dtype, kind, shape, settings):
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    channels = shape[len(shape) - settings.get("axes", 1) :] if kind == "layer" else (shape[1],)
    arrays, _ = drawn(dtype, 0, shape, channels, channels, shape)
    x, scale, shift, dy = (torch.tensor(a, requires_grad=True) for a in arrays)
    expected = {
        "batch": lambda: f.batch_norm(x, None, None, scale, shift, training=True),
        "group": lambda: f.group_norm(x, settings["groups"], scale, shift),
        "instance": lambda: f.instance_norm(x, weight=scale, bias=shift),
        "layer": lambda: f.layer_norm(x, channels, scale, shift),
    }[kind]()
    y, pullback = doors(kind)[1](*arrays[:3], **settings)
    np.testing.assert_allclose(y, expected.detach(), rtol=0, atol=64 * eps(dtype))
    gradients = torch.autograd.grad(expected, (x, scale, shift), dy)
    for a, b in zip(pullback(arrays[3]), gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=64 * eps(dtype) * (1 + abs(b.numpy()).max()) * 4)
    there, pull = doors(kind)[1](*(torch.tensor(a) for a in arrays[:3]), **settings)
    assert isinstance(there, torch.Tensor)
    assert all(isinstance(a, torch.Tensor) for a in pull(torch.tensor(arrays[3])))
    half = doors(kind)[0](torch.tensor(arrays[0], dtype=torch.float16), **settings)
    assert half.dtype == torch.float16
    np.testing.assert_allclose(half.numpy(), doors(kind)[0](arrays[0], **settings), rtol=0, atol=2e-2)


def test_torch_infers_with_the_same_statistics():
    torch = pytest.importorskip("torch")
    (x, scale, shift, mean, dy), _ = drawn("float32", 0, (4, 5, 7), (5,), (5,), (5,), (4, 5, 7))
    tx = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.batch_norm(tx, *map(torch.tensor, (mean, mean * mean, scale, shift)))
    y, pullback = norm.batch_norm_vjp(x, scale, shift, mean=mean, var=mean * mean)
    bound = 16 * eps("float32") * abs(expected.detach().numpy()).max()
    np.testing.assert_allclose(y, expected.detach(), rtol=0, atol=bound)
    dx = torch.autograd.grad(expected, tx, torch.tensor(dy))[0].numpy()
    np.testing.assert_allclose(pullback(dy, wrt="x"), dx, rtol=0, atol=16 * eps("float32") * abs(dx).max())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_views_and_read_only_arrays_are_taken_and_left_alone(dtype, kind):
    (x,), _ = drawn("float64", 0, (2, 4, 7, 9))
    x = x.astype(dtype)
    settings = {"groups": 2} if kind == "group" else {}
    f_vjp = doors(kind)[1]
    expected, pull = f_vjp(x, **settings)
    for view in (np.repeat(x, 2, axis=-1)[..., ::2], np.asfortranarray(x), x.copy(), x.astype(x.dtype.newbyteorder())):
        view.setflags(write=False)
        y, pullback = f_vjp(view, **settings)
        np.testing.assert_array_equal(y, expected)
        y.setflags(write=False)
        np.testing.assert_array_equal(pullback(y), pull(expected))
        np.testing.assert_array_equal(view, x)


def test_a_constant_set_gives_its_shift_and_nan_stays_in_its_set():
    x = np.full((2, 3, 5), 7.0)
    x[0, 1, 2] = np.nan
    y = norm.instance_norm(x, np.ones(3), np.array([1.0, 2.0, 3.0]))
    assert np.all(np.isnan(y[0, 1]))
    y[0, 1] = 2.0
    np.testing.assert_array_equal(y, np.broadcast_to(np.array([1.0, 2.0, 3.0])[:, None], x.shape))


def test_a_wrong_variance_is_caught(monkeypatch):
    case = "layer", (3, 8), {"axes": 1}, (8,)
    check_values("strict", case, 0.0, 0)
    mean = generic._mean
    monkeypatch.setattr(generic, "_mean", lambda xp, x, g: mean(xp, x, g) * 8 / 7)
    with pytest.raises(AssertionError):
        check_values("strict", case, 0.0, 0)


def test_examples_run():
    assert doctest.testmod(importlib.import_module("numconv.norm")).failed == 0
    results = doctest.testfile(str(Path(__file__).parent.parent / "docs" / "norm.md"), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0


ONES, THREE = np.ones((2, 4, 5)), np.ones(3)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: norm.batch_norm([1.0]), TypeError, "x must be an array .* got list"),
        (lambda: norm.layer_norm(np.ones((2, 3), int)), TypeError, "x has dtype int64; needed a real floating dtype"),
        (lambda: norm.batch_norm(ONES, THREE), ValueError, r"scale has shape \(3,\); with x \(2, 4, 5\), needed \(4,\)"),
        (lambda: norm.instance_norm(ONES, None, THREE), ValueError, r"shift has shape \(3,\); with x"),
        (lambda: norm.layer_norm(ONES, THREE), ValueError, r"scale has shape \(3,\); with x \(2, 4, 5\), needed \(5,\)"),
        (lambda: norm.batch_norm(ONES, mean=np.ones(4)), ValueError, "mean and var go together"),
        (lambda: norm.batch_norm(ONES, mean=np.ones(4), var=THREE), ValueError, r"var has shape \(3,\)"),
        (lambda: norm.batch_norm(np.ones((0, 3))), ValueError, r"x has shape \(0, 3\); needed at least one sample to take"),
        (lambda: norm.batch_norm_statistics(np.ones((0, 3))), ValueError, "needed at least one sample"),
        (lambda: norm.batch_norm(np.ones(3)), ValueError, r"x has shape \(3,\); needed \(batch, channels, \*size\)"),
        (lambda: norm.instance_norm(np.ones((2, 3))), ValueError, "with at least one spatial axis"),
        (lambda: norm.group_norm(np.ones((2, 3, 0)), groups=1), ValueError, "needed at least one channel, and one sample"),
        (lambda: norm.group_norm(ONES, groups=3), ValueError, "groups=3, but x has 4 channels .* needed a divisor"),
        (lambda: norm.group_norm(ONES, groups=2.0), TypeError, "groups is 2.0 of type float; needed an int"),
        (lambda: norm.layer_norm(ONES, axes=0), ValueError, "axes=0, but x has shape .* needed how many trailing axes"),
        (lambda: norm.layer_norm(ONES, axes=True), TypeError, "axes is True of type bool; needed an int"),
        (lambda: norm.layer_norm(np.ones((2, 0))), ValueError, "needed at least one number along the last 1 axes"),
        (lambda: norm.layer_norm(ONES, eps=-1), ValueError, "eps=-1; needed a number, at least 0"),
        (lambda: norm.layer_norm_vjp(ONES)[1](THREE), ValueError, r"cotangent has shape \(3,\); needed the value's"),
    ],
)  # fmt: skip
def test_refusals(call, error, text):
    with pytest.raises(error, match=text):
        call()
