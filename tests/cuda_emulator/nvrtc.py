"""What NVRTC says of a kernel on an architecture: warnings, registers, spills. It needs no driver or GPU."""

from __future__ import annotations

import re
from typing import NamedTuple

from numconv import _nvrtc
from numconv._cuda import Program


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


def missing() -> str | None:
    """Say why there is no NVRTC; nothing if there is one."""
    why = _nvrtc.missing()
    return why and f"CUDA kernels are not compiled: {why}"


def compile_for(architecture: str, program: Program) -> Compiled:
    """Compile an instantiation for, say, "sm_90a", or raise `CompileError` with the compiler's log."""
    cubin, log = _nvrtc.cubin(program.text, architecture, ("--ptxas-options=-v", *program.options))
    return Compiled(cubin, log, _usage(log))


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
