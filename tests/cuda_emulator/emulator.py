"""A `numconv._cuda.Backend` without a GPU: CUDA C++ through g++ and `cudasim.hpp`, on NumPy arrays that end at unreadable pages.

Put it in place with `monkeypatch.setattr(numconv._cuda, "backend", Emulator(seed))`.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import re
import shutil
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from numconv._cuda import Device, Program

H200 = Device(number=0, name="emulated H200", capability=(9, 0), multiprocessors=132, shared_bytes=227 << 10)

COMPILER = shutil.which("g++")
MISSING = None if COMPILER else "g++ is not installed: CUDA kernels are not run by the emulator"

_HERE = Path(__file__).parent
_SHIM = "\n".join((_HERE / name).read_text() for name in ("cudasim.hpp", "ptx_twins.hpp"))
# fp-contract: NVRTC fuses a * b + c, and so may g++ where the machine can. no-strict-aliasing: CUDA lets float be read as float4.
_FLAGS = (
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-fno-strict-aliasing",
    "-U_FORTIFY_SOURCE",
)
_PAGE = mmap.PAGESIZE


class Emulator:
    """Compiles and runs kernels on the CPU; arrays it makes end at an unreadable page and are filled with NaN.

    Parameters
    ----------
    seed : int, default 0
        0 runs threads fairly and in order; any other seed shuffles them and is as unfair as barriers allow.
    gpu : Device, optional
        What plans are told of the GPU; an H200 by default.
    """

    def __init__(self, seed: int = 0, gpu: Device = H200) -> None:
        self.seed, self.gpu = seed, gpu
        self.launches = 0
        self.programs: list[Program] = []  # those launched, in order

    def device(self, a: Any) -> Device:
        """Return what plans are told of the GPU."""
        return self.gpu

    def present(self) -> Device:
        """Return what plans are told of the GPU."""
        return self.gpu

    def compile(self, program: Program, device: Device) -> Callable[..., None]:
        """Return a kernel as a function of (grid, block, args, shared)."""
        name = program.name
        library = ctypes.CDLL(str(_library(program.text, program.options)))
        run, sizes = getattr(library, f"cudasim_launch_{name}"), _parameters(library, name)

        def kernel(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared: int = 0) -> None:
            values = [_parameter(a) for a in args]
            given = [size for size, _ in values]
            if len(given) != len(sizes) or any(g not in (None, s) for g, s in zip(given, sizes, strict=True)):
                raise TypeError(f"{name} takes parameters of sizes {sizes} (minus that of an element, for pointers), got {given}")
            pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for _, value in values))
            launch = _Launch(_dim(grid), _dim(block), self.seed, shared)
            self.launches += 1
            self.programs.append(program)
            run(ctypes.byref(launch), pointers)

        return kernel

    def on(self, a: Any) -> nullcontext[None]:
        """There is one device."""
        return nullcontext()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """Return a guarded array full of NaN."""
        return guarded(shape, dtype)

    def contiguous(self, a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return a guarded copy, so that reads past the end of an input crash wherever it came from."""
        copy = guarded(a.shape, a.dtype)
        copy[...] = a
        return copy

    def address(self, a: Any) -> int:
        """Return where the first element of `a` is."""
        return int(getattr(a, "on_host", a).ctypes.data)

    def put(self, a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return a guarded copy."""
        return Emulator.contiguous(self, a)

    def stream(self) -> int:
        """There is one stream."""
        return 0

    def seconds(self, call: Callable[[], object], times: int) -> float:
        """Return the seconds of the emulator, which say nothing of a GPU's: one call is enough."""
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin


def guarded(shape: tuple[int, ...], dtype: Any, *, poisoned: bool = True) -> np.ndarray[Any, Any]:
    """Return an array whose last element is followed by an unreadable page: one element past the end is a SIGSEGV.

    It is filled with 0xff, NaN for floats, and so is the rest of the page before it. Not `poisoned`, it is full of zeros and
    takes memory only where it is touched, so it may be larger than the machine's memory.
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    length = -(-max(size, 1) // _PAGE) * _PAGE
    base = _libc.mmap(None, length + _PAGE, mmap.PROT_READ | mmap.PROT_WRITE, _PRIVATE_LAZY, -1, 0)
    if base == ctypes.c_void_p(-1).value or _libc.mprotect(base + length, _PAGE, 0):
        raise MemoryError(f"no address space for a guarded array of shape {shape}")
    if poisoned:
        ctypes.memset(base, 0xFF, length)
    memory = (ctypes.c_char * size).from_address(base + length - size)
    weakref.finalize(memory, _libc.munmap, base, length + _PAGE).atexit = False
    return np.ndarray(shape, dtype, memory)


class _Dim(ctypes.Structure):
    _fields_ = (("x", ctypes.c_uint), ("y", ctypes.c_uint), ("z", ctypes.c_uint))


class _Launch(ctypes.Structure):
    _fields_ = (("grid", _Dim), ("block", _Dim), ("seed", ctypes.c_uint64), ("shared", ctypes.c_uint64))


def _dim(extent: tuple[int, ...]) -> _Dim:
    return _Dim(*(*extent, 1, 1)[:3])


def _parameter(a: Any) -> tuple[int | None, np.ndarray[Any, Any]]:
    """Return a parameter's size, as `cudasim::parameter` counts it (None for a null pointer), and its value in memory."""
    if a is None:
        return None, np.zeros((), np.uintp)
    if a.dtype.names is not None:
        return a.nbytes, a
    a = getattr(a, "on_host", a)  # of the stand-in for CuPy
    if not a.flags.c_contiguous:
        raise TypeError(f"kernels take contiguous arrays, got shape {a.shape} with strides {a.strides}")
    return -a.itemsize, np.array(a.ctypes.data, np.uintp)


def _parameters(library: ctypes.CDLL, name: str) -> list[int]:
    sizes = (ctypes.c_int * 64)()
    return list(sizes[: getattr(library, f"cudasim_parameters_{name}")(sizes)])


def _library(source: str, options: tuple[str, ...]) -> Path:
    """Compile, or find what was compiled before from the same text."""
    if COMPILER is None:
        raise RuntimeError(MISSING)
    names = re.findall(r'extern "C" __global__ void (?:__launch_bounds__\([^()]*\)\s*)?(\w+)\(', source)
    exports = "".join(
        f'extern "C" __attribute__((visibility("default"))) void cudasim_launch_{name}(const cudasim::Launch* l, void** args)'
        f" {{ cudasim::launch({name}, *l, args); }}\n"
        f'extern "C" __attribute__((visibility("default"))) int cudasim_parameters_{name}(int* sizes)'
        f" {{ return cudasim::parameters({name}, sizes); }}\n"
        for name in names
    )
    text = f'#include "cudasim.hpp"\n#line 1 "kernel.cu"\n{source}\n#line 1 "exports"\n{exports}'
    key = hashlib.sha256(repr((COMPILER, _FLAGS, options, _SHIM, text)).encode()).hexdigest()[:24]
    cache = _cache()
    library = cache / f"{key}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            built = Path(folder) / library.name
            command = [COMPILER, *_FLAGS, *options, f"-I{_headers()}", "-x", "c++", "-", "-o", str(built)]
            made = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
            if made.returncode:
                raise RuntimeError(f"g++ refuses the kernel:\n{made.stderr[:4000]}")
            os.replace(built, library)  # at once: another process may be loading the same name
    return library


@cache
def _headers() -> Path:
    """Return a folder with the emulator's headers, compiled once: that is half of the time that a small kernel takes."""
    if COMPILER is None:
        raise RuntimeError(MISSING)
    key = hashlib.sha256(repr((COMPILER, _FLAGS, _SHIM)).encode()).hexdigest()[:24]
    folder = _cache() / f"headers-{key}"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=_cache()) as place:
            made = Path(place) / folder.name
            made.mkdir()
            for name in ("cudasim.hpp", "ptx_twins.hpp"):
                shutil.copy(_HERE / name, made)
            header = str(made / "cudasim.hpp")
            subprocess.run([COMPILER, *_FLAGS, "-w", "-x", "c++-header", header, "-o", f"{header}.gch"], check=True)
            with suppress(OSError):  # another process was quicker
                made.rename(folder)
    return folder


def _cache() -> Path:
    folder = Path(tempfile.gettempdir()) / f"numconv-cudasim-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to somebody else; what lies there is not to be loaded")
    return folder


_PRIVATE_LAZY = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE on Linux; Python's mmap has it from 3.13 on
_libc = ctypes.CDLL(None)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
