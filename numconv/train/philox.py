"""Random words and normal numbers in kernels: blocks of Philox4x32-10, several at once in the lanes of vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _elementary
from .._elementary import Number
from .._jit import Job, Kernel, kernel, njit, njit_inner, workers
from .._simd import at, int32_pointer, int64_pointer, pointer
from .._traced import traced

Array = np.ndarray[Any, Any]

PER_BLOCK = {4: 4, 8: 2}  # normal numbers made of a block's four words, by their bytes

# Salmon et al., section 4.3: multipliers of the two halves, and what is added to the key words after each round.
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEP_0, _KEY_STEP_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_ROUNDS = 10
_HALF, _WORD = np.uint64(32), np.uint64(0xFFFFFFFF)

_JOB = Job("out samples", n=1, blocks=1, width=1, seed=np.dtype("u8"), stream=1, epoch=1)


def _uniform(word: Number) -> Number:
    """Return a number in [0, 1) made of the first bits of one or two words, which are read as a float of that length."""
    f = word.format
    first = word.bits() >> (f.integer.width - f.fraction - 1)
    return Number(word.builder, word.builder.sitofp(first.value, f.real)) * 0.5 ** (f.fraction + 1)


@traced
def _minus_two_logs(word: Number) -> Number:
    return -2.0 * _elementary.log(1.0 - _uniform(word))  # 1 - u is exact and never 0


@traced
def _cosine(word: Number) -> Number:
    return _elementary.cos_of_turn(_uniform(word))


@traced
def _sine(word: Number) -> Number:
    return _elementary.sin_of_turn(_uniform(word))


def words(samples: Array, blocks: int, seed: int, stream: int, epoch: int) -> Array:
    """Return the words of so many blocks of each sample."""
    out = np.empty((samples.size, 4 * blocks), np.uint32)
    return _run(_words, np.dtype("float32"), out, samples, blocks, seed, stream, epoch)


def normals(samples: Array, blocks: int, seed: int, stream: int, epoch: int, dtype: Any) -> Array:
    """Return the normal numbers of so many blocks of each sample."""
    out = np.empty((samples.size, PER_BLOCK[dtype.itemsize] * blocks), dtype)
    return _run(_normals, dtype, out, samples, blocks, seed, stream, epoch)


def _run(f: Kernel, dtype: Any, out: Array, samples: Array, blocks: int, seed: int, stream: int, epoch: int) -> Array:
    if out.size:
        n, width = out.shape
        job = _JOB.fill(n=n, blocks=blocks, width=width, seed=seed, stream=stream, epoch=epoch)
        f(workers(samples.size, 20 * out.size), dtype, job, out=out, samples=samples)
    return out


@kernel(_JOB)
def _words(worker: int, workers: int, job: Any, like: Any) -> None:
    """Write the words of one worker's samples."""
    n, blocks, samples, seed, stream, epoch = job.n, job.blocks, int64_pointer(job.samples), job.seed, job.stream, job.epoch
    for i in range(worker * n // workers, (worker + 1) * n // workers):
        write_words(at(int32_pointer(job.out), 4 * blocks * i), blocks, seed, stream, epoch, samples[i])


@kernel(_JOB)
def _normals(worker: int, workers: int, job: Any, like: Any) -> None:
    """Write the normal numbers of one worker's samples."""
    n, blocks, width, samples = job.n, job.blocks, job.width, int64_pointer(job.samples)
    seed, stream, epoch = job.seed, job.stream, job.epoch
    for i in range(worker * n // workers, (worker + 1) * n // workers):
        write_words(at(int32_pointer(job.out), 4 * blocks * i), blocks, seed, stream, epoch, samples[i])
        make_normal(at(pointer(job.out, like), width * i), width)


@njit_inner
def write_words(out: Any, blocks: int, seed: int, stream: int, epoch: int, sample: int) -> None:
    """Write the words of one sample."""
    low, high = np.uint64(seed) & _WORD, np.uint64(seed) >> _HALF
    for b in range(blocks):
        w0, w1, w2, w3 = block(np.uint64(b), np.uint64(sample), np.uint64(epoch), np.uint64(stream), low, high)
        out[4 * b], out[4 * b + 1], out[4 * b + 2], out[4 * b + 3] = np.int32(w0), np.int32(w1), np.int32(w2), np.int32(w3)


@njit_inner
def make_normal(z: Any, n: int) -> None:
    """Turn words, where they lie, into n normal numbers: Box and Muller's transform of pairs of uniform ones."""
    for i in range(0, n, 2):
        radius, turn = math.sqrt(_minus_two_logs(z[i])), z[i + 1]
        z[i], z[i + 1] = radius * _cosine(turn), radius * _sine(turn)


@njit
def block(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Return the four words of a counter; every word is in the low half of a uint64, so that products of two are whole."""
    for _ in range(_ROUNDS):
        p0, p1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _WORD
        c2, c3 = (p0 >> _HALF) ^ c3 ^ k1, p0 & _WORD
        k0, k1 = (k0 + _KEY_STEP_0) & _WORD, (k1 + _KEY_STEP_1) & _WORD
    return c0, c1, c2, c3
