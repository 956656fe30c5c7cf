"""Random views of images: crop, flip, shift, contrast, brightness and noise, as pure functions of (seed, epoch, sample, view).

No generator is passed around (see `random`): a sample's views are the same whatever batch it is in, differ between epochs,
between samples and between the two views, and are the same again after a resume.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import array_api_compat
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _cuda
from .._array import Array
from . import views_cuda
from .random import Stream, counted, indices_on, uniform

Images: TypeAlias = Array

_VIEWS = ((Stream.VIEW_0, Stream.VIEW_NOISE_0), (Stream.VIEW_1, Stream.VIEW_NOISE_1))


class Augmentation(NamedTuple):
    """How far a view may be from its image; the defaults suit grey images of about 28x28 samples.

    They follow SimCLR's for small images: no blur, since there is little to blur, and no flips, since a mirrored digit is no
    digit (clothes and photographs may well be flipped).
    """

    scale: tuple[float, float] = (0.5, 1.0)
    """Least and greatest share of the image's area (of a signal's length) that a crop keeps; within (0, 1]."""
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Least and greatest width of a crop over its height, both relative to the image's; a side never exceeds the image's."""
    flip: float = 0.0
    """Probability of a mirror image, left to right; from 0 to 1."""
    translate: float = 0.0
    """Greatest shift of the crop beyond where it fits, as a share of the image's side; the image's edge is repeated outside."""
    brightness: float = 0.2
    """Values are multiplied by 1 - brightness to 1 + brightness; from 0 to 1."""
    contrast: float = 0.2
    """Distances from the image's mean are multiplied by 1 - contrast to 1 + contrast, before brightness; from 0 to 1."""
    noise: float = 0.02
    """Standard deviation of independent normal noise, added last, in units of the values' range [0, 1]."""


def two_views(
    x: Images, *, seed: int, epoch: int, index: ArrayLike, augmentation: Augmentation | None = None
) -> tuple[Images, Images]:
    """Return two independent random views of every image: a positive pair for contrastive losses.

    Parameters and errors are those of `augment`, of which these are views 0 and 1.

    Returns
    -------
    pair of arrays, each in the shape and dtype of x

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.train.augment import two_views
    >>> x = np.linspace(0, 1, 4 * 28 * 28, dtype=np.float32).reshape(4, 1, 28, 28)
    >>> a, b = two_views(x, seed=0, epoch=0, index=[10, 11, 12, 13])
    >>> a.shape, bool((a == b).all())
    ((4, 1, 28, 28), False)
    """
    views = stacked_views(x, seed=seed, epoch=epoch, index=index, augmentation=augmentation)
    return views[: len(x), ...], views[len(x) :, ...]


def stacked_views(x: Images, *, seed: int, epoch: int, index: ArrayLike, augmentation: Augmentation | None = None) -> Images:
    """Return `two_views` in one array: the first view of every image, then the second; on a GPU in one launch."""
    return _made(x, seed, epoch, index, (0, 1), augmentation)


def augment(
    x: Images, *, seed: int, epoch: int, index: ArrayLike, view: int = 0, augmentation: Augmentation | None = None
) -> Images:
    """Return a random view of every image (channels, height, width) or signal (channels, length) of a batch.

    A box is cropped and stretched to the size of the image by bilinear interpolation, and its values are jittered, perturbed and
    clipped to [0, 1]. A signal is an image of one row: it is cropped to `scale` of its length, and aspect does not apply.

    Parameters
    ----------
    x : array of float32, shape (n, channels, height, width) or (n, channels, length)
        Images with values in [0, 1]. NumPy's, or CuPy's, which may be of float64, float16 and bfloat16 too: their views are made
        on the GPU, by the same random numbers.
    seed, epoch : int
        As in `random.bits`.
    index : array of integers, shape (n,)
        Number of each image in its data set.
    view : int, default 0
        Which view, 0 or 1.
    augmentation : Augmentation, optional
        How far views may go; by default `Augmentation()`.

    Returns
    -------
    array, in the shape and dtype of x

    Raises
    ------
    TypeError
        If x is neither a NumPy array of float32 nor one of CuPy in a dtype as above, or index not of integers.
    ValueError
        If a shape, or a field of augmentation, is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.train.augment import Augmentation, augment
    >>> x = np.array([[[0.0, 0.5, 1.0]]], dtype=np.float32)
    >>> still = Augmentation(scale=(1, 1), brightness=0, contrast=0, noise=0)
    >>> augment(x, seed=0, epoch=0, index=[0], augmentation=still._replace(flip=1.0))
    array([[[1. , 0.5, 0. ]]], dtype=float32)
    """
    if view not in (0, 1):
        raise ValueError(f"view={view}; needed 0 or 1")
    return _made(x, seed, epoch, index, (view,), augmentation)


def _made(x: Images, seed: int, epoch: int, index: ArrayLike, views: Sequence[int], augmentation: Augmentation | None) -> Images:
    """Return some views of every image: those of the first kind, then the others."""
    a = Augmentation() if augmentation is None else augmentation
    _check(a)
    on_gpu = array_api_compat.is_cupy_array(x)
    places: Array = index if array_api_compat.is_cupy_array(index) else np.asarray(index)
    _check_batch(x, places, on_gpu)
    if not on_gpu:
        parts = [_on_host(x, seed, epoch, places, view, a) for view in views]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
    seed, _, epoch = counted(seed, 0, epoch)
    images = x if x.ndim == 4 else x[:, :, None, :]
    made = views_cuda.made(images, indices_on(places, x), seed, epoch, [_VIEWS[view] for view in views], a)
    return made.reshape((len(made), *x.shape[1:]))


def _on_host(x: Images, seed: int, epoch: int, index: NDArray[Any], view: int, a: Augmentation) -> Images:
    from .views import resampled

    stream, noise_stream = _VIEWS[view]
    u = uniform(seed, stream, epoch, index, 9, dtype=np.float64)
    images = np.ascontiguousarray(x if x.ndim == 4 else x[:, :, None, :])
    rows, columns = _coordinates(u, images.shape[2], images.shape[3], a)
    contrast, brightness = 1 + a.contrast * (2 * u[:, 7] - 1), 1 + a.brightness * (2 * u[:, 8] - 1)
    samples = np.ascontiguousarray(index, np.int64)
    views = resampled(
        images, rows, columns, contrast * brightness, (1 - contrast) * brightness, a.noise, samples, (seed, noise_stream, epoch)
    )
    return views.reshape(x.shape)


def _coordinates(u: NDArray[Any], height: int, width: int, a: Augmentation) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the position in the image, in samples, of each row (n, height) and column (n, width) of the view."""
    area = a.scale[0] + (a.scale[1] - a.scale[0]) * u[:, 0]
    if height == 1:
        tall, wide = np.ones_like(area), area
    else:
        log_low, log_high = math.log(a.aspect[0]), math.log(a.aspect[1])
        root = np.exp((log_low + (log_high - log_low) * u[:, 1]) / 2)
        tall, wide = np.minimum(np.sqrt(area) / root, 1), np.minimum(np.sqrt(area) * root, 1)
    top = (1 - tall) * u[:, 2] + a.translate * (2 * u[:, 4] - 1)
    left = (1 - wide) * u[:, 3] + a.translate * (2 * u[:, 5] - 1)
    rows, columns = _positions(height, top, tall), _positions(width, left, wide)
    columns = np.where(u[:, 6:7] < a.flip, columns[:, ::-1], columns)
    return rows, columns


def _positions(size: int, start: NDArray[Any], share: NDArray[Any]) -> NDArray[Any]:
    # Sample p covers the length from p to p + 1, so its centre is at p + 1/2: a box of the whole image is the image, exactly.
    centres: NDArray[Any] = start[:, None] * size + share[:, None] * (np.arange(size) + 0.5) - 0.5
    np.clip(centres, 0, size - 1, out=centres)
    return centres


def _check(a: Augmentation) -> None:
    if not 0 < a.scale[0] <= a.scale[1] <= 1:
        raise ValueError(f"augmentation.scale={a.scale}; needed 0 < least <= greatest <= 1")
    if not 0 < a.aspect[0] <= a.aspect[1] < math.inf:
        raise ValueError(f"augmentation.aspect={a.aspect}; needed 0 < least <= greatest")
    for name in ("flip", "translate", "brightness", "contrast"):
        if not 0 <= getattr(a, name) <= 1:
            raise ValueError(f"augmentation.{name}={getattr(a, name)}; needed a number from 0 to 1")
    if not 0 <= a.noise < math.inf:
        raise ValueError(f"augmentation.noise={a.noise}; needed a standard deviation of at least 0")


def _check_batch(x: Images, index: Array, on_gpu: bool) -> None:
    if str(x.dtype) not in _cuda.DTYPES if on_gpu else type(x) is not np.ndarray or x.dtype != np.float32:
        needed = "an array of CuPy in float32, float64, float16 or bfloat16" if on_gpu else "a NumPy array of float32"
        raise TypeError(f"x must be {needed}, got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim not in (3, 4) or 0 in x.shape[1:]:
        raise ValueError(f"x has shape {x.shape}; needed (n, channels, height, width) or (n, channels, length)")
    if index.shape != (len(x),):
        raise ValueError(f"index has shape {index.shape}; needed ({len(x)},), one number per image of x")
