"""NVRTC by plain ctypes: the compiler that CuPy uses, without CuPy, a driver or a GPU, to read what it says of a kernel."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """What one kernel takes on one architecture, in registers per thread and bytes."""

    registers: int
    stack: int
    spilled: int


class Compiled(NamedTuple):
    """Machine code, everything the compiler said, and the usage of every kernel."""

    cubin: bytes
    log: str
    usage: dict[str, Usage]


@cache
def missing() -> str | None:
    """Say why there is no NVRTC; nothing if there is one."""
    try:
        _nvrtc()
    except OSError as error:
        return f"NVRTC is not installed, CUDA kernels are not compiled: pip install --group cuda ({error})"
    return None


def version() -> tuple[int, int]:
    """Return the version of NVRTC."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_nvrtc().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


def compile_for(architecture: str, source: str, options: tuple[str, ...]) -> Compiled:
    """Compile CUDA C++ to machine code for, say, "sm_90", or raise RuntimeError with the compiler's log."""
    nvrtc, program = _nvrtc(), ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None))
    try:
        flags = [f"--gpu-architecture={architecture}", "--ptxas-options=-v", *options]
        refused = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*map(str.encode, flags)))
        log = _text(program, "ProgramLog").decode().rstrip("\0")
        if refused:
            raise RuntimeError(log)
        return Compiled(_text(program, "CUBIN"), log, _usage(log))
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _usage(log: str) -> dict[str, Usage]:
    """Read the lines of `ptxas -v`: the entry function's name, then its stack and spills, then its registers."""
    entries = re.split(r"Compiling entry function '(\w+)'", log)[1:]
    usage = {}
    for name, said in zip(entries[::2], entries[1::2], strict=True):
        stack, stored, loaded = (int(n) for n in re.search(_FRAME, said).groups())  # type: ignore[union-attr]
        (registers,) = (int(n) for n in re.findall(r"Used (\d+) registers", said))
        usage[name] = Usage(registers, stack, stored + loaded)
    return usage


_FRAME = r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"


def _text(program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(_nvrtc(), f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(_nvrtc(), f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"NVRTC error {status}")


@cache
def _nvrtc() -> ctypes.CDLL:
    """Load NVRTC from the wheel of CUDA 13 or 12, or from the system."""
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (spec.submodule_search_locations or () if spec else ())]
    for folder in (root / lib for root in roots for lib in ("cu13/lib", "cuda_nvrtc/lib")):
        if found := sorted(folder.glob("libnvrtc.so.1[0-9]")):
            for builtins in folder.glob("libnvrtc-builtins.so.1[0-9].[0-9]*"):
                ctypes.CDLL(str(builtins))  # loaded here, NVRTC finds it where no loader path leads
            return ctypes.CDLL(str(found[-1]))
    return ctypes.CDLL("libnvrtc.so.13")
