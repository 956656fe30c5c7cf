"""What pooling refuses, and in which words."""

import numpy as np
import pytest

from numconv import pool

ONES = np.ones((1, 2, 5, 5))
ZEROS = np.zeros((1, 2, 2, 2), int)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: pool.max_pool([1.0], 2), TypeError, "x must be an array .* got list"),
        (lambda: pool.max_pool(np.ones((1, 1, 4), int), 2), TypeError, "x has dtype int64; needed a real floating dtype"),
        (lambda: pool.max_pool(np.ones((1, 1, 4), complex), 2), TypeError, "x has dtype complex128"),
        (lambda: pool.avg_pool(np.ones((1, 1, 4), int), 2), TypeError, "x has dtype int64; needed a floating dtype"),
        (lambda: pool.max_pool(np.ones((5, 5)), 2), ValueError, r"x has shape \(5, 5\); with window=2, needed 3 to 5 axes"),
        (lambda: pool.max_pool(ONES, (2,)), ValueError, r"with window=\(2,\), needed 3 axes \(batch, channels, \*size\) or 2"),
        (lambda: pool.max_pool(ONES, (2,) * 4), ValueError, r"window=\(2, 2, 2, 2\); needed an int, or 1 to 3 of them"),
        (lambda: pool.max_pool(ONES, 0), ValueError, "window=0; needed one int, or 2 of them .* at least 1"),
        (lambda: pool.max_pool(ONES, 2.0), TypeError, "window holds 2.0 of type float; needed an int"),
        (lambda: pool.max_pool(ONES, 2, stride=(1, 0)), ValueError, r"stride=\(1, 0\); needed one int"),
        (lambda: pool.max_pool(ONES, 2, dilation=0), ValueError, "dilation=0; needed"),
        (lambda: pool.max_pool(ONES, 2, padding=-1), ValueError, "padding=-1; needed numbers of zeros, none negative"),
        (lambda: pool.max_pool(ONES, 2, padding="bad"), ValueError, "padding='bad' for 2 axes; needed"),
        (lambda: pool.max_pool(ONES, 3, dilation=3), ValueError, r"window spans \(7, 7\) samples .* x has only \(5, 5\)"),
        (lambda: pool.max_pool(ONES, 2, padding=2), ValueError, "axis 0 of size 5, the window at position 0 holds no sample"),
        (lambda: pool.avg_pool(np.ones((1, 1, 1)), 2, dilation=2, padding=1), ValueError, "holds no sample; needed at least one"),
        (lambda: pool.max_pool(np.ones((1, 1, 0)), 1), ValueError, r"x has shape \(1, 1, 0\); needed at least one sample"),
        (lambda: pool.global_avg_pool(np.ones((1, 2))), ValueError, r"x has shape \(1, 2\); needed 3 to 5 axes"),
        (lambda: pool.adaptive_avg_pool(ONES, 0), ValueError, "output_size=0; needed one int"),
        (lambda: pool.max_unpool(ONES[..., :2, :2], ZEROS, 2, output_size=9), ValueError, r"comes from \(1, 2, 4, 4\)"),
        (lambda: pool.max_unpool(ONES, ZEROS, 2, output_size=4), ValueError, r"indices has shape \(1, 2, 2, 2\); needed"),
        (lambda: pool.max_unpool(ONES, ONES, 2, output_size=10), TypeError, "indices has dtype float64; needed an integer"),
        (lambda: pool.max_unpool(ONES[..., :2, :2], ZEROS, 2, output_size=4), ValueError, "indices holds 6 of 8 that are of no"),
        (lambda: pool.max_unpool(ONES[..., :2, :2], ZEROS - 1, 2, output_size=4), ValueError, "indices holds 8 of 8"),
        (lambda: pool.max_unpool(ONES[..., :2, :2], ZEROS + 99, 2, output_size=4), ValueError, "indices holds 8 of 8"),
        (lambda: pool.max_pool_vjp(ONES, 5)[1](ONES), ValueError, r"cotangent has shape .*; needed the value's, \(1, 2, 1, 1\)"),
    ],
)  # fmt: skip
def test_refusals(call, error, text):
    with pytest.raises(error, match=text):
        call()
