"""The machine and the code that a report is about: names, versions, and the two peaks of the roofline, measured."""

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numba
import numpy as np
import peers
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from timing import seconds

from numconv._simd import CPU_NAME, VECTOR_BYTES

CHAINS = 12  # independent sums: enough to hide the latency of a multiply-add, few enough for 16 registers


def facts() -> dict[str, str]:
    """Return what a reader needs to know about the machine and the code, as words."""
    return {
        "CPU": f"{_cpu_model()} ({CPU_NAME}), {os.cpu_count()} cores, vectors of {8 * VECTOR_BYTES} bits",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "threads": f"{numba.get_num_threads()} on either side",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {_version(name)}" for name in ("numpy", "numba", *peers.PACKAGES.values())),
        "code": f"commit {_commit()}",
        "date": date.today().isoformat(),
    }


def peaks(length: int = 1 << 23) -> dict[str, float]:
    """Measure multiply-adds in registers (flops a second, by dtype) and c = a + s * b in memory (bytes a second)."""
    threads = numba.get_num_threads()
    rates = {}
    with ThreadPoolExecutor(threads) as pool:

        def rate(work, f, *arguments):
            for future in [pool.submit(f, *a) for a in zip(*arguments, strict=True)]:  # compiled before it is timed
                future.result()
            return work * threads / min(seconds(lambda: list(pool.map(f, *arguments))) for _ in range(7))

        for dtype in (np.float32, np.float64):
            steps = 2_000_000
            flops = 2 * steps * CHAINS * VECTOR_BYTES // np.dtype(dtype).itemsize
            rates[np.dtype(dtype).name] = rate(flops, _multiply_add, [steps] * threads, [dtype(0.5)] * threads)
        rows = [[np.ones(length, np.float32) for _ in range(threads)] for _ in range(3)]
        rates["bandwidth"] = rate(12 * length, _triad, *rows)
    return rates


@intrinsic
def _chains(typing_context, steps, factor):
    """Run CHAINS sums acc = acc * factor + factor in registers, `steps` times each; return one number of them all."""

    def build(context, builder, signature, args):
        bits = factor.bitwidth
        scalar = context.get_value_type(factor)
        lanes = VECTOR_BYTES * 8 // bits
        vector = ir.VectorType(scalar, lanes)
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{lanes}f{bits}"
        )
        spread = ir.Constant(vector, ir.Undefined)
        for lane in range(lanes):
            spread = builder.insert_element(spread, args[1], ir.Constant(ir.IntType(32), lane))
        before, loop, after = builder.block, builder.append_basic_block("chains"), builder.append_basic_block("summed")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(args[0].type)
        i.add_incoming(ir.Constant(i.type, 0), before)
        sums = [builder.phi(vector) for _ in range(CHAINS)]
        for chain, acc in enumerate(sums):
            acc.add_incoming(ir.Constant(vector, [float(chain)] * lanes), before)
            acc.add_incoming(builder.call(fma, [acc, spread, spread]), loop)
        following = builder.add(i, ir.Constant(i.type, 1))
        i.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[0]), loop, after)
        builder.position_at_end(after)
        total = sums[0]
        for acc in sums[1:]:
            total = builder.fadd(total, acc)
        return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

    return factor(steps, factor), build


@numba.njit(nogil=True)
def _multiply_add(steps, factor):
    return _chains(steps, factor)


@numba.njit(nogil=True, fastmath={"contract"})
def _triad(a, b, c):
    s = np.float32(3)
    for i in range(len(a)):
        c[i] = a[i] + s * b[i]


def _cpu_model() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def _commit() -> str:
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip().replace("-dirty", ", with changes not committed")
