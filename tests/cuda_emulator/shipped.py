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

# Each has programs(), which yields instantiations and the least architecture each is for.
ROOMS = (
    "numconv.conv.cuda",
    "numconv.pool.cuda",
    "numconv.pool.cuda.planes",
    "numconv._axis_map_cuda",
    "numconv._pointwise",
    "numconv.activation.cuda",
    "numconv.loss.cuda",
    "numconv.loss.streamed",
    "numconv.norm.cuda",
    "numconv.train.optim_cuda",
    "numconv.train.philox_cuda",
    "numconv.train.views_cuda",
)
ARCHITECTURES = ("sm_80", "sm_90a")
LEDGER = Path(__file__).with_name("registers.json")


@cache
def shipped() -> dict[str, tuple[Program, str]]:
    """Return every instantiation and the least architecture it is for, by label."""
    return {f"{unit_of(program)} {program.name}": (program, least) for program, least in _programs()}


@cache
def units() -> dict[str, list[tuple[Program, str]]]:
    """Return what is compiled together: instantiations of one text with the same definitions."""
    found: dict[str, list[tuple[Program, str]]] = {}
    for program, least in shipped().values():
        found.setdefault(unit_of(program), []).append((program, least))
    return found


def unit_of(program: Program) -> str:
    """Name a text and its definitions."""
    source = program.source
    name = "/".join(source.parts[-2:]) if isinstance(source, Path) else source.partition("\n")[0].removeprefix("// ")
    return " ".join((name, *(f"{name}={value}" for name, value in program.defines)))


def _programs() -> Iterator[tuple[Program, str]]:
    for room in ROOMS:
        yield from import_module(room).programs()


def measured(unit: str) -> dict[str, dict[str, int]]:
    """Return the registers that each kernel of a unit takes on each architecture, by label."""
    from .nvrtc import compile_for

    found: dict[str, dict[str, int]] = {}
    for architecture in ARCHITECTURES:
        meant = [program for program, least in units()[unit] if ARCHITECTURES.index(least) <= ARCHITECTURES.index(architecture)]
        usage = compile_for(architecture, meant[0]).usage if meant else {}
        for program in meant:
            found.setdefault(f"{unit} {program.name}", {})[architecture] = usage[program.name].registers
    return found


if __name__ == "__main__":
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as threads:
        found = {label: registers for unit in threads.map(measured, units()) for label, registers in unit.items()}
    LEDGER.write_text("{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(found.items())) + "\n}\n")
