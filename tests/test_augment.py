"""Random views: a per-pixel oracle, what each parameter does, ranges, independence from batching, refusals."""

from __future__ import annotations

import doctest
import importlib
import math

import numpy as np
import pytest

import numconv
from numconv.train.augment import Augmentation, augment, two_views
from numconv.train.random import Stream, normal, uniform

STILL = Augmentation(scale=(1, 1), aspect=(1, 1), flip=0, translate=0, brightness=0, contrast=0, noise=0)
ALL = Augmentation(scale=(0.3, 0.9), flip=0.5, translate=0.1, brightness=0.3, contrast=0.3, noise=0.05)
SIGMAS = 5


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def ramps(n, height, width):
    """Images whose two channels tell the row and the column they were sampled at, as shares of the side."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.repeat(np.stack([rows / height, columns / width])[None], n, axis=0).astype(np.float32)


def oracle_view(image, u, a):
    """Crop, flip and shift of one image (channels, height, width), pixel by pixel in Python floats, from nine numbers u."""
    _, height, width = image.shape
    area = a.scale[0] + (a.scale[1] - a.scale[0]) * u[0]
    ratio = a.aspect[0] * (a.aspect[1] / a.aspect[0]) ** u[1]
    tall, wide = min(1, math.sqrt(area / ratio)), min(1, math.sqrt(area * ratio))
    top = ((1 - tall) * u[2] + a.translate * (2 * u[4] - 1)) * height
    left = ((1 - wide) * u[3] + a.translate * (2 * u[5] - 1)) * width

    def at(c, row, column):
        return float(image[c, min(max(row, 0), height - 1), min(max(column, 0), width - 1)])

    view = np.empty(image.shape)
    for c, p, q in np.ndindex(image.shape):
        mirrored = width - 1 - q if u[6] < a.flip else q
        row, column = top + tall * (p + 0.5) - 0.5, left + wide * (mirrored + 0.5) - 0.5
        i, j = math.floor(row), math.floor(column)
        down, right = row - i, column - j
        upper = (1 - right) * at(c, i, j) + right * at(c, i, j + 1)
        lower = (1 - right) * at(c, i + 1, j) + right * at(c, i + 1, j + 1)
        view[c, p, q] = (1 - down) * upper + down * lower
    return view


@pytest.mark.parametrize("view", [0, 1])
@pytest.mark.parametrize("shape", [(12, 1, 9, 9), (6, 3, 7, 12), (3, 2, 2, 5)])
@pytest.mark.parametrize(
    "a",
    [
        STILL._replace(scale=(0.2, 1.0), aspect=(0.5, 2.0)),
        STILL._replace(flip=0.5, translate=0.4),
        STILL._replace(scale=(0.3, 0.6), aspect=(0.8, 1.5), flip=0.5, translate=0.2),
    ],
)
def test_crop_flip_and_shift_match_the_oracle(shape, a, view):
    x, index = pictures(*shape), np.arange(shape[0]) + 40
    found = augment(x, seed=3, epoch=2, index=index, view=view, augmentation=a)
    u = uniform(3, (Stream.VIEW_0, Stream.VIEW_1)[view], 2, index, 9, dtype=np.float64)
    expected = np.stack([oracle_view(image, numbers, a) for image, numbers in zip(x, u, strict=True)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_box_of_the_whole_image_is_the_image():
    x = pictures(20, 3, 11, 13)
    assert np.array_equal(augment(x, seed=0, epoch=0, index=np.arange(20), augmentation=STILL), x)


def test_boxes_have_the_area_and_aspect_asked_for_and_are_inside_the_image():
    n, a = 4000, STILL._replace(scale=(0.3, 0.6), aspect=(0.8, 1.25))
    view = augment(ramps(n, 30, 30), seed=0, epoch=0, index=np.arange(n), augmentation=a).astype(np.float64)
    # Steps of the ramps between samples 5 and 25 of the view, far from where they are cut off, are the sides of the box.
    tall = (view[:, 0, 25, 9] - view[:, 0, 5, 9]) * 30 / 20
    wide = (view[:, 1, 9, 25] - view[:, 1, 9, 5]) * 30 / 20
    top, left = view[:, 0, 15, 9] - tall * 15.5 / 30, view[:, 1, 9, 15] - wide * 15.5 / 30
    area, ratio = tall * wide, wide / tall
    assert 0.3 - 1e-5 < area.min() < 0.301
    assert 0.599 < area.max() < 0.6 + 1e-5
    assert 0.8 - 1e-5 < ratio.min() < 0.801
    assert 1.248 < ratio.max() < 1.25 + 1e-5
    assert min(top.min(), left.min()) > -1e-5
    assert max((top + tall).max(), (left + wide).max()) < 1 + 1e-5
    assert abs(area.mean() - 0.45) < SIGMAS * 0.3 / np.sqrt(12 * n)
    for start, side in [(top, tall), (left, wide)]:
        assert abs((start / (1 - side)).mean() - 0.5) < SIGMAS / np.sqrt(12 * n)


def test_flips_are_mirror_images_of_half_of_the_samples():
    n, x = 4000, ramps(4000, 4, 4)
    view = augment(x, seed=0, epoch=0, index=np.arange(n), augmentation=STILL._replace(flip=0.5))
    mirrored = (view == x[..., ::-1]).all(axis=(1, 2, 3))
    assert np.array_equal(view[~mirrored], x[~mirrored])
    assert abs(mirrored.mean() - 0.5) < SIGMAS * 0.5 / np.sqrt(n)
    always = augment(x[:9], seed=0, epoch=0, index=np.arange(9), augmentation=STILL._replace(flip=1.0))
    assert np.array_equal(always, x[:9, ..., ::-1])


def test_jitter_scales_about_the_mean_then_from_black():
    x = 0.4 + 0.2 * pictures(50, 3, 6, 6)  # far enough from 0 and 1 that nothing is clipped
    a = STILL._replace(brightness=0.2, contrast=0.3)
    view = augment(x, seed=4, epoch=1, index=np.arange(50), augmentation=a)
    u = uniform(4, Stream.VIEW_0, 1, np.arange(50), 9, dtype=np.float64)
    contrast, brightness = 0.7 + 0.6 * u[:, 7, None], 0.8 + 0.4 * u[:, 8, None]
    flat = x.reshape(50, -1).astype(np.float64)
    mean = flat.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(view.reshape(50, -1), ((flat - mean) * contrast + mean) * brightness, rtol=0, atol=1e-6)


def test_noise_has_the_standard_deviation_asked_for():
    x = np.full((100, 1, 20, 20), 0.5, np.float32)
    difference = augment(x, seed=0, epoch=0, index=np.arange(100), augmentation=STILL._replace(noise=0.05)) - 0.5
    n = x.size
    assert abs(difference.mean()) < SIGMAS * 0.05 / np.sqrt(n)
    assert abs(difference.std() / 0.05 - 1) < SIGMAS / np.sqrt(2 * n)


@pytest.mark.parametrize("view", [0, 1])
def test_noise_is_the_normal_numbers_of_the_sample(view):
    x, index = np.full((5, 3, 7, 5), 0.5, np.float32), np.array([9, 4, 4, 2**32 - 1, 0])
    noisy = augment(x, seed=2**63, epoch=7, index=index, view=view, augmentation=STILL._replace(noise=0.05))
    z = normal(2**63, (Stream.VIEW_NOISE_0, Stream.VIEW_NOISE_1)[view], 7, index, 105).reshape(x.shape)
    np.testing.assert_allclose(noisy, 0.5 + 0.05 * z.astype(float), rtol=0, atol=1e-7)
    again = augment(
        x, seed=2**63, epoch=7, index=index.astype(np.uint32)[::-1], view=view, augmentation=STILL._replace(noise=0.05)
    )
    assert np.array_equal(again[::-1], noisy)


def test_views_have_the_same_bits_on_any_number_of_threads():
    x, index = pictures(31, 2, 28, 27), np.arange(31)
    several = two_views(x, seed=1, epoch=2, index=index, augmentation=ALL)
    with numconv.threads(1):
        one = two_views(x, seed=1, epoch=2, index=index, augmentation=ALL)
    assert [view.tobytes() for view in several] == [view.tobytes() for view in one]


def test_a_number_that_is_none_spreads_over_its_own_image_only():
    x = pictures(3, 1, 9, 9)
    x[1, 0, 4, 4] = np.nan
    view = augment(x, seed=0, epoch=0, index=np.arange(3), augmentation=STILL._replace(contrast=0.5, noise=0.1))
    assert np.isnan(view[1]).all()
    assert np.isfinite(view[[0, 2]]).all()


@pytest.mark.parametrize("shape", [(16, 1, 28, 28), (5, 3, 8, 10), (7, 2, 31)])
def test_views_are_images_like_their_own(shape):
    x = pictures(*shape)
    before = x.copy()
    a = ALL._replace(noise=0.5, brightness=1.0, contrast=1.0)
    for view in two_views(x, seed=1, epoch=1, index=np.arange(shape[0]), augmentation=a):
        assert view.shape == shape
        assert view.dtype == np.float32
        assert view.flags.c_contiguous
        assert view.min() >= 0
        assert view.max() <= 1
    assert np.array_equal(x, before)


def test_views_of_a_sample_do_not_depend_on_its_batch():
    x, index = pictures(33, 1, 13, 11), np.arange(33) * 7
    together = two_views(x, seed=1, epoch=1, index=index, augmentation=ALL)
    for size in (1, 4, 9):
        for start in range(0, 33, size):
            part = slice(start, start + size)
            apart = two_views(x[part], seed=1, epoch=1, index=index[part], augmentation=ALL)
            assert [view.tobytes() for view in apart] == [view[part].tobytes() for view in together]
    transposed = np.ascontiguousarray(x.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    again = augment(transposed, seed=1, epoch=1, index=index, augmentation=ALL)
    assert again.tobytes() == together[0].tobytes()


@pytest.mark.parametrize(
    "a", [STILL._replace(scale=(0.5, 1)), STILL._replace(translate=0.3), STILL._replace(contrast=0.5), STILL._replace(noise=0.1)]
)
def test_views_differ_between_views_samples_epochs_and_seeds(a):
    x = np.repeat(pictures(1, 1, 12, 12), 6, axis=0)
    batches = [
        augment(x, seed=seed, epoch=epoch, index=np.arange(6), view=view, augmentation=a)
        for seed in (0, 1)
        for epoch in (0, 1)
        for view in (0, 1)
    ]
    assert len({image.tobytes() for batch in batches for image in batch}) == 2 * 2 * 2 * 6
    again = augment(x, seed=0, epoch=0, index=np.arange(6), augmentation=a)
    assert again.tobytes() == batches[0].tobytes()
    pair = two_views(x, seed=0, epoch=0, index=np.arange(6), augmentation=a)
    assert [view.tobytes() for view in pair] == [batch.tobytes() for batch in batches[:2]]


def test_signals_are_cropped_to_a_share_of_their_length():
    n, length = 500, 50
    ramp = np.tile((np.arange(length, dtype=np.float32) + 0.5) / length, (n, 1, 1))
    view = augment(ramp, seed=0, epoch=0, index=np.arange(n), augmentation=STILL._replace(scale=(0.4, 0.8)))
    share = (view[:, 0, 40] - view[:, 0, 10]) * length / 30
    assert view.shape == ramp.shape
    assert 0.4 - 1e-5 < share.min() < 0.41
    assert 0.79 < share.max() < 0.8 + 1e-5


def test_one_sample_and_none():
    assert augment(pictures(0, 1, 4, 4), seed=0, epoch=0, index=[]).shape == (0, 1, 4, 4)
    dot = pictures(1, 1, 1, 1)
    assert np.array_equal(augment(dot, seed=0, epoch=0, index=[3], augmentation=STILL._replace(scale=(0.1, 0.2))), dot)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (r"augmentation.scale=\(0, 1\); needed 0 < least <= greatest <= 1", {"scale": (0, 1)}),
        (r"augmentation.scale=\(0.5, 1.5\)", {"scale": (0.5, 1.5)}),
        (r"augmentation.aspect=\(2, 1\); needed 0 < least <= greatest", {"aspect": (2, 1)}),
        ("augmentation.flip=1.5; needed a number from 0 to 1", {"flip": 1.5}),
        ("augmentation.translate=-0.1; needed", {"translate": -0.1}),
        ("augmentation.brightness=2; needed", {"brightness": 2}),
        ("augmentation.contrast=nan; needed", {"contrast": math.nan}),
        ("augmentation.noise=-1; needed a standard deviation of at least 0", {"noise": -1}),
    ],
)
def test_parameters_out_of_range_are_refused(text, changes):
    with pytest.raises(ValueError, match=text):
        augment(pictures(1, 1, 4, 4), seed=0, epoch=0, index=[0], augmentation=Augmentation(**changes))


@pytest.mark.parametrize(
    ("error", "text", "changes"),
    [
        (TypeError, "x must be a NumPy array of float32, got float64", {"x": np.zeros((1, 1, 4, 4))}),
        (TypeError, "x must be a NumPy array of float32, got list", {"x": [[[0.0]]]}),
        (ValueError, r"x has shape \(4, 4\); needed", {"x": pictures(4, 4)}),
        (ValueError, r"x has shape \(1, 1, 0, 4\); needed", {"x": pictures(1, 1, 0, 4)}),
        (ValueError, r"index has shape \(2,\); needed \(1,\), one number per image of x", {"index": [0, 1]}),
        (TypeError, "index has dtype float64; needed integers", {"index": [0.0]}),
        (ValueError, "view=2; needed 0 or 1", {"view": 2}),
        (ValueError, "epoch=-1; needed", {"epoch": -1}),
    ],
)
def test_refusals(error, text, changes):
    with pytest.raises(error, match=text):
        augment(**({"x": pictures(1, 1, 4, 4), "seed": 0, "epoch": 0, "index": [0]} | changes))


def test_examples():
    module = importlib.import_module("numconv.train.augment")  # numconv.train.augment is the function
    assert doctest.testmod(module).failed == 0
