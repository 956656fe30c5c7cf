"""The weight gradient as a product of matrices, on the emulator: dtypes, precisions, odd shapes, shares, planted faults."""

from __future__ import annotations

import signal
import sys
from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16

from numconv import _cuda
from numconv.conv import generic, geometry
from numconv.conv.cuda import Drawer, by, gradient
from numconv.conv.cuda.plan import plan
from numconv.conv.cuda.problem import Problem

from .cuda_emulator.emulator import H200, MISSING, Emulator, guarded
from .cuda_emulator.faults import plant
from .cuda_emulator.plans import best

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SEEDS = (0, 2, 3)
DTYPES = {"float32": np.float32, "float64": np.float64, "float16": np.float16, "bfloat16": bfloat16}
WAYS = [(dtype, "default") for dtype in DTYPES] + [("float32", "tf32"), ("float32", "ieee")]
GEOMETRIES = {
    "3x3": geometry.conv((2, 16, 7, 6), (24, 16, 3, 3), 1, 1, 1, 1),
    "ragged": geometry.conv((3, 7, 5, 9), (5, 7, 3, 2), (1, 2), ((1, 0), (0, 1)), 1, 1),
    "stem": geometry.conv((1, 3, 17, 15), (16, 3, 5, 5), 2, 2, 1, 1),
    "groups": geometry.conv((2, 16, 6, 5), (16, 8, 3, 1), 1, (1, 0), 1, 2),
    "signal": geometry.conv((2, 8, 61), (8, 8, 5), 1, 4, 2, 1),
    "volume": geometry.conv((1, 4, 4, 5, 6), (8, 4, 2, 3, 2), (2, 1, 1), ((1, 1), (0, 2), (1, 0)), (1, 2, 1), 1),
    "many columns": geometry.conv((1, 72, 3, 3), (72, 72, 1, 1), 1, 0, 1, 1),
    "dilated past the input": geometry.conv((1, 8, 4, 5), (8, 8, 3, 3), 1, 5, 4, 1),
}
# Rounding of a product of numbers, relative to the sum of its terms' sizes: two roundings to TF32's 11 bits; what three products
# of TF32 leave out; a rounding each for float32's and float64's products and sums.
UNIT = {"tf32": 2.0**-10, "default": 2.0**-20, "ieee": 2.0**-20}


def arrays(g, dtype):
    rng = np.random.default_rng(0)
    return [rng.uniform(-1, 1, shape).astype(DTYPES[dtype]) for shape in (g.x_shape, g.y_shape)]


def last(a):
    """Return an array that lies in memory with channels last, before an unreadable page."""
    moved = np.moveaxis(a, 1, -1)
    copy = guarded(moved.shape, a.dtype)
    copy[...] = moved
    return np.moveaxis(copy, -1, 1)


def contract_w(x, y, g, precision):
    """Return the weight gradient by this method alone."""
    return Drawer(precision, (gradient,)).contract_w(x, y, g)


def fault(g, dtype, precision, seed, device=H200, order=("last", "last")):
    """Say how a weight gradient is wrong; nothing if it is right."""
    x, y = arrays(g, dtype)
    _cuda.backend = Emulator(seed, device)
    moved = [a if each == "first" else last(a) for a, each in zip((x, y), order, strict=True)]
    got = contract_w(*moved, g, precision)
    exact = generic.contract_w(x.astype(np.float64), y.astype(np.float64), g)
    size = generic.contract_w(np.abs(x.astype(np.float64)), np.abs(y.astype(np.float64)), g)
    within = 2.0**-49 if dtype == "float64" else UNIT[precision]
    stored = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype, 0.0)
    wrong = ~(np.abs(got.astype(np.float64) - exact) <= within * size + stored * np.abs(exact))  # so NaN is wrong
    if (got.shape, got.dtype) != (g.w_shape, x.dtype):
        return f"{got.dtype}{got.shape}"
    return f"{wrong.sum()} of {wrong.size}, the first at {np.argwhere(wrong)[0]}" if wrong.any() else ""


def planned(g, dtype, precision, device=H200):
    return best(gradient, Problem("contract_w", g, dtype, precision, device, (True, True))).how


@pytest.fixture(autouse=True)
def _backend(monkeypatch):
    monkeypatch.setattr(_cuda, "backend", Emulator())


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize("case", GEOMETRIES)
def test_against_float64(case, way):
    for seed in SEEDS if case in ("ragged", "groups") else SEEDS[1:2]:
        assert not fault(GEOMETRIES[case], *way, seed), seed
        assert not fault(GEOMETRIES[case], *way, seed, order=("first", "last" if seed else "first")), seed


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_the_large_tile(way):
    g = geometry.conv((1, 72, 5, 5), (72, 72, 1, 1), 1, 0, 1, 1)
    one = H200._replace(multiprocessors=1)  # on which four small tiles take longer than a large one
    large = way[0] != "float64" and way[1] != "ieee"
    assert planned(g, *way, one).block == (gradient.LARGE.threads if large else gradient.SMALL.threads,)
    for seed in SEEDS:
        assert not fault(g, *way, seed, one)


def test_shares(monkeypatch):
    monkeypatch.setattr(gradient, "DEEP", 1)
    plan.cache_clear()
    g, answers = GEOMETRIES["signal"], {}
    for multiprocessors in (1, 2, 4, 132):
        device = H200._replace(multiprocessors=multiprocessors)
        splits = planned(g, "float32", "default", device).reduction.splits
        for seed in SEEDS:
            assert not fault(g, "float32", "default", seed, device)
            answers.setdefault(splits, set()).add(contract_w(*map(last, arrays(g, "float32")), g, "default").tobytes())
    plan.cache_clear()
    assert len(answers) >= 3
    assert all(len(bits) == 1 for bits in answers.values())  # the same in any order of blocks and threads


@pytest.mark.parametrize(("dtype", "precision"), WAYS)
def test_plans(dtype, precision):
    shapes = [(32, 64, 56, 64, 3), (32, 512, 7, 512, 3), (32, 3, 224, 64, 7), (1, 1, 4096, 1, 63), (128, 32, 14, 64, 4)]
    for batch, c_in, side, c_out, taps in shapes:
        g = geometry.conv((batch, c_in, side, side), (c_out, c_in, taps, taps), 1, taps // 2, 1, 1)
        found = planned(g, dtype, precision)
        deep = dict(found.product.defines)["BK"]
        r, pixels = found.reduction, g.batch * prod(g.y_size)
        assert (r.splits - 1) * r.tiles * deep < pixels <= r.splits * r.tiles * deep
        assert r.tiles * deep <= gradient.LONG + deep
        assert found.shared <= H200.shared_bytes
        assert found.grid[0] < 2**31
        assert found.grid[1] <= 65535
        assert found.sums * 8 < 2**31
        assert found.product in [program for program, _ in gradient.programs()]


def test_what_it_cannot():
    g = geometry.conv((0, 4, 5), (8, 4, 3), 1, 0, 1, 1)
    assert best(gradient, Problem("contract_w", g, "float32", "default", H200)) is None
    g = GEOMETRIES["3x3"]
    assert best(gradient, Problem("contract_y", g, "float32", "default", H200)) is None
    assert best(gradient, Problem("contract_w", g, "float32", "default", H200._replace(capability=(7, 5)))) is None
    x, y = arrays(geometry.conv((0, 4, 5), (8, 4, 3), 1, 0, 1, 1), "float32")
    assert not by("default").contract_w(x, y, geometry.conv((0, 4, 5), (8, 4, 3), 1, 0, 1, 1)).any()


BARRIER = """        copy_wait<STAGES - 2>();
        __syncthreads();  // this tile is there for all threads, and all have read the one whose place is filled next
"""
SHORT = "memory one row short"
FAULTS = {
    "no barrier": ("        __syncthreads();  // this tile", "  // this tile"),
    "waited for one group too few": ("copy_wait<STAGES - 2>();", "copy_wait<STAGES - 1>();"),
    "copied before the barrier": (
        BARRIER + "        if (tile + STAGES - 1 < tiles) load(tile + STAGES - 1);\n",
        "        if (tile + STAGES - 1 < tiles) load(tile + STAGES - 1);\n" + BARRIER,
    ),
    "a pixel past the end": ("m < pixels && o < c_out", "o < c_out"),
    "a channel past the end": ("m < pixels && o < c_out", "m < pixels"),
    "a sample of the next batch": ("p.n < r.batch && column", "column"),
    "a sample past the edge": ("(unsigned)s2 < (unsigned)r.x_size[2]", "s2 >= 0"),
    "shares one tile apart": ("begin = split * r.tiles * BK", "begin = split * (r.tiles + 1) * BK"),
    "a share twice": ("split = blockIdx.y,", "split = max(1, blockIdx.y) - 1,"),
    "a carry lost": ("r.step[2] + carry2", "r.step[2]"),
    "groups see each other": ("x + h * c_in + (column", "x + (column"),
    "rows of a fragment swapped": ("16 * i + g + 8 * (e % 2)]", "16 * i + g + 8 * (e / 2)]"),
    "a small product left out": ("multiply_tf32(tile[i][j], left[i], rest_right[j]);", ""),
    SHORT: ("", ""),
}


def run_every_case(path, short):
    """Hold a source against every case, and exit at the first fault. It may also crash: for a process of its own."""
    gradient.SOURCE = Path(path)
    if short:
        launch = _cuda.launch
        _cuda.launch = lambda **how: launch(**how | {"shared": max(0, how.get("shared", 0) - 4 * 72)})
    for gradient.DEEP, name, seed in product((1, 32), ("ragged", "signal", "groups", "volume"), SEEDS):
        plan.cache_clear()
        for way in (("float32", "default"), ("bfloat16", "default")):
            if found := fault(GEOMETRIES[name], *way, seed, H200._replace(multiprocessors=2)):
                sys.exit(f"caught: {found}")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    crashes = (signal.SIGSEGV, signal.SIGABRT)
    plant(tmp_path, run_every_case, gradient.SOURCE.read_text(), FAULTS.get(planted), planted == SHORT, crashes=crashes)
