"""Memory for results: fresh, or, within a `Pool`, that of results nobody holds any more.

Large arrays that are freed go back to the system, and the next of their size is cleared page by page as it is first written: up
to 3000 page faults in a training step. A pool keeps such memory.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_LEAST = 256 << 10  # bytes: what is smaller, malloc keeps by itself
_local = threading.local()


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array of arbitrary content, as `numpy.empty` does."""
    pool: Pool | None = getattr(_local, "pool", None)
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    out: Array | None = getattr(_local, "out", None)
    if out is not None and out.nbytes == size and out.dtype == dtype:
        _local.out = None
        return out.reshape(shape)
    if pool is None or size < _LEAST:
        return np.empty(shape, dtype)
    memory: Array = pool.take(size).view(dtype)
    return memory.reshape(shape)


@contextmanager
def result_in(out: Array | None) -> Iterator[None]:
    """Let the first result of its size and dtype lie in `out`, which is contiguous; None for no such wish."""
    _local.out = out
    try:
        yield
    finally:
        _local.out = None


class Pool:
    """Within `with pool:`, large results of this thread lie where earlier ones of their size did, once no array is left there.

    That is told by Python's count of references: every array made of another's memory holds that array. What a block did not use
    is given back at its end.
    """

    def __init__(self) -> None:
        self._kept: dict[int, list[Array]] = {}
        self._used: set[int] = set()
        self._outer: Pool | None = None

    def __enter__(self) -> Pool:
        self._outer, _local.pool = getattr(_local, "pool", None), self if _COUNTED else None
        return self

    def __exit__(self, *error: object) -> None:
        _local.pool = self._outer
        for size, memories in list(self._kept.items()):
            stay = [i for i in range(len(memories)) if id(memories[i]) in self._used or not _free(memories, i)]
            self._kept[size] = [memories[i] for i in stay]
        self._used.clear()

    def take(self, size: int) -> Array:
        """Return so many bytes that nobody holds."""
        memories = self._kept.setdefault(size, [])
        found = next((i for i in range(len(memories)) if _free(memories, i)), None)
        if found is None:
            found = len(memories)
            memories.append(np.empty(size, np.uint8))
        self._used.add(id(memories[found]))
        return memories[found]


def _free(memories: list[Array], i: int) -> bool:
    return _references(memories, i) == _ALONE


def _references(memories: list[Array], i: int) -> int:
    return sys.getrefcount(memories[i])


_ALONE = _references([np.empty(0)], 0)
_COUNTED = getattr(sys, "_is_gil_enabled", lambda: True)()  # without the lock, counts are of one thread only
