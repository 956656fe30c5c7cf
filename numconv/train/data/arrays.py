"""Arrays that NumPy saved: `.npy` with images, `.npz` with images, labels, names of classes, and perhaps a test part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset, Part, Scale, images, joined, labels, split

# Names that arrays in .npz files go by; only one of each group may be there.
_X, _Y = ("x", "images", "train_x", "x_train"), ("y", "labels", "train_y", "y_train")
_TEST_X, _TEST_Y = ("test_x", "x_test"), ("test_y", "y_test")
_NAMES = ("class_names",)
_KNOWN = (*_X, *_Y, *_TEST_X, *_TEST_Y, *_NAMES)

Members = dict[str, NDArray[Any] | None]


def read_npy(path: Path, *, layout: str | None, scale: Scale | None) -> Part:
    """Read a file of images without labels."""
    raw = _stored(path)
    if not isinstance(raw, np.ndarray):
        raise ValueError(f"{path}: holds several arrays, as .npz files do; name it so")
    return Part(images(raw, str(path), layout=layout, scale=scale), None)


def read_npz(path: Path, *, layout: str | None, scale: Scale | None, seed: int, test_fraction: float) -> Dataset:
    """Read a file of images, labels and class names; without a test part, hold one out."""
    stored = _stored(path)
    if isinstance(stored, np.ndarray):
        raise ValueError(f"{path}: holds a single array, as .npy files do; name it so")
    names = _one_of(stored, _NAMES, path)
    class_names = None if names is None else tuple(str(name) for name in np.atleast_1d(names).ravel())
    train = _part(stored, _X, _Y, class_names, path, layout, scale)
    test = _part(stored, _TEST_X, _TEST_Y, train.class_names if train else None, path, layout, scale)
    if train is None:
        raise ValueError(f"{path}: holds {', '.join(stored) or 'nothing'}; needed images under one of the names {', '.join(_X)}")
    return split(path.name, train, seed, test_fraction) if test is None else joined(path.name, train, test)


def _part(
    stored: Members,
    x_names: Sequence[str],
    y_names: Sequence[str],
    class_names: tuple[str, ...] | None,
    path: Path,
    layout: str | None,
    scale: Scale | None,
) -> Part | None:
    x, y = _one_of(stored, x_names, path), _one_of(stored, y_names, path)
    if x is None:
        if y is not None:
            raise ValueError(f"{path}: holds labels {y_names[0]} of no images; needed {' or '.join(x_names)} too")
        return None
    pixels = images(x, str(path), layout=layout, scale=scale)
    if y is None:
        return Part(pixels, None)
    return Part(pixels, *labels(y, len(pixels), str(path), class_names))


def _one_of(stored: Members, names: Sequence[str], path: Path) -> NDArray[Any] | None:
    found = [name for name in names if stored.get(name) is not None]
    if len(found) > 1:
        raise ValueError(f"{path}: holds {' and '.join(found)}, which mean the same; needed only one of them")
    return stored[found[0]] if found else None


def _stored(path: Path) -> NDArray[Any] | Members:
    """Return the array of an .npy file, or the arrays of an .npz file whose names mean something here, and None for others."""
    try:
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return content
            return {name: content[name] if name in _KNOWN else None for name in content.files}
    except Exception as error:
        # Readers of damaged files raise whatever they trip over: zip, zlib, tokenizer and memory errors among others.
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path}: holds Python objects, or is no file of NumPy's at all; objects are refused, since unpickling them can "
                "run code"
            ) from None
        raise ValueError(f"{path}: not readable as a file of NumPy's, or cut off ({error})") from None
