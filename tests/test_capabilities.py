"""The declared capabilities, line by line: the caller's library, dtype and device come back, and the right numbers."""

import contextlib
import re

import numpy as np
import pytest
from capabilities import LIBRARIES, OPS, PAGE, page, supported

import numconv

TOLERANCE = {"float64": 1e-9, "complex128": 1e-9, "float32": 2e-4, "complex64": 2e-4, "float16": 3e-2, "bfloat16": 2e-1}


def dtype_of(name):
    return np.dtype(pytest.importorskip("ml_dtypes").bfloat16) if name == "bfloat16" else np.dtype(name)


def arrays_of(op, dtype):
    rng, arrays = np.random.default_rng(0), []
    for a in op.arrays:
        if isinstance(a, np.ndarray):
            arrays.append(a)
            continue
        values = rng.standard_normal(a)
        if dtype.startswith("complex"):
            values = values + 1j * rng.standard_normal(a)
        if "int" in dtype:
            values = np.clip(np.round(2 * values), 0 if dtype.startswith("u") else -9, 9)
        arrays.append(values.astype(dtype_of(dtype)))
    return arrays


def wide(a):
    """Return numbers in the widest dtype of their kind."""
    return a.astype({"c": np.complex128, "i": np.int64, "u": np.int64, "b": bool}.get(a.dtype.kind, np.float64))


def value_and_gradients(op, arrays, call=lambda f: f):
    """Return the value, and the gradients of its sum of weighted entries, as a tuple."""
    y = call(lambda *a: getattr(numconv, op.name)(*a, **op.settings))(*arrays)
    if not op.gradient:
        return (y,)

    def gradients(*a):
        value, pullback = getattr(numconv, f"{op.name}_vjp")(*a, **op.settings)
        return pullback() if value.ndim == 0 else pullback(value)

    found = call(gradients)(*arrays)
    return (y, *(found if isinstance(found, tuple) else (found,)))


def never(*args, **kwargs):
    raise AssertionError("a dask graph was computed")


def lazily(library):
    """Let nothing be computed while a graph is built."""
    if library != "dask":
        return contextlib.nullcontext()
    import dask

    return dask.config.set(scheduler=never)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
@pytest.mark.parametrize("library", LIBRARIES)
def test_as_declared(library, op):
    known = LIBRARIES[library]
    pytest.importorskip(known.module)
    if not supported(op, library):
        pytest.skip(f"{op.name} is declared as not for {known.title}")
    for dtype in supported(op, library):
        arrays = arrays_of(op, dtype)
        expected = value_and_gradients(op, [wide(a) for a in arrays])
        with known.during():
            given = [known.make(a) for a in arrays]
            with lazily(library):
                results = value_and_gradients(op, given, known.call)
        for a, before in zip(given, arrays, strict=True):
            np.testing.assert_array_equal(known.read(a).astype(before.dtype), before)  # inputs are never written to
        for a, e in zip(results, expected, strict=True):
            assert isinstance(a, (type(given[0]), np.generic))
            assert str(a.dtype) == str(given[0].dtype)
            assert tuple(a.shape) == e.shape
            found = np.asarray(known.read(a))
            if "int" in dtype:
                np.testing.assert_array_equal(found, e.astype(dtype))
            else:
                most = TOLERANCE[dtype] * (1 + abs(e).max(initial=0))
                np.testing.assert_allclose(found.astype(e.dtype), e, rtol=0, atol=most)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_dtypes_not_declared_are_refused(op):
    for dtype in ("float64", "complex128", "int32"):
        arrays = arrays_of(op, dtype)
        if dtype not in (*op.dtypes, *op.also) and any(a.dtype == dtype for a in arrays):
            with pytest.raises(TypeError, match=rf"has dtype {dtype}; needed"):
                getattr(numconv, op.name)(*arrays, **op.settings)


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_do_not_mix(library):
    known = LIBRARIES[library]
    pytest.importorskip(known.module)
    x, w = np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2))
    other = "strict" if library == "numpy" else "numpy"
    if library == "dask":
        other = "strict"
    with known.during(), pytest.raises(TypeError, match=r"arrays must come from one library, got x: .*, w: "):
        numconv.conv2d(known.make(x), LIBRARIES[other].make(w))


def test_public_operations_are_all_declared():
    """Whatever has a gradient is in the table, in some rank. Maxima with their indices are tested where pooling is."""
    declared = {re.sub("[123]d$", "", op.name) for op in OPS} | {"max_pool_with_indices", "max_unpool"}
    public = {re.sub("[123]d$", "", name.removesuffix("_vjp")) for name in numconv.__all__ if name.endswith("_vjp")}
    assert public <= declared


def test_the_page_says_what_is_declared():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/capabilities.py"
