"""Threads and compilation ahead of time, as a caller sees them."""

import numba
import numpy as np
import pytest

import numconv
from numconv import _jit, _pointwise
from numconv._pointwise import pointwise


def test_threads_holds_inside_the_block_only():
    before = numba.get_num_threads()
    with numconv.threads(1):
        assert numba.get_num_threads() == 1
    assert numba.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), numconv.threads(1):
        raise ZeroDivisionError
    assert numba.get_num_threads() == before


@pytest.mark.parametrize(
    ("n", "error"), [(0, ValueError), (10**6, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)]
)
def test_threads_refuses(n, error):
    with pytest.raises(error, match=r"^n"), numconv.threads(n):
        pass


def test_precompile_leaves_nothing_to_compile():
    named = []
    ready = numconv.precompile(["float32"], progress=named.append)
    assert ready == len(named) == len(_jit.KERNELS)
    assert all(np.dtype("float32") in kernel._entry for kernel in _jit.KERNELS)


def test_precompile_passes_over_formulas_of_others(monkeypatch):
    monkeypatch.setattr(_pointwise, "FORMULAS", [])
    pointwise(lambda *_: None)
    monkeypatch.setattr(_jit, "KERNELS", [])
    assert numconv.precompile(["float32"]) == 0


def test_precompile_refuses_other_dtypes():
    with pytest.raises(ValueError, match="'float16'; needed 'float32' or 'float64'"):
        numconv.precompile(["float16"])
