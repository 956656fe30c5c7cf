"""How kernels run on the CPU: on how many threads, and compiled ahead of their first call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

import numpy as np

_ROOMS = ("conv", "linear", "pool", "norm", "activation", "loss")
_ELSEWHERE = ("_halves", "conv.cpu.local", "_axis_map", "train.views", "train.adam_cpu")


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Use `n` threads in the CPU kernels called inside a `with` block.

    Results do not depend on it, to the last bit.

    Parameters
    ----------
    n : int
        At least 1, at most the number that Numba was started with (the number of cores, or NUMBA_NUM_THREADS).

    Raises
    ------
    TypeError
        If `n` is no integer.
    ValueError
        If `n` is out of that range.

    Examples
    --------
    >>> import numpy as np
    >>> import numconv
    >>> with numconv.threads(1):
    ...     numconv.conv1d(np.ones((1, 1, 4)), np.ones((1, 1, 3)))
    array([[[3., 3.]]])
    """
    import numba

    most = numba.config.NUMBA_NUM_THREADS
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"n must be an int, got {n!r} of type {type(n).__name__}")
    if not 1 <= n <= most:
        raise ValueError(f"n={n}; needed 1 to {most}, the number of threads that Numba was started with (NUMBA_NUM_THREADS)")
    before = numba.get_num_threads()
    numba.set_num_threads(int(n))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def precompile(dtypes: Sequence[str] = ("float32", "float64"), *, progress: Callable[[str], None] | None = None) -> int:
    """Compile all CPU kernels now, and keep them on disk, so that no first call has to wait.

    Worth a line where images of machines are built, or before a benchmark. What is on disk already is only loaded.

    Parameters
    ----------
    dtypes : sequence of str, default ("float32", "float64")
        For arrays of which dtypes.
    progress : callable, optional
        Called with the name of each kernel before it is compiled.

    Returns
    -------
    int
        How many kernels are ready.

    Examples
    --------
    >>> import numconv
    >>> numconv.precompile(dtypes=[])
    0
    """
    for dtype in dtypes:
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtypes holds {dtype!r}; needed 'float32' or 'float64'")
    if not dtypes:
        return 0
    from . import _jit, _pointwise, _traced

    for module in (*(f"{room}.cpu" for room in _ROOMS), *_ELSEWHERE):
        import_module(f"numconv.{module}")
    for pointwise in _pointwise.FORMULAS:
        if pointwise.formula.__module__.startswith(f"{__package__}."):  # not a caller's own
            _traced.make_kernels(pointwise.formula)
    _jit.compile_sharing()
    for kernel in _jit.KERNELS:
        for dtype in dtypes:
            if progress:
                progress(f"{kernel.__name__} ({dtype})")
            kernel.compile(np.dtype(dtype))
    return len(_jit.KERNELS) * len(dtypes)
