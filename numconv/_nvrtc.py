"""CUDA C++ text -> machine code, by plain ctypes on NVRTC: no CuPy, driver or GPU is needed, so every machine compiles the same.

CuPy can compile too, but not for the whole of an architecture ("sm_90a"), and always flushes subnormal numbers to zero.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

from . import _kept


class CompileError(RuntimeError):
    """The compiler refused a source; the message is its log."""


@cache
def missing() -> str | None:
    """Say why there is no NVRTC; nothing if there is one."""
    try:
        _library()
    except OSError as error:
        return str(error)
    return None


@cache
def version() -> tuple[int, int]:
    """Return the version of NVRTC."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(_library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


def cubin(source: str, architecture: str, options: tuple[str, ...]) -> tuple[bytes, str]:
    """Return machine code for, say, "sm_90a", and everything the compiler said.

    Raises
    ------
    CompileError
        If the compiler refuses the source.
    OSError
        If there is no NVRTC.
    """
    nvrtc, program = _library(), ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None))
    try:
        flags = [f"--gpu-architecture={architecture}", *options]
        refused = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*map(str.encode, flags)))
        log = _text(program, "ProgramLog").decode(errors="replace").rstrip("\0")
        if refused:
            raise CompileError(log)
        return _text(program, "CUBIN"), log
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def kept_cubin(source: str, architecture: str, options: tuple[str, ...]) -> Path:
    """Return the file of `cubin`'s machine code, compiled now or by any process before: it is found by what it was made of."""
    made_of = repr((source, architecture, options, version()))
    path = _kept.folder() / f"{hashlib.sha256(made_of.encode()).hexdigest()[:40]}.cubin"
    if not path.is_file():
        code, _ = cubin(source, architecture, options)
        _kept.keep(path, code)
    return path


def _text(program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(_library(), f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(getattr(_library(), f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"NVRTC error {status}")


@cache
def _library() -> ctypes.CDLL:
    """Load NVRTC from NVIDIA's wheels (of CUDA 13 or 12; CuPy's and PyTorch's extras install them), or from the system."""
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (spec.submodule_search_locations or () if spec else ())]
    for folder in (root / lib for root in roots for lib in ("cu13/lib", "cuda_nvrtc/lib")):
        if found := sorted(folder.glob("libnvrtc.so.1[0-9]")):
            for builtins in folder.glob("libnvrtc-builtins.so.1[0-9].[0-9]*"):
                ctypes.CDLL(str(builtins))  # loaded here, NVRTC finds it where no loader path leads
            return ctypes.CDLL(str(found[-1]))
    for name in ("libnvrtc.so.13", "libnvrtc.so.12"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise OSError("NVRTC, the compiler of CUDA kernels, is not installed: pip install nvidia-cuda-nvrtc")
