"""Winograd's convolution on the CPU against `generic` in float64: random geometries, both tiles, all cuts, bits, NaN, faults."""

from typing import NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import normals, rounding_bound

from numconv import _jit, threads
from numconv.conv import generic, geometry
from numconv.conv.cpu import winograd, winograd_gradient
from numconv.conv.cpu.winograd_basis import basis

CONTRACTIONS = ("contract_y", "contract_x", "contract_w")


class Case(NamedTuple):
    g: geometry.ConvGeometry
    seed: int


@st.composite
def cases(draw):
    """Draw 3x3 geometries, odd ones too: no image, one sample, pads wider than the window, volumes whose slices are planes."""
    groups = draw(st.integers(1, 3))
    c_in, c_out = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    pads = [(draw(st.integers(0, 4)), draw(st.integers(0, 4))) for _ in range(2)]
    size = [draw(st.integers(max(1, 3 - lo - hi), most)) for (lo, hi), most in zip(pads, (13, 33), strict=True)]
    x_shape = (draw(st.integers(0, 3)), groups * c_in, *size)
    w_shape = (groups * c_out, c_in, 3, 3)
    if draw(st.booleans()) and draw(st.booleans()):
        x_shape, w_shape = (*x_shape[:2], draw(st.integers(1, 3)), *size), (*w_shape[:2], 1, 3, 3)
        pads = [(draw(st.integers(0, 1)), draw(st.integers(0, 1))), *pads]
    g = geometry.conv(x_shape, w_shape, 1, tuple(pads), 1, groups)
    return Case(g, draw(st.integers(0, 2**32 - 1)))


def layer(batch, c_in, size, c_out, *, padding=1, groups=1):
    return geometry.conv((batch, groups * c_in, *size), (groups * c_out, c_in, 3, 3), 1, padding, 1, groups)


def magnitude(g, m, name, x, w, y):
    """Largest sums that the transforms and products can hold: the same trilinear form with absolute values of everything.

    Absolute values of both sparse factors of each matrix, for what they leave in between rounds too.
    """
    b = basis(m)
    bt, gt, at = (abs(b.pairs) @ abs(a) for a in (b.x, b.w, b.y))
    down, across = -(-g.y_size[1] // m), -(-g.y_size[2] // m)
    planes = g.batch * g.y_size[0]
    x_tiles = np.zeros((planes, g.groups, g.c_in, down, across, m + 2, m + 2))
    y_tiles = np.zeros((planes, g.groups, g.c_out, down, across, m, m))
    x_spread = np.zeros((g.batch, g.groups, g.c_in, g.y_size[0], m * down + 2, m * across + 2))
    y_spread = np.zeros((g.batch, g.groups, g.c_out, g.y_size[0], m * down, m * across))

    def cut(spread, tiles, reach):
        moved = np.moveaxis(spread, 3, 1).reshape(planes, *spread.shape[1:3], *spread.shape[4:])
        for i in range(down):
            for j in range(across):
                yield tiles[:, :, :, i, j], moved[:, :, :, m * i : m * i + reach, m * j : m * j + reach]

    def placed(spread, source, pad):
        index = [np.arange(n) - lo for n, lo in zip(spread.shape[3:], pad, strict=True)]
        known = [(i >= 0) & (i < n) for i, n in zip(index, source.shape[3:], strict=True)]
        place = np.ix_(*(np.flatnonzero(k) for k in known))
        spread[(..., *place)] = source[(..., *np.ix_(*(i[k] for i, k in zip(index, known, strict=True))))]

    w = abs(w).reshape(g.groups, g.c_out, g.c_in, 3, 3)
    u = gt @ w @ gt.T
    if x is not None:
        placed(x_spread, abs(x).reshape(g.batch, g.groups, g.c_in, *g.x_size), g.pad_lo)
        for tile, source in cut(x_spread, x_tiles, m + 2):
            tile[...] = source
    if y is not None:
        placed(y_spread, abs(y).reshape(g.batch, g.groups, g.c_out, *g.y_size), (0, 0, 0))
        for tile, source in cut(y_spread, y_tiles, m):
            tile[...] = source
    v, d = bt @ x_tiles @ bt.T, at @ y_tiles @ at.T
    if name == "contract_w":
        return (gt.T @ np.einsum("nhoijab,nhcijab->hocab", d, v) @ gt).reshape(g.w_shape)
    tiles = at.T @ np.einsum("hocab,nhcijab->nhoijab", u, v) @ at
    whole = tiles.transpose(0, 1, 2, 3, 5, 4, 6).reshape(g.batch, g.y_size[0], g.groups, g.c_out, m * down, m * across)
    return np.moveaxis(whole, 1, 3)[..., : g.y_size[1], : g.y_size[2]].reshape(g.y_shape)


def mirrored(g):
    """The geometry whose contract_y is contract_x of g."""
    pad = tuple(k - 1 - p for k, p in zip(g.w_size, g.pad_lo, strict=True))
    return g._replace(c_in=g.c_out, c_out=g.c_in, x_size=g.y_size, y_size=g.x_size, pad_lo=pad)


def excess(g, name, dtype, seed, tile=None):
    """Largest ratio of the error of a contraction to its bound, bias included."""
    x, w, y, bias = normals(seed, g.x_shape, g.w_shape, g.y_shape, (max(g.x_shape[1], g.y_shape[1]),), dtype=dtype)
    arguments = {"contract_y": (x, w), "contract_x": (y, w), "contract_w": (x, y)}[name]
    bias = () if name == "contract_w" else (bias[: (g.y_shape if name == "contract_y" else g.x_shape)[1]],)
    result = getattr(winograd, name)(*arguments, g, *bias, m=tile)
    assert result.dtype == dtype
    if not result.size:
        return 0.0
    reference = getattr(generic, name)(*(a.astype(np.float64) for a in arguments), g, *(b.astype(np.float64) for b in bias))
    assert result.shape == reference.shape
    m = tile or winograd.size_of_tile(g.x_size if name == "contract_x" else g.y_size)
    if name == "contract_x":
        turned = np.moveaxis(w.reshape(g.groups, g.c_out, g.c_in, 3, 3), 1, 2)[..., ::-1, ::-1]
        size = magnitude(mirrored(g), m, "contract_y", y, turned, None)
    else:
        size = magnitude(g, m, name, x, w, y)
    # In each of four transforms a number is a sum of up to 6 terms, of sums of two, with constants rounded, along two axes.
    terms = 4 * 2 * 9 + {"contract_y": g.c_in, "contract_x": g.c_out, "contract_w": y.size // g.y_shape[1]}[name]
    size = size + (abs(bias[0]).reshape(-1, *(1,) * (size.ndim - 2)) if bias else 0)
    return float(np.max(abs(result - reference) / rounding_bound(dtype, terms, size)))


@pytest.fixture
def small_cuts(monkeypatch):
    """Plan as if caches were tiny, so that small arrays are cut into many chunks, panels and slices."""
    for module, name, value in (
        (winograd, "TILES_AT_LEAST", 4), (winograd, "SAMPLES_BYTES", 0),
        (winograd, "SUMS_BYTES", 0), (winograd, "WEIGHTS_BYTES", 0),
        (winograd, "CHANNELS", 7), (winograd_gradient, "CHUNK_LEAST", 1),
        (winograd_gradient, "CHUNK_MOST", 1 << 17), (winograd_gradient, "SUMS_BYTES", 1 << 14),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    clear_plans()
    yield
    monkeypatch.undo()
    clear_plans()


def clear_plans():
    winograd.plan_of.cache_clear()
    winograd_gradient.plan_of.cache_clear()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CONTRACTIONS)
@given(case=cases(), tile=st.sampled_from([None, 2, 4]))
def test_contractions_match_the_definition(name, dtype, case, tile):
    assert winograd.fits(case.g)
    assert excess(case.g, name, dtype, case.seed, tile) <= 1


@pytest.mark.usefixtures("small_cuts")
@pytest.mark.parametrize("kept", [0, 1 << 30])
@pytest.mark.parametrize("name", CONTRACTIONS)
def test_contractions_match_the_definition_in_many_cuts(monkeypatch, name, kept):
    monkeypatch.setattr(winograd, "KEPT_BYTES", kept)
    for g in (layer(2, 33, (17, 46), 50), layer(3, 9, (9, 11), 20, padding=((3, 0), (1, 2)), groups=2)):
        plan = winograd.plan_of(g, 8, False, 2, None)
        assert plan.tasks > 4 * g.groups
        assert (plan.kept > 0) == (kept > 0)
        assert len(winograd_gradient.plan_of(g, 8, 4, 2).chunks) > 2
        for dtype in (np.float32, np.float64):
            assert excess(g, name, dtype, 1) <= 1


def test_what_does_not_fit():
    assert winograd.fits(layer(1, 2, (5, 5), 3))
    assert not any(
        winograd.fits(geometry.conv((1, 2, 9, 9), (3, 2, *taps), stride, 2, dilation, 1))
        for taps, stride, dilation in (((3, 3), 2, 1), ((3, 3), 1, 2), ((3, 1), 1, 1), ((5, 5), 1, 1), ((3, 3), (1, 2), 1))
    )
    assert not winograd.fits(geometry.conv((1, 2, 9), (3, 2, 3), 1, 2, 1, 1))


def test_small_maps_take_small_tiles():
    assert [winograd.size_of_tile((1, n, n)) for n in (1, 2, 3, 4, 6, 7, 14, 56)] == [2, 2, 4, 4, 2, 4, 4, 4]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("g", [layer(4, 20, (14, 15), 70), layer(1, 70, (37, 41), 36, groups=2)], ids=["small", "large"])
def test_threads_do_not_change_a_bit(g, dtype):
    x, w, y = normals(0, g.x_shape, g.w_shape, g.y_shape, dtype=dtype)
    results = []
    for n in (1, numba.config.NUMBA_NUM_THREADS):
        with threads(n):
            results.append((winograd.contract_y(x, w, g), winograd.contract_x(y, w, g), winograd.contract_w(x, y, g)))
    for one, many in zip(*results, strict=True):
        np.testing.assert_array_equal(one, many)


def test_order_in_memory_does_not_matter():
    g = layer(2, 9, (8, 11), 10)
    x, w, y = normals(2, g.x_shape, g.w_shape, g.y_shape)
    for name, arrays in (("contract_y", (x, w)), ("contract_x", (y, w)), ("contract_w", (x, y))):
        turned = [np.ascontiguousarray(a.transpose(2, 3, 0, 1)).transpose(2, 3, 0, 1) for a in arrays]
        np.testing.assert_array_equal(getattr(winograd, name)(*turned, g), getattr(winograd, name)(*arrays, g))


@pytest.mark.usefixtures("small_cuts")
def test_results_do_not_depend_on_what_memory_held(monkeypatch):
    """Scratch and result memory comes uninitialised: filled with NaN, none of it may show."""
    empty = np.empty

    def unknown(shape, dtype=float):
        memory = empty(shape, dtype)
        memory.reshape(-1).view(np.uint8)[...] = 255
        return memory

    for g in (layer(2, 3, (11, 13), 5), layer(2, 21, (9, 30), 19, groups=2)):
        monkeypatch.setattr(np, "empty", empty)
        x, w, y = normals(1, g.x_shape, g.w_shape, g.y_shape)
        arguments = {"contract_y": (x, w), "contract_x": (y, w), "contract_w": (x, y)}
        for name, arrays in arguments.items():
            reference = getattr(generic, name)(*arrays, g)
            for tile in (2, 4):
                monkeypatch.setattr(np, "empty", unknown)
                _jit._local.memory = None  # kept from call to call: ask anew
                result = getattr(winograd, name)(*arrays, g, m=tile)
                assert np.all(abs(result - reference) <= 1e-11)


@given(case=cases())
def test_the_three_are_one_form(case):
    """<y, Y(x, w)> = <x, X(y, w)> = <w, W(x, y)>."""
    g = case.g
    x, w, y = normals(case.seed, g.x_shape, g.w_shape, g.y_shape)
    a = np.sum(y * winograd.contract_y(x, w, g))
    b = np.sum(x * winograd.contract_x(y, w, g))
    c = np.sum(w * winograd.contract_w(x, y, g))
    most = np.sum(abs(y) * generic.contract_y(abs(x), abs(w), g))
    assert max(abs(a - b), abs(a - c)) <= 1e-12 * most


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_the_tiles_that_see_it(odd):
    g = layer(1, 3, (16, 20), 4)
    x, w = normals(3, g.x_shape, g.w_shape)
    clean = winograd.contract_y(x, w, g, m=4)
    x[0, 1, 8, 9] = odd  # under rows 7 to 9 of y and columns 8 to 10: tiles 1 and 2 down, 2 across; their windows see one more
    result = winograd.contract_y(x, w, g, m=4)
    seen = np.zeros(g.y_size[1:], bool)
    seen[4:12, 8:12] = True
    np.testing.assert_array_equal(result[..., ~seen], clean[..., ~seen])
    assert not np.isfinite(result[..., 7:10, 8:11]).any()


@pytest.mark.parametrize(("tile", "measured"), [(4, 1.9e-6), (2, 5e-7)])
def test_error_is_as_stated(tile, measured):
    """Three times what the module's docstring states, in the layer that it names."""
    g = layer(1, 64, (56, 56), 64)
    x, w, y = normals(0, g.x_shape, g.w_shape, g.y_shape, dtype=np.float32)
    for name, arrays in (("contract_y", (x, w)), ("contract_x", (y, w)), ("contract_w", (x, y))):
        reference = getattr(generic, name)(*(a.astype(np.float64) for a in arrays), g)
        error = abs(getattr(winograd, name)(*arrays, g, m=tile) - reference).max() / abs(reference).max()
        assert error <= 3 * measured


def faulty(plan, field, change):
    job = plan.job.copy()
    job.view(winograd.JOB.dtype)[0][field] = change(job.view(winograd.JOB.dtype)[0][field])
    return plan._replace(job=job)


@pytest.mark.parametrize(
    ("field", "change"),
    [("pad", lambda p: p + 1), ("tap_step", lambda s: -s), ("c_src", lambda c: c - 1), ("src_size", lambda s: s - 1)],
)
def test_planted_faults_are_caught(monkeypatch, field, change):
    g = layer(2, 9, (9, 22), 8)
    assert excess(g, "contract_y", np.float64, 0) <= 1
    whole = winograd.plan_of
    if field == "tap_step":  # turned round, taps are counted from the last
        monkeypatch.setattr(
            winograd, "plan_of", lambda *args: faulty(faulty(whole(*args), field, change), "tap_first", lambda t: 8 - t)
        )
    else:
        monkeypatch.setattr(winograd, "plan_of", lambda *args: faulty(whole(*args), field, change))
    assert excess(g, "contract_y", np.float64, 0) > 1


def test_estimates_choose_many_channels():
    assert winograd.tile(layer(1, 3, (7, 7), 3), "contract_y") == "F(4x4, 3x3)"
    for name in CONTRACTIONS:
        assert winograd.speedup(layer(4, 64, (56, 56), 64), name) > 2
        assert winograd.speedup(layer(4, 1, (56, 56), 64), name) < 1
        assert winograd.speedup(layer(4, 1, (56, 56), 1, groups=64), name) < 1
        assert winograd.workspace(layer(4, 64, (56, 56), 64), 4, name, 2) < 16 << 20
