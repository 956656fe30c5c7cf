"""Pictures for the report: images, kernels and feature maps as PNG inside the page, which the browser enlarges."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..evaluate import Floats

# (n, height, width, 2 or 4): grey or colour, and opacity last
Tiles = NDArray[np.uint8]

# Larger images are shrunk to this, or the page would weigh megabytes; smaller ones are shown at about it, in whole steps.
_SIDE = 56

# Bytes from which on a picture in full colour gets 256 colours instead, for a third of the weight.
_HEAVY = 40_000

_NEGATIVE, _POSITIVE = (31, 119, 214), (232, 113, 10)


def is_signal(x: Floats) -> bool:
    """Say whether samples (n, channels, *size) have one axis only, so that there is no picture of them."""
    return x.ndim == 3


def says(x: Floats) -> str:
    """Say what of the samples a picture leaves out, if anything, as the end of a caption."""
    slices = " Of each volume, the middle slice." if x.ndim == 5 else ""
    whole = x.shape[1] == 1 or (x.shape[1] in (3, 4) and not is_signal(x))
    return slices + ("" if whole else f" The mean of {x.shape[1]} channels.")


def tiles(x: Floats) -> Tiles:
    """Return images or volumes (n, channels, *size), 0 black and 1 white or full colour, as tiles."""
    x = _planes(x)
    if x.shape[1] not in (1, 3, 4):
        x = x.mean(axis=1, keepdims=True)
    pixels = np.round(255 * np.clip(x, 0, 1)).astype(np.uint8)
    if x.shape[1] != 4:
        pixels = np.concatenate([pixels, np.full_like(pixels[:, :1], 255)], axis=1)
    return _shrunk(np.moveaxis(pixels, 1, -1))


def signed_tiles(a: Floats, scale: Floats) -> Tiles:
    """Return numbers (n, 1, *size) as tiles: blue below zero, orange above, the page's own ground at zero; full at ±scale."""
    planes = _planes(a)[:, 0]
    strength = np.clip(np.abs(planes) / np.reshape(scale, (-1, 1, 1)), 0, 1)
    colour = np.where(planes[..., None] < 0, _NEGATIVE, _POSITIVE)
    return _shrunk(np.concatenate([colour, np.round(255 * strength)[..., None]], axis=-1).astype(np.uint8))


def picture(alt: str, shown: Tiles, columns: int) -> str:
    """Return an `<img>` of tiles in rows of `columns`, left to right and down."""
    count, height, width, channels = shown.shape
    gap = max(1, round(width / 14))
    columns = min(columns, count)
    rows = -(-count // columns)
    canvas = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), np.uint8)
    for i, tile in enumerate(shown):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = tile
    zoom = max(1, round(_SIDE / max(height, width)))
    size = f'width="{canvas.shape[1] * zoom}" height="{canvas.shape[0] * zoom}"'
    return f'<img alt="{html.escape(alt)}" {size} src="data:image/png;base64,{_png(canvas)}">'


def _planes(x: Floats) -> Floats:
    if x.ndim == 3:  # kernels of a signal: a plane of one row
        return x[:, :, None, :]
    return x[:, :, x.shape[2] // 2] if x.ndim == 5 else x


def _shrunk(shown: Tiles) -> Tiles:
    height, width = shown.shape[1:3]
    if max(height, width) <= _SIDE:
        return shown
    factor = _SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.stack([np.asarray(Image.fromarray(tile).resize(size, Image.Resampling.BOX)) for tile in shown])


def _png(canvas: NDArray[Any]) -> str:
    image = Image.fromarray(canvas)
    data = _encoded(image)
    if len(data) > _HEAVY and image.mode == "RGBA":
        data = _encoded(image.quantize(256))
    return base64.b64encode(data).decode("ascii")


def _encoded(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, format="PNG", optimize=True)
    return data.getvalue()
