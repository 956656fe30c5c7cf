"""Convolution's CUDA drawer on the emulator: against `generic`, over odd geometries, hostile schedules and planted faults."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import numconv
from numconv import _cuda
from numconv.conv import contractions, generic, geometry
from numconv.conv.cuda import plain as cuda

from .cuda_emulator.emulator import H200, MISSING, Emulator, guarded
from .cuda_emulator.faults import plant

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SEEDS = (0, 2, 3)
GIVEN = {"contract_y": "xw", "contract_x": "yw", "contract_w": "xy"}


def _drawn(seed):
    """A geometry with a bit of everything, of convolution or of transposed convolution."""
    rng = np.random.default_rng(seed)
    rank, groups = int(rng.integers(1, 4)), int(rng.integers(1, 4))

    def per_axis(low, high):
        return tuple(int(n) for n in rng.integers(low, high, rank))

    channels, batch = rng.integers(1, 4, 2), int(rng.integers(1, 4))
    w_shape = (groups * int(channels[0]), int(channels[1]), *per_axis(1, 5))
    stride, dilation = per_axis(1, 4), per_axis(1, 4)
    pads = tuple(zip(per_axis(0, 4), per_axis(0, 4), strict=True))
    if rng.integers(2):
        size = tuple(d * (k - 1) + 1 + int(rng.integers(0, 6)) for d, k in zip(dilation, w_shape[2:], strict=True))
        return geometry.conv((batch, groups * w_shape[1], *size), w_shape, stride, pads, dilation, groups)
    pads = tuple((min(lo, d * (k - 1)), 0) for (lo, _), d, k in zip(pads, dilation, w_shape[2:], strict=True))
    extra = tuple(int(rng.integers(0, max(s, d))) for s, d in zip(stride, dilation, strict=True))
    return geometry.conv_transpose((batch, w_shape[0], *per_axis(1, 5)), w_shape, stride, pads, extra, None, dilation, groups)


GEOMETRIES = {
    "one_of_everything": geometry.conv((1, 1, 1), (1, 1, 1), 1, 0, 1, 1),
    "several_blocks": geometry.conv((2, 3, 19, 23), (5, 3, 3, 2), 1, "same", 1, 1),
    "asymmetric_pads": geometry.conv((2, 2, 7, 9), (3, 2, 3, 4), 1, ((0, 3), (2, 1)), 1, 1),
    "samples_left_over": geometry.conv((1, 2, 12, 11), (2, 2, 3, 2), (4, 3), 0, 1, 1),
    "stride_past_the_window": geometry.conv((2, 1, 13), (2, 1, 2), 5, 1, 1, 1),
    "dilated_past_the_input": geometry.conv((1, 2, 4, 5), (2, 2, 3, 3), 1, 5, 4, 1),
    "depthwise": geometry.conv((2, 6, 8, 8), (12, 1, 3, 3), 2, "same_lower", 1, 6),
    "grouped_volume": geometry.conv((2, 4, 5, 6, 7), (6, 2, 2, 3, 2), (1, 2, 3), ((0, 1), (2, 0), (1, 1)), (2, 1, 3), 2),
    "causal": geometry.conv((3, 2, 17), (4, 2, 3), 2, "causal", 3, 1),
    "pads_wider_than_the_window": geometry.conv((1, 1, 3, 3), (1, 1, 2, 2), 1, 6, 1, 1),
    "output_padding": geometry.conv_transpose((2, 3, 4, 5), (3, 2, 3, 3), (3, 2), ((1, 0), (0, 2)), (2, 1), None, 1, 1),
    "output_size": geometry.conv_transpose((1, 4, 6), (4, 1, 2), 4, 0, 0, 25, 1, 2),
    "long_sum": geometry.conv((4, 64, 16, 16), (2, 64, 1, 1), 1, 0, 1, 1),
} | {f"drawn_{seed}": _drawn(seed) for seed in range(24)}


def arrays(g, dtype, seed=0):
    """x, w, y and the biases that go with y and with x."""
    rng = np.random.default_rng(seed)
    shapes = {"x": g.x_shape, "w": g.w_shape, "y": g.y_shape, "contract_y": g.y_shape[1:2], "contract_x": g.x_shape[1:2]}
    return {name: rng.uniform(-1, 1, shape).astype(dtype) for name, shape in shapes.items()}


def contracted(kernels, name, a, g, *, biased, to=lambda a: a):
    bias = (to(a[name]),) if biased and name in a else ()
    return getattr(kernels, name)(*(to(a[letter]) for letter in GIVEN[name]), g, *bias)


def rounding(name, a, g, *, biased):
    """Bound the rounding of sums that nest: u * (lengths of the loops + product + bias) * sum of |terms|, twice for slack."""
    lengths = {
        "contract_y": (g.c_in, *g.w_size),
        "contract_x": (g.c_out, *g.w_size),
        "contract_w": (g.batch, *g.y_size),
    }[name]
    terms = contracted(generic, name, a, g, biased=biased, to=lambda a: np.abs(a, dtype=np.longdouble))
    return (sum(lengths) + 2) * np.finfo(a["x"].dtype).eps * terms


def fault(name, g, dtype, seed, *, biased=False):
    """Say how one contraction on the emulator is wrong; nothing if it is right. Inputs are guarded and outputs poisoned."""
    a = arrays(g, dtype)
    _cuda.backend = Emulator(seed)
    got = contracted(cuda, name, a, g, biased=biased)
    expected = contracted(generic, name, a, g, biased=biased, to=lambda a: a.astype(np.longdouble))
    if got.shape != expected.shape or got.dtype != dtype:
        return f"{got.dtype}{got.shape} in place of {dtype}{expected.shape}"
    wrong = ~(np.abs(got - expected) <= rounding(name, a, g, biased=biased))  # so NaN is wrong
    return f"{wrong.sum()} of {wrong.size} elements, the first at {np.argwhere(wrong)[0]}" if wrong.any() else ""


@pytest.fixture(autouse=True)
def _backend(monkeypatch):
    monkeypatch.setattr(_cuda, "backend", Emulator())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("case", GEOMETRIES)
def test_against_generic(case, name, dtype):
    for seed, biased in product(SEEDS, {False, name != "contract_w"}):
        assert not fault(name, GEOMETRIES[case], dtype, seed, biased=biased), f"seed {seed}, biased {biased}"


def test_the_geometries_have_teeth():
    drawn = GEOMETRIES.values()
    assert {g.rank for g in drawn} == {1, 2, 3}
    for field in ("stride", "dilation"):
        assert any(len(set(getattr(g, field))) == 3 for g in drawn), f"no geometry with three different {field}s"
    assert any(min(np.prod(shape) for shape in (g.x_shape, g.y_shape)) > 2 * _cuda.BLOCK for g in drawn)
    assert any(g.groups > 1 and g.c_in > 1 and g.c_out > 1 and g.batch > 1 for g in drawn)


@pytest.mark.parametrize("name", GIVEN)
def test_any_grid_is_enough(monkeypatch, name):
    monkeypatch.setattr(_cuda, "MOST_BLOCKS", 2)
    monkeypatch.setattr(_cuda, "BLOCK", 48)
    for seed in SEEDS:
        assert not fault(name, GEOMETRIES["several_blocks"], "float32", seed)


@pytest.mark.parametrize("name", GIVEN)
def test_the_same_bits_in_any_order(name):
    g, answers = GEOMETRIES["grouped_volume"], []
    for seed in SEEDS:
        _cuda.backend = Emulator(seed)
        answers.append(contracted(cuda, name, arrays(g, "float32"), g, biased=False).tobytes())
    assert len(set(answers)) == 1


@pytest.mark.parametrize("name", GIVEN)
def test_strided_inputs(name):
    g = GEOMETRIES["asymmetric_pads"]
    a = arrays(g, "float64")
    transposed = {key: np.asfortranarray(value) for key, value in a.items()}
    np.testing.assert_array_equal(
        contracted(cuda, name, transposed, g, biased=True), contracted(cuda, name, a, g, biased=True), strict=True
    )


def test_an_empty_batch():
    g = geometry.conv((0, 2, 5), (3, 2, 3), 1, 0, 1, 1)
    a = arrays(g, "float32")
    assert contracted(cuda, "contract_y", a, g, biased=True).shape == (0, 3, 3)
    assert contracted(cuda, "contract_x", a, g, biased=True).shape == (0, 2, 5)
    assert _cuda.backend.launches == 0
    np.testing.assert_array_equal(
        contracted(cuda, "contract_w", a, g, biased=False), np.zeros((3, 2, 3), np.float32), strict=True
    )


class _Sparse(Emulator):
    """Leaves inputs where they are: arrays too large to copy."""

    def contiguous(self, a):
        return a


LARGE = [  # arrays of 12 GB that take memory only where they are touched
    ("contract_y", geometry.conv((1, 1, 3_000_000_000), (1, 1, 2), 1_499_999_999, 0, 1, 1)),
    ("contract_y", geometry.conv((1, 2, 40_000, 40_000), (2, 2, 2, 1), 39_998, 0, 1, 1)),
    ("contract_w", geometry.conv((2, 1, 40_000, 40_000), (2, 1, 2, 1), 39_998, 0, 1, 1)),
    ("contract_x", geometry.conv((1, 2, 3), (2, 2, 2), 1, 3_000_000_000, 1, 1)),
]


def _met(g):
    """Yield every (p, k, q) that meet inside x and y: from each q if there are fewer of them, which takes a stride of one."""
    axes, one_axis = range(3 - g.rank, 3), []
    for axis in axes:
        s, d, lo, taps = g.stride[axis], g.dilation[axis], g.pad_lo[axis], range(g.w_size[axis])
        if g.y_size[axis] <= g.x_size[axis]:
            met = ((p, k, s * p + d * k - lo) for p in range(g.y_size[axis]) for k in taps)
        else:
            assert s == 1
            met = ((q + lo - d * k, k, q) for q in range(g.x_size[axis]) for k in taps)
        one_axis.append([(p, k, q) for p, k, q in met if 0 <= p < g.y_size[axis] and 0 <= q < g.x_size[axis]])
    for each in product(*one_axis):
        yield tuple(zip(*each, strict=True))


def fault_past_32_bits(name, g):
    """As `fault`, for arrays too large for `generic`, of which few terms meet: against the definition, for one group."""
    rng = np.random.default_rng(0)
    a = {letter: guarded(getattr(g, f"{letter}_shape"), np.float32, poisoned=False) for letter in GIVEN[name]}
    answer = np.zeros(getattr(g, f"{name[-1]}_shape"))
    for p, k, q in _met(g):
        for letter, at in {"x": q, "w": k, "y": p}.items():
            if letter in a and not a[letter][(..., *at)].any():
                a[letter][(..., *at)] = rng.uniform(1, 2, a[letter].shape[:2])
        x, w, y = (a.get(letter, answer)[(..., *at)] for letter, at in (("x", q), ("w", k), ("y", p)))
        if name == "contract_y":
            y += x @ w.T
        elif name == "contract_x":
            x += y @ w
        else:
            w += y.T @ x
    assert (answer != 0).all()
    _cuda.backend = _Sparse()
    got = getattr(cuda, name)(*(a[letter] for letter in GIVEN[name]), g)
    return "" if np.allclose(got, answer, rtol=1e-6, atol=0) else f"{got} in place of {answer}"


@pytest.mark.parametrize(("name", "g"), LARGE)
def test_indices_past_32_bits(name, g):
    try:
        assert not fault_past_32_bits(name, g)
    except MemoryError as error:
        pytest.skip(str(error))


FIELDS = """
extern "C" __global__ void fields(const Geometry g, long long* at)
{
    const long long scalars[] = {g.rank, g.batch, g.groups, g.c_in, g.c_out};
    for (long long f : scalars) *at++ = f;
    const long long* triples[] = {g.x_size, g.w_size, g.y_size, g.stride, g.dilation, g.pad_lo};
    for (const long long* f : triples)
        for (int axis = 0; axis < 3; ++axis) *at++ = f[axis];
}
"""


def test_the_struct_has_the_fields_of_the_tuple():
    counted = iter(range(1, 24))
    g = geometry.ConvGeometry(*(next(counted) for _ in range(5)), *(tuple(next(counted) for _ in range(3)) for _ in range(6)))
    seen = np.zeros(23, np.int64)
    program = _cuda.Program(cuda.SOURCE.read_text() + FIELDS, "fields", _cuda.types("float32"))
    _cuda.launch(program=program, device=H200, grid=(1,), block=(1,), args=(g, seen))  # which also compares the sizes of both
    assert seen.tolist() == list(range(1, 24))
    with pytest.raises(ValueError, match="read-only"):
        _cuda.struct(g)["batch"] = 5


def test_the_door_reaches_the_kernels(monkeypatch):
    monkeypatch.setattr(contractions, "_stack", lambda *how: cuda)
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape, np.float32) for shape in ((2, 4, 9, 8), (6, 2, 3, 3), (6,)))
    y, pullback = numconv.conv2d_vjp(x, w, b, stride=2, padding="same", groups=2)
    gradients = pullback(dy := rng.standard_normal(y.shape, np.float32))
    assert _cuda.backend.launches == 3
    z, pullback_z = numconv.conv_transpose2d_vjp(y, w, stride=2, padding="same", groups=2)
    gradients_z = pullback_z(dz := rng.standard_normal(z.shape, np.float32))
    assert _cuda.backend.launches == 6
    monkeypatch.setattr(contractions, "_stack", lambda *how: generic)
    y_expected, pullback = numconv.conv2d_vjp(x, w, b, stride=2, padding="same", groups=2)
    z_expected, pullback_z = numconv.conv_transpose2d_vjp(y, w, stride=2, padding="same", groups=2)
    expected = (y_expected, *pullback(dy), z_expected, *pullback_z(dz))
    for got, wanted in zip((y, *gradients, z, *gradients_z), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


FAULTS = {
    "pad dropped": (" - g.pad_lo[axis]", ""),
    "pad dropped in contract_x": (" + g.pad_lo[axis]", ""),
    "stride of another axis": ("g.stride[axis] * p +", "g.stride[0] * p +"),
    "dilation dropped": ("g.dilation[axis] * k - ", "k - "),
    "one sample past the end of x": ("q < g.x_size[axis]", "q <= g.x_size[axis]"),
    "one position past the end of y": ("p < g.y_size[axis]", "p <= g.y_size[axis]"),
    "samples between strides": ("p * g.stride[axis] == reach && ", ""),
    "groups see each other": ("h = o / g.c_out", "h = 0"),
    "bias read through a null pointer": ("b ? sum + widened(b[o]) : sum", "sum + widened(b[o])"),
    "bias forgotten": ("b ? sum + widened(b[i]) : sum", "sum"),
    "one element past the answer": ("t < g.batch * channels", "t <= g.batch * channels"),
    "last element not written": ("t < channels * g.c_in * w_volume", "t < channels * g.c_in * w_volume - 1"),
    "a grid that does not walk on": ("t += threads()", "t += 1LL << 60"),
    "kernel flipped": ("offset(k0, k1, k2, g.w_size)", "(w_volume - 1 - offset(k0, k1, k2, g.w_size))"),
    "one batch only": ("n < g.batch", "n < 1"),
    "sums not kept": ("plane += row", "plane = row"),
    "an offset of 32 bits": ("long long offset(", "int offset("),
    "a position of 32 bits": ("const long long q =", "const int q ="),
    "a position of 32 bits in contract_x": ("const long long reach =", "const int reach ="),
}


def run_every_case(path):
    """Hold a source against every case, and exit at the first fault. It may also crash: for a process of its own."""
    cuda.SOURCE, _cuda.MOST_BLOCKS = Path(path), 2
    for g, name in product(GEOMETRIES.values(), GIVEN):
        if found := fault(name, g, "float32", 0, biased=name == "contract_x"):
            sys.exit(f"caught: {found}")
    for name, g in LARGE:
        if found := fault_past_32_bits(name, g):
            sys.exit(f"caught: {found}")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    plant(tmp_path, run_every_case, cuda.SOURCE.read_text(), FAULTS.get(planted))
