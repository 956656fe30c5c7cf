"""NVRTC's word on the CUDA kernels: they compile for several architectures without warnings, spills or too many registers."""

from __future__ import annotations

import pytest

from numconv import _cuda
from numconv.conv import cuda, geometry

from .cuda_emulator import nvrtc

pytestmark = pytest.mark.skipif(nvrtc.missing() is not None, reason=str(nvrtc.missing()))

ADDED_BY_CUPY = ("--device-as-default-execution-space", "-ftz=true")  # CuPy 14, to the options it is given

# Registers per thread on sm_80 or sm_90, whichever takes more, as NVRTC 13.5.37 counts them; 13.0.88 takes no more. Other
# versions may take a few more. A change of a kernel that needs many more changes this table, and says why.
REGISTERS = {
    "float32": {"contract_y": 72, "contract_x": 72, "contract_w": 72},
    "float64": {"contract_y": 80, "contract_x": 72, "contract_w": 70},
}
SLACK = 8


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("dtype", REGISTERS)
def test_convolution(architecture, dtype):
    struct = _cuda.struct(geometry.conv((1, 1, 1), (1, 1, 1), 1, 0, 1, 1))
    source = cuda.SOURCE.read_text() + f"static_assert(sizeof(Geometry) == {struct.nbytes});"
    compiled = nvrtc.compile_for(architecture, source, (*_cuda.options(dtype), *ADDED_BY_CUPY))
    assert "warning" not in compiled.log.lower(), compiled.log
    assert compiled.usage.keys() == REGISTERS[dtype].keys()
    for name, used in compiled.usage.items():
        assert (used.stack, used.spilled) == (0, 0), name
        assert used.registers <= REGISTERS[dtype][name] + SLACK, f"{name}: {used.registers} registers"


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
    compiled = nvrtc.compile_for("sm_90", source, ())
    assert compiled.usage["in_local_memory"].stack >= 400
    assert "warning" in compiled.log
    assert compiled.cubin.startswith(b"\x7fELF")
    with pytest.raises(RuntimeError, match=r"kernel.cu\(2\): error: "):
        nvrtc.compile_for("sm_90", "\nvoid oops() { no }", ())
