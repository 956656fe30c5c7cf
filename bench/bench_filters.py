"""One channel: images under filters of 3 to 63 taps a side, signals under 16 to 8192 taps, beside the libraries made for them."""

import peers
import pytest
from measure import normals, plan_of
from tables import FILTER_SIDE, FILTERS, SIGNAL_LENGTH, SIGNALS, cases

import numconv

TOLERANCE = {"float32": 1e-3, "float64": 1e-10}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("taps", cases(FILTERS, [3, 7, 31]))
def test_filter(race, taps, dtype):
    x, w = normals((FILTER_SIDE, FILTER_SIDE), (taps, taps), dtype=dtype)
    images, filters = x[None, None], w[None, None]
    race(
        lambda: numconv.conv2d(images, filters, padding="same")[0, 0],
        peers.filtering(x, w),
        table="filters",
        row=f"{taps}x{taps}",
        dtype=dtype,
        size=taps,
        work=2 * x.size * w.size,
        tolerance=TOLERANCE[dtype],
        plan=plan_of(numconv.conv2d, images, filters, padding="same"),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("taps", cases(SIGNALS, [16, 128, 1024]))
def test_signal(race, taps, dtype):
    x, w = normals((SIGNAL_LENGTH,), (taps,), dtype=dtype)
    signals, filters = x[None, None], w[None, None]
    race(
        lambda: numconv.conv1d(signals, filters)[0, 0],
        peers.signal_filtering(x, w),
        table="signals",
        row=str(taps),
        dtype=dtype,
        size=taps,
        work=2 * (x.size - taps + 1) * taps,
        tolerance=TOLERANCE[dtype],
        plan=plan_of(numconv.conv1d, signals, filters),
    )
