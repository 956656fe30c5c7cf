"""Random numbers that are functions, not states: Philox4x32-10 over a counter that says whose numbers they are.

NumPy's and SciPy's generators hand out numbers in the order in which they are asked, so what a sample gets depends on which
samples came before it, and resuming means saving the generator. Here a number depends on (seed, stream, epoch, sample, position)
and on nothing else: not on the batch a sample is in, nor on what was drawn earlier. There is no state to save.

Layout of the 192 bits that Philox scrambles, each field unsigned and little end first:

    key      seed, 64 bits               word 0: low half, word 1: high half
    counter  word 0: block               four 32-bit words each; position k of a sample is word k % 4 of block k // 4
             word 1: sample index
             word 2: epoch
             word 3: stream

Given an array of CuPy to be `like`, numbers are made on its GPU, and nothing is read from there: words and uniform numbers are
the same bits as the CPU's, normal ones differ by rounding.
"""

from __future__ import annotations

import operator
from enum import IntEnum
from typing import Any

import array_api_compat
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import _array
from .._array import Array
from . import philox_cuda
from .batch import like as placed


class Stream(IntEnum):
    """What numbers are for: streams of one sample are independent of each other.

    The values are part of every result and never change. Any other integer below 2**32 is a stream too; those below 256 are the
    library's.
    """

    ORDER = 0
    """Order of the samples in an epoch."""
    SPLIT = 1
    """Which samples are held out for testing."""
    VIEW_0 = 2
    """Crop, flip and jitter of the first view of a sample."""
    VIEW_1 = 3
    """The same for its second view."""
    VIEW_NOISE_0 = 4
    """Pixel noise of the first view."""
    VIEW_NOISE_1 = 5
    """Pixel noise of the second view."""
    NOISE = 6
    """Corruption of an input that a model learns to undo."""
    LATENT = 7
    """Draws from a latent distribution."""
    DROPOUT = 8
    """Which activations are dropped."""


def philox(counter: ArrayLike, key: ArrayLike) -> NDArray[np.uint32]:
    """Return the Philox4x32-10 block of each counter.

    Parameters
    ----------
    counter : array of integers below 2**32, shape (..., 4)
        Counter words, least significant first.
    key : array of integers below 2**32, shape (2,)
        Key words, one key for all counters.

    Returns
    -------
    array of uint32, shape (..., 4)

    References
    ----------
    Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3, SC11, doi:10.1145/2063384.2063405.

    Examples
    --------
    >>> from numconv.train.random import philox
    >>> [f"{word:08x}" for word in philox([0, 0, 0, 0], [0, 0])]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    from .philox import block

    counters = np.array(counter, dtype=np.uint64)
    key = np.array(key, dtype=np.uint64)
    blocks = [block(*counter, *key) for counter in counters.reshape(-1, 4)]
    return np.array(blocks, dtype=np.uint32).reshape(counters.shape)


def bits(seed: int, stream: int, epoch: int, index: ArrayLike, count: int, *, like: Array | None = None) -> Array:
    """Return `count` random 32-bit words for each sample.

    Parameters
    ----------
    seed : int, 0 <= seed < 2**64
        Key of the generator.
    stream : int, 0 <= stream < 2**32
        What the numbers are for, a `Stream`.
    epoch : int, 0 <= epoch < 2**32
        Pass over the data.
    index : array of integers, shape (n,)
        Which samples of the data set, each from 0 to 2**32 - 1.
    count : int
        How many words per sample; fewer are the beginning of more.
    like : array, optional
        Return words in its library and on its device; by default NumPy's. If it is CuPy's, index may be too: it is not looked at
        then, and taken modulo 2**32.

    Returns
    -------
    array of uint32, shape (n, count)

    Raises
    ------
    TypeError
        If an argument is not an integer, or index no array of integers.
    ValueError
        If one is out of its range, or index has not exactly one axis.

    Examples
    --------
    >>> from numconv.train.random import Stream, bits
    >>> bits(0, Stream.ORDER, 0, [0, 1], 2).shape
    (2, 2)
    """
    at = counted(seed, stream, epoch)
    count = _within("count", count, 2**34)
    if _on_gpu(like):
        return philox_cuda.drawn("bits", indices_on(index, like), count, at, np.uint32)
    from .philox import words

    made = words(_indices(index), -(-count // 4), *at)[:, :count]
    return made if like is None else _array.namespace(like=like).asarray(made, device=array_api_compat.device(like))


def uniform(
    seed: int,
    stream: int,
    epoch: int,
    index: ArrayLike,
    count: int,
    *,
    dtype: DTypeLike = np.float32,
    like: Array | None = None,
) -> Array:
    """Return `count` numbers for each sample, uniform in [0, 1): multiples of 2**-24 (float32) or 2**-53 (float64).

    Parameters
    ----------
    seed, stream, epoch, index, count
        As in `bits`.
    dtype : float32 or float64, default float32
        What the numbers are made in.
    like : array of floats, optional
        Return the numbers in its library, on its device and in its dtype, rounded to that, for which 1 may be the nearest to a
        uniform number; by default NumPy's, of dtype. If it is CuPy's, index may be too.

    Returns
    -------
    array, shape (n, count)
        The same on every machine and device.

    Raises
    ------
    TypeError, ValueError
        As `bits`, and for another dtype.

    Examples
    --------
    >>> from numconv.train.random import Stream, uniform
    >>> both = uniform(7, Stream.NOISE, 3, [40, 41], 5)
    >>> alone = uniform(7, Stream.NOISE, 3, [41], 5)
    >>> bool((both[1] == alone[0]).all())
    True
    """
    dtype = _float(dtype)
    if _on_gpu(like):
        count = _within("count", count, 2**33)
        return _on_device("uniform", counted(seed, stream, epoch), indices_on(index, like), count, dtype, like)
    if dtype == np.float32:
        words = bits(seed, stream, epoch, index, count)
        words >>= np.uint32(8)
        u = words.astype(np.float32)
        u *= np.float32(2**-24)
    else:
        words = bits(seed, stream, epoch, index, 2 * _within("count", count, 2**33))
        low, high = words[:, 0::2].astype(np.uint64), words[:, 1::2].astype(np.uint64)
        u = ((high << np.uint64(32) | low) >> np.uint64(11)).astype(np.float64) * 2**-53
    return u if like is None else placed(u, like)


def normal(
    seed: int,
    stream: int,
    epoch: int,
    index: ArrayLike,
    count: int,
    *,
    dtype: DTypeLike = np.float32,
    like: Array | None = None,
) -> Array:
    """Return `count` numbers for each sample from the normal distribution of mean 0 and standard deviation 1.

    Box and Muller's transform of `uniform`, whose parameters these are. Float32 reaches out to 5.8 standard deviations, float64
    to 8.6.

    Returns
    -------
    array, shape (n, count)
        The same on every machine and device but for how it rounds logarithms and cosines.

    Raises
    ------
    TypeError, ValueError
        As `uniform`.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv.train.random import Stream, normal
    >>> z = normal(0, Stream.LATENT, 0, np.arange(128), 20)
    >>> z.shape, z.dtype.name
    ((128, 20), 'float32')
    """
    dtype = _float(dtype)
    at = counted(seed, stream, epoch)
    count = _within("count", count, 2**33)
    if _on_gpu(like):
        return _on_device("normal", at, indices_on(index, like), count, dtype, like)
    from .philox import PER_BLOCK, normals

    z = normals(_indices(index), -(-count // PER_BLOCK[dtype.itemsize]), *at, dtype)[:, :count]
    return z if like is None else placed(z, like)


def permutation(seed: int, stream: int, epoch: int, n: int) -> NDArray[np.int64]:
    """Return the numbers from 0 to n - 1 in random order: they are sorted by 64 random bits each.

    Parameters
    ----------
    seed, stream, epoch : int
        As in `bits`.
    n : int
        How many numbers.

    Returns
    -------
    array of int64, shape (n,)

    Raises
    ------
    TypeError, ValueError
        As `bits`.

    Examples
    --------
    >>> from numconv.train.random import Stream, permutation
    >>> sorted(permutation(0, Stream.ORDER, 0, 5).tolist())
    [0, 1, 2, 3, 4]
    """
    words = bits(seed, stream, epoch, np.arange(_within("n", n, 2**32)), 2).astype(np.uint64)
    return np.argsort(words[:, 1] << np.uint64(32) | words[:, 0], kind="stable").astype(np.int64, copy=False)


def indices_on(index: ArrayLike, like: Array) -> Array:
    """Return an index as int64 on the device of an array of CuPy: one copy if it is on the host, and no look if it is not."""
    xp = _array.namespace(like=like)
    if not array_api_compat.is_cupy_array(index):
        return xp.asarray(_indices(index).astype(np.int64), device=array_api_compat.device(like))
    _array.namespace(like=like, index=index)
    _check_index(index)
    return xp.astype(index, xp.int64, copy=False)


def _on_gpu(like: Array | None) -> bool:
    return like is not None and array_api_compat.is_cupy_array(like)


def _on_device(kind: philox_cuda.Kind, at: tuple[int, int, int], index: Array, count: int, dtype: Any, like: Array) -> Array:
    """Return numbers made in dtype, in that of `like`: by the kernel itself where it can."""
    xp, like = _array.reals(like=like)
    fits = philox_cuda.made_in(like.dtype) == dtype
    made = philox_cuda.drawn(kind, index, count, at, like.dtype if fits else dtype)
    return xp.astype(made, like.dtype, copy=False)


def _float(dtype: DTypeLike) -> np.dtype[Any]:
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"dtype is {np.dtype(dtype)}; needed float32 or float64")
    return np.dtype(dtype)


def counted(seed: int, stream: int, epoch: int) -> tuple[int, int, int]:
    """Return the three as Python's integers, or say which is out of its range."""
    return _within("seed", seed, 2**64), _within("stream", stream, 2**32), _within("epoch", epoch, 2**32)


def _within(name: str, value: Any, bound: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r}; needed an integer") from None
    if not 0 <= number < bound:
        raise ValueError(f"{name}={number}; needed 0 <= {name} < 2**{bound.bit_length() - 1}")
    return number


def _indices(index: ArrayLike) -> NDArray[np.uint64]:
    samples = np.asarray(index)
    if samples.size == 0:
        samples = samples.astype(np.int64)
    _check_index(samples)
    if samples.size and (samples.min() < 0 or samples.max() >= 2**32):
        raise ValueError(f"index runs from {samples.min()} to {samples.max()}; needed 0 <= index < 2**32")
    return samples.astype(np.uint64)


def _check_index(samples: Array) -> None:
    if samples.dtype.kind not in "iu":
        raise TypeError(f"index has dtype {samples.dtype}; needed integers")
    if samples.ndim != 1:
        raise ValueError(f"index has shape {samples.shape}; needed (n,), one number per sample")
