"""The Numba drawer of convolution against `generic`: every contraction, blocks and tiles of all kinds, bits, threads, faults."""

import itertools
import threading

import numba
import numpy as np
import pytest
from hypothesis import given
from oracles import conv_cases, normals, rounding_bound

from numconv import _jit, _simd
from numconv._simd import DOT_TILES, TILES
from numconv.conv import cpu, generic, geometry
from numconv.conv.cpu import direct, gradient, lattice, plan, strip
from numconv.conv.cpu.method import Definition


def geometry_of(case):
    return geometry.conv(case["x_shape"], case["w_shape"], case["stride"], case["pads"], case["dilation"], case["groups"])


def worst_excess(g, dtype, seed):
    """Largest ratio of the error to its bound over the three contractions, bias included, against `generic` in float64."""
    x, w, y, b_y, b_x = normals(seed, g.x_shape, g.w_shape, g.y_shape, g.y_shape[1:2], g.x_shape[1:2], dtype=dtype)
    worst = 0.0
    for name, arrays, bias in (("contract_y", (x, w), (b_y,)), ("contract_x", (y, w), (b_x,)), ("contract_w", (x, y), ())):
        exact = [a.astype(np.float64) for a in (*arrays, *bias)]
        reference, magnitude = ((getattr(generic, name)(*a[:2], g, *a[2:])) for a in (exact, [abs(a) for a in exact]))
        terms = {"contract_y": w[0].size, "contract_x": w.size, "contract_w": y.size // y.shape[1]}[name]
        result = getattr(Definition, name)(*arrays, g, *bias)
        assert result.dtype == dtype
        error = abs(result - reference)
        worst = max(worst, float(np.max(error / rounding_bound(dtype, terms, magnitude), initial=0.0)))
    return worst


@pytest.fixture
def small_blocks(monkeypatch):
    """Plan as if caches were tiny, so that small arrays are cut into many blocks of images, rows, columns and channels."""
    for module, name, value in (
        (plan, "BLOCK_BYTES", 3000),
        (plan, "NEAR_BYTES", 600),
        (gradient, "BLOCK_BYTES", 3000),
        (gradient, "DOT_PIXELS", 30),
        (gradient, "OUTER_PIXELS", 30),
        (gradient, "FIXED_TASKS", 5),
    ):
        monkeypatch.setattr(module, name, value)
    clear_plans()
    yield
    monkeypatch.undo()
    clear_plans()


def clear_plans():
    for planner in (plan.walks, direct.correlations, gradient.sums):
        planner.cache_clear()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(case=conv_cases(max_channels=9, max_size=20))
def test_contractions_match_the_definition(dtype, case):
    assert worst_excess(geometry_of(case), dtype, case["seed"]) <= 1


@pytest.mark.usefixtures("small_blocks")
def test_contractions_match_the_definition_in_many_blocks():
    rng = np.random.default_rng(0)
    shapes = [((2, 6, 40, 70), (26, 3, 3, 2), 2), ((1, 2, 9, 20, 33), (3, 2, 2, 3, 3), 1), ((3, 5, 400), (7, 5, 4), 1)]
    for x_shape, w_shape, groups in shapes:
        for stride, dilation, padding in ((1, 1, "same"), (2, 1, 1), (1, 2, "full"), (3, 2, "valid")):
            g = geometry.conv(x_shape, w_shape, stride, padding, dilation, groups)
            (walk,) = plan.walks(g, 4, 2, False)
            assert max(walk.blocks[1:]) > 1
            assert walk.channels < g.c_in
            assert worst_excess(g, np.float32, int(rng.integers(1000))) <= 1


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("outer", [True, False])
def test_weight_gradients_match_in_both_forms(monkeypatch, outer):
    """Output channels as vectors of the tile, or pixels: in many blocks, with columns that do not divide evenly."""
    monkeypatch.setattr(gradient, "_outer", lambda *_: outer)
    shapes = [((3, 4, 7, 7), (42, 2, 3, 3), 2), ((2, 3, 6, 91), (37, 3, 2, 3), 1), ((5, 9, 2, 2), (16, 9, 1, 1), 1)]
    for x_shape, w_shape, groups in shapes:
        for stride, dilation, padding in ((1, 1, "same"), (2, 1, 1), (1, 2, "full")):
            g = geometry.conv(x_shape, w_shape, stride, padding, dilation, groups)
            assert gradient.sums(g, 4).outer == outer
            assert worst_excess(g, np.float32, 5) <= 1


def test_every_shape_of_tile_is_used_and_right():
    used, joint, dots = set(), set(), set()
    for channels, width, taps in ((1, 64, 3), (2, 40, 3), (3, 48, 3), (4, 24, 3), (6, 16, 3), (8, 24, 2), (13, 5, 3), (1, 80, 9)):
        g = geometry.conv((2, 3, 20, width), (channels, 3, taps, taps), 1, "same", 1, 1)
        for p in plan.walks(g, 4, 1, False)[0].passes:
            (joint if p.phases > 1 else used).add(p.shape)
        dots.add(int(gradient.sums(g, 4).shape))
        assert worst_excess(g, np.float32, channels) <= 1
    g = geometry.conv((2, 1, 28, 28), (32, 1, 4, 4), 2, 1, 1, 1)
    joint |= {p.shape for p in plan.walks(g, 4, 1, True)[0].passes if p.phases == 4}
    assert used == set(range(len(TILES)))
    assert len(joint) > 1
    assert dots == set(range(len(DOT_TILES)))


SMALL_MAPS = [  # x, w, stride, padding, dilation, groups: maps whose rows leave vectors of pixels half empty
    ((9, 16, 14, 14), (40, 16, 4, 4), 2, 1, 1, 1),
    ((3, 6, 7, 7), (17, 6, 3, 3), 1, "same", 1, 1),
    ((2, 40, 9, 5), (64, 20, 2, 3), 1, "full", 2, 2),
    ((4, 24, 3, 6, 6), (24, 24, 2, 2, 2), 1, "valid", 1, 1),
    ((5, 3, 9), (48, 3, 3), 1, 1, 1, 1),
    ((9, 12, 4, 3), (40, 6, 4, 3), 2, "valid", 1, 2),  # one window, all of x
]


@pytest.mark.parametrize("case", SMALL_MAPS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tiny", [False, True])
def test_pixels_on_the_rows_of_the_tile(monkeypatch, request, case, dtype, tiny):
    if tiny:
        request.getfixturevalue("small_blocks")
    monkeypatch.setattr(plan, "TURNING", -1e9)  # in this form wherever it is possible
    clear_plans()
    g = geometry.conv(*case)
    walks = [w for adjoint in (False, True) for w in plan.walks(g, np.dtype(dtype).itemsize, 2, adjoint)]
    assert all(w.pixels is not None for w in walks if w.block[2] == w.axes[2].outputs and w.passes[0].phases == 1)
    if not tiny:
        assert walks[0].pixels is not None
    assert worst_excess(g, dtype, 3) <= 1
    x, w, y = normals(0, g.x_shape, g.w_shape, g.y_shape, dtype=dtype)
    by_pixel = direct.contract_y(x, w, g), direct.contract_x(y, w, g)
    monkeypatch.setattr(plan, "TURNING", 1e9)
    clear_plans()
    assert plan.walks(g, np.dtype(dtype).itemsize, 2, False)[0].pixels is None
    np.testing.assert_array_equal(direct.contract_y(x, w, g), by_pixel[0])
    np.testing.assert_array_equal(direct.contract_x(y, w, g), by_pixel[1])
    clear_plans()


@given(case=conv_cases())
def test_offsets_stay_inside_the_strip(case):
    """Tiles read vectors past their start at every offset: the furthest must lie in the memory taken for the strip."""
    g = geometry_of(case)
    for walk in (*plan.walks(g, 4, 2, False), *plan.walks(g, 4, 2, True)):
        for p in walk.passes:
            furthest = int(p.starts[-1]) + int(p.offset.max()) + TILES[p.shape][1] * plan.lanes(4)
            assert furthest <= walk.strip_size
            assert p.offset.min() >= 0
            assert walk.pixels is not None or int(p.starts[-1]) + TILES[p.shape][1] * plan.lanes(4) <= walk.row_pitch


@given(case=conv_cases())
def test_phases_of_the_adjoint_cover_every_input_once(case):
    g = geometry_of(case)
    merged = lattice.merged(g)
    seen = np.zeros(merged.x_size, int)
    for walk in plan.walks(g, 4, 1, True):
        outputs = [
            [q for f in range(len(a.phases)) for q in range(a.dst_start + f, a.dst_start + a.dst_step * a.outputs, a.dst_step)]
            for a in walk.axes
        ]
        seen[np.ix_(*([q for q in places if 0 <= q < n] for places, n in zip(outputs, merged.x_size, strict=True)))] += 1
    np.testing.assert_array_equal(seen, 1)


@given(case=conv_cases())
def test_merging_axes_changes_no_answer(case):
    g = geometry_of(case)
    merged = lattice.merged(g)
    assert np.prod(merged.x_size) == np.prod(g.x_size)
    assert np.prod(merged.w_size) == np.prod(g.w_size)
    x, w = normals(case["seed"], g.x_shape, g.w_shape)
    full = merged._replace(rank=3)
    y = generic.contract_y(x.reshape(full.x_shape), w.reshape(full.w_shape), full)
    np.testing.assert_allclose(y.reshape(g.y_shape), generic.contract_y(x, w, g), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_do_not_change_a_bit(dtype):
    g = geometry.conv((3, 4, 37, 41), (10, 2, 3, 4), (2, 1), ((1, 2), (3, 0)), (1, 2), 2)
    x, w, y = normals(0, g.x_shape, g.w_shape, g.y_shape, dtype=dtype)
    before = numba.get_num_threads()
    try:
        results = []
        for threads in (1, numba.config.NUMBA_NUM_THREADS):
            numba.set_num_threads(threads)
            results.append((cpu.contract_y(x, w, g), cpu.contract_x(y, w, g), cpu.contract_w(x, y, g)))
    finally:
        numba.set_num_threads(before)
    for one, many in zip(*results, strict=True):
        np.testing.assert_array_equal(one, many)


def test_results_do_not_depend_on_what_memory_held(monkeypatch):
    """Scratch and result memory comes uninitialised: filled with NaN, none of it may show."""
    g = geometry.conv((2, 3, 11, 13), (5, 3, 3, 3), (2, 3), 2, 1, 1)
    x, w, y = normals(1, g.x_shape, g.w_shape, g.y_shape)
    expected = [generic.contract_y(x, w, g), generic.contract_x(y, w, g), generic.contract_w(x, y, g)]
    # Bytes of ones make a NaN of either width; scratch memory is asked for anew.
    full = lambda shape, dtype=float: np.full(shape, np.nan if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max, dtype)  # noqa: E731
    monkeypatch.setattr(np, "empty", full)
    monkeypatch.setattr(_jit, "_local", threading.local())
    for result, reference in zip(
        (cpu.contract_y(x, w, g), cpu.contract_x(y, w, g), cpu.contract_w(x, y, g)), expected, strict=True
    ):
        assert np.all(abs(result - reference) <= 1e-12)


def shifted_taps(walk):
    return walk._replace(passes=tuple(p._replace(offset=np.roll(p.offset, 1)) for p in walk.passes))


def shifted_start(walk):
    columns = walk.axes[2]
    moved = tuple(phase._replace(starts=tuple(s + 1 for s in phase.starts)) for phase in columns.phases)
    axes = (*walk.axes[:2], columns._replace(phases=moved))
    return walk._replace(strip=walk.strip._replace(axes=axes))


def dropped_tile(walk):
    return walk._replace(passes=tuple(p._replace(starts=p.starts[:-1]) for p in walk.passes))


@pytest.mark.parametrize("fault", [shifted_taps, shifted_start, dropped_tile])
def test_planted_faults_are_caught(monkeypatch, fault):
    g = geometry.conv((2, 3, 9, 70), (4, 3, 3, 3), 1, "same", 1, 1)
    whole = plan.walks
    clear_plans()
    monkeypatch.setattr(plan, "walks", lambda *args: tuple(fault(walk) for walk in whole(*args)))
    assert worst_excess(g, np.float64, 0) > 1
    monkeypatch.undo()
    direct.correlations.cache_clear()
    assert worst_excess(g, np.float64, 0) <= 1


PHASES = [  # x, w, stride, padding, dilation, groups; whose phases stand on the rows of the tile: y's, x's, or both
    ((2, 1, 28, 28), (32, 1, 4, 4), 2, 1, 1, 1, "x"),  # whole windows of the stride
    ((2, 3, 41, 45), (8, 3, 7, 7), 2, 3, 1, 1, "x"),  # and not
    ((1, 2, 30, 31), (5, 2, 4, 6), (2, 3), ((2, 0), (1, 3)), 1, 1, "x"),
    ((2, 3, 48, 48), (24, 3, 16, 16), 16, "valid", 1, 1, "x"),  # more phases than one walk sums
    ((1, 1, 4001), (1, 1, 40), 1, 7, 1, 1, "yx"),  # columns dealt out and woven together
    ((2, 2, 3000), (3, 2, 33), 1, "causal", 1, 1, "y"),
    ((1, 4, 7, 1500), (4, 1, 1, 24), 1, "valid", 1, 4, "yx"),
    ((1, 1, 900), (1, 1, 24), 2, 5, 1, 1, "x"),  # of a stride as well
    ((1, 1, 60, 70), (1, 1, 9, 9), 1, "same", 1, 1, "yx"),  # rows
]


@pytest.mark.parametrize("case", PHASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("tiny", [False, True])
def test_phases_on_the_rows_of_the_tile(request, case, dtype, tiny):
    if tiny:
        request.getfixturevalue("small_blocks")
    *arguments, joint = case
    g = geometry.conv(*arguments)
    for name in joint:
        walks = plan.walks(g, np.dtype(dtype).itemsize, 2, name == "x")
        assert all(w.passes[0].phases == np.prod(w.phases) > 1 for w in walks)
    assert worst_excess(g, dtype, 4) <= 1


@pytest.mark.parametrize(
    "case", [*PHASES, ((1, 1, 40, 80), (1, 1, 9, 9), 1, "same", 1, 1, ""), ((1, 3, 40, 80), (1, 3, 3, 3), 1, 1, 1, 1, "")]
)
def test_nan_goes_no_further_than_its_windows(case):
    """Neither forward nor back: as the definition has it, exactly."""
    g = geometry.conv(*case[:-1])
    x, w, y = normals(0, g.x_shape, g.w_shape, g.y_shape, dtype=np.float32)
    for array in (x, y):
        array.reshape(-1)[array.size * 5 // 9] = np.nan
    for mine, right in (
        (cpu.contract_y(x, w, g), generic.contract_y(x, w, g)),
        (cpu.contract_x(y, w, g), generic.contract_x(y, w, g)),
    ):
        assert 0 < np.isnan(right).sum() < right.size / 2
        np.testing.assert_array_equal(np.isnan(mine), np.isnan(right))


@pytest.mark.parametrize("step", [2, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_samples_are_dealt_out_and_nothing_beside_them_is_read(step, dtype):
    """Rows of every length, read where they lie among NaN: what is outside of them is zero."""
    for size, columns, first in itertools.product((1, 7, 16, 33, 70), (1, 5, 8, 17), (-9, -1, 0, 3)):
        axis = lattice.Axis(0, 1, columns, step, (lattice.Phase(tuple(range(step)), tuple(range(first, first + step))),))
        s = strip.strip((*lattice.whole((1, 1, 1))[:2], axis), (1, 1, columns), np.dtype(dtype).itemsize, (1, 1, size), 1)
        guarded = np.full(size + 200, np.nan, dtype)
        guarded[100 : 100 + size] = np.arange(1, size + 1)
        filled = np.full(step * s.plane + 200, np.nan, dtype)
        fill(
            1, dtype, FILL.fill(strip=s.record, columns=s.width), src=_jit.address_of(guarded) + 100 * guarded.itemsize, to=filled
        )
        for part in range(step):
            wanted = [q + 1 if 0 <= q < size else 0 for q in (first + part + step * j for j in range(s.width))]
            np.testing.assert_array_equal(filled[part * s.plane :][: s.width], wanted)


FILL = _jit.Job("src to", strip=strip.STRIP, columns=1)


@_jit.kernel(FILL)
def fill(worker, workers, job, like):
    """Fill one plane of a strip."""
    strip.fill_strip(job.strip, _simd.pointer(job.src, like), 1, 1, (0, 0, 0), 1, job.columns, _simd.pointer(job.to, like))


@pytest.mark.parametrize("tiny", [False, True])
def test_nothing_is_written_beside_the_result(request, tiny):
    """Rows are stored in whole vectors, past their ends: never past the end of the last."""
    if tiny:
        request.getfixturevalue("small_blocks")
    for width, stride, c_dst in itertools.product((3, 7, 14, 29, 70), (1, 2, 3, 4), (1, 13)):
        g = geometry.conv((2, c_dst, 9, width), (5, c_dst, 4, 3), stride, 1, 1, 1)
        w, y = normals(width, g.w_shape, g.y_shape, dtype=np.float32)
        guarded = np.full(2 * c_dst * 9 * width + 400, np.nan, np.float32)
        direct._run(direct.correlations(g, 4, 1, True), y, w, None, False, guarded[200:-200].reshape(g.x_shape))
        assert np.isfinite(guarded[200:-200]).all()
        assert np.isnan(guarded[:200]).all()
        assert np.isnan(guarded[-200:]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rectifier_cuts_off_what_is_below_zero_and_nothing_else(dtype):
    """However rows are stored: whole, woven from 2 to 5 phases, turned from pixels, or as single pixels."""
    shapes = [
        ((2, 3, 9, 21), (5, 3, 4, 3)),
        ((3, 17, 7, 7), (24, 17, 3, 3)),
        ((4, 9, 3, 3), (16, 9, 3, 3)),
        ((1, 1, 900), (1, 1, 60)),
    ]
    for (x_shape, w_shape), stride in itertools.product(shapes, (1, 2, 3, 4, 5)):
        g = geometry.conv(x_shape, w_shape, stride, 1 if len(x_shape) == 4 and x_shape[2] != 3 else 0, 1, 1)
        x, w, y, b = normals(stride, g.x_shape, g.w_shape, g.y_shape, (w_shape[0],), dtype=dtype)
        x[0, 0, ..., 1], y[-1, 0, ..., -1] = np.nan, np.nan
        for plain, rectified in (
            (direct.contract_y(x, w, g, b), direct.contract_y(x, w, g, b, True)),
            (direct.contract_x(y, w, g), direct.contract_x(y, w, g, None, True)),
        ):
            np.testing.assert_array_equal(rectified, np.maximum(plain, 0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tall_windows_on_wide_images(dtype):
    g = geometry.conv((1, 1, 70, 900), (1, 1, 33, 5), 1, "same", 1, 1)
    (walk,) = plan.walks(g, 4, 2, False)
    assert walk.block[1] > 1
    assert walk.block[2] < 900
    x, w = normals(0, g.x_shape, g.w_shape, dtype=dtype)
    reference, magnitude = (generic.contract_y(f(x.astype(float)), f(w.astype(float)), g) for f in (np.positive, abs))
    assert np.all(abs(direct.contract_y(x, w, g) - reference) <= rounding_bound(dtype, w.size, magnitude))


def test_many_taps_are_planned_in_time_and_memory():
    """A plan is linear in the number of taps: were it quadratic, this would run into the time limit of tests."""
    g = geometry.conv((1, 1, 1_000_000), (1, 1, 100_000), 1, "same", 1, 1)
    for correlation in (*direct.correlations(g, 8, 2, False), *direct.correlations(g, 8, 2, True)):
        assert correlation.scratch_bytes < 16 << 20
    assert gradient.workspace(g, 8, 2) < 64 << 20
