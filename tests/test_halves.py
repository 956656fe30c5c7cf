"""float16 to float32 and back against NumPy: every number there is, and every way to round."""

import numpy as np
import pytest

from numconv import _halves, threads

ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def bits(a):
    return a.view(f"u{a.itemsize}")


def test_every_number_is_widened_exactly():
    wide, expected = _halves.widened(ALL), ALL.astype(np.float32)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(bits(wide)[numbers], bits(expected)[numbers])  # zeros of either sign too
    assert np.isnan(wide[~numbers]).all()


def test_every_number_comes_back():
    numbers = ~np.isnan(ALL)
    np.testing.assert_array_equal(bits(_halves.narrowed(_halves.widened(ALL)))[numbers], bits(ALL)[numbers])
    assert np.isnan(_halves.narrowed(_halves.widened(ALL))[~numbers]).all()


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_what_lies_between_is_rounded_to_the_nearest():
    exact = bits(ALL[np.isfinite(ALL)].astype(np.float32)).astype(np.int64)
    steps = np.array([0, 1, -1, *(s * (1 << k) + d for k in range(9, 24) for s in (-1, 1) for d in (-1, 0, 1))])
    near = (exact[:, None] + steps).astype(np.uint32).ravel()
    anything = np.random.default_rng(0).integers(0, 1 << 32, 1 << 20, dtype=np.uint64).astype(np.uint32)
    x = np.concatenate([near, anything]).view(np.float32)
    x = x[~np.isnan(x)]
    np.testing.assert_array_equal(bits(_halves.narrowed(x)), bits(x.astype(np.float16)))


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5, 7), (40, 1000)])
def test_shapes_strides_and_threads(shape):
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    for n in (1, 2):
        with threads(n):
            narrow = _halves.narrowed(x.T)
            np.testing.assert_array_equal(narrow, x.T.astype(np.float16))
            np.testing.assert_array_equal(_halves.widened(narrow), narrow.astype(np.float32))
    assert np.shape(_halves.widened(np.asarray(x, ">f2"))) == shape
