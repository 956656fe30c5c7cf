"""Folders of image files, read with Pillow; sub-folders are classes."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import Part, images, labels

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")

_PLAIN = {1: "L", 3: "RGB", 4: "RGBA"}
# What Pillow may find in a file, and what it is read as when the caller does not say.
_READ_AS = {
    "1": "L",
    "L": "L",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "LA": "RGBA",
    "P": "RGB",
    "PA": "RGBA",
    "CMYK": "RGB",
    "YCbCr": "RGB",
}
_DEEP_GREY = ("I;16", "I;16L", "I;16B")


def read(root: Path, *, size: int | tuple[int, int] | None, channels: int | None) -> Part:
    """Read every image file of a folder in order of name; files of sub-folders, in order of their names, are one class each."""
    size = _checked_size(size)
    if channels is not None and channels not in _PLAIN:
        raise ValueError(f"channels={channels!r}; needed 1 (grey), 3 (colour) or 4 (colour and opacity)")
    paths, classes, class_names = _listed(root)
    first = _pixels(paths[0], size, channels)
    raw = np.empty((len(paths), *first.shape), first.dtype)
    for k, path in enumerate(paths):
        pixels = first if k == 0 else _pixels(path, size, channels)
        if pixels.shape[:2] != first.shape[:2]:
            raise ValueError(
                f"images differ in size: {paths[0]} is {_side(first)}, {path} is {_side(pixels)} (height x width); "
                "pass size= to bring all to one"
            )
        if pixels.shape != first.shape or pixels.dtype != first.dtype:
            raise ValueError(
                f"images differ in kind: {paths[0]} has {_kind(first)}, {path} has {_kind(pixels)}; "
                "pass channels=1 or channels=3 to bring all to one"
            )
        raw[k] = pixels
    x = images(raw, str(root), layout="nhwc")
    return Part(x, None) if class_names is None else Part(x, *labels(np.array(classes), len(x), str(root), class_names))


def _listed(root: Path) -> tuple[list[Path], list[int], tuple[str, ...] | None]:
    entries = sorted(entry for entry in root.iterdir() if not entry.name.startswith("."))
    folders = [entry for entry in entries if entry.is_dir()]
    flat = _image_files(entries)
    if flat and folders:
        raise ValueError(
            f"{root}: holds both images ({len(flat)}, such as {flat[0].name}) and sub-folders ({len(folders)}, such as "
            f"{folders[0].name}); needed either images, or one sub-folder per class"
        )
    if flat:
        return flat, [], None
    members = [_image_files(sorted(entry for entry in each.iterdir() if not entry.name.startswith("."))) for each in folders]
    if not any(members):
        raise ValueError(f"{root}: holds no images; looked for files that end in {', '.join(EXTENSIONS)}")
    for each, found in zip(folders, members, strict=True):
        if not found:
            raise ValueError(f"{each}: holds no images, though its name would be that of a class")
    paths = [path for found in members for path in found]
    return paths, [k for k, found in enumerate(members) for _ in found], tuple(each.name for each in folders)


def _image_files(entries: list[Path]) -> list[Path]:
    return [entry for entry in entries if entry.suffix.lower() in EXTENSIONS and entry.is_file()]


def _pixels(path: Path, size: tuple[int, int] | None, channels: int | None) -> NDArray[Any]:
    """Return one image as uint8 or uint16, shape (height, width, channels)."""
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError:
        raise ModuleNotFoundError("folders of images are read with Pillow, which is missing: pip install pillow") from None
    # Decoders of damaged files raise whatever they trip over: OSError, SyntaxError, struct.error, zlib.error and others.
    try:
        with Image.open(path) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
    except Exception as error:
        raise ValueError(f"{path}: not readable as an image ({error})") from None
    plain = _plain(upright, path, channels)
    if size is not None:
        plain = ImageOps.fit(plain, size[::-1], Image.Resampling.BICUBIC)
    pixels = np.asarray(plain)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _plain(image: Any, path: Path, channels: int | None) -> Any:
    from PIL import Image

    if image.mode in _DEEP_GREY and channels in (None, 1):
        return image
    if image.mode not in _READ_AS:
        raise ValueError(
            f"{path}: Pillow's mode {image.mode} is not read with channels={channels}; needed one of {', '.join(_READ_AS)}, or "
            "16-bit grey with channels=1"
        )
    transparent = "transparency" in image.info
    wanted = _PLAIN[channels] if channels else "RGBA" if transparent else _READ_AS[image.mode]
    if wanted != "RGBA" and (transparent or image.mode in ("RGBA", "LA", "PA")):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image if image.mode == wanted else image.convert(wanted)


def _checked_size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    try:
        height, width = (operator.index(side) for side in sides)
    except (TypeError, ValueError):
        raise TypeError(f"size={size!r}; needed an int, or two of them: (height, width)") from None
    if min(height, width) < 1:
        raise ValueError(f"size={size!r}; needed sides of at least 1")
    return height, width


def _side(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape[0]}x{pixels.shape[1]}"


def _kind(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape[2]} channel{'s' * (pixels.shape[2] > 1)} of {pixels.dtype}"
