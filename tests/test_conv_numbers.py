"""Complex numbers, integers, numbers of 16 bits, and more than three axes, against loops over the definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import conv_cases, loop_conv, normals, rounding_bound

import numconv
from numconv.conv import generic, integers


def how(case):
    return {"stride": case["stride"], "padding": case["pads"], "dilation": case["dilation"], "groups": case["groups"]}


def by_loops(case, x, w, b=None):
    keys = ("stride", "pads", "dilation", "groups")
    return loop_conv(x, w, b, **{key: case[key] for key in keys})


def complexes(seed, *shapes, dtype=np.complex128):
    parts = normals(seed, *shapes, *shapes)
    return [(a + 1j * b).astype(dtype) for a, b in zip(parts[: len(shapes)], parts[len(shapes) :], strict=True)]


@given(conv_cases(max_channels=3, max_size=8), st.sampled_from([np.complex64, np.complex128]))
def test_complex_numbers_are_multiplied_as_they_are(case, dtype):
    x, w, b = complexes(case["seed"], case["x_shape"], case["w_shape"], case["w_shape"][:1], dtype=dtype)
    y, pullback = numconv.conv_vjp(x, w, b, **how(case))
    assert y.dtype == dtype
    wide = [a.astype(np.complex128) for a in (x, w, b)]
    real = np.float32 if dtype == np.complex64 else np.float64
    bound = 4 * rounding_bound(real, 2 * np.prod(case["w_shape"][1:]) + 2, by_loops(case, *map(abs, wide)))
    assert np.all(abs(y - by_loops(case, *wide)) <= bound)
    (dy,) = complexes(case["seed"] + 1, y.shape, dtype=dtype)
    dx, dw, db = pullback(dy)
    assert {dx.dtype, dw.dtype, db.dtype} == {np.dtype(dtype)}
    value = np.sum(dy * (y - b.reshape(-1, *(1,) * (y.ndim - 2))))  # bilinear: no conjugation
    size = (1e-3 if dtype == np.complex64 else 1e-11) * (1 + np.sum(abs(dy)) * (1 + abs(y).max(initial=0)))
    assert abs(np.sum(dx * x) - value) <= size
    assert abs(np.sum(dw * w) - value) <= size
    np.testing.assert_allclose(db, dy.sum(axis=(0, *range(2, dy.ndim))), rtol=1e-4)


@given(
    conv_cases(max_channels=2, max_size=7),
    st.sampled_from([np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]),
    st.sampled_from([3, 100, 2**15, 2**31, 2**62]),
)
def test_integers_are_exact_and_wrap_around(case, dtype, largest):
    """In float32, in float64, and by the definition, as the numbers ask for."""
    info, rng = np.iinfo(dtype), np.random.default_rng(case["seed"])
    lowest, highest = max(-largest, info.min), min(largest, info.max)
    x, w = (rng.integers(lowest, highest, case[f"{name}_shape"], dtype, endpoint=True) for name in "xw")
    y, pullback = numconv.conv_vjp(x, w, **how(case))
    assert y.dtype == dtype
    exact = by_loops(case, x.astype(np.uint64), w.astype(np.uint64))  # modulo 2^64, and so modulo every smaller power
    np.testing.assert_array_equal(y, exact.astype(dtype))
    dx, dw = pullback(y)
    assert sum_of(dx, x) == sum_of(y, exact) == sum_of(dw, w)


def sum_of(a, b):
    """Sum the products modulo what the narrower dtype holds."""
    bits = 8 * a.dtype.itemsize
    return int(np.sum(a.astype(np.uint64) * b.astype(np.uint64))) % 2**bits


def test_integers_take_the_kernels_where_sums_are_small(monkeypatch):
    x, w = np.full((1, 2, 9, 9), 100, np.int16), np.full((3, 2, 3, 3), -100, np.int16)
    monkeypatch.setattr(integers.generic, "contract_y", None)
    assert numconv.conv2d(x, w)[0, 0, 0, 0] == np.int64(-180000).astype(np.int16)
    with pytest.raises(ValueError, match="method='winograd' rounds, and integers are exact"):
        numconv.conv2d(x, w, method="winograd")


def halves():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    return ml_dtypes.bfloat16


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_numbers_of_16_bits_are_summed_in_32_and_rounded_once(name):
    dtype = np.float16 if name == "float16" else halves()
    x, w, b = (a.astype(dtype) for a in normals(0, (2, 40, 9, 11), (8, 40, 3, 3), (8,)))
    y, pullback = numconv.conv2d_vjp(x, w, b, padding=1)
    wide = [a.astype(np.float32) for a in (x, w, b)]
    expected, gradients = numconv.conv2d_vjp(*wide, padding=1)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected.astype(dtype))
    dy = y
    for a, e in zip(pullback(dy), gradients(dy.astype(np.float32)), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.astype(np.float32), e, rtol=2 ** -(7 if name == "bfloat16" else 10), atol=1e-6)
    assert numconv.relu(x).dtype == numconv.max_pool(x, 2).dtype == numconv.batch_norm(x).dtype == dtype


def test_what_is_too_large_for_16_bits_is_infinite_there():
    x, w = np.full((1, 1, 3), 3e4, np.float16), np.ones((1, 1, 3), np.float16)
    assert numconv.conv1d(x, w)[0, 0, 0] == np.inf


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("stride", "pads", "dilation"),
    [((1,) * 4, ((0, 0),) * 4, (1,) * 4), ((2, 1, 3, 1), ((1, 2), (0, 1), (2, 0), (1, 1)), (2, 1, 1, 2))],
)
def test_four_axes(groups, stride, pads, dilation):
    case = {"stride": stride, "pads": pads, "dilation": dilation, "groups": groups}
    x, w = normals(1, (2, 2 * groups, 5, 4, 6, 5), (3 * groups, 2, 2, 3, 2, 2))
    y, pullback = numconv.conv_vjp(x, w, **how(case))
    np.testing.assert_allclose(y, by_loops(case, x, w), atol=1e-12)
    (dy,) = normals(2, y.shape)
    dx, dw = pullback(dy)
    np.testing.assert_allclose([np.sum(dx * x), np.sum(dw * w)], np.sum(dy * y), rtol=1e-10)
    transposed = numconv.conv_transpose(dy, w, output_size=x.shape[2:], **how(case))
    np.testing.assert_allclose(transposed, dx, atol=1e-12)
    assert numconv.explain(numconv.conv, x, w, **how(case)).forward.method == "direct"


def test_five_axes_in_a_border_of_any_mode():
    x, w = normals(3, (1, 1, 3, 3, 2, 4, 3), (2, 1, 2, 1, 2, 3, 2))
    modes = ("circular", "zeros", "reflect", "symmetric", "replicate")
    padded = x
    for axis, mode in enumerate(("wrap", "constant", "reflect", "symmetric", "edge"), 2):
        padded = np.pad(padded, [(1, 1) if other == axis else (0, 0) for other in range(7)], mode)
    np.testing.assert_allclose(numconv.conv(x, w, padding=1, padding_mode=modes), numconv.conv(padded, w), atol=1e-12)


def test_generic_knows_any_number_of_axes():
    from numconv.conv import geometry

    x, w = normals(4, (2, 1, 3, 4, 3, 4), (2, 1, 2, 2, 1, 3))
    g = geometry.conv(x.shape, w.shape, (1, 2, 1, 1), 1, 1, 1)
    np.testing.assert_allclose(generic.contract_y(x, w, g), numconv.conv(x, w, stride=(1, 2, 1, 1), padding=1), atol=1e-13)
