"""Padded positions against numpy.pad."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numconv import _border

NUMPY = {"zeros": "constant", "reflect": "reflect", "symmetric": "symmetric", "replicate": "edge", "circular": "wrap"}


@given(st.sampled_from(_border.MODES), st.integers(1, 7), st.integers(0, 20), st.integers(0, 20))
def test_samples_are_those_numpy_pads_with(mode, size, lo, hi):
    x = np.arange(1, size + 1)
    index = _border.sources(mode, size, lo, hi)
    np.testing.assert_array_equal(np.append(x, 0)[index], np.pad(x, (lo, hi), NUMPY[mode]))


def test_modes_are_words():
    assert _border.modes("circular", 2) == ("circular", "circular")
    assert _border.modes(["zeros", "reflect"], 2) == ("zeros", "reflect")
    for wrong in ("wrap", ("zeros",), ["zeros", "mirror"]):
        with pytest.raises(ValueError, match=r"padding_mode=.*needed one of 'zeros', 'reflect'"):
            _border.modes(wrong, 2)
