"""The convolution drawer for GPUs on the emulator: its plan, its layouts and the product of matrices, with planted faults."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from itertools import product
from math import prod
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import numconv
from numconv import _cuda
from numconv.conv import generic, geometry
from numconv.conv.cuda import Drawer, by, gemm, layout, plain, programs
from numconv.conv.cuda.plan import plan
from numconv.conv.cuda.problem import Problem

from .cuda_emulator.emulator import H200, MISSING, Emulator, guarded
from .cuda_emulator.faults import plant
from .cuda_emulator.plans import best
from .cuda_emulator.stand_in import stand_in
from .test_conv_cuda_plain import GEOMETRIES, arrays, contracted

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SEEDS = (0, 2, 3)
BOTH = ("contract_y", "contract_x")
POLICIES = [  # with the unit of rounding of an operand, of a sum, of the answer, and the products between two roundings of a sum
    ("float32", "default", 3 * 2.0**-22, 2.0**-24, 2.0**-24, 8 / 3.2),
    ("float32", "tf32", 2.0**-10, 2.0**-24, 2.0**-24, 8),
    ("float32", "ieee", 0, 2.0**-24, 2.0**-24, 1),
    ("float64", "default", 0, 2.0**-53, 2.0**-53, 1),
    ("float16", "default", 0, 2.0**-24, 2.0**-11, 16),
    ("bfloat16", "default", 0, 2.0**-24, 2.0**-8, 16),
    ("float16", "highest", 0, 2.0**-24, 2.0**-11, 1),
    ("bfloat16", "ieee", 0, 2.0**-24, 2.0**-8, 1),
]
IDS = [f"{policy[0]}-{policy[1]}" for policy in POLICIES]
CASES = {
    "channels_and_rows_left_over": geometry.conv((2, 21, 7, 6), (37, 21, 3, 2), 1, "same", 1, 1),
    "three_strides": geometry.conv((1, 5, 6, 7, 9), (6, 5, 3, 2, 4), (1, 2, 3), 1, (2, 3, 1), 1),
    "stride_and_dilation_share": geometry.conv((2, 8, 15), (12, 8, 4), 4, 3, 2, 1),
    "few_channels": geometry.conv((2, 3, 11, 9), (10, 3, 5, 5), 2, 2, 1, 1),
    "groups": geometry.conv((2, 12, 9, 5), (24, 4, 3, 3), 1, 1, 1, 3),
    "transposed": geometry.conv_transpose((2, 16, 5, 4), (16, 9, 4, 3), (2, 3), 1, 0, None, 1, 1),
}


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def drawn(g, dtype, last=False):
    """Arrays of a dtype, with channels last in memory if wanted."""
    found = {name: a.astype(dtype_of(dtype)) for name, a in arrays(g, "float64").items()}
    if last:
        found |= {name: np.moveaxis(np.ascontiguousarray(np.moveaxis(found[name], 1, -1)), -1, 1) for name in "xy"}
    return found


def wrong(got, name, a, g, policy, *, biased=True):
    """Say how an answer differs from the definition's in float64 by more than rounding can."""
    dtype, _, operand, unit, last, between = policy
    wide = contracted(generic, name, a, g, biased=biased, to=lambda a: a.astype(np.longdouble))
    terms = contracted(generic, name, a, g, biased=biased, to=lambda a: np.abs(a.astype(np.longdouble)))
    length = prod(g.w_size) * (g.c_in if name == "contract_y" else g.c_out)
    allowed = (
        terms * (operand + (length / between + 8) * unit) + 1.01 * last * np.abs(wide) + (2.0**-25 if dtype == "float16" else 0)
    )
    if got.shape != wide.shape or got.dtype != dtype_of(dtype):
        return f"{got.dtype}{got.shape} in place of {dtype}{wide.shape}"
    bad = ~(np.abs(got.astype(np.longdouble) - wide) <= allowed)
    return f"{bad.sum()} of {bad.size} elements, the first at {np.argwhere(bad)[0]}" if bad.any() else ""


@pytest.fixture(autouse=True)
def _backend(monkeypatch):
    monkeypatch.setattr(_cuda, "backend", Emulator())


@pytest.mark.parametrize("policy", POLICIES, ids=IDS)
@pytest.mark.parametrize("case", CASES)
def test_against_the_definition(case, policy):
    g = CASES[case]
    for name, last in product(BOTH, (False, True)):
        a, answers = drawn(g, policy[0], last), set()
        for seed in SEEDS:
            _cuda.backend = Emulator(seed)
            got = contracted(Drawer(policy[1], (gemm,)), name, a, g, biased=True)
            assert not (found := wrong(got, name, a, g, policy)), f"{name}, seed {seed}: {found}"
            answers.add(got.tobytes())
        assert len(answers) == 1, "the same bits in any order"


@pytest.mark.parametrize("case", GEOMETRIES)
def test_odd_geometries(case):
    g, policy = GEOMETRIES[case], POLICIES[0]
    for name in BOTH:
        a = drawn(g, policy[0])
        got = contracted(Drawer("default", (gemm,)), name, a, g, biased=False)
        assert not (found := wrong(got, name, a, g, policy, biased=False)), f"{name}: {found}"


@pytest.mark.parametrize("policy", POLICIES, ids=IDS)
def test_every_kernel_there_is(policy):
    """Whatever a plan may choose: all tiles and all sizes of copies, each launched once at least."""
    dtype, precision, launched = *policy[:2], set()
    for channels, last, name in (
        (8, False, "contract_y"),
        (6, True, "contract_x"),
        (3, True, "contract_y"),
        (3, False, "contract_x"),
    ):
        shape = (70, channels) if name == "contract_y" else (channels, 70)
        g = geometry.conv((1, shape[1], 13, 11), (*shape, 2, 3), 1, "same", 1, 1)
        a = drawn(g, dtype, last)
        given = (a["x"], a["w"]) if name == "contract_y" else (a["y"], a["w"])
        problem = Problem(name, g, dtype, precision, H200, (last, False))
        for found in (each for each in gemm.plans(problem) if each.how.gather.splits == 1):
            launched.add(found.how.program)
            got = gemm.run(problem, found, given, a[name], False)
            assert not (said := wrong(got, name, a, g, policy)), f"{found.tile}: {said}"
    strict = precision in ("highest", "ieee")
    shipped = {p for p, _ in gemm.programs() if dict(p.defines)["Stored"] == dict(_cuda.types(dtype))["Stored"]}
    assert launched == {p for p in shipped if (dict(p.defines)["MULTIPLY"] == gemm._multiply(dtype, precision))}, strict


def test_every_plan_is_shipped():
    shipped = {program for program, _ in programs()}
    for g, dtype, precision, name, last, aligned in product(
        CASES.values(), _cuda.DTYPES, ("default", "highest", "tf32", "ieee"), BOTH, (False, True), (2, 4, 8, 16)
    ):
        if aligned >= np.dtype(dtype_of(dtype)).itemsize:
            problem = Problem(name, g, dtype, precision, H200, (last, False), (aligned, 16))
            found = list(gemm.plans(problem))
            assert found
            assert {each.how.program for each in found} <= shipped


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("rectify", [False, True])
def test_channels_last_is_neither_copied_nor_turned_back(name, rectify):
    g = CASES["transposed"]
    a = drawn(g, "float32", last=True)
    on = Drawer("default", (gemm,))
    given = (a["x" if name == "contract_y" else "y"], a["w"], g, a[name], rectify)
    got = getattr(on, name)(*given)
    assert Counter(p.name for p in _cuda.backend.programs) == {"turn": 1, "gather": 1}  # the weights, and the product
    assert layout.is_last(got)
    first = tuple(np.ascontiguousarray(each) for each in given[:2])
    np.testing.assert_allclose(got, getattr(on, name)(*first, *given[2:]), rtol=0, atol=1e-5)
    assert Counter(p.name for p in _cuda.backend.programs) == {"turn": 3, "gather": 2}
    assert (got.min() == 0) == rectify


@pytest.mark.parametrize("dtype", _cuda.DTYPES)
def test_arrays_turned(dtype):
    a = np.arange(3 * 37 * 70).reshape(3, 37, 70).astype(dtype_of(dtype))
    for seed in SEEDS:
        _cuda.backend = Emulator(seed)
        got = layout.turned(a, (3, 37, 70), 40, "a test")
        np.testing.assert_array_equal(got[:, :, :37], a.swapaxes(1, 2))
        assert not got[:, :, 37:].any()
    _cuda.backend = Emulator()
    np.testing.assert_array_equal(layout.logical(layout.channels_last(a)), a)
    turned = np.asfortranarray(a)
    np.testing.assert_array_equal(layout.logical(layout.channels_last(turned)), a)


def test_infinity_and_nan_stay_what_they_are():
    g = geometry.conv((1, 4, 6, 6), (5, 4, 3, 3), 1, 1, 1, 1)
    a = drawn(g, "float32")
    a["x"][0, 1, 2, 3], a["x"][0, 2, 5, 5], a["x"][0, 0, 0, 0] = np.inf, np.nan, -np.inf
    a["w"][:, :, 1, 1] = np.float32(0.5)  # which leaves nothing over
    with np.errstate(all="ignore"):
        for precision in ("default", "tf32", "ieee"):
            got = Drawer(precision, (gemm,)).contract_y(a["x"], a["w"], g, None, True)
            expected = generic.contract_y(a["x"], a["w"], g, None, True)
            np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
            np.testing.assert_array_equal(got[np.isinf(expected)], expected[np.isinf(expected)])


def test_misaligned_memory():
    g = geometry.conv((2, 8, 5, 5), (6, 8, 3, 3), 1, 1, 1, 1)
    found = [best(gemm, Problem("contract_y", g, "float32", "default", H200, (True, False), (n, 16))) for n in (4, 8, 16)]
    assert [dict(each.how.program.defines)["CHUNK"] for each in found] == [4, 4, 16]
    whole = np.zeros(2 * 5 * 5 * 8 + 1, np.float32)
    a = np.moveaxis(whole[1:].reshape(2, 5, 5, 8), -1, 1)
    assert layout.is_last(a)
    assert layout.alignment(a) == layout.alignment(whole) // 4 == 4


def test_a_single_tap_is_not_turned():
    g = geometry.conv((2, 8, 6, 6), (16, 8, 1, 1), 1, 0, 1, 1)
    a = drawn(g, "float32", last=True)
    got = contracted(Drawer("default", (gemm,)), "contract_y", a, g, biased=True)
    assert not wrong(got, "contract_y", a, g, POLICIES[0])
    assert [p.name for p in _cuda.backend.programs] == ["gather"]
    assert best(gemm, Problem("contract_y", g, "float32", "default", H200, (True, False))).workspace == 0


def fault_of_splits(policy, seed):
    """Say how answers are wrong whose sums are split into as many parts as any plan splits them."""
    stride = 1 if dtype_of(policy[0]).itemsize == 2 else (2, 1)
    g = geometry.conv((1, 40, 3, 4), (40, 40, 3, 5), stride, (1, 2), 1, 1)
    for name, last in product(BOTH, (False, True)):
        a = drawn(g, policy[0], last)
        problem = Problem(name, g, *policy[:2], H200, (last, False))
        found = max(gemm.plans(problem), key=lambda each: each.how.gather.splits)
        assert found.how.gather.splits >= 2
        _cuda.backend = Emulator(seed)
        given = (a["x"] if name == "contract_y" else a["y"], a["w"])
        got, rectified = (gemm.run(problem, found, given, a[name], rectify) for rectify in (False, True))
        if said := wrong(got, name, a, g, policy) or ("not rectified" if (rectified != np.maximum(got, 0)).any() else ""):
            return f"{name} by {found.tile}: {said}"
    return ""


@pytest.mark.parametrize("policy", POLICIES, ids=IDS)
def test_split_sums(policy):
    assert not fault_of_splits(policy, 2)


class _Sparse(Emulator):
    """Leaves inputs where they are: arrays too large to copy."""

    def contiguous(self, a):
        return a


def fault_past_32_bits():
    """As `wrong`, for an input of 12 GB that takes memory only where it is touched."""
    g, rng = geometry.conv((1, 8, 400_000_000), (4, 8, 2), 399_999_998, 0, 1, 1), np.random.default_rng(0)
    x, w = guarded((1, 400_000_000, 8), np.float32, poisoned=False), rng.uniform(1, 2, g.w_shape).astype(np.float32)
    touched = [0, 1, 399_999_998, 399_999_999]
    x[:, touched] = rng.uniform(1, 2, (1, 4, 8))
    _cuda.backend = _Sparse()
    got = Drawer("default", (gemm,)).contract_y(np.moveaxis(x, 2, 1), w, g)
    expected = np.einsum("npki,oik->nop", x[:, touched].reshape(1, 2, 2, 8), w)
    return "" if np.allclose(got, expected, rtol=1e-5, atol=0) else f"{got} in place of {expected}"


def test_indices_past_32_bits():
    try:
        assert not fault_past_32_bits()
    except MemoryError as error:
        pytest.skip(str(error))


def test_the_plan():
    def chosen(name, g, dtype="float32", precision="default", gpu=H200, last=False):
        method, found = plan(Problem(name, g, dtype, precision, gpu, (last, last)))
        return method, found.tile

    body = geometry.conv((32, 256, 28, 28), (256, 256, 3, 3), 1, 1, 1, 1)
    assert chosen("contract_y", body, "float16") == (gemm, "128x128 halves")
    assert chosen("contract_y", body, precision="tf32") == (gemm, "128x128 tf32")
    assert chosen("contract_x", body) == (gemm, "128x64 thrice")
    assert chosen("contract_x", body, precision="highest") == (gemm, "128x64 ieee")
    assert chosen("contract_y", body, "float64", "tf32") == (gemm, "128x64 doubles")
    assert chosen("contract_y", body, "bfloat16", gpu=H200._replace(capability=(7, 5)))[0] is plain
    assert chosen("contract_y", CASES["few_channels"])[0] is plain, "three launches take longer than the sums"
    large = geometry.conv((1, 1, 3_000_000_000), (1, 1, 2), 1_499_999_999, 0, 1, 1)
    assert chosen("contract_y", large)[0] is plain, "its positions do not fit into 32 bits"
    stem = geometry.conv((32, 3, 224, 224), (64, 3, 7, 7), 2, 3, 1, 1)
    found = best(gemm, Problem("contract_y", stem, "float16", "default", H200))
    assert found.how.pitch == 8
    assert found.workspace == 32 * 224 * 224 * 8 * 2 + 64 * 8 * 49 * 2


def test_an_empty_batch():
    g = geometry.conv((0, 2, 5), (3, 2, 3), 1, 0, 1, 1)
    a = drawn(g, "float32")
    on = Drawer("default", (gemm,))
    assert contracted(on, "contract_y", a, g, biased=True).shape == (0, 3, 3)
    assert contracted(on, "contract_x", a, g, biased=True).shape == (0, 2, 5)


def test_precision_at_the_door():
    g, rng = CASES["few_channels"], np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape, np.float32) for shape in (g.x_shape, g.w_shape, g.y_shape[1:2]))
    expected = numconv.conv2d(x, w, b, stride=2, padding=2)
    for precision in ("default", "highest", "tf32", "ieee"):
        with stand_in() as cupy:
            y, pull = numconv.conv2d_vjp(*map(cupy.asarray, (x, w, b)), stride=2, padding=2, precision=precision)
            np.testing.assert_allclose(y.get(), expected, rtol=0, atol=1e-2)
            assert pull(y)[0].shape == x.shape
    np.testing.assert_array_equal(numconv.conv2d(x, w, precision="ieee"), numconv.conv2d(x, w, precision="highest"), strict=True)
    np.testing.assert_array_equal(numconv.conv2d(x, w, precision="tf32"), numconv.conv2d(x, w), strict=True)
    with pytest.raises(ValueError, match="needed one of 'default', 'highest', 'tf32', 'ieee'"):
        numconv.conv2d(x, w, precision="fast")
    assert by("tf32") is by("tf32")


def test_explain():
    x, w = np.zeros((8, 256, 28, 28), np.float16), np.zeros((256, 256, 3, 3), np.float16)
    with stand_in() as cupy:
        said = numconv.explain(numconv.conv2d, cupy.asarray(x), cupy.asarray(w), padding=1)
        assert said.forward == ("gemm", "128x128 halves", x.nbytes + w.nbytes, 2.1e-4)
        assert said.input_grad.method == "gemm"
        assert numconv.explain(numconv.conv2d, cupy.asarray(x[:1, :1, :9, :9]), cupy.asarray(w[:1, :1])).forward.method == "plain"
        with pytest.raises(ValueError, match="on a GPU"):
            numconv.explain(numconv.conv2d, cupy.asarray(x), cupy.asarray(w), method="fft")


SHORT = "shared memory one row short"
FAULTS = {
    "no barrier": ("        __syncthreads();\n        if (s + STAGES", "        if (s + STAGES"),
    "a wait one group short": ("copy_wait<STAGES - 2>", "copy_wait<STAGES - 1>"),
    "a load before the barrier": (
        "        copy_wait<STAGES - 2>();\n        __syncthreads();\n"
        "        if (s + STAGES - 1 < count) loader.load(shared + (s + STAGES - 1) % STAGES * STAGE);",
        "        copy_wait<STAGES - 2>();\n"
        "        if (s + STAGES - 1 < count) loader.load(shared + (s + STAGES - 1) % STAGES * STAGE);\n        __syncthreads();",
    ),
    "channels past the last tap": ("const bool within = step < steps;", "const bool within = true;"),
    "no test of the right edge": ("(unsigned)(at2[i] + d2) < (unsigned)g.in_size[2]", "at2[i] + d2 >= 0"),
    "rows of a fragment swapped": ("(16 * i + lane % 16) * PITCH", "(16 * i + (lane ^ 8) % 16) * PITCH"),
    "a class one row short": ("(size - remainder + s - 1) / s", "(size - remainder) / s"),
    "a class by another remainder": ("(remainder + pad - d * k) % s) ++k", "(remainder + pad + 1 - d * k) % s) ++k"),
    "outputs past the last": ("within && j < outputs", "within"),
    "rows past the last": ("at[i] = r < rows ? place(r, g, l) : -1;", "at[i] = place(r, g, l);"),
    "pairs of an odd number": (" && g.outputs % 2 == 0", ""),
    "the last sum forgotten": ("    sums.settle();\n", ""),
    "a small product forgotten": ("            products(big_a, small_b);\n", ""),
    "an offset of 32 bits": ("in + (start[i] + offset) * g.pitch", "in + (int)((start[i] + offset) * g.pitch)"),
    "parts in one place": ("parts + blockIdx.z * g.answer", "parts"),
    "a step that no part has": ("(int)(every * (blockIdx.z + 1) / g.splits - from)", "(int)(every / g.splits)"),
    SHORT: ("", ""),
}


def run_some_cases(path, short):
    """Hold a source against a few cases, and exit at the first fault. It may also crash: for a process of its own."""
    gemm.SOURCE, launch = Path(path), _cuda.launch
    if short:
        _cuda.launch = lambda *, shared=0, **how: launch(shared=max(shared - 80, 0), **how)
    for seed, case, name, last in product(SEEDS, ("three_strides", "channels_and_rows_left_over"), BOTH, (False, True)):
        _cuda.backend = Emulator(seed)
        a, g = drawn(CASES[case], "float32", last), CASES[case]
        got = contracted(Drawer("default", (gemm,)), name, a, g, biased=True)
        if found := wrong(got, name, a, g, POLICIES[0]):
            sys.exit(f"caught: {found}")
    if found := fault_of_splits(POLICIES[0], 0) or fault_past_32_bits():
        sys.exit(f"caught: {found}")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    crashes = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)
    plant(tmp_path, run_some_cases, gemm.SOURCE.read_text(), FAULTS.get(planted), planted == SHORT, crashes=crashes)
