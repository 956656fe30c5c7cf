"""Shapes of convolutions: the words for padding, sizes by counting, and what stride leaves open."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numconv import conv_output_shape, conv_transpose_output_shape
from numconv.conv import geometry

sizes, taps, steps = st.integers(1, 40), st.integers(1, 7), st.integers(1, 4)


@given(sizes, taps, steps, steps, st.integers(0, 5), st.integers(0, 5))
def test_output_size_counts_the_positions_where_the_window_fits(n, k, s, d, lo, hi):
    positions = [p for p in range(0, n + lo + hi, s) if p + d * (k - 1) < n + lo + hi]
    if positions:
        g = geometry.conv((1, 1, n), (1, 1, k), s, ((lo, hi),), d, 1)
        assert g.y_size == (1, 1, len(positions))
    else:
        with pytest.raises(ValueError, match="w spans"):
            geometry.conv((1, 1, n), (1, 1, k), s, ((lo, hi),), d, 1)


@given(sizes, taps, steps, steps)
def test_words_for_padding(n, k, s, d):
    span = d * (k - 1) + 1
    for word in ("same", "same_lower"):
        g = geometry.conv((1, 1, n), (1, 1, k), s, word, d, 1)
        assert g.y_size[2] == -(-n // s)
        total = max((g.y_size[2] - 1) * s + span - n, 0)
        assert g.pad_lo[2] == (total // 2 if word == "same" else total - total // 2)
    assert geometry.conv((1, 1, n), (1, 1, k), 1, "full", d, 1).y_size[2] == n + span - 1
    causal = geometry.conv((1, 1, n), (1, 1, k), 1, "causal", d, 1)
    assert (causal.y_size[2], causal.pad_lo[2]) == (n, span - 1)


@given(sizes, taps, steps, steps, st.integers(0, 3), st.integers(0, 3))
def test_every_size_of_a_class_comes_back_through_output_size(n, k, s, d, lo, hi):
    if n + lo + hi < d * (k - 1) + 1:
        return
    down = conv_output_shape((1, 2, n), (3, 2, k), stride=s, padding=((lo, hi),), dilation=d)
    up = conv_transpose_output_shape(down, (3, 2, k), stride=s, padding=((lo, hi),), dilation=d, output_size=n)
    assert up == (1, 2, n)


@given(sizes, taps, steps)
def test_same_transposed_multiplies_the_size_by_the_stride(n, k, s):
    assert conv_transpose_output_shape((1, 1, n), (1, 1, k), stride=s, padding="same") == (1, 1, n * s)


def test_shapes_of_unbatched_input_and_numpy_integers():
    assert conv_output_shape((3, 8, 8), (4, 3, 3, 3), stride=np.int64(2), padding=[1, (0, 1)]) == (4, 4, 4)
    assert conv_transpose_output_shape((4, 8), (4, 2, 3), output_padding=0) == (2, 10)


def test_flops_count_the_definition():
    assert geometry.conv((2, 4, 5, 5), (6, 2, 3, 3), 1, "same", 1, 2).flops == 2 * 2 * 6 * 25 * 2 * 9
