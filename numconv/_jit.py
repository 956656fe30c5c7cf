"""The one way kernels are compiled: cached on disk under a key that knows the whole package, with serial and parallel twins.

Numba's cache sees edits of the file a function stands in, but not of the files it calls into; here one stamp over every file with
kernels in it stands for all. Where nothing is writable, kernels are compiled anew in each process instead of failing at import.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

# Threads that wait should sleep. GNU OpenMP's spin instead, on the cores that NumPy's matrix products want next: a training step
# that alternates between the two took 30 ms instead of 4.8 ms on two cores. Read when Numba starts its threads; yours goes first.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba
from numba import prange

__all__ = ["ParallelKernel", "njit", "njit_parallel", "prange", "workers"]

F = TypeVar("F", bound=Callable[..., Any])

# contract lets a * b + c become one fused multiply-add; nothing that assumes away NaN or infinity, or reorders sums, is allowed.
_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

_forked = False


def njit(f: F) -> F:
    """Compile `f` for one thread, at its first call."""
    return _compiled(f, parallel=False)  # type: ignore[no-any-return]


def njit_inner(f: F) -> F:
    """Compile `f` as a part of other kernels: it cannot be called from Python, which spares half of its compile time."""
    return numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)(f)  # type: ignore[no-any-return]


class ParallelKernel:
    """A kernel whose first argument is a number of workers: one takes the serial twin, more take the parallel one.

    The kernel reads `for worker in prange(workers)` and gives each worker its share of the tasks and its own scratch memory. Each
    twin is compiled at its first call: the parallel one takes longer to compile, and needs threads that may not be allowed.
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        self.__doc__, self.__name__ = f.__doc__, f.__name__
        self._serial = _compiled(f, parallel=False)
        twin = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
        twin.__qualname__ = f"{f.__qualname__}_parallel"  # Numba's cache names files by it: twins must not share one
        twin.__module__ = f.__module__
        self._parallel = _compiled(twin, parallel=True)

    def __call__(self, workers: int, *args: Any) -> Any:
        """Run on `workers` threads."""
        return (self._parallel if workers > 1 else self._serial)(workers, *args)


def njit_parallel(f: Callable[..., Any]) -> ParallelKernel:
    """Compile `f(workers, ...)` as a pair of twins, each at its first call."""
    return ParallelKernel(f)


def workers(tasks: int) -> int:
    """Return how many threads to use for `tasks` independent tasks: Numba's number, or one where threads are not safe to start.

    They are not in a thread other than the main one (Numba's workqueue aborts when two call at once), nor in a forked child (GNU
    OpenMP hangs or dies there).
    """
    if _forked or threading.current_thread() is not threading.main_thread():
        return 1
    threads: int = numba.get_num_threads()
    return max(1, min(tasks, threads))


def _compiled(f: Any, *, parallel: bool) -> Any:
    dispatcher = numba.njit(parallel=parallel, **_OPTIONS)(f)
    try:
        dispatcher.enable_caching()
        dispatcher._cache._cache_file._source_stamp = _stamp()
    except (RuntimeError, OSError, AttributeError):
        pass  # nowhere to write, or a Numba whose cache is built otherwise: compile in each process
    return dispatcher


@cache
def _stamp() -> str:
    """Hash the package's files that hold kernels, and nothing else: editing a docstring elsewhere should not recompile them."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        text = path.read_bytes()
        if b"njit" in text or b"@intrinsic" in text:
            digest.update(text)
    return digest.hexdigest()


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
