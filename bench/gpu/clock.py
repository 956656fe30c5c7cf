"""Times of calls on a GPU, by events on its own clock: sides take turns, each call on other arrays than the last one's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

ROUNDS, CALLS, WARM = 7, 10, 3
CACHE = 60 << 20  # bytes of an H200's second-level cache: arrays that rotate through more are read from memory

Call = Callable[[], Any]


def medians(sides: dict[str, Sequence[Call]], *, emulated: bool) -> dict[str, float]:
    """Return the median seconds of a call of each side, which is given as one call per set of arrays."""
    if emulated:
        return {name: _host_seconds(calls[0]) for name, calls in sides.items()}
    import cupy

    for calls in sides.values():
        for i in range(WARM):
            calls[i % len(calls)]()
    blocks: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, calls in sides.items():
            begin, end = cupy.cuda.Event(), cupy.cuda.Event()
            begin.record()
            for i in range(CALLS):
                calls[i % len(calls)]()
            end.record()
            end.synchronize()
            blocks[name].append(cupy.cuda.get_elapsed_time(begin, end) / 1e3 / CALLS)
    return {name: median(times) for name, times in blocks.items()}


def copies(size: int) -> int:
    """Return how many sets of arrays of `size` bytes a call rotates through, so that no cache holds them."""
    return max(1, min(8, -(-2 * CACHE // max(size, 1))))


def _host_seconds(call: Call) -> float:
    call()
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
