"""Every kernel that plans may choose, and the registers each takes: the ledger.

`python -m tests.cuda_emulator.shipped` compiles them all and writes the ledger anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

from numconv._cuda import Program

ROOMS = (
    "numconv.conv.cuda",
    "numconv.train.adam_cuda",
)  # each has programs(), which yields an instantiation and the least architecture it is for
ARCHITECTURES = ("sm_80", "sm_90a")
LEDGER = Path(__file__).with_name("registers.json")


@cache
def shipped() -> dict[str, tuple[Program, str]]:
    """Return every instantiation and the least architecture it is for, by label."""
    return {label(program): (program, least) for program, least in _programs()}


def label(program: Program) -> str:
    """Name an instantiation."""
    source = program.source.name if isinstance(program.source, Path) else "traced"
    return " ".join((source, program.name, *(f"{name}={value}" for name, value in program.defines)))


def _programs() -> Iterator[tuple[Program, str]]:
    for room in ROOMS:
        yield from import_module(room).programs()


def measured(program: Program, least: str) -> dict[str, int]:
    """Return the registers that a kernel takes on each architecture."""
    from .nvrtc import compile_for

    meant = ARCHITECTURES[ARCHITECTURES.index(least) :]
    return {architecture: compile_for(architecture, program).usage[program.name].registers for architecture in meant}


if __name__ == "__main__":
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as threads:
        found = threads.map(lambda item: (item[0], measured(*item[1])), shipped().items())
        rows = [f"  {json.dumps(name)}: {json.dumps(registers)}" for name, registers in sorted(found)]
    LEDGER.write_text("{\n" + ",\n".join(rows) + "\n}\n")
