"""The IDX files of MNIST and its kin: `.idx`, `-ubyte`, with or without `.gz`, images and labels apart.

Two zero bytes, a code for the type of number, the number of axes, the sizes as big-endian 32-bit integers, then the numbers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset, Part, Scale, images, joined, labels
from .packed import checked, decompressed

SUFFIXES = (".idx", ".idx.gz", "ubyte", "ubyte.gz")

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PARTS = ("train", "t10k")


def read(path: Path, *, layout: str | None, scale: Scale | None) -> Part:
    """Read a file of images, and their labels if a file of that name with `labels` for `images` stands beside it."""
    x = images(parsed(decompressed(path), path), str(path), layout=layout, scale=scale)
    twin = _labels_beside(path)
    return Part(x, None if twin is None else labels(parsed(decompressed(twin), twin), len(x), str(twin))[0])


def has_mnist_layout(folder: Path) -> bool:
    """Say whether a folder holds MNIST's four files, or at least the first of them."""
    return _present(folder, "train-images-idx3-ubyte") is not None


def mnist_layout(
    folder: Path, name: str, *, class_names: tuple[str, ...] | None = None, digests: Mapping[str, str] | None = None
) -> Dataset:
    """Read MNIST's four files, train and t10k, images and labels, and check their hashes if there are `digests`."""
    parts = []
    for part in _PARTS:
        x = images(_member(folder, f"{part}-images-idx3-ubyte", digests), str(folder))
        y, _ = labels(_member(folder, f"{part}-labels-idx1-ubyte", digests), len(x), str(folder), class_names)
        parts.append(Part(x, y, class_names))
    return joined(name, *parts)


def parsed(content: bytes, path: Path) -> NDArray[Any]:
    """Return the array that the contents of an IDX file describe, or refuse them."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES or content[3] == 0:
        raise ValueError(f"{path}: not an IDX file: it starts with {content[:4].hex(' ') or 'nothing'}; needed 00 00, type, axes")
    dtype, axes = np.dtype(_DTYPES[content[2]]), content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise ValueError(f"{path}: cut off: {len(content)} bytes, but its header alone takes {start}")
    shape = struct.unpack(f">{axes}I", content[4:start])
    needed = start + math.prod(shape) * dtype.itemsize
    if len(content) != needed:
        problem = "cut off" if len(content) < needed else "too long"
        raise ValueError(f"{path}: {problem}: {len(content)} bytes (unpacked), but its shape {shape} takes {needed}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _member(folder: Path, name: str, digests: Mapping[str, str] | None) -> NDArray[Any]:
    path = _present(folder, name)
    if path is None:
        raise FileNotFoundError(f"{folder}: no file {name} or {name}.gz; needed images and labels of train and t10k")
    content = decompressed(path)
    return parsed(checked(content, path, digests[name]) if digests else content, path)


def _present(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _labels_beside(path: Path) -> Path | None:
    name = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    return None if "images" not in path.name else _present(path.parent, name)
