"""The one way kernels are compiled and called: cached on disk under a key that knows the whole package, on one thread or many.

A kernel is a function `f(worker, workers, job, like)` that does one worker's share. All it is told stands in `job`, one struct
of addresses and integers, so a call from Python costs little more than a C call, and code compiled once serves any number of
threads: what hands out the shares is compiled once for all kernels.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

# Threads that wait should sleep, but not at once. GNU OpenMP's spin for long on the cores that NumPy's matrix products want next:
# a training step that alternates between the two took 30 ms instead of 4.8 ms on two cores. Threads asleep take 100 us to wake;
# those that spin 10000 rounds first take 3 us where calls follow one another. Read when Numba starts its threads; yours go first.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import numba
import numpy as np
from numba import prange, types
from numba.core.ccallback import CFunc
from numba.core.runtime.nrt import rtsys

from ._simd import call

F = TypeVar("F", bound=Callable[..., Any])
Array = np.ndarray[Any, Any]

# contract lets a * b + c become one fused multiply-add; nothing that assumes away NaN or infinity, or reorders sums, is allowed.
_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
_NUMBERS = {np.dtype("float32"): types.float32, np.dtype("float64"): types.float64}
_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)

KERNELS: list[Kernel] = []
_forked = False


def njit(f: F) -> F:
    """Compile `f` for one thread, at its first call."""
    return _kept_on_disk(numba.njit(**_OPTIONS)(f))  # type: ignore[no-any-return]


def njit_inner(f: F) -> F:
    """Compile `f` as a part of kernels: it cannot be called from Python, which spares half of its compile time."""
    return numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)(f)  # type: ignore[no-any-return]


class Job:
    """The struct a kernel reads: addresses of arrays, then integers by name, one or several each.

    Parameters
    ----------
    addresses : str
        Names of arrays, separated by spaces.
    **integers : int or dtype
        How many integers stand under each further name, or a struct of addresses and integers: `batch=1, size=3`.
    """

    def __init__(self, addresses: str, **integers: int | np.dtype[Any]) -> None:
        self.addresses = tuple(addresses.split())
        fields = [(name, *((np.int64, (n,) * (n > 1)) if isinstance(n, int) else (n,))) for name, n in integers.items()]
        self.dtype = np.dtype([*((name, np.uint64) for name in self.addresses), *fields])

    def fill(self, **values: Any) -> Array:
        """Return the struct as a row of int64 numbers, with all integers and any addresses known so far."""
        if missing := set(self.dtype.names or ()) - set(self.addresses) - set(values):
            raise TypeError(f"a job needs {sorted(missing)}")
        job = np.zeros(1, self.dtype)
        for name, value in values.items():
            job[name] = value
        return job.view(np.int64)


class Kernel:
    """A compiled `f(worker, workers, job, like)`: `job` is a struct, `like` a null pointer that says float32 or float64.

    Compiled for each dtype at its first call; an exception in it is a bug, for it has nobody to tell.
    """

    def __init__(self, f: Callable[..., Any], job: Job) -> None:
        self.__doc__, self.__name__, self.__wrapped__ = f.__doc__, f.__name__, f
        self._job = job
        self._index = {name: i for i, name in enumerate(job.addresses)}
        self._entry: dict[Any, tuple[Any, Any]] = {}
        self._compiled: list[Any] = []
        KERNELS.append(self)

    def __call__(self, workers: int, dtype: Any, job: Array, **arrays: Array | int | None) -> None:
        """Run on `workers` threads: `job` is copied and completed by the addresses of `arrays`, 0 for None."""
        function, address = self._entry.get(dtype) or self.compile(dtype)
        job, index = job.copy(), self._index
        for name, array in arrays.items():
            if array is not None:
                job[index[name]] = array if isinstance(array, int) else address_of(array)
        if workers > 1:
            _share_out(address, workers, address_of(job))
        else:
            function(0, 1, address_of(job), None)

    def compile(self, dtype: Any) -> tuple[Any, Any]:
        """Compile for arrays of `dtype`, or load from disk: the entry as a C function, and its address."""
        like = types.CPointer(_NUMBERS[np.dtype(dtype)])
        signature = types.void(types.int64, types.int64, numba.from_dtype(self._job.dtype), like)
        compiled = CFunc(self.__wrapped__, (signature.args, signature.return_type), {}, _OPTIONS)
        _kept_on_disk(compiled)
        compiled.compile()
        address: Any = compiled.address
        self._compiled.append(compiled)  # the code lives as long as this
        self._entry[dtype] = entry = _ENTRY(address), np.uint64(address)
        return entry


def kernel(job: Job) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a `Kernel` of a function that reads such a job."""
    return lambda f: Kernel(f, job)


def workers(tasks: int, operations: float = float("inf")) -> int:
    """Return how many threads to use for `tasks` independent tasks: Numba's number, or one where threads are not safe or no help.

    They are not safe in a thread other than the main one (Numba's workqueue aborts when two call at once), nor in a forked child
    (GNU OpenMP hangs or dies there), and no help for fewer than some 100 000 `operations`: waking them can take 100 us.
    """
    if tasks < 2 or operations < 1e5 or _forked or threading.current_thread() is not threading.main_thread():
        return 1
    available: int = numba.get_num_threads()
    return min(tasks, available)


def scratch(size: int) -> int:
    """Return the address of `size` bytes, aligned to 64, whose content is arbitrary; they are this thread's until its next call.

    Memory is kept for the next call, because fresh memory costs page faults; what is larger than 64 MiB is kept no longer than
    until the next smaller request.
    """
    memory: Array | None = getattr(_local, "memory", None)
    if memory is None or memory.size < size + 64 or memory.size > _KEPT >= size:
        _local.memory = memory = np.empty(size + 64, np.uint8)
        _local.address = -(-address_of(memory) // 64) * 64
    return _local.address  # type: ignore[no-any-return]


def _address_by_interface(a: Array) -> int:
    address: int = a.__array_interface__["data"][0]
    return address


def _address_by_layout(a: Array) -> int:
    """Read the first field of NumPy's array struct, which its ABI has fixed since 1.0; the interface takes 2.5 us."""
    return ctypes.c_uint64.from_address(id(a) + object.__basicsize__).value


_probe = np.zeros(1)
address_of = _address_by_layout if _address_by_layout(_probe) == _address_by_interface(_probe) else _address_by_interface
_local = threading.local()
_KEPT = 64 << 20


def _spread(address, workers, job):  # type: ignore[no-untyped-def]
    for worker in prange(workers):
        call(address, worker, workers, job)


def _share_out(address: Any, workers: int, job: int) -> None:
    compile_sharing()(address, workers, np.uint64(job))


@cache
def compile_sharing() -> Any:
    """Compile, or load, what hands out the shares of any kernel."""
    sharing = _kept_on_disk(numba.njit(parallel=True, **_OPTIONS)(_spread))
    sharing.compile((types.uint64, types.int64, types.uint64))
    return sharing


def _kept_on_disk(compiled: Any) -> Any:
    try:
        compiled.enable_caching()
        cache = compiled._cache
        cache._cache_file._source_stamp = _stamp()
        cache.load_overload = partial(_load, cache)
    except (RuntimeError, OSError, AttributeError):
        pass  # nowhere to write, or a Numba whose cache is built otherwise: compile in each process
    return compiled


def _load(cache: Any, signature: Any, context: Any) -> Any:
    """Load compiled code as Numba does, but leave the import of all of Numba and scipy.linalg to compiling, which needs them.

    They are half of the wait for a first call: 0.33 s, not 0.68. What code may call is there once the runtime is.
    """
    rtsys.initialize(context)
    with cache._guard_against_spurious_io_errors():
        return cache._load_overload(signature, context)


@cache
def _stamp() -> str:
    """Hash the package's files that hold kernels, and nothing else: editing a docstring elsewhere should not recompile them."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        text = path.read_bytes()
        if any(word in text for word in (b"njit", b"@kernel", b"@intrinsic", b"llvmlite")):
            digest.update(text)
    return digest.hexdigest()


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
