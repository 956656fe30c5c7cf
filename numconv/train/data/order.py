"""In which order samples are visited."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..random import Stream, permutation


def batches(n: int, batch_size: int, *, seed: int, epoch: int, drop_last: bool = False) -> Iterator[NDArray[np.int64]]:
    """Return the sample numbers of each batch of an epoch, in an order that depends on (seed, epoch) only.

    Parameters
    ----------
    n : int
        Number of samples.
    batch_size : int
        Samples per batch; the last batch has what is left.
    seed, epoch : int
        As in `random.bits`.
    drop_last : bool, default False
        Whether to leave out a last batch with fewer samples.

    Returns
    -------
    iterator of arrays of int64, each of shape (batch_size,) or shorter

    Raises
    ------
    TypeError
        If a number is not an integer.
    ValueError
        If n or batch_size is below 1, or drop_last would leave no batch.

    Examples
    --------
    >>> from numconv.train.data import batches
    >>> [len(index) for index in batches(10, 4, seed=0, epoch=0)]
    [4, 4, 2]
    """
    n, batch_size = _at_least_one("n", n), _at_least_one("batch_size", batch_size)
    if drop_last and n < batch_size:
        raise ValueError(f"batch_size={batch_size} with drop_last leaves no batch of {n} samples; needed at most {n}")
    order = permutation(seed, Stream.ORDER, epoch, n)
    end = n - n % batch_size if drop_last else n
    return (order[start : start + batch_size] for start in range(0, end, batch_size))


def _at_least_one(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r}; needed an integer") from None
    if number < 1:
        raise ValueError(f"{name}={number}; needed at least 1")
    return number
