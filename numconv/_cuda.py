"""`.cu` text -> compiled kernel -> the one `launch`: the only file that calls CuPy.

What compiles and runs is a `Backend`. CuPy is the one users have; the tests put an emulator in its place, so that the same
drawers run on NumPy arrays without a GPU.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ._array import Array

BLOCK = 256  # threads; a multiple of every GPU's warp, and small enough for any register count
MOST_BLOCKS = 2**31 - 1  # along the first axis of a grid; kernels walk on by the size of the grid

_REAL = {np.dtype("float32"): "float", np.dtype("float64"): "double"}


class Kernel(Protocol):
    """A compiled kernel."""

    def __call__(self, grid: tuple[int], block: tuple[int], args: tuple[Any, ...]) -> None:
        """Run `grid` blocks of `block` threads. Structured 0-d NumPy arrays go by value, None is a null pointer."""


class Backend(Protocol):
    """What compiles kernels and holds their arrays."""

    def __hash__(self) -> int:
        """Compiled kernels are kept per backend."""

    def compile(self, source: str, name: str, options: tuple[str, ...]) -> Kernel:
        """Compile CUDA C++ and return its `extern "C"` kernel `name`."""

    def on(self, a: Array) -> AbstractContextManager[Any]:
        """Make the device of `a` the one where arrays are created and kernels are compiled and run."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an uninitialised C-contiguous array."""

    def contiguous(self, a: Array) -> Array:
        """Return `a` as C-contiguous; itself if it already is."""


class CupyBackend:
    """Kernels that CuPy compiles with NVRTC, keeps on disk and per device, and launches on its current stream."""

    def compile(self, source: str, name: str, options: tuple[str, ...]) -> Kernel:
        """Compile CUDA C++ and return its `extern "C"` kernel `name`.

        Raises
        ------
        RuntimeError
            If CuPy, NVRTC or the driver is missing, or the compiler refuses the source.
        """
        cupy = _cupy()
        try:
            return cupy.RawModule(code=source, options=options).get_function(name)  # type: ignore[no-any-return]
        except cupy.cuda.compiler.CompileException as error:
            raise RuntimeError(
                f"the CUDA kernel {name} does not compile with {' '.join(options)}; this is a fault of numconv or of a CUDA "
                f"version it does not know, please report it with this log:\n{error}"
            ) from error
        except (ImportError, OSError, RuntimeError) as error:
            raise RuntimeError(
                f"the CUDA kernel {name} cannot be loaded: {error}; needed an NVIDIA driver (see nvidia-smi) and a CuPy for its "
                "CUDA version (cupy.show_config() says what CuPy finds)"
            ) from error

    def on(self, a: Array) -> AbstractContextManager[Any]:
        """Make the device of `a` the one where arrays are created and kernels are compiled and run."""
        return a.device  # type: ignore[no-any-return]

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an uninitialised C-contiguous array."""
        return _cupy().empty(shape, dtype)

    def contiguous(self, a: Array) -> Array:
        """Return `a` as C-contiguous; itself if it already is."""
        return _cupy().ascontiguousarray(a)


backend: Backend = CupyBackend()


def options(dtype: Any) -> tuple[str, ...]:
    """Return the compiler's options that make `real` in a source the C++ type of `dtype`."""
    return (f"-Dreal={_REAL[np.dtype(dtype)]}", "-std=c++17")


def kernel(path: Path, name: str, dtype: Any) -> Kernel:
    """Return the kernel `name` of the `.cu` file at `path` for numbers of `dtype`, compiled at the first call."""
    return _compiled(backend, path, name, options(dtype))


def launch(*, kernel: Kernel, threads: int, args: tuple[Any, ...]) -> None:
    """Run `kernel` with at least `threads` threads in all, or as many as a grid can have; the kernel must stride over the rest.

    Parameters
    ----------
    kernel : Kernel
        What `kernel` returned.
    threads : int
        Number of elements of the answer, at least one.
    args : tuple
        The kernel's parameters in order: arrays go as pointers, None as a null pointer, a NamedTuple of integers as a struct.
    """
    blocks = min(-(-threads // BLOCK), MOST_BLOCKS)
    kernel((blocks,), (BLOCK,), tuple(struct(a) if isinstance(a, tuple) else a for a in args))


@lru_cache(1024, typed=True)
def struct(fields: Any) -> np.ndarray[Any, Any]:
    """Return a NamedTuple of integers and tuples of integers as the C struct of `long long` and `long long[]` in its order."""
    layout = [(name, np.int64, np.shape(value)) for name, value in zip(fields._fields, fields, strict=True)]
    packed = np.array(tuple(fields), np.dtype(layout, align=True))
    packed.flags.writeable = False  # it is shared by all launches of one geometry
    return packed


@cache
def _compiled(on: Backend, path: Path, name: str, options: tuple[str, ...]) -> Kernel:
    return on.compile(path.read_text(encoding="utf-8"), name, options)


def _cupy() -> ModuleType:
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(
            "CUDA kernels need CuPy; install numconv[cuda13] or numconv[cuda12], whichever the driver speaks (see nvidia-smi)"
        ) from error
    return cupy  # type: ignore[no-any-return]
