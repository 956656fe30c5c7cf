"""Random views in a CUDA kernel on the emulator: the CPU's, over shapes, dtypes and schedules, and with planted faults."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from numconv import _cuda
from numconv.train import views_cuda
from numconv.train.augment import Augmentation, augment, stacked_views, two_views

from .cuda_emulator.emulator import MISSING
from .cuda_emulator.faults import plant
from .cuda_emulator.stand_in import ndarray, stand_in

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SEEDS = (0, 2, 3)
DTYPES = ("float32", "float64", "float16", "bfloat16")
STILL = Augmentation(scale=(1, 1), aspect=(1, 1), flip=0, translate=0, brightness=0, contrast=0, noise=0)
ALL = Augmentation(scale=(0.3, 0.9), aspect=(0.5, 1.5), flip=0.5, translate=0.1, brightness=0.3, contrast=0.4, noise=0.2)
AUGMENTATIONS = {
    "defaults": Augmentation(),
    "all": ALL,
    "crop": STILL._replace(scale=(0.2, 1), aspect=(0.5, 2)),
    "flip and shift": STILL._replace(flip=0.5, translate=0.4),
    "jitter": STILL._replace(brightness=0.5, contrast=1),
    "noise": STILL._replace(noise=0.3),
}
# One number; rows shorter than a block of Philox; more numbers than a block of threads makes at once, with a tail; signals.
SHAPES = [(2, 1, 1, 1), (6, 1, 9, 9), (5, 3, 2, 3), (3, 2, 23, 31), (4, 1, 20), (2, 3, 5)]


def of(dtype):
    return np.dtype(getattr(ml_dtypes, dtype, dtype))


def pictures(shape, dtype="float32"):
    return np.random.default_rng(0).random(shape, dtype=np.float32).astype(of(dtype))


def where(x):
    return {"seed": 2**63 + 2**31 + 7, "epoch": 2, "index": np.arange(len(x)) + 40}


def fault(shape, augmentation, dtype, seed):
    """Say how the views of a batch are wrong; nothing if they are right."""
    x = pictures(shape, dtype)
    expected = stacked_views(x.astype(np.float32), **where(x), augmentation=augmentation)
    with stand_in(seed) as cupy:
        got = stacked_views(cupy.asarray(x), **where(x), augmentation=augmentation).on_host
        if _cuda.backend.launches != 1:
            return f"{_cuda.backend.launches} launches"
    if got.shape != expected.shape or got.dtype != x.dtype:
        return f"{got.dtype}{got.shape}"
    # Positions, shares, interpolation, jitter and noise are some ten roundings of numbers up to 2; and the last one to the dtype.
    bound = 10 * np.finfo(np.float32).eps + (float(ml_dtypes.finfo(x.dtype).eps) / 2 if x.dtype.itemsize == 2 else 0)
    wrong = ~(np.abs(got.astype(np.float64) - expected) <= bound)
    return f"{wrong.sum()} of {wrong.size} numbers, the first at {np.argwhere(wrong)[0]}" if wrong.any() else ""


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_cpus_views(name, dtype, seed):
    for shape in SHAPES:
        assert not fault(shape, AUGMENTATIONS[name], dtype, seed), shape


def test_any_grid_is_enough(monkeypatch):
    monkeypatch.setattr(_cuda, "MOST_BLOCKS", 2)
    for seed in SEEDS:
        assert not fault((6, 1, 9, 9), ALL, "float32", seed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_box_of_the_whole_image_is_the_image(dtype):
    x = pictures((3, 2, 5, 7), dtype)
    with stand_in() as cupy:
        for view in (0, 1):
            got = augment(cupy.asarray(x), **where(x), view=view, augmentation=STILL)
            np.testing.assert_array_equal(got.on_host, x, strict=True)


def test_the_same_bits_in_any_order_of_threads_and_in_any_batch():
    x, found = pictures((5, 2, 23, 29)), set()
    for seed in SEEDS:
        with stand_in(seed) as cupy:
            on_device, at = cupy.asarray(x), where(x)
            both = stacked_views(on_device, **at, augmentation=ALL).on_host
            pair = two_views(on_device, **at, augmentation=ALL)
            np.testing.assert_array_equal(np.concatenate([a.on_host for a in pair]), both)
            at["index"] = at["index"][2:4]
            for view, half in enumerate(np.split(both, 2)):
                alone = augment(on_device[2:4], **at, view=view, augmentation=ALL)
                np.testing.assert_array_equal(alone.on_host, half[2:4])
            found.add(both.tobytes())
    assert len(found) == 1


def test_nothing_is_read_and_any_layout_will_do():
    x = pictures((4, 3, 6, 5))
    with stand_in() as cupy:
        before = ndarray.readings
        on_device, at = cupy.asarray(x), where(x)
        wanted = stacked_views(on_device, **at).on_host
        strided = cupy.asarray(np.asfortranarray(x))
        there = at | {"index": cupy.asarray(np.repeat(at["index"].astype(np.int32), 2))[::2]}
        for images, how in ((strided, at), (on_device, there)):
            np.testing.assert_array_equal(stacked_views(images, **how).on_host, wanted)
        assert ndarray.readings == before


def test_values_that_are_no_numbers_stay_so():
    x = pictures((2, 1, 6, 5))
    x[1, 0, 2, 3] = np.nan
    with stand_in() as cupy:
        got = augment(cupy.asarray(x), **where(x), augmentation=ALL).on_host
    assert not np.isnan(got[0]).any()
    assert np.isnan(got[1]).all()  # by way of the mean
    np.testing.assert_array_equal(np.isnan(got), np.isnan(augment(x, **where(x), augmentation=ALL)))


def test_no_images_are_nothing_to_launch():
    with stand_in() as cupy:
        x = cupy.asarray(np.zeros((0, 1, 4, 4), np.float32))
        assert augment(x, seed=0, epoch=0, index=[]).shape == (0, 1, 4, 4)
        assert _cuda.backend.launches == 0


def test_refusals():
    with stand_in() as cupy:
        x, at = cupy.asarray(np.zeros((2, 1, 4, 4), np.float32)), {"seed": 0, "epoch": 0, "index": [0, 1]}
        for error, text, call in (
            (TypeError, "x must be an array of CuPy in float32, .* got int64", lambda: augment(cupy.asarray([1]), **at)),
            (ValueError, r"x has shape \(2, 1\)", lambda: augment(x[:, :, 0, 0], **at)),
            (ValueError, r"index has shape \(1,\); needed \(2,\)", lambda: augment(x, **at | {"index": [0]})),
            (TypeError, "index has dtype float64", lambda: augment(x, **at | {"index": [0.0, 1.0]})),
            (ValueError, "index runs from -1", lambda: augment(x, **at | {"index": [0, -1]})),
            (ValueError, "epoch=-1", lambda: augment(x, **at | {"epoch": -1})),
            (ValueError, "view=2", lambda: augment(x, **at, view=2)),
            (ValueError, "augmentation.flip=2", lambda: augment(x, **at, augmentation=STILL._replace(flip=2))),
        ):
            with pytest.raises(error, match=text):
                call()


FAULTS = {
    "mirrored or not, the same": ("u[6] < g.flip", "false"),
    "mirrored about the wrong place": ("g.width - 1 - q", "g.width - q"),
    "shifted the other way": ("g.translate * (2 * u[4] - 1)", "g.translate * (1 - 2 * u[4])"),
    "rows and columns shifted alike": ("(2 * u[5] - 1)", "(2 * u[4] - 1)"),
    "tall as wide": ("fmin(sqrt(area) / root, 1.0)", "fmin(sqrt(area) * root, 1.0)"),
    "signals have an aspect": ("g.height == 1", "false"),
    "brightness and contrast swapped": ("flip, translate, brightness, contrast", "flip, translate, contrast, brightness"),
    "corners in place of centres": ("(p + 0.5) - 0.5", "(p + 1.0) - 0.5"),
    "past the image's edge": ("size - 1.0)", "size * 1.0)"),
    "a sample past the row": ("first + 1 < size ? first + 1 : first", "first + 1"),
    "nearest sample": ("(Sum)(at - first)}", "0}"),
    "rows not walked on": ("q = 0;\n", "q = 0, --p;\n"),
    "channels not walked on": ("p = 0, plane +=", "p = 0, plane += 0 *"),
    "the first row's share for all": ("        row = between(v.top, v.tall, p, g.height);\n    }", "    }"),
    "the mean of the first numbers": ("total += y[j]", "total += b < blockDim.x ? y[j] : 0"),
    "the mean of a warp": ("total = block_sum(total, scratch);", "total = warp_sum(total); __syncthreads();"),
    "noise of the first view": ("which ? g.noise_streams[1] : g.noise_streams[0]", "g.noise_streams[0]"),
    "views alike": ("which ? g.streams[1] : g.streams[0]", "g.streams[0]"),
    "noise of the next block": ("draw(words, (unsigned)b, sample", "draw(words, (unsigned)b + 1, sample"),
    "not clipped": ("value < 0 ? 0 : value > 1 ? 1 : value", "value"),
    "tail unmasked": ("if (4 * b + j < size) store", "store"),
    "tail read": ("if (k + j >= size) continue;", ""),
    "not waited for the box": ("view = drawn(g, origin, sample);\n        __syncthreads();", "view = drawn(g, origin, sample);"),
    "a grid that does not walk on": ("t += gridDim.x", "t += 1LL << 60"),
    "a block that does not walk on": ("b += blockDim.x", "b += 1LL << 60"),
}


def run_every_case(path):
    """Hold a source against every case, and exit at the first fault. It may also crash: for a process of its own."""
    views_cuda.SOURCE, _cuda.MOST_BLOCKS = Path(path), 3
    for seed, augmentation, shape in product((0, 2), AUGMENTATIONS.values(), SHAPES):
        if found := fault(shape, augmentation, "float32", seed):
            sys.exit(f"caught: {found}")
    print("nothing found")


@pytest.mark.parametrize("planted", ["no fault", *FAULTS])
def test_planted_faults_are_caught(tmp_path, planted):
    plant(tmp_path, run_every_case, _cuda.assembled(views_cuda.SOURCE.read_text()), FAULTS.get(planted))
