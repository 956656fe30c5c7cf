"""Vectors of 16, 32 and 64 bytes and those of ARM: each in a process that compiles for another CPU than the one it runs on.

Convolution runs against loops where this machine has the instructions; the code of every kernel is read where it has not.
"""

import json
import os
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm
import pytest

AVX2 = "+avx,+avx2,+fma,+bmi,+bmi2,+lzcnt,+popcnt,+sse4.2"
AVX512 = f"{AVX2},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
# Name and features of a CPU, bytes of its vectors, and what a multiply-add of a whole vector looks like: two steps before FMA.
CPUS = {
    "sse": ("generic", "", 16, r"\bmulps\s.*%xmm"),
    "avx2": ("haswell", AVX2, 32, r"\bvfn?madd\w+ps\s.*%ymm"),
    "avx512": ("skylake-avx512", AVX512, 64, r"\bvfn?madd\w+ps\s.*%zmm"),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="compiles for CPUs of this family"),
]


def this_machine_has(features):
    host = llvm.get_host_cpu_features()
    return all(host.get(name.removeprefix("+"), False) for name in features.split(",") if name)


@pytest.fixture(scope="module")
def seen_on(tmp_path_factory):
    """What a process saw that compiled for another CPU, with a cache of its own: errors, and the code of kernels by name."""

    @cache
    def see(cpu):
        name, features, *_ = CPUS[cpu]
        environment = {
            **os.environ,
            "NUMBA_CPU_NAME": name,
            "NUMBA_CPU_FEATURES": features,
            "NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp(cpu)),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        }
        code = (CONVOLUTIONS if this_machine_has(features) else COMPILE) + REPORT
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return see


def calls_of_whole_vectors(code, lanes):
    return len(re.findall(rf"call [^\n]*@llvm\.fmuladd\.v{lanes}f32\(", code))


@pytest.mark.parametrize("cpu", CPUS)
def test_convolutions_are_right_in_vectors_of_every_length(cpu, seen_on):
    """Where this machine cannot run it, no error is to be seen; the code is, in the test below."""
    seen, (_, features, vector_bytes, _) = seen_on(cpu), CPUS[cpu]
    assert seen["vector_bytes"] == vector_bytes
    assert len(seen["excess"]) == (42 if this_machine_has(features) else 0)
    assert all(excess <= 1 for excess in seen["excess"].values()), seen["excess"]


@pytest.mark.parametrize("cpu", CPUS)
def test_tiles_multiply_whole_vectors(cpu, seen_on):
    """Multiply-adds of whole vectors in LLVM's code are so in the assembly (but a few it joins), none a call of a function."""
    *_, vector_bytes, instruction = CPUS[cpu]
    tiles = 0
    for name, (code, assembly) in seen_on(cpu)["code"].items():
        expected = calls_of_whole_vectors(code, vector_bytes // 4)
        tiles += expected > 0
        assert len(re.findall(instruction, assembly)) >= 0.8 * expected, name
        assert not re.search(r"\bfmaf?\b", assembly), name
        assert vector_bytes > 16 or not re.search("%[yz]mm", assembly), name
    assert tiles >= 2  # contract_y and contract_x have one, contract_w another


def test_tiles_on_arm_multiply_whole_vectors(seen_on):
    """LLVM's code in vectors of 16 bytes, made into assembly for ARM: `fmla` takes the place of every multiply-add."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    arm = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine(cpu="neoverse-n1", opt=3)
    tiles = 0
    for name, (code, _) in seen_on("sse")["code"].items():
        expected = calls_of_whole_vectors(code, 4)
        tiles += expected > 0
        of_host = r'^target (triple|datalayout) = .*$|"target-(cpu|features)"="[^"]*"'
        module = llvm.parse_assembly(re.sub(of_host, "", code, flags=re.MULTILINE))
        module.triple, module.data_layout = arm.triple, str(arm.target_data)
        fused = re.findall(r"\bfml[as]\s+v\d+\.4s", arm.emit_assembly(module))
        assert len(fused) >= 0.8 * expected, name
    assert tiles >= 2


# For each contraction, case and dtype: the error in units of its bound.
CONVOLUTIONS = """
import numpy as np
import numconv
from oracles import loop_conv, loop_conv_transpose, normals, rounding_bound

CASES = (  # x, w, stride, pads, dilation, groups
    ((2, 5, 13, 37), (19, 5, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((1, 1, 20, 61), (1, 1, 5, 7), (1, 1), ((2, 2), (3, 3)), (1, 1), 1),
    ((2, 3, 15, 18), (7, 3, 3, 5), (2, 3), ((1, 0), (0, 2)), (1, 1), 1),
    ((1, 2, 14, 21), (3, 2, 3, 3), (1, 1), ((0, 1), (2, 0)), (2, 3), 1),
    ((2, 6, 9, 19), (8, 3, 3, 2), (1, 2), ((1, 1), (0, 0)), (1, 1), 2),
    ((2, 9, 12, 17), (9, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 9),
    ((3, 16, 8, 8), (24, 16, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
)
excess = {}

def check(key, result, loop, arrays, terms, dtype):
    reference, magnitude = loop(*(a.astype(float) for a in arrays)), loop(*(abs(a).astype(float) for a in arrays))
    assert result.dtype == dtype and result.shape == reference.shape, key
    excess[key] = float(np.max(abs(result - reference) / rounding_bound(dtype, terms, magnitude)))

def loop_gradient(x, dy, *, stride, pads, dilation, w_shape, groups):
    # By one weight at a time: dw[w] is the convolution with that weight alone, times dy.
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    dw, per_group = np.zeros(w_shape), w_shape[0] // groups
    for o, i, *k in np.ndindex(*w_shape):
        under = tuple(slice(d * a, d * a + s * (n - 1) + 1, s) for d, a, s, n in zip(dilation, k, stride, dy.shape[2:]))
        dw[(o, i, *k)] = (x[(slice(None), o // per_group * w_shape[1] + i, *under)] * dy[:, o]).sum()
    return dw

for dtype in (np.float32, np.float64):
    for n, (x_shape, w_shape, stride, pads, dilation, groups) in enumerate(CASES):
        at = {"stride": stride, "dilation": dilation, "groups": groups}
        x, w, b = normals(n, x_shape, w_shape, w_shape[:1], dtype=dtype)
        exact = {**at, "pads": pads}
        y, pullback = numconv.conv2d_vjp(x, w, b, padding=pads, **at)
        check(f"y {n} {dtype.__name__}", y, lambda *a: loop_conv(*a, **exact), (x, w, b), w[0].size, dtype)
        (dy,) = normals(n + 100, y.shape, dtype=dtype)
        check(f"w {n} {dtype.__name__}", pullback(dy, wrt="w"), lambda *a: loop_gradient(*a, w_shape=w_shape, **exact),
              (x, dy), y.size // y.shape[1], dtype)
        z, c = normals(n + 200, (x_shape[0], w_shape[0], *x_shape[2:]), (groups * w_shape[1],), dtype=dtype)
        check(f"x {n} {dtype.__name__}", numconv.conv_transpose2d(z, w, c, padding=pads, **at),
              lambda *a: loop_conv_transpose(*a, output_padding=(0, 0), **exact), (z, w, c), w.size // w.shape[1], dtype)
"""

# All kernels of the drawer, compiled but not run.
COMPILE = """
import numconv.conv.cpu
from numconv._jit import KERNELS

excess = {}
for kernel in KERNELS:
    kernel.compile("float32")
"""

# The LLVM code and the assembly of each kernel that was compiled, for float32: both scripts begin with it.
REPORT = """
import json
from numconv._jit import KERNELS
from numconv._simd import VECTOR_BYTES

code = {}
for kernel in KERNELS:
    for compiled in kernel._compiled[:1]:
        name = f"{kernel.__wrapped__.__module__}.{kernel.__name__}"
        code[name] = compiled.inspect_llvm(), compiled._library.get_asm_str()
print(json.dumps({"vector_bytes": VECTOR_BYTES, "excess": excess, "code": code}))
"""
