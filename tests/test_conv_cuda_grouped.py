"""Narrow groups and depthwise convolution by CUDA kernels on the emulator, held to float64, with planted faults."""

from __future__ import annotations

import signal
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from numconv import _cuda
from numconv.conv import geometry
from numconv.conv.cuda import Drawer, gemm, grouped, layout, plain
from numconv.conv.cuda.plan import plan
from numconv.conv.cuda.problem import Problem

from .cuda_emulator.emulator import H200, MISSING, Emulator
from .cuda_emulator.faults import plant
from .cuda_emulator.plans import best
from .test_conv_cuda import POLICIES, drawn, wrong
from .test_conv_cuda_plain import contracted

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SEEDS = (0, 2, 3)
ALL = ("contract_y", "contract_x", "contract_w")
STRICT = [policy for policy in POLICIES if policy[:2] in (("float32", "ieee"), ("float64", "default"))]
STRICT += [policy for policy in POLICIES if policy[:2] in (("float16", "highest"), ("bfloat16", "ieee"))]
CASES = {
    "depthwise": geometry.conv((2, 5, 9, 7), (5, 1, 3, 3), 1, 1, 1, 5),
    "multiplier": geometry.conv((1, 3, 8, 11), (6, 1, 5, 5), 2, 2, 1, 3),
    "strides": geometry.conv((2, 3, 10, 9), (3, 1, 3, 2), (3, 2), (1, 2), 1, 3),
    "dilation": geometry.conv((1, 4, 11, 13), (4, 1, 3, 6), (1, 2), "same", 2, 4),
    "one_axis": geometry.conv((2, 4, 37), (8, 2, 7), 3, 3, 1, 2),
    "three_axes": geometry.conv((1, 4, 4, 5, 6), (6, 2, 2, 3, 2), (1, 2, 1), 1, 1, 2),
    "groups": geometry.conv((2, 15, 6, 7), (21, 5, 3, 3), 1, "same", 1, 3),
    "transposed": geometry.conv_transpose((1, 8, 5, 4), (8, 5, 4, 3), (2, 3), 1, 0, None, 1, 2),
    "many_pixels": geometry.conv((3, 2, 41, 40), (2, 1, 1, 3), 1, (0, 1), 1, 2),
}


@pytest.mark.parametrize("policy", STRICT, ids=[policy[0] for policy in STRICT])
@pytest.mark.parametrize("case", CASES)
def test_against_the_definition(monkeypatch, case, policy):
    g = CASES[case]
    for name, last in product(ALL, (False, True)):
        a, answers = drawn(g, policy[0], last), set()
        for seed in SEEDS:
            monkeypatch.setattr(_cuda, "backend", Emulator(seed))
            got = contracted(Drawer(policy[1], (grouped,)), name, a, g, biased=True)
            assert not (found := wrong(got, name, a, g, policy)), f"{name}, seed {seed}: {found}"
            answers.add(got.tobytes())
        assert len(answers) == 1, "the same bits in any order"


@pytest.mark.parametrize("last", [False, True])
def test_rectified_in_the_same_launch(monkeypatch, last):
    monkeypatch.setattr(_cuda, "backend", Emulator())
    g = CASES["groups"]
    a = drawn(g, "float32", last)
    answers = [Drawer("default", (grouped,)).contract_y(a["x"], a["w"], g, a["contract_y"], r) for r in (False, True)]
    np.testing.assert_array_equal(answers[1], np.maximum(answers[0], 0))
    assert answers[0].min() < 0
    assert layout.is_last(answers[1]) == last
    assert [p.name for p in _cuda.backend.programs] == ["slide"] * 2


def test_empty_batch(monkeypatch):
    monkeypatch.setattr(_cuda, "backend", Emulator())
    g = geometry.conv((0, 4, 5), (4, 1, 3), 1, 0, 1, 4)
    a, on = drawn(g, "float32"), Drawer("default", (grouped,))
    assert contracted(on, "contract_y", a, g, biased=True).shape == (0, 4, 3)
    assert contracted(on, "contract_x", a, g, biased=True).shape == (0, 4, 5)
    np.testing.assert_array_equal(contracted(on, "contract_w", a, g, biased=False), np.zeros((4, 1, 3)))


def test_the_plan():
    body = geometry.conv((32, 256, 56, 56), (256, 1, 3, 3), 1, 1, 1, 256)
    for name, dtype, last in product(ALL, _cuda.DTYPES, (False, True)):
        assert plan(Problem(name, body, dtype, "default", H200, (last, last)))[0] is grouped
    found = best(grouped, Problem("contract_w", body, "float32", "default", H200))
    assert found.how.shares == 2
    assert found.workspace == 2 * 256 * 9 * 4
    dense = geometry.conv((32, 256, 28, 28), (256, 256, 3, 3), 1, 1, 1, 1)
    assert best(grouped, Problem("contract_y", dense, "float32", "default", H200)) is None
    assert plan(Problem("contract_y", dense, "float32", "default", H200))[0] is gemm
    assert best(grouped, Problem("contract_y", body, "float32", "default", H200._replace(capability=(7, 5)))) is None
    vast = geometry.conv((1, 2, 3_000_000_000), (2, 1, 2), 1_499_999_999, 0, 1, 2)
    assert plan(Problem("contract_y", vast, "float32", "default", H200))[0] is plain


def test_every_plan_is_shipped():
    shipped = {program for program, _ in grouped.programs()}
    for g, dtype, name in product(CASES.values(), _cuda.DTYPES, ALL):
        assert {each.how.program for each in grouped.plans(Problem(name, g, dtype, "default", H200))} <= shipped


FAULTS = {
    "no barrier": ("        __syncthreads();\n", ""),
    "no test of the left edge": ("if (q2 < 0) continue;", ""),
    "no test of the right edge": ("&& q < (int)g.in_size[axis] ", ""),
    "parity off by one": ("q * d == a &&", "q * d == a - (d > 1) &&"),
    "tap order flipped": ("taps1 + k1) * taps2 + k2;\n#pragma", "taps1 + k1) * taps2 + taps2 - 1 - k2;\n#pragma"),
    "rows past the last": ("r1 + s >= g.out_size[1] || ", ""),
    "outputs past the last": (" || o + j >= g.outs) continue", ") continue"),
    "the last sums forgotten": ("int half = 128", "int half = 64"),
    "every share the first": ("blockIdx.y * of.pixels + threadIdx.x", "threadIdx.x"),
    "a share without its last pixels": ("(end < pixels ? end : pixels)", "(end < pixels ? end : pixels) - 1"),
    "taps past the last": ("for (int j = 0; j < WIDE && k2 + j < taps2; ++j)", "for (int j = 0; j < WIDE; ++j)"),
}


def run_some_cases(path):
    """Hold a source against a few cases, and exit at the first fault. It may also crash: for a process of its own."""
    grouped.SOURCE = Path(path)
    for seed, case, name in product(SEEDS, ("strides", "groups", "many_pixels"), ALL):
        _cuda.backend = Emulator(seed)
        g = CASES[case]
        a = drawn(g, "float32")
        if found := wrong(contracted(Drawer("ieee", (grouped,)), name, a, g, biased=True), name, a, g, STRICT[0]):
            sys.exit(f"caught: {found}")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    crashes = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)
    plant(tmp_path, run_some_cases, grouped.SOURCE.read_text(), FAULTS.get(planted), crashes=crashes)
