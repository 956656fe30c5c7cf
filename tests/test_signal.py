"""numconv.signal against scipy.signal: every function, mode, boundary and dtype, sizes 0 and 1, and what both refuse."""

import doctest
import subprocess
import sys
import warnings
from itertools import product
from pathlib import Path
from unittest.mock import patch

import array_api_strict
import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st
from oracles import normals

import numconv
from numconv import signal

DTYPES = (
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64", "longdouble", "complex64", "complex128"),
)
MODES = ("full", "valid", "same", "none")
METHODS = ("auto", "direct", "fft", "none")
BOUNDARIES = ("fill", "wrap", "circular", "symm", "symmetric", "none")


def array(shape, dtype, seed, largest=5.0):
    a, b = normals(seed, shape, shape)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.asarray(a > 0)
    if dtype.kind == "u":
        a = abs(a)
    return np.asarray(largest * (a + 1j * b if dtype.kind == "c" else a)).astype(dtype)


@st.composite
def pairs(draw, ranks=(0, 1, 1, 2, 2, 3, 4)):
    rank = draw(st.sampled_from(ranks))
    other = draw(st.sampled_from([rank] * 9 + [rank + 1]))
    most = 9 if rank < 3 else 4
    shapes = [tuple(draw(st.integers(0 if draw(st.integers(0, 9)) == 0 else 1, most)) for _ in range(r)) for r in (rank, other)]
    dtypes = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(DTYPES))
    seed = draw(st.integers(0, 999))
    return tuple(array(s, d, seed + i) for i, (s, d) in enumerate(zip(shapes, dtypes, strict=True)))


def outcome(f, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return f(*(a.copy() for a in args), **kwargs)
        except Exception as error:
            return error


def precision(*dtypes):
    return max(float(np.finfo(d).eps) if d.kind in "fc" else float(np.finfo(np.float64).eps) for d in dtypes)


def compare(name, a, b, **settings):
    """Compare with SciPy's answer; also where it is SciPy that answers for small arrays, what the kernels would say."""
    theirs = outcome(getattr(scipy.signal, name), a, b, **settings)
    agree(outcome(getattr(signal, name), a, b, **settings), theirs, a, b, **settings)
    with patch.multiple(signal, is_tiny=never, is_tiny_image=never):
        agree(outcome(getattr(signal, name), a, b, **settings), theirs, a, b, **settings)


def never(x, w):
    return False


def agree(ours, theirs, a, b, **settings):
    if isinstance(theirs, Exception) or isinstance(ours, Exception):
        assert type(ours) is type(theirs), (ours, theirs)
        return
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    if theirs.dtype.kind in "iub":
        np.testing.assert_array_equal(ours, theirs)
        return
    # Rounding of sums, or of transforms, of the coarser of the arguments: a few units for each doubling of their length.
    terms = min(a.size, b.size)
    largest = terms * (1 + np.max(abs(a.astype(complex)), initial=0)) * (1 + np.max(abs(b.astype(complex)), initial=0))
    fill = settings.get("fillvalue", 0)
    if not isinstance(fill, (int, float)):
        np.testing.assert_array_equal(ours, theirs)
    elif np.isfinite(largest):
        most = 20 * precision(theirs.dtype, a.dtype, b.dtype) * largest * (1 + abs(fill))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=most)


@given(pairs(), st.sampled_from(MODES), st.sampled_from(METHODS))
def test_convolve(pair, mode, method):
    compare("convolve", *pair, mode=mode, method=method)


@given(pairs(), st.sampled_from(MODES), st.sampled_from(METHODS))
def test_correlate(pair, mode, method):
    compare("correlate", *pair, mode=mode, method=method)


@pytest.mark.parametrize("name", ["fftconvolve", "oaconvolve"])
@given(pairs(), st.sampled_from(MODES), st.sampled_from([None, None, 0, -1, [0, 1], [], 7]))
def test_transforms(name, pair, mode, axes):
    compare(name, *pair, mode=mode, axes=axes)


@pytest.mark.parametrize("name", ["convolve2d", "correlate2d"])
@given(pairs((2, 2, 2, 1)), st.sampled_from(MODES), st.sampled_from(BOUNDARIES), st.sampled_from([0, 0, 2, -1.5]))
def test_images(name, pair, mode, boundary, fillvalue):
    if ends_the_process(*pair, mode, boundary):
        with pytest.raises(ValueError, match=r"in1 has shape .* there are no samples that boundary="):
            getattr(signal, name)(*pair, mode=mode, boundary=boundary, fillvalue=fillvalue)
    else:
        compare(name, *pair, mode=mode, boundary=boundary, fillvalue=fillvalue)


def ends_the_process(a, b, mode, boundary):
    """Say whether SciPy 1.17 divides by zero, where no exception is."""
    return a.ndim == b.ndim == 2 and not a.size and len(b) > 0 and mode == "full" and boundary not in ("fill", "none")


def test_an_image_without_samples_is_not_repeated():
    for name, boundary in product(("convolve2d", "correlate2d"), ("wrap", "circular", "symm", "symmetric")):
        for shape, taps in (((0, 3), (2, 2)), ((3, 0), (2, 2)), ((0, 3), (2, 0))):
            with pytest.raises(ValueError, match="in1 has shape"):
                getattr(signal, name)(np.ones(shape), np.ones(taps), boundary=boundary)


@pytest.mark.parametrize("name", ["convolve", "correlate", "fftconvolve", "oaconvolve", "convolve2d", "correlate2d"])
@pytest.mark.parametrize("mode", ["full", "valid", "same"])
@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("uint8", "float64"), ("complex64", "float32"), ("int64", "int64")])
def test_larger_arrays(name, mode, dtypes):
    """Where kernels, transforms and the exact sums of integers are chosen; and shapes of either order."""
    for shapes in (((61, 70), (9, 12)), ((9, 12), (61, 70)), ((40, 8), (7, 30))):
        compare(name, *(array(s, d, i, 50) for i, (s, d) in enumerate(zip(shapes, dtypes, strict=True))), mode=mode)
    if "2d" not in name:
        for sizes in ((5000,), (301,)), ((301,), (5000,)):
            compare(name, *(array(s, d, i, 50) for i, (s, d) in enumerate(zip(sizes, dtypes, strict=True))), mode=mode)


def test_lists_and_scalars():
    assert signal.convolve([1, 2, 3], [1, 1]).tolist() == scipy.signal.convolve([1, 2, 3], [1, 1]).tolist()
    assert signal.convolve(3.0, 2.0) == 6.0
    np.testing.assert_array_equal(signal.correlation_lags(5, 3), scipy.signal.correlation_lags(5, 3))


@pytest.mark.parametrize("name", ["convolve", "fftconvolve", "oaconvolve"])
def test_a_nan_stays_where_it_is_seen(name):
    (x,) = normals(0, (20000,))
    w = np.ones(301)
    x[7000] = np.nan
    y = getattr(signal, name)(x, w, mode="same")
    assert np.isnan(y).sum() == 301
    assert np.isnan(y[7000 - 150 : 7000 + 151]).all()


def test_the_chosen_method():
    long, short = np.ones(100_000), np.ones(5)
    assert signal.choose_conv_method(long, short) == "direct"
    assert signal.choose_conv_method(long, np.ones(20_000)) == "fft"
    assert signal.choose_conv_method(long.astype(int), np.ones(20_000, int)) == "direct"
    assert signal.choose_conv_method(np.append(long, np.nan), np.ones(20_000)) == "direct"
    method, times = signal.choose_conv_method(np.ones(50), short, measure=True)
    assert set(times) == {"fft", "direct"}
    assert times[method] == min(times.values())
    with pytest.raises(ValueError, match="Acceptable mode flags"):
        signal.choose_conv_method(long, short, mode="none")


@pytest.mark.filterwarnings("ignore:Use of fft convolution on input with NAN")
@pytest.mark.parametrize("kind", ["integers", "nan"])
def test_what_a_transform_would_spoil_is_summed_however_fast_it_is(kind):
    x, w = np.ones(30_000), np.ones(10_000)
    if kind == "integers":
        x, w = x.astype(int), w.astype(int)
    else:
        x[5] = np.nan
    method, times = signal.choose_conv_method(x, w, measure=True)
    assert times["fft"] < times["direct"]  # or this test says nothing
    assert method == "direct"


@pytest.mark.parametrize("fillvalue", [None, "x", "0"])
def test_fill_values_that_are_no_numbers(fillvalue):
    compare("convolve2d", np.ones((4, 5)), np.ones((3, 3)), fillvalue=fillvalue)


def test_inputs_are_not_written_to():
    a, b = array((9, 8), "complex128", 0), array((3, 2), "complex128", 1)
    before = a.copy(), b.copy()
    for name in ("convolve", "correlate", "fftconvolve", "oaconvolve", "convolve2d", "correlate2d"):
        getattr(signal, name)(a, b)
    np.testing.assert_array_equal(a, before[0])
    np.testing.assert_array_equal(b, before[1])


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_arrays_of_other_libraries(library):
    module = pytest.importorskip("torch" if library == "torch" else "jax.numpy")
    a, b = array((12, 9), "float32", 0), array((3, 4), "float32", 1)
    x, w = (module.asarray(v) for v in (a, b))
    for name in ("convolve", "correlate", "fftconvolve", "oaconvolve", "convolve2d", "correlate2d"):
        y = getattr(signal, name)(x, w, mode="same")
        assert type(y) is type(x)
        assert y.dtype == x.dtype
        np.testing.assert_allclose(np.asarray(y), getattr(scipy.signal, name)(a, b, mode="same"), atol=2e-4)
    assert signal.choose_conv_method(x, w) in ("direct", "fft")


def test_refusals():
    x = np.ones(5)
    with pytest.raises(TypeError, match=r"arrays must come from one library, got in1: .*, in2: "):
        signal.convolve(x, array_api_strict.asarray(x))
    with pytest.raises(TypeError, match=r"numconv\.signal\.correlate is for arrays of NumPy, CuPy"):
        signal.correlate(array_api_strict.asarray(x), array_api_strict.asarray(x))


def test_signatures_are_scipys():
    import inspect

    for name in signal.__all__:
        ours, theirs = (list(inspect.signature(getattr(m, name)).parameters.values()) for m in (signal, scipy.signal))
        assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs], name


def test_is_there_when_asked_for():
    code = "import sys, numconv; print('scipy' in sys.modules); print(numconv.signal.convolve([1., 2.], [1., 1.]).tolist())"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")
    assert printed[:2] == ["False", "[1.0, 3.0, 2.0]"]
    assert "signal" in dir(numconv)


def test_planted_faults_are_caught(monkeypatch):
    """Another beginning of mode "same", and a forgotten conjugate."""
    from numconv.signal import window

    a, b = array((9, 8), "complex128", 0), array((4, 2), "complex128", 1)
    compare("correlate", a, b, mode="same")
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(signal.correlate(a, np.conj(b)), scipy.signal.correlate(a, b))
    monkeypatch.setattr(window, "_pads", lambda taps, mode, later: ((taps - 1) // 2, taps // 2))
    with pytest.raises(AssertionError):
        compare("correlate", a, b, mode="same")


def test_every_combination_of_dtypes_in_one_and_two_axes():
    for (d, e), shapes in product(product(DTYPES, DTYPES), (((6,), (3,)), ((4, 5), (2, 3)))):
        pair = [array(shape, dtype, i) for i, (shape, dtype) in enumerate(zip(shapes, (d, e), strict=True))]
        compare("convolve", *pair, method="direct")
        compare("correlate", *pair, method="direct")
        if len(shapes[0]) == 2:
            compare("convolve2d", *pair, boundary="symm")


def test_examples_of_the_page():
    results = doctest.testfile(str(Path(__file__).parent.parent / "docs" / "signal.md"), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0
