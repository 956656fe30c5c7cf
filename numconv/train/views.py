"""Views in a kernel: images resampled, jittered, perturbed and clipped while they are in cache, each by one worker."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .. import _elementary
from .._jit import Job, kernel, njit_inner, scratch, workers
from .._simd import at, int32_pointer, int64_pointer, number, pointer
from .._traced import add_in_any_order, traced
from .philox import PER_BLOCK, make_normal, write_words

Array = np.ndarray[Any, Any]

_JOB = Job(
    "x top down left right along gain lift samples y scratch",
    n=1, channels=1, height=1, width=1, blocks=1, noise_width=1, noise=np.dtype("f8"), seed=np.dtype("u8"),
    stream=1, epoch=1,
)  # fmt: skip

_BLOCK_BYTES = 16

_clip = traced(_elementary.clip)


def resampled(
    x: Array, rows: Array, columns: Array, gain: Array, lift: Array, noise: float, samples: Array, at_noise: tuple[int, int, int]
) -> Array:
    """Return clip(v * gain + mean(v) * lift + noise * normal, 0, 1) for the images v that are x at its own rows and columns.

    x is (n, channels, height, width), rows (n, height), columns (n, width), gain and lift (n,). The normal numbers are those at
    (seed, stream, epoch) of each of `samples`, in the order of the image's numbers.
    """
    n, channels, height, width = x.shape
    y = np.empty(x.shape, x.dtype)
    per_block = PER_BLOCK[x.itemsize]
    blocks = -(-prod(x.shape[1:]) // per_block) if noise else 0
    top, left = rows.astype(np.int32), columns.astype(np.int32)
    right, down, along = np.minimum(left + 1, width - 1), (rows - top).astype(x.dtype), (columns - left).astype(x.dtype)
    seed, stream, epoch = at_noise
    job = _JOB.fill(
        n=n, channels=channels, height=height, width=width, blocks=blocks, noise_width=blocks * per_block,
        noise=noise, seed=seed, stream=stream, epoch=epoch,
    )  # fmt: skip
    threads = workers(n, 20 * x.size)
    _resampled(
        threads, x.dtype, job,
        x=x, top=top, down=down, left=left, right=right, along=along, gain=gain.astype(x.dtype), lift=lift.astype(x.dtype),
        samples=samples, y=y, scratch=scratch(threads * blocks * _BLOCK_BYTES),
    )  # fmt: skip
    return y


@kernel(_JOB)
def _resampled(worker: int, workers: int, job: Any, like: Any) -> None:
    """Fill one worker's images."""
    n, height, width, blocks, noise_width = job.n, job.height, job.width, job.blocks, job.noise_width
    seed, stream, epoch, samples = job.seed, job.stream, job.epoch, int64_pointer(job.samples)
    size, noise = job.channels * height * width, number(like, job.noise)
    gain, lift = pointer(job.gain, like), pointer(job.lift, like)
    memory = job.scratch + np.uint64(worker * blocks * _BLOCK_BYTES)
    normal = pointer(memory, like)
    for i in range(worker * n // workers, (worker + 1) * n // workers):
        y = at(pointer(job.y, like), i * size)
        resample(at(pointer(job.x, like), i * size), y, i, job, like)
        total = 0.0
        for k in range(size):
            total = add_in_any_order(total, np.float64(y[k]))
        factor, shift = gain[i], number(like, total / size) * lift[i]
        if blocks:
            write_words(int32_pointer(memory), blocks, seed, stream, epoch, samples[i])
            make_normal(normal, noise_width)
            for k in range(size):
                y[k] = _clip(y[k] * factor + shift + noise * normal[k], number(like, 0.0), number(like, 1.0))
        else:
            for k in range(size):
                y[k] = _clip(y[k] * factor + shift, number(like, 0.0), number(like, 1.0))


@njit_inner
def resample(x: Any, y: Any, i: int, job: Any, like: Any) -> None:
    """Fill image i from the four samples of x around each (row, column), bilinearly."""
    channels, height, width = job.channels, job.height, job.width
    top, down = at(int32_pointer(job.top), i * height), at(pointer(job.down, like), i * height)
    left, right = at(int32_pointer(job.left), i * width), at(int32_pointer(job.right), i * width)
    along = at(pointer(job.along, like), i * width)
    for c in range(channels):
        for p in range(height):
            upper = at(x, (c * height + top[p]) * width)
            lower, share = at(x, (c * height + min(top[p] + 1, height - 1)) * width), down[p]
            to = at(y, (c * height + p) * width)
            for q in range(width):
                a = upper[left[q]] + along[q] * (upper[right[q]] - upper[left[q]])
                b = lower[left[q]] + along[q] * (lower[right[q]] - lower[left[q]])
                to[q] = a + share * (b - a)
