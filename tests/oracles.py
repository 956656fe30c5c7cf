"""What convolution is, said again without the library: loops over positions, random geometries, and how far rounding may go."""

from itertools import product

import numpy as np
from hypothesis import strategies as st


def loop_conv(x, w, b=None, *, stride, pads, dilation, groups):
    """Correlate batched x with w by a loop over images, output channels and positions, each one sum over a window."""
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    c_in, per_group = w.shape[1], w.shape[0] // groups
    span = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True)]
    size = [(n - e) // s + 1 for n, e, s in zip(x.shape[2:], span, stride, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *size), np.result_type(x, w))
    for n, o in product(range(x.shape[0]), range(w.shape[0])):
        group = o // per_group
        for p in product(*map(range, size)):
            window = tuple(slice(s * i, s * i + e, d) for s, i, e, d in zip(stride, p, span, dilation, strict=True))
            y[(n, o, *p)] = (x[(n, slice(group * c_in, (group + 1) * c_in), *window)] * w[o]).sum()
    return y if b is None else y + b.reshape(-1, *(1,) * len(size))


def loop_conv_transpose(x, w, b=None, *, stride, pads, dilation, groups, output_padding):
    """Spread every sample of batched x over a window of the output, scaled by w."""
    per_group, c_out = w.shape[0] // groups, w.shape[1]
    taps = w.shape[2:]
    full = [
        (n - 1) * s + d * (k - 1) + 1 + e
        for n, s, d, k, e in zip(x.shape[2:], stride, dilation, taps, output_padding, strict=True)
    ]
    y = np.zeros((x.shape[0], groups * c_out, *full), np.result_type(x, w))
    for i, p in product(range(x.shape[1]), product(*map(range, x.shape[2:]))):
        group = i // per_group
        for k in product(*map(range, taps)):
            q = tuple(s * a + d * t for s, a, d, t in zip(stride, p, dilation, k, strict=True))
            channels = slice(group * c_out, (group + 1) * c_out)
            y[(slice(None), channels, *q)] += x[(slice(None), i, *p)][:, None] * w[(i, slice(None), *k)]
    y = y[(..., *(slice(lo, n - hi) for (lo, hi), n in zip(pads, full, strict=True)))]
    return y if b is None else y + b.reshape(-1, *(1,) * len(full))


def rounding_bound(dtype, terms, magnitude):
    """Bound the rounding error of a sum of products: gamma_n times the sum of magnitudes (Higham 2002, section 3.1)."""
    unit = np.finfo(dtype).eps / 2
    n = terms + 3  # the products, the bias and the final store round too
    return n * unit / (1 - n * unit) * magnitude + np.finfo(dtype).tiny


@st.composite
def conv_cases(draw, max_channels=7, max_size=14, max_taps=4):
    """Draw arguments of a convolution: a dict of shapes and settings whose window fits the padded input."""
    rank = draw(st.integers(1, 3))

    def per_axis(lo, hi):
        return tuple(draw(st.lists(st.integers(lo, hi), min_size=rank, max_size=rank)))

    groups = draw(st.integers(1, 3))
    c_in, c_out = draw(st.integers(1, max_channels)), draw(st.integers(1, max_channels))
    taps, stride, dilation = per_axis(1, max_taps), per_axis(1, 3), per_axis(1, 3)
    pads = tuple(zip(per_axis(0, 3), per_axis(0, 3), strict=True))
    span = [d * (k - 1) + 1 for d, k in zip(dilation, taps, strict=True)]
    size = tuple(
        draw(st.integers(max(1, e - lo - hi), max(max_size if rank < 3 else 8, e)))
        for e, (lo, hi) in zip(span, pads, strict=True)
    )
    return {
        "x_shape": (draw(st.integers(1, 3)), groups * c_in, *size),
        "w_shape": (groups * c_out, c_in, *taps),
        "stride": stride,
        "pads": pads,
        "dilation": dilation,
        "groups": groups,
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def cropping(case, size):
    """Return the pads of a case, cut down until a transposed convolution of `size` keeps at least one sample."""
    axes = zip(size, case["stride"], case["dilation"], case["w_shape"][2:], case["pads"], strict=True)
    spare = [(((n - 1) * s + d * (k - 1)) // 2, lo, hi) for n, s, d, k, (lo, hi) in axes]
    return tuple((min(lo, most), min(hi, most)) for most, lo, hi in spare)


def normals(seed, *shapes, dtype=np.float64):
    """Return one standard normal array per shape."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]
