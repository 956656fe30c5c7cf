"""Random views of images in a CUDA kernel: drawn, cropped, jittered and perturbed on the GPU, nothing read by the host."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import _cuda
from .._array import Array
from .philox_cuda import origin

SOURCE = Path(__file__).with_suffix(".cu")
THREADS = 256


class Views(NamedTuple):
    """What the kernel is told: shapes, whose numbers, and the fields of an `Augmentation`."""

    n: int
    views: int
    channels: int
    height: int
    width: int
    low: int
    high: int
    epoch: int
    streams: tuple[int, int]
    noise_streams: tuple[int, int]
    scale: tuple[float, float]
    log_aspect: tuple[float, float]
    flip: float
    translate: float
    brightness: float
    contrast: float
    noise: float


def made(x: Array, samples: Array, seed: int, epoch: int, streams: Sequence[tuple[int, int]], augmentation: Any) -> Array:
    """Return one view per pair of streams, of numbers and of noise, of every image x: those of the first pair, then the others.

    x is (n, channels, height, width), samples (n,) of int64, both on the device. There are one or two pairs.
    """
    n, channels, height, width = x.shape
    a = augmentation
    pairs = (streams[0], streams[-1])
    told = Views(
        n, len(streams), channels, height, width, *origin(seed, 0, epoch)[:3],
        (int(pairs[0][0]), int(pairs[1][0])), (int(pairs[0][1]), int(pairs[1][1])),
        (float(a.scale[0]), float(a.scale[1])), (math.log(a.aspect[0]), math.log(a.aspect[1])),
        float(a.flip), float(a.translate), float(a.brightness), float(a.contrast), float(a.noise),
    )  # fmt: skip
    with _cuda.on(x):
        out = _cuda.empty((len(streams) * n, *x.shape[1:]), x.dtype, what="random views of images")
        grid = (min(len(streams) * n, _cuda.MOST_BLOCKS),)
        args = (_cuda.contiguous(x), _cuda.contiguous(samples), out, told)
        _cuda.launch(program=_program(x.dtype), device=_cuda.device(x), grid=grid, block=(THREADS,), args=args)
    return out


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in _cuda.DTYPES:
        yield _program(dtype), "sm_80"


def _program(dtype: Any) -> _cuda.Program:
    return _cuda.Program(SOURCE, "make_views", (*_cuda.types(dtype), ("THREADS", THREADS)))
