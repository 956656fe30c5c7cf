"""Timing in pairs: sides take turns in one process, a block of calls each with a pause before it, on memory kept for all."""

import ctypes
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

SLOW = 0.2  # seconds a call: such a side gets single calls, in three blocks


class Pace(NamedTuple):
    """How long a comparison takes: `blocks` turns of about `seconds` for each side, after a `pause` each."""

    blocks: int = 7
    seconds: float = 0.05
    pause: float = 0.05
    most: int = 200


class Race:
    """Sides that do the same work, by name, and the median time of a call in each of their blocks.

    The pause lets the other side's threads stop spinning: two pools on the same cores can cost 8 ms a call. After it comes one
    call that nobody times, which wakes this side's threads and brings its arrays back to the caches.
    """

    def __init__(self, sides: dict[str, Callable[[], Any]], pace: Pace) -> None:
        self.sides, self.pace = sides, pace
        self.blocks: dict[str, list[float]] = {name: [] for name in sides}
        once = {name: min(seconds(side), seconds(side)) for name, side in sides.items()}
        self.calls = {name: max(1, min(pace.most, int(pace.seconds / t))) for name, t in once.items()}
        self.turns = {name: min(pace.blocks, 3) if t > SLOW else pace.blocks for name, t in once.items()}

    def ready(self, name: str) -> None:
        """Pause, and wake a side."""
        time.sleep(self.pace.pause)
        if self.calls[name] > 1:
            self.sides[name]()

    def turn(self, name: str) -> None:
        """Give a side its block, unless it is slow and has had enough of them."""
        if len(self.blocks[name]) < self.turns[name]:
            self.ready(name)
            self.blocks[name].append(median(seconds(self.sides[name]) for _ in range(self.calls[name])))

    def run(self) -> dict[str, list[float]]:
        """Alternate until all blocks are done."""
        for _ in range(self.pace.blocks):
            for name in self.sides:
                self.turn(name)
        return self.blocks


def seconds(f: Callable[[], Any]) -> float:
    """Return the time of one call."""
    begin = time.perf_counter()
    f()
    return time.perf_counter() - begin


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Return how many times as long they took, for each pair of blocks, sorted."""
    return sorted(t / o for o, t in zip(ours, theirs, strict=False))


def keep_memory(megabytes: int = 1024) -> bool:
    """Tell glibc's malloc to serve every request from a heap that is never given back to the system.

    Otherwise every large result is fresh memory, whose page faults can cost more than the arithmetic: PyTorch alone in a process
    takes 8 ms instead of 1.4 ms for a 1x1 convolution of 4 x 64 x 56 x 56 to 256 channels. Returns whether it could.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
        if not (libc.mallopt(-3, 32 << 20) and libc.mallopt(-1, 2**31 - 1)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            return False
    except (AttributeError, OSError, TypeError):
        return False  # not glibc
    for block in [libc.malloc(31 << 20) for _ in range(megabytes // 31)]:  # 32 MiB or more would not come from the heap
        libc.free(block)
    return True
