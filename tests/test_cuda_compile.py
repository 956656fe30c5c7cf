"""NVRTC's word on every CUDA kernel: it compiles where it is meant to, without warnings or spills, in the ledger's registers."""

from __future__ import annotations

import json

import pytest

from numconv import _cuda, _nvrtc

from .cuda_emulator import conformance, nvrtc
from .cuda_emulator.shipped import ARCHITECTURES, LEDGER, shipped, units

pytestmark = pytest.mark.skipif(nvrtc.missing() is not None, reason=str(nvrtc.missing()))

SLACK = 8  # registers: versions of the compiler differ by a few


@pytest.mark.parametrize("unit", units())
def test_kernels(unit):
    ledger = json.loads(LEDGER.read_text())
    for architecture in ARCHITECTURES:
        meant = [program for program, least in units()[unit] if ARCHITECTURES.index(least) <= ARCHITECTURES.index(architecture)]
        if not meant:
            continue
        compiled = nvrtc.compile_for(architecture, meant[0])
        assert "warning" not in compiled.log.lower(), compiled.log
        for program in meant:
            used = compiled.usage[program.name]
            assert (used.stack, used.spilled) == (0, 0), (program.name, architecture)
            assert used.registers <= ledger[f"{unit} {program.name}"][architecture] + SLACK, (program.name, architecture)


def test_the_ledger_has_every_kernel_and_no_other():
    assert json.loads(LEDGER.read_text()).keys() == shipped().keys()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_wrappers(architecture):
    compiled = nvrtc.compile_for(architecture, _cuda.Program(conformance.SOURCE, "fields"))
    assert "warning" not in compiled.log.lower(), compiled.log


def test_what_the_checks_would_see():
    source = """
    extern "C" __global__ void unused(int* a) { int b; a[0] = 1; }
    extern "C" __global__ void in_local_memory(int* a)
    {
        int b[100];
        for (int i = 0; i < 100; ++i) b[a[i]] = i;
        for (int i = 0; i < 100; ++i) a[i] = b[a[i] + 1];
    }
    """
    compiled = nvrtc.compile_for("sm_90a", _cuda.Program(source, "unused"))
    assert compiled.usage["in_local_memory"].stack >= 400
    assert "warning" in compiled.log
    assert compiled.cubin.startswith(b"\x7fELF")
    with pytest.raises(_nvrtc.CompileError, match=r"kernel.cu\(2\): error: "):
        nvrtc.compile_for("sm_90a", _cuda.Program("\nvoid oops() { no }", "oops"))
