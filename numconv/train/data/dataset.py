"""What a data set is, and how raw pixels and labels become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..random import Stream, permutation

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
Scale = tuple[float, float]

# Axes of an array of images: n samples, c channels, and depth, height, width or the length of a signal.
LAYOUTS = ("nl", "ncl", "nlc", "nhw", "nchw", "nhwc", "ndhw", "ncdhw", "ndhwc")
_CHANNELS = (1, 3, 4)


class Dataset(NamedTuple):
    """Images for training and for testing, with labels where there are any."""

    name: str
    """What it was loaded by, or the name of its file or folder."""
    train_x: Images
    """Images to learn from, shape (n, channels, *size), from 0 to 1, C-contiguous."""
    train_y: Labels | None
    """Their class numbers, shape (n,), from 0 on."""
    test_x: Images
    """Images held out."""
    test_y: Labels | None
    """Their class numbers."""
    class_names: tuple[str, ...] | None
    """Name of each class number."""

    def require_labels(self, purpose: str) -> tuple[Labels, Labels]:
        """Return `(train_y, test_y)`, or refuse.

        Parameters
        ----------
        purpose : str
            What needs labels, for the message, such as "a classifier".

        Raises
        ------
        ValueError
            If there are no labels.
        """
        if self.train_y is None or self.test_y is None:
            raise ValueError(
                f"{purpose} needs labels, and data set {self.name!r} has none; labels come from sub-folders of images, the array "
                "y of a .npz file, or the labels file beside an .idx file of images"
            )
        return self.train_y, self.test_y


class Part(NamedTuple):
    """Images and labels as they were stored, before they are split."""

    x: Images
    y: Labels | None
    class_names: tuple[str, ...] | None = None


def split(name: str, part: Part, seed: int, test_fraction: float) -> Dataset:
    """Hold out a random `test_fraction` of the samples; both parts keep the order of the file."""
    if isinstance(test_fraction, bool) or not isinstance(test_fraction, (int, float, np.floating)):
        raise TypeError(f"test_fraction={test_fraction!r}; needed a number from 0 up to, not including, 1")
    if not 0 <= test_fraction < 1:
        raise ValueError(f"test_fraction={test_fraction}; needed 0 <= test_fraction < 1")
    n = len(part.x)
    held = round(n * test_fraction)
    if held == n or (held == 0 and test_fraction > 0):
        raise ValueError(
            f"{name}: {n} images cannot be split with test_fraction={test_fraction}: {n - held} to train and {held} to test; "
            "needed at least one of each (or test_fraction=0, for no test images)"
        )
    if held == 0:
        return Dataset(name, part.x, part.y, part.x[:0], None if part.y is None else part.y[:0], part.class_names)
    order = permutation(seed, Stream.SPLIT, 0, n)
    test, train = np.sort(order[:held]), np.sort(order[held:])
    train_y, test_y = (None, None) if part.y is None else (part.y[train], part.y[test])
    return Dataset(name, part.x[train], train_y, part.x[test], test_y, part.class_names)


def joined(name: str, train: Part, test: Part) -> Dataset:
    """Return the data set of two parts that were stored apart, or refuse parts that do not match."""
    if train.x.shape[1:] != test.x.shape[1:]:
        raise ValueError(f"{name}: training images are {train.x.shape[1:]}, test images {test.x.shape[1:]}; needed the same")
    if (train.y is None) != (test.y is None):
        raise ValueError(f"{name}: only the {'test' if train.y is None else 'training'} images have labels; needed both or none")
    if train.class_names != test.class_names:
        raise ValueError(
            f"{name}: labels are numbers in one part, training or test, and words in the other; needed the same in both"
        )
    return Dataset(name, train.x, train.y, test.x, test.y, train.class_names)


def images(raw: NDArray[Any], source: str, *, layout: str | None = None, scale: Scale | None = None) -> Images:
    """Return raw pixels as float32 from 0 to 1, shape (n, channels, *size), or refuse."""
    if raw.dtype.kind not in "buif":
        raise TypeError(f"{source}: pixels have dtype {raw.dtype}; needed integers or real numbers")
    if raw.ndim < 2 or raw.size == 0:
        raise ValueError(f"{source}: an array of shape {raw.shape} holds no images; needed (n, height, width) or as layout= says")
    native = raw.astype(raw.dtype.newbyteorder("="), copy=False)
    return np.ascontiguousarray(_scaled(_channels_first(native, source, layout), source, scale))


def labels(raw: NDArray[Any], n: int, source: str, names: Sequence[str] | None = None) -> tuple[Labels, tuple[str, ...] | None]:
    """Return `(class numbers, class names)` of `n` labels, which are integers from 0 on or words, or refuse."""
    if raw.ndim != 1 or len(raw) != n:
        raise ValueError(f"{source}: labels have shape {raw.shape} for {n} images; needed ({n},)")
    if raw.dtype.kind == "U":
        known = tuple(sorted({str(word) for word in raw})) if names is None else tuple(names)
        strange = sorted({str(word) for word in raw} - set(known))
        if strange:
            raise ValueError(f"{source}: label {strange[0]!r} is not among the class names {', '.join(known)}")
        numbers = {word: k for k, word in enumerate(known)}
        return np.array([numbers[str(word)] for word in raw], dtype=np.int64), known
    if raw.dtype.kind not in "iu":
        raise TypeError(f"{source}: labels have dtype {raw.dtype}; needed integers or words")
    if raw.min() < 0 or raw.max() >= 2**31:
        raise ValueError(f"{source}: labels run from {raw.min()} to {raw.max()}; needed class numbers from 0 on")
    if names is not None and raw.max() >= len(names):
        raise ValueError(f"{source}: a label is {raw.max()}, but there are {len(names)} class names")
    return raw.astype(np.int64), None if names is None else tuple(names)


def _channels_first(raw: NDArray[Any], source: str, layout: str | None) -> NDArray[Any]:
    if layout is None:
        layout = _guessed(raw.shape, source)
    elif layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r}; needed one of {', '.join(LAYOUTS)}")
    elif len(layout) != raw.ndim:
        raise ValueError(f"{source}: layout={layout!r} has {len(layout)} axes, the array's shape is {raw.shape}")
    return np.moveaxis(raw, layout.index("c"), 1) if "c" in layout else raw[:, None]


def _guessed(shape: tuple[int, ...], source: str) -> str:
    if len(shape) in (2, 3):
        return "nl" if len(shape) == 2 else "nhw"
    if len(shape) == 4:
        first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
        if first != last:
            return "nchw" if first else "nhwc"
    raise ValueError(
        f"{source}: which axes of shape {shape} are channels, height and width? Say layout= one of {', '.join(LAYOUTS)}"
    )


def _scaled(raw: NDArray[Any], source: str, scale: Scale | None) -> Images:
    if raw.dtype.kind == "f":
        _check_finite(raw, source)
    if scale is None:
        if raw.dtype == np.uint8 or raw.dtype == np.uint16:
            x: Images = np.divide(raw, np.float32(np.iinfo(raw.dtype).max), dtype=np.float32)
            return x
        if raw.dtype.kind in "iu":
            raise ValueError(
                f"{source}: pixels are {raw.dtype} from {raw.min()} to {raw.max()}; only uint8 and uint16 have a known range: "
                f"pass scale=(black, white), for example scale=(0, 255)"
            )
    black, white = _limits(scale)
    low, high = float(raw.min()), float(raw.max())
    if low < black or high > white:
        hint = f"; pass scale=({low}, {high}) to map that range onto 0 to 1" if scale is None else ""
        raise ValueError(f"{source}: pixels run from {low} to {high}; needed {black:g} to {white:g}{hint}")
    if scale is None:
        return raw.astype(np.float32)
    return ((raw.astype(np.float64) - black) / (white - black)).astype(np.float32)


def _limits(scale: Scale | None) -> Scale:
    try:
        black, white = (0.0, 1.0) if scale is None else (float(scale[0]), float(scale[1]))
    except (TypeError, ValueError, IndexError):
        raise TypeError(f"scale={scale!r}; needed two numbers: (black, white)") from None
    if not (np.isfinite(black) and np.isfinite(white) and black < white):
        raise ValueError(f"scale={scale!r}; needed (black, white) with black < white")
    return black, white


def _check_finite(raw: NDArray[Any], source: str) -> None:
    finite = np.isfinite(raw)
    if not finite.all():
        bad = np.argwhere(~finite)
        raise ValueError(f"{source}: {len(bad)} of {raw.size} pixels are NaN or infinite, the first in image {bad[0][0]}")
