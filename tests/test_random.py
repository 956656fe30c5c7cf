"""Counter-based random numbers: published vectors, an integer oracle, independence from batching, and moments."""

from __future__ import annotations

import doctest
import itertools
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import numconv
from numconv.train import random
from numconv.train.random import Stream, bits, normal, permutation, philox, uniform

WORD = 2**32 - 1
SIGMAS = 5  # fixed seeds: these tests pass or fail for ever, and a right generator had a chance of 6e-7 to fail each


def oracle(counter, key):
    """Philox4x32-10 in Python's own integers, from Salmon et al. 2011, figure 3."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


@pytest.mark.parametrize(
    ("counter", "key", "block"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([WORD] * 4, [WORD] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_vectors_published_with_random123(counter, key, block):
    assert " ".join(f"{word:08x}" for word in philox(counter, key)) == block
    assert " ".join(f"{word:08x}" for word in oracle(counter, key)) == block


def test_philox_takes_many_counters_at_once():
    counters = np.arange(24).reshape(2, 3, 4)
    found = philox(counters, [5, 6])
    assert found.shape == (2, 3, 4)
    assert found.dtype == np.uint32
    for where in np.ndindex(2, 3):
        assert found[where].tolist() == oracle(counters[where].tolist(), [5, 6])


@given(
    seed=st.integers(0, 2**64 - 1),
    stream=st.integers(0, WORD),
    epoch=st.integers(0, WORD),
    index=st.lists(st.integers(0, WORD), min_size=1, max_size=4),
    count=st.integers(1, 11),
)
def test_bits_are_the_words_at_the_documented_counter(seed, stream, epoch, index, count):
    found = bits(seed, stream, epoch, index, count)
    for n, k in itertools.product(range(len(index)), range(count)):
        assert found[n, k] == oracle([k // 4, index[n], epoch, stream], [seed & WORD, seed >> 32])[k % 4]


@pytest.mark.parametrize("draw", [bits, uniform, normal])
@pytest.mark.parametrize("count", [1, 2, 7, 20, 783])
def test_numbers_of_a_sample_do_not_depend_on_its_batch(draw, count):
    index = np.arange(200, 237)
    together = draw(3, Stream.NOISE, 5, index, count)
    for size in (1, 2, 5, 16):
        for start in range(0, len(index), size):
            part = slice(start, start + size)
            assert draw(3, Stream.NOISE, 5, index[part], count).tobytes() == together[part].tobytes()
    backwards = draw(3, Stream.NOISE, 5, index[::-1], count)
    assert backwards[::-1].tobytes() == together.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("draw", [uniform, normal])
def test_fewer_numbers_are_the_beginning_of_more(draw, dtype):
    more = draw(3, Stream.NOISE, 5, [1, 2], 31, dtype=dtype)
    assert more.dtype == dtype
    for count in (0, 1, 6, 30):
        assert np.array_equal(draw(3, Stream.NOISE, 5, [1, 2], count, dtype=dtype), more[:, :count])


def test_seeds_streams_epochs_and_samples_have_numbers_of_their_own():
    at = [
        (seed, stream, epoch, [index])
        for seed in (0, 1, 2**32, 2**63)
        for stream in Stream
        for epoch in (0, 1, WORD)
        for index in (0, 1, WORD)
    ]
    assert len({bits(*where, 4).tobytes() for where in at}) == len(at)
    assert len(set(Stream)) == len(Stream.__members__)


def test_uniform_numbers_are_in_range_and_evenly_spread():
    u = uniform(1, Stream.NOISE, 0, np.arange(1000), 400).astype(np.float64)
    n = u.size
    assert u.min() >= 0
    assert u.max() < 1
    assert np.array_equal(u * 2**24, np.round(u * 2**24))
    assert abs(u.mean() - 1 / 2) < SIGMAS / np.sqrt(12 * n)
    assert abs(u.var() - 1 / 12) < SIGMAS * np.sqrt(1 / 180 / n)  # the variance of (u - 1/2)**2 is 1/80 - 1/144
    bins = np.bincount((u * 64).astype(int).ravel(), minlength=64)
    assert ((bins - n / 64) ** 2 / (n / 64)).sum() < 63 + SIGMAS * np.sqrt(2 * 63)


def test_uniform_of_either_precision_starts_from_the_same_words():
    words = bits(9, Stream.NOISE, 1, [7], 8)[0].tolist()
    assert uniform(9, Stream.NOISE, 1, [7], 8)[0].tolist() == [(word >> 8) / 2**24 for word in words]
    pairs = zip(words[::2], words[1::2], strict=True)
    expected = [((high << 32 | low) >> 11) / 2**53 for low, high in pairs]
    assert uniform(9, Stream.NOISE, 1, [7], 4, dtype=np.float64)[0].tolist() == expected


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-6), (np.float64, 1e-14)])
def test_normal_numbers_are_box_and_mullers(dtype, tolerance):
    u = uniform(9, Stream.NOISE, 1, np.arange(20), 10, dtype=dtype).tolist()
    expected = [
        [
            math.sqrt(-2 * math.log(1 - row[k - k % 2])) * (math.sin if k % 2 else math.cos)(2 * math.pi * row[k | 1])
            for k in range(10)
        ]
        for row in u
    ]
    np.testing.assert_allclose(normal(9, Stream.NOISE, 1, np.arange(20), 10, dtype=dtype), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_have_the_same_bits_on_any_number_of_threads(dtype):
    index = np.arange(37)
    draws = lambda: [  # noqa: E731
        normal(3, Stream.NOISE, 5, index, 783, dtype=dtype).tobytes(),
        bits(3, Stream.NOISE, 5, index, 783).tobytes(),
    ]
    several = draws()
    with numconv.threads(1):
        assert draws() == several


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_numbers_have_the_moments_of_a_normal_distribution(dtype):
    z = normal(2, Stream.LATENT, 3, np.arange(2000), 101, dtype=dtype).astype(np.float64)
    n = z.size
    assert np.isfinite(z).all()
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((z**power).mean() - moment) < SIGMAS * np.sqrt(variance / n)
    assert scipy.stats.kstest(z.ravel(), "norm").statistic < 2.6 / np.sqrt(n)  # Kolmogorov: P(D sqrt(n) > 2.6) = 3e-6


def test_normal_numbers_of_neighbours_are_not_correlated():
    z = normal(2, Stream.LATENT, 3, np.arange(2000), 100).astype(np.float64)
    other_epoch = normal(2, Stream.LATENT, 4, np.arange(2000), 100)
    other_stream = normal(2, Stream.NOISE, 3, np.arange(2000), 100)
    for a, b in [
        (z[:, 1:], z[:, :-1]),
        (z[:, 2:], z[:, :-2]),
        (z[1:], z[:-1]),
        (z, other_epoch),
        (z, other_stream),
        (z[:, 0::2] ** 2 - 1, z[:, 1::2] ** 2 - 1),
    ]:
        assert abs((a * b).mean()) < SIGMAS * np.sqrt((a**2).mean() * (b**2).mean() / a.size)


def test_permutation_has_every_number_once_and_changes_with_epoch_seed_and_stream():
    first = permutation(0, Stream.ORDER, 0, 1000)
    assert first.dtype == np.int64
    assert np.array_equal(np.sort(first), np.arange(1000))
    words = [oracle([0, index, 0, Stream.ORDER], [0, 0]) for index in range(1000)]
    assert first.tolist() == sorted(range(1000), key=lambda index: words[index][1] << 32 | words[index][0])
    for other in [(0, Stream.ORDER, 1), (1, Stream.ORDER, 0), (0, Stream.SPLIT, 0)]:
        # The number of agreements of two random permutations is Poisson of mean 1.
        assert (permutation(*other, 1000) == first).sum() < 10
    assert permutation(0, Stream.ORDER, 0, 0).shape == (0,)


def test_every_permutation_is_as_likely():
    epochs = 4800
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(epochs):
        order = tuple(permutation(11, Stream.ORDER, epoch, 4).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    expected = epochs / 24
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 23 + SIGMAS * np.sqrt(2 * 23)


@pytest.mark.parametrize(
    ("error", "text", "call"),
    [
        (ValueError, r"seed=-1; needed 0 <= seed < 2\*\*64", lambda: bits(-1, 0, 0, [0], 1)),
        (ValueError, r"seed=18446744073709551616; needed 0 <= seed < 2\*\*64", lambda: bits(2**64, 0, 0, [0], 1)),
        (TypeError, "seed=0.5; needed an integer", lambda: uniform(0.5, 0, 0, [0], 1)),
        (ValueError, r"stream=4294967296; needed 0 <= stream < 2\*\*32", lambda: bits(0, 2**32, 0, [0], 1)),
        (ValueError, "epoch=-1; needed", lambda: normal(0, 0, -1, [0], 1)),
        (ValueError, "count=-2; needed", lambda: normal(0, 0, 0, [0], -2)),
        (ValueError, r"index runs from -1 to 3; needed 0 <= index < 2\*\*32", lambda: bits(0, 0, 0, [-1, 3], 1)),
        (ValueError, "index runs from 0 to 4294967296", lambda: bits(0, 0, 0, [0, 2**32], 1)),
        (TypeError, "index has dtype float64; needed integers", lambda: bits(0, 0, 0, [0.0], 1)),
        (ValueError, r"index has shape \(1, 1\); needed \(n,\)", lambda: bits(0, 0, 0, [[0]], 1)),
        (TypeError, "dtype is int32; needed float32 or float64", lambda: uniform(0, 0, 0, [0], 1, dtype=np.int32)),
        (ValueError, r"n=-1; needed 0 <= n < 2\*\*32", lambda: permutation(0, 0, 0, -1)),
    ],
)
def test_refusals(error, text, call):
    with pytest.raises(error, match=text):
        call()


def test_no_samples_are_no_numbers():
    assert bits(0, 0, 0, [], 5).shape == (0, 5)
    assert normal(0, 0, 0, np.arange(0), 5).shape == (0, 5)


def test_examples():
    assert doctest.testmod(random).failed == 0
