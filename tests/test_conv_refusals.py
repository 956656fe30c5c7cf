"""Bad arguments to convolutions: refused before any work, by an error that says what was given and what was needed."""

import array_api_strict
import numpy as np
import pytest

import numconv
from numconv import conv2d, conv2d_vjp
from numconv import conv_transpose2d as up

REFUSALS = [
    (TypeError, r"x must be an array .* got list", lambda x, w: conv2d([[1.0]], w)),
    (TypeError, r"w must be an array .* got float", lambda x, w: conv2d(x, 3.0)),
    (TypeError, r"x must be an array .* got numpy.MaskedArray", lambda x, w: conv2d(np.ma.array(x), w)),
    (TypeError, r"x: numpy.ndarray, w: array_api_strict.Array", lambda x, w: conv2d(x, array_api_strict.asarray(w))),
    (TypeError, r"x has dtype bool; needed a numeric dtype", lambda x, w: conv2d(x > 0, w)),
    (TypeError, r"integers and floats do not mix: x is int64, w is float64", lambda x, w: conv2d(x.astype(int), w)),
    (TypeError, r"stride holds 1.5 of type float; needed an int", lambda x, w: conv2d(x, w, stride=1.5)),
    (ValueError, r"stride=\(1, 2, 3\); needed one int, or 2 of them", lambda x, w: conv2d(x, w, stride=(1, 2, 3))),
    (ValueError, r"stride=0; needed .* at least 1", lambda x, w: conv2d(x, w, stride=0)),
    (ValueError, r"dilation=-1; needed", lambda x, w: conv2d(x, w, dilation=-1)),
    (ValueError, r"groups=0; needed", lambda x, w: conv2d(x, w, groups=0)),
    (ValueError, r"needed 4 to be a multiple of groups", lambda x, w: conv2d(x, w, groups=3)),
    (ValueError, r"padding='sane' for 2 axes; needed 'valid', 'same'", lambda x, w: conv2d(x, w, padding="sane")),
    (ValueError, r"padding='causal' for 2 axes", lambda x, w: conv2d(x, w, padding="causal")),
    (ValueError, r"padding=-1; needed numbers of zeros", lambda x, w: conv2d(x, w, padding=-1)),
    (ValueError, r"has 3 entries; needed an int or \(lo, hi\) pair for each of 2", lambda x, w: conv2d(x, w, padding=(1, 1, 1))),
    (ValueError, r"x has 3 channels .* needed 5", lambda x, w: conv2d(x, np.ones((4, 5, 3, 3)))),
    (ValueError, r"conv1d: w has shape \(4, 3, 3, 3\); needed 3 axes", lambda x, w: numconv.conv1d(x, w)),
    (ValueError, r"x has shape \(3,\); .* needed 4 axes", lambda x, w: conv2d(x[0, :, 0, 0], w)),
    (ValueError, r"w spans \(9, 9\) samples .* but x has only \(6, 6\)", lambda x, w: conv2d(x, w, dilation=4)),
    (ValueError, r"b has shape \(3,\); needed \(4,\)", lambda x, w: conv2d(x, w, np.ones(3))),
    (ValueError, r"w has shape \(0, 3, 3, 3\); needed at least one", lambda x, w: conv2d(x, w[:0])),
    (ValueError, r"needed at least 3 axes", lambda x, w: numconv.conv(x, w[0, 0])),
    (ValueError, r"output_padding=\(2, 2\) must be smaller than \(2, 2\)", lambda x, w: up(x, w[:3], stride=2, output_padding=2)),
    (ValueError, r"output_size=\(30, 30\) cannot come from x", lambda x, w: up(x, w[:3], stride=2, output_size=30)),
    (ValueError, r"were both given", lambda x, w: up(x, w[:3], stride=2, output_size=13, output_padding=1)),
    (ValueError, r"the output would have size \(-2, -2\)", lambda x, w: up(x, w[:3], padding=5)),
    (ValueError, r"dy has shape \(2, 3, 6, 6\); .* make it \(2, 4, 4, 4\)", lambda x, w: numconv.conv_input_grad(x, w, x.shape)),
    (ValueError, r"shape \(2, 3, 6, 6\); needed the value's, \(2, 4, 4, 4\)", lambda x, w: conv2d_vjp(x, w)[1](x)),
    (TypeError, r"the cotangent is missing", lambda x, w: conv2d_vjp(x, w)[1]()),
    (ValueError, r"channel_axis=4, but dy has only 4 axes", lambda x, w: numconv.conv_bias_grad(x, channel_axis=4)),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message", "call"), REFUSALS, ids=[message for _, message, _ in REFUSALS])
def test_refusals_say_what_was_given_and_needed(error, message, call):
    x, w = np.ones((2, 3, 6, 6)), np.ones((4, 3, 3, 3))
    before = x.copy()
    with pytest.raises(error, match=message):
        call(x, w)
    np.testing.assert_array_equal(x, before)
