"""`.cu` text -> machine code -> the one `launch`: the only file that calls CuPy.

What compiles and runs is a `Backend`. CuPy is the one users have; the tests put an emulator in its place, so that the same
drawers run without a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, lru_cache
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import _nvrtc
from ._array import Array

BLOCK = 256  # threads; a multiple of every GPU's warp, and small enough for any register count
MOST_BLOCKS = 2**31 - 1  # along the first axis of a grid; along the others it is 65535
MOST_SHARED = 48 << 10  # bytes of a block's shared memory that every GPU gives unasked
_MEMORY_ALLOCATION = 2  # CUDA's number of the error that there is no memory
LEAST_CAPABILITY = (7, 5)  # NVRTC 13 compiles for nothing older

_TYPES = {
    "float32": ("float", "float"),
    "float64": ("double", "double"),
    "float16": ("f16", "float"),
    "bfloat16": ("bf16", "float"),
}
DTYPES = tuple(_TYPES)
_HEADERS = Path(__file__).parent
_OPTIONS = ("-std=c++17",)


class Device(NamedTuple):
    """What a plan may know of a GPU."""

    number: int
    name: str
    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int  # most dynamic shared memory of one block

    @property
    def architecture(self) -> str:
        """What to compile for: the whole of Hopper's instructions on Hopper."""
        major, minor = self.capability
        return f"sm_{major}{minor}" + "a" * (self.capability == (9, 0))


class Program(NamedTuple):
    """An instantiation of a kernel: a source, an `extern "C"` function of it, and what is defined before it."""

    source: Path | str  # a file, or the text itself
    name: str
    defines: tuple[tuple[str, str | int], ...] = ()

    @property
    def text(self) -> str:
        """The source with its headers, those of `numconv/*.cuh`, in place: no compiler looks for a file."""
        return assembled(_read(self.source) if isinstance(self.source, Path) else self.source)

    @property
    def options(self) -> tuple[str, ...]:
        """The compiler's options that define what is to be defined."""
        return (*_OPTIONS, *(f"-D{name}={value}" for name, value in self.defines))


class Kernel(Protocol):
    """A compiled kernel."""

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared: int) -> None:
        """Run `grid` blocks of `block` threads and `shared` bytes each.

        Structured 0-d NumPy arrays go by value, None is a null pointer.
        """


class Backend(Protocol):
    """What compiles kernels and holds their arrays."""

    def __hash__(self) -> int:
        """Compiled kernels are kept per backend and device."""

    def device(self, a: Array) -> Device:
        """Return what is known of the GPU that holds `a`."""

    def present(self) -> Device:
        """Return what is known of the GPU where arrays are created."""

    def compile(self, program: Program, device: Device) -> Kernel:
        """Compile a kernel for a device."""

    def on(self, a: Array) -> AbstractContextManager[Any]:
        """Make the device of `a` the one where arrays are created and kernels are compiled and run."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an uninitialised C-contiguous array, or raise MemoryError."""

    def contiguous(self, a: Array) -> Array:
        """Return `a` as C-contiguous; itself if it already is. Or raise MemoryError."""

    def address(self, a: Array) -> int:
        """Return where the first element of `a` is."""

    def put(self, a: np.ndarray[Any, Any]) -> Array:
        """Return a copy of NumPy's array on the GPU, or raise MemoryError."""

    def stream(self) -> int:
        """Return which queue of work is the current one."""

    def seconds(self, call: Callable[[], object], times: int) -> float:
        """Return the seconds that the GPU takes for a call, of so many in a row; this waits for them."""


class CupyBackend:
    """Kernels compiled by NVRTC, or by CuPy where that is not found, and launched on CuPy's current stream."""

    def device(self, a: Array) -> Device:
        """Return what is known of the GPU that holds `a`."""
        return _properties(a.device.id)

    def present(self) -> Device:
        """Return what is known of the GPU where arrays are created."""
        return _properties(_cupy().cuda.Device().id)

    def compile(self, program: Program, device: Device) -> Kernel:
        """Compile a kernel, or load what any process compiled before.

        Raises
        ------
        RuntimeError
            If CuPy, NVRTC or the driver is missing, the GPU is too old, or the compiler refuses the source.
        """
        cupy = _cupy()
        if device.capability < LEAST_CAPABILITY:
            raise RuntimeError(
                f"{device.name} has compute capability {'.'.join(map(str, device.capability))}; "
                f"needed {'.'.join(map(str, LEAST_CAPABILITY))} or newer"
            )
        try:
            return _launched_by_cupy(_module(cupy, program, device).get_function(program.name))
        except (_nvrtc.CompileError, cupy.cuda.compiler.CompileException) as error:
            raise RuntimeError(
                f"the CUDA kernel {program.name} does not compile for {device.architecture} with {' '.join(program.options)}; "
                f"this is a fault of numconv or of a CUDA version it does not know, please report it with this log:\n{error}"
            ) from error
        except (ImportError, OSError, RuntimeError) as error:
            raise RuntimeError(
                f"the CUDA kernel {program.name} cannot be loaded: {error}; needed an NVIDIA driver (see nvidia-smi) and a CuPy "
                "for its CUDA version (cupy.show_config() says what CuPy finds)"
            ) from error

    def on(self, a: Array) -> AbstractContextManager[Any]:
        """Make the device of `a` the one where arrays are created and kernels are compiled and run."""
        return a.device  # type: ignore[no-any-return]

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """Return an uninitialised C-contiguous array, or raise MemoryError."""
        return _allocated(_cupy().empty, shape, dtype)

    def contiguous(self, a: Array) -> Array:
        """Return `a` as C-contiguous; itself if it already is. Or raise MemoryError."""
        return _allocated(_cupy().ascontiguousarray, a)

    def address(self, a: Array) -> int:
        """Return where the first element of `a` is."""
        return a.data.ptr  # type: ignore[no-any-return]

    def put(self, a: np.ndarray[Any, Any]) -> Array:
        """Return a copy of NumPy's array on the GPU, or raise MemoryError."""
        return _allocated(_cupy().asarray, a)

    def stream(self) -> int:
        """Return which queue of work is the current one."""
        return int(_cupy().cuda.get_current_stream().ptr)

    def seconds(self, call: Callable[[], object], times: int) -> float:
        """Return the seconds that the GPU takes for a call, of so many in a row; this waits for them.

        Raises
        ------
        RuntimeError
            If the current stream is captured for a graph, where nothing runs that could be timed.
        """
        cuda = _cupy().cuda
        stream = cuda.get_current_stream()
        if stream.is_capturing():
            raise RuntimeError(
                "autotune times kernels, and this stream is being captured for a CUDA graph: tune before the capture"
            )
        begin, end = cuda.Event(), cuda.Event()
        begin.record(stream)
        for _ in range(times):
            call()
        end.record(stream)
        end.synchronize()
        return float(cuda.get_elapsed_time(begin, end)) / 1e3 / times


backend: Backend = CupyBackend()


@lru_cache(64)
def types(dtype: Any) -> tuple[tuple[str, str], ...]:
    """Return the definitions of the C++ types `Stored`, in which numbers of a dtype lie in memory, and `Sum`, to calculate in."""
    return tuple(zip(("Stored", "Sum"), _TYPES[str(dtype)], strict=True))


def device(a: Array) -> Device:
    """Return what is known of the GPU that holds `a`."""
    return backend.device(a)


def present() -> Device:
    """Return what is known of the GPU where arrays are created."""
    return backend.present()


def on(a: Array) -> AbstractContextManager[Any]:
    """Make the device of `a` the one where arrays are created and kernels are compiled and run."""
    return backend.on(a)


def contiguous(a: Array) -> Array:
    """Return `a` as C-contiguous; itself if it already is."""
    try:
        return backend.contiguous(a)
    except MemoryError as error:
        raise _no_memory("a contiguous copy", a.shape, a.dtype, error) from error


def address(a: Array) -> int:
    """Return where the first element of `a` is; how kernels may read it depends on what it is a multiple of."""
    return backend.address(a)


def seconds(call: Callable[[], object], times: int) -> float:
    """Return the seconds that the GPU takes for a call, of so many in a row; this waits for them."""
    return backend.seconds(call, times)


def empty(shape: tuple[int, ...], dtype: Any, *, what: str) -> Array:
    """Return an uninitialised C-contiguous array; a MemoryError says `what` it was asked for."""
    try:
        return backend.empty(shape, dtype)
    except MemoryError as error:
        raise _no_memory(what, shape, np.dtype(dtype), error) from error


def spread(elements: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a grid and a block of at least `elements` threads, or as many as a grid can have: kernels stride over the rest."""
    return (min(-(-elements // BLOCK), MOST_BLOCKS),), (BLOCK,)


def reciprocal(d: int) -> int:
    """Return m + (s << 32) with n // d = n * m >> 32 + s for all n below 2**31, for d from 2 on (Granlund & Montgomery, 1994)."""
    if not 1 < d < 1 << 31:
        return 0
    bits = (d - 1).bit_length()
    return -(-(1 << 31 + bits) // d) | bits - 1 << 32


def kept(table: np.ndarray[Any, Any], dtype: Any, device: Device) -> Array:
    """Return a NumPy array that nobody changes as one on a GPU: copied there once for each stream, so none waits for another."""
    return _kept(backend, _Same(table), np.dtype(dtype), device, backend.stream())


def launch(
    *,
    program: Program,
    device: Device,
    grid: tuple[int, ...],
    block: tuple[int, ...],
    args: tuple[Any, ...],
    shared: int = 0,
) -> None:
    """Run a kernel, without waiting for it; a grid of no blocks is nothing to run.

    Parameters
    ----------
    program : Program
        Which kernel. Compiled at the first call.
    device : Device
        Where the arrays are.
    grid, block : tuple of up to three int
        How many blocks, and how many threads in each.
    args : tuple
        The kernel's parameters in order: arrays go as pointers, None as a null pointer, a NamedTuple of numbers as a struct.
    shared : int, default 0
        Bytes of dynamic shared memory of each block.

    Raises
    ------
    ValueError
        If the grid, the block or its shared memory is larger than the device can run.
    """
    if 0 in grid:
        return
    within = (
        grid[0] <= MOST_BLOCKS and all(n <= 65535 for n in grid[1:]) and prod(block) <= 1024 and shared <= device.shared_bytes
    )
    if not within:
        raise ValueError(
            f"{program.name} needs a grid of {grid} blocks of {block} threads and {shared} bytes of shared memory; {device.name} "
            f"runs ({MOST_BLOCKS}, 65535, 65535) blocks of 1024 threads and {device.shared_bytes} bytes: split the arrays"
        )
    kernel = _compiled(backend, program, device)
    kernel(grid, block, tuple(struct(a) if isinstance(a, tuple) else a for a in args), shared)


@lru_cache(1024, typed=True)
def struct(fields: Any) -> np.ndarray[Any, Any]:
    """Return a NamedTuple as the C struct of `long long`, `double`, and arrays of them, in its order."""
    values = [np.asarray(value) for value in fields]
    layout = [(name, "f8" if a.dtype.kind == "f" else "i8", a.shape) for name, a in zip(fields._fields, values, strict=True)]
    packed = np.array(tuple(fields), np.dtype(layout, align=True))
    packed.flags.writeable = False  # it is shared by all launches of one geometry
    return packed


def assembled(text: str) -> str:
    """Return a source with the text of each header once, where it is first included."""
    found: set[str] = set()

    def header(match: re.Match[str]) -> str:
        name = match.group(1)
        if name in found:
            return ""
        found.add(name)
        return _INCLUDE.sub(header, _read(_HEADERS / name))

    return _INCLUDE.sub(header, text)


_INCLUDE = re.compile(r'^#include "(\w+\.cuh)"$', re.MULTILINE)


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


class _Same:
    """An array as the key of a cache: it is equal to itself alone."""

    def __init__(self, a: np.ndarray[Any, Any]) -> None:
        self.a = a

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.a is other.a

    def __hash__(self) -> int:
        return id(self.a)


@lru_cache(256)
def _kept(on: Backend, table: _Same, dtype: np.dtype[Any], device: Device, stream: int) -> Array:
    return on.put(np.ascontiguousarray(table.a, dtype))


@cache
def _compiled(on: Backend, program: Program, device: Device) -> Kernel:
    return on.compile(program, device)


def _module(cupy: ModuleType, program: Program, device: Device) -> Any:
    """Compile by NVRTC itself, so that users load the machine code that was tested; by CuPy where NVRTC is not found."""
    if _nvrtc.missing() is None:
        return cupy.RawModule(path=str(_nvrtc.kept_cubin(program.text, device.architecture, program.options)))
    return cupy.RawModule(code=program.text, options=program.options)


def _launched_by_cupy(function: Any) -> Kernel:
    def kernel(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared: int) -> None:
        if shared > MOST_SHARED and function.max_dynamic_shared_size_bytes < shared:
            function.max_dynamic_shared_size_bytes = shared
        function(grid, block, args, shared_mem=shared)

    return kernel


def _allocated(function: Callable[..., Array], *args: Any) -> Array:
    """Call what allocates: CuPy's pools raise MemoryError, an allocator without a pool the error of CUDA itself."""
    try:
        return function(*args)
    except RuntimeError as error:
        if getattr(error, "status", None) != _MEMORY_ALLOCATION:
            raise
        raise MemoryError(str(error)) from error


def _no_memory(what: str, shape: tuple[int, ...], dtype: np.dtype[Any], error: MemoryError) -> MemoryError:
    size = prod(shape) * dtype.itemsize
    return MemoryError(f"no {size} bytes on the GPU for {what}, shape {tuple(shape)} of {dtype.name}: {error}")


@cache
def _properties(index: int) -> Device:
    found = _cupy().cuda.runtime.getDeviceProperties(index)
    capability = (found["major"], found["minor"])
    return Device(index, found["name"].decode(), capability, found["multiProcessorCount"], found["sharedMemPerBlockOptin"])


def _cupy() -> ModuleType:
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(
            "CUDA kernels need CuPy; install numconv[cuda13] or numconv[cuda12], whichever the driver speaks (see nvidia-smi)"
        ) from error
    return cupy  # type: ignore[no-any-return]
