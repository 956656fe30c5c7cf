"""The emulator itself: what it must run, and what it must not let pass."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from numconv._cuda import Program

from .emulator import H200, MISSING, Emulator, guarded

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

ROOT = Path(__file__).parents[2]

KERNELS = r"""
struct Mixed { long long one; double two[2]; };

extern "C" __global__ void reversed(const float* a, float* b)
{
    __shared__ float tile[96];
    tile[threadIdx.x] = a[blockIdx.x * blockDim.x + threadIdx.x];
    __syncthreads();
    b[blockIdx.x * blockDim.x + threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void reversed_without_barrier(const float* a, float* b)
{
    __shared__ float tile[96];
    tile[threadIdx.x] = a[threadIdx.x];
    b[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void overwritten_too_early(const float* a, float* b, int rounds)
{
    __shared__ float tile[96];
    float sum = 0;
    for (int r = 0; r < rounds; ++r) {
        tile[threadIdx.x] = a[threadIdx.x] + r;
        __syncthreads();
        sum += tile[blockDim.x - 1 - threadIdx.x];
    }
    b[threadIdx.x] = sum;
}

extern "C" __global__ void shared_as_found(float* b)
{
    __shared__ float tile[32];
    b[threadIdx.x] = tile[threadIdx.x];
    tile[threadIdx.x] = 1;
}

extern "C" __global__ void shuffled(const int* a, int* sums, int* from_below, int* wrapped, int* swapped)
{
    const int t = threadIdx.x;
    int sum = a[t];
    for (int by = 16; by; by /= 2) sum += __shfl_down_sync(~0u, sum, by);
    sums[t] = __shfl_sync(~0u, sum, 0);
    from_below[t] = __shfl_up_sync(~0u, a[t], 1, 8);
    wrapped[t] = __shfl_sync(~0u, a[t], 33);
    if (t & 4) swapped[t] = __shfl_xor_sync(0xf0f0f0f0u, a[t], 1);
    else swapped[t] = __shfl_xor_sync(0x0f0f0f0fu, a[t], 2);
    __syncwarp();
}

extern "C" __global__ void barrier_for_some(float* b)
{
    if (threadIdx.x < 7) __syncthreads();
    b[threadIdx.x] = 0;
}

extern "C" __global__ void two_barriers(float* b)
{
    if (threadIdx.x < 7) __syncthreads();
    else
        __syncthreads();
    b[threadIdx.x] = 0;
}

extern "C" __global__ void lane_missing(float* b)
{
    if (threadIdx.x != 3) b[threadIdx.x] = __shfl_sync(~0u, 1.0f, 0);
}

extern "C" __global__ void copied(const float* a, float* b, int count)
{
    if (threadIdx.x < count) b[threadIdx.x] = a[threadIdx.x];
}

extern "C" __global__ void order_of_threads(int* order, int* next) { order[(*next)++] = blockIdx.x * blockDim.x + threadIdx.x; }

extern "C" __global__ void mixed(const Mixed m, double* b) { b[0] = m.one, b[1] = m.two[0], b[2] = m.two[1]; }
"""


def run(name, grid, block, *args, seed=0):
    Emulator(seed).compile(Program(KERNELS, name), H200)((grid,), (block,), args)


def integer(value):
    """An int by value: a struct of one field is laid out like the field."""
    return np.array((value,), [("value", np.int32)])


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_shared_memory_and_barriers(seed):
    a, b = np.arange(5 * 96, dtype=np.float32), guarded((5 * 96,), np.float32)
    run("reversed", 5, 96, a, b, seed=seed)
    np.testing.assert_array_equal(b.reshape(5, 96), a.reshape(5, 96)[:, ::-1])


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_a_missing_barrier_leaves_poison(seed):
    a, b = np.arange(96, dtype=np.float32), guarded((96,), np.float32)
    run("reversed_without_barrier", 1, 96, a, b, seed=seed)
    assert np.isnan(b).any()


def test_a_race_between_rounds_shows_under_unfair_seeds():
    a, wrong = np.arange(96, dtype=np.float32), []
    for seed in (2, 3):
        b = guarded((96,), np.float32)
        run("overwritten_too_early", 1, 96, a, b, integer(2), seed=seed)
        wrong.append(not np.array_equal(b, 2 * a[::-1] + 1))
    assert any(wrong)


def test_shared_memory_starts_as_nan_in_every_block():
    b = np.zeros(32, np.float32)
    run("shared_as_found", 3, 32, b)
    assert np.isnan(b).all()


@pytest.mark.parametrize("seed", [0, 2, 3])
def test_shuffles(seed):
    a, t = np.arange(64, dtype=np.int32) ** 2, np.arange(64)
    sums, from_below, wrapped, swapped = (np.zeros(64, np.int32) for _ in range(4))
    run("shuffled", 1, 64, a, sums, from_below, wrapped, swapped, seed=seed)
    np.testing.assert_array_equal(sums, a.reshape(2, 32).sum(1).repeat(32))
    np.testing.assert_array_equal(from_below, np.where(t % 8 == 0, a, np.roll(a, 1)))
    np.testing.assert_array_equal(wrapped, a[t // 32 * 32 + 1])
    np.testing.assert_array_equal(swapped, a[np.where(t & 4, t ^ 1, t ^ 2)])


def test_seeds_change_the_order():
    orders = []
    for seed in (0, 2, 3):
        order = guarded((160,), np.int32)
        run("order_of_threads", 2, 80, order, np.zeros(1, np.int32), seed=seed)
        assert sorted(order) == list(range(160))
        orders.append(order.tolist())
    assert orders[0] == list(range(160))
    assert orders[0] != orders[1] != orders[2]


def test_structs_of_several_types():
    b = np.zeros(3)
    run("mixed", 1, 1, np.array((3, (0.5, 0.25)), [("one", np.int64), ("two", np.float64, 2)]), b)
    assert b.tolist() == [3, 0.5, 0.25]


def test_parameters_of_the_wrong_number_or_size_are_refused():
    a = np.zeros(4, np.float32)
    for args in [(a,), (a, a, a), (a, a.astype(np.float64), integer(1)), (a, a, np.array((1,), [("value", np.int64)]))]:
        with pytest.raises(TypeError, match="takes parameters of sizes"):
            run("copied", 1, 4, *args)
    with pytest.raises(TypeError, match="contiguous"):
        run("copied", 1, 2, a[::2], a, integer(2))


def test_guarded_arrays_are_poisoned_or_lazy():
    assert np.isnan(guarded((3, 5), np.float64)).all()
    assert guarded((0, 5), np.float32).shape == (0, 5)
    lazy = guarded((1 << 36,), np.float32, poisoned=False)  # 256 GiB
    assert lazy[-1] == lazy[0] == 0


@pytest.mark.parametrize(
    ("name", "args", "death", "message"),
    [
        ("barrier_for_some", "b", signal.SIGABRT, "not all threads reach it"),
        ("two_barriers", "b", signal.SIGABRT, "some threads wait on one line, some on another"),
        ("lane_missing", "b", signal.SIGABRT, "not all threads reach it"),
        ("copied", "guarded((31,), 'f4'), b, integer(32)", signal.SIGSEGV, ""),
        ("copied", "b, guarded((31,), 'f4'), integer(32)", signal.SIGSEGV, ""),
        ("copied", "None, b, integer(32)", signal.SIGSEGV, ""),
    ],
)
@pytest.mark.parametrize("seed", [0, 2])
def test_faults_end_the_process(name, args, death, message, seed):
    code = f"from {__name__} import *; b = guarded((32,), 'f4'); run({name!r}, 1, 32, {args}, seed={seed})"
    died = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert died.returncode == -death, died.stderr
    assert message in died.stderr
