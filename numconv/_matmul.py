"""A product of matrices on the register tile, for float32 and float64: the sums of every element in one order, on any machine.

    c[m, n] = bias[n] + sum over k of a[m * a_row + k * a_step] * b[k * b_step + n * b_lane]

The right factor is packed into panels as wide as the tile; blocks of the left factor stay in a core's own cache meanwhile.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ._jit import Job, kernel, njit_inner, scratch, workers
from ._simd import TILES, VECTOR_BYTES, at, copy, int32_pointer, number, outer_tile, pointer, zero

Array = np.ndarray[Any, Any]

ROWS, VECTORS = TILES[0]
DEPTH = 256  # of a block of the sum: a panel of the right factor so deep fills half of a first-level cache of 32 KiB
HEIGHT = 16 * ROWS  # of a block of the left factor: less than half of a second-level cache of 256 KiB or more
_NEAR = 32  # terms packed together
# Panels of the right factor for which packing the left one pays: 79 to 85 GFLOP/s a core, not 64 to 70, at 1000 x 1000.
_WORTH = 8

_JOB = Job(
    "a b c bias packed scratch a_row_offset a_step_offset b_offset",
    m=1, n=1, k=1, a_row=1, a_step=1, b_step=1, b_lane=1, lanes=1, columns=1, pack_left=1, spare_bytes=1, scratch_bytes=1,
)  # fmt: skip


def matmul(
    a: Array, a_strides: tuple[int, int], b: Array, b_strides: tuple[int, int], c: Array, k: int, bias: Array | None
) -> None:
    """Fill `c`, contiguous, with the product; strides count numbers, (rows, terms) of `a` and (terms, columns) of `b`."""
    m, n = c.shape
    if c.size == 0:
        return
    plan = _plan(m, n, k, a_strides, b_strides, c.itemsize)
    threads = workers(plan.tasks, m * n * k)
    memory = scratch(plan.packed_bytes + threads * plan.scratch_bytes)
    _pack(workers(plan.panels, n * k), c.dtype, plan.job, b=b, packed=memory)
    _multiply(threads, c.dtype, plan.job, a=a, c=c, bias=bias, packed=memory, scratch=memory + plan.packed_bytes)


class _Plan:
    def __init__(self, m: int, n: int, k: int, a_strides: tuple[int, int], b_strides: tuple[int, int], itemsize: int) -> None:
        lanes = VECTOR_BYTES // itemsize
        width = VECTORS * lanes
        self.panels = -(-n // width)
        self.offsets = (
            (np.arange(ROWS) * a_strides[0]).astype(np.int32),
            (np.arange(min(k, DEPTH)) * a_strides[1]).astype(np.int32),
            (np.arange(min(k, DEPTH)) * width).astype(np.int32),
        )
        row_blocks = -(-m // HEIGHT)
        # Blocks of columns, so that few rows make work for several threads too: a number that no sum depends on.
        columns = -(-self.panels // max(1, min(self.panels, -(-8 // row_blocks)))) * width
        self.tasks = row_blocks * -(-n // columns)
        self.packed_bytes = -(-self.panels * width * k * itemsize // 64) * 64
        spare_bytes = -(-ROWS * width * itemsize // 64) * 64
        pack_left = columns // width >= _WORTH
        self.scratch_bytes = spare_bytes + pack_left * HEIGHT * min(k, DEPTH) * itemsize
        names = ("a_row_offset", "a_step_offset", "b_offset")
        self.job = _JOB.fill(
            **{name: table.ctypes.data for name, table in zip(names, self.offsets, strict=True)},
            m=m, n=n, k=k, a_row=a_strides[0], a_step=a_strides[1], b_step=b_strides[0], b_lane=b_strides[1], lanes=lanes,
            columns=columns, pack_left=pack_left, spare_bytes=spare_bytes, scratch_bytes=self.scratch_bytes,
        )  # fmt: skip


_plan = lru_cache(256)(_Plan)


@kernel(_JOB)
def _pack(worker: int, workers: int, job: Any, like: Any) -> None:
    """packed[panel, k, lanes of the panel] = b[k, n], zero past the last column."""
    b, packed, width = pointer(job.b, like), pointer(job.packed, like), VECTORS * job.lanes
    n, k, b_step, b_lane = job.n, job.k, job.b_step, job.b_lane
    panels = (n + width - 1) // width
    for panel in range(worker * panels // workers, (worker + 1) * panels // workers):
        used, source = min(width, n - panel * width), at(b, panel * width * b_lane)
        for first in range(0, k, _NEAR):  # so few terms of all columns at a time that they stay near
            for j in range(width):
                to, line = at(packed, panel * k * width + j), at(source, j * b_lane)
                for i in range(first, min(k, first + _NEAR)):
                    to[i * width] = line[i * b_step] if j < used else number(like, 0)


@kernel(_JOB)
def _multiply(worker: int, workers: int, job: Any, like: Any) -> None:
    """Fill one worker's blocks of rows and columns of c."""
    m, n, columns = job.m, job.n, job.columns
    column_blocks = (n + columns - 1) // columns
    tasks = (m + HEIGHT - 1) // HEIGHT * column_blocks
    for task in range(worker * tasks // workers, (worker + 1) * tasks // workers):
        row, column = task // column_blocks * HEIGHT, task % column_blocks * columns
        height, width = min(HEIGHT, m - row), min(columns, n - column)
        c, bias = pointer(job.c, like), pointer(job.bias, like)
        for r in range(row, row + height):
            if job.bias:
                copy(at(c, r * n + column), at(bias, column), width)
            else:
                zero(at(c, r * n + column), width)
        _add_block(job, like, worker, row, height, column, width)


@njit_inner
def _add_block(job: Any, like: Any, worker: int, row: int, height: int, column: int, width: int) -> None:
    """Add the products to a block of c, one depth of terms after the other."""
    n, k, panel_width = job.n, job.k, VECTORS * job.lanes
    a, c, packed = pointer(job.a, like), pointer(job.c, like), pointer(job.packed, like)
    memory = job.scratch + np.uint64(worker * job.scratch_bytes)
    spare, block = pointer(memory, like), pointer(memory + np.uint64(job.spare_bytes), like)
    a_rows, a_steps, b_steps = int32_pointer(job.a_row_offset), int32_pointer(job.a_step_offset), int32_pointer(job.b_offset)
    for first in range(0, k, DEPTH):
        depth = min(DEPTH, k - first)
        if job.pack_left:
            _pack_left(at(a, row * job.a_row + first * job.a_step), job.a_row, job.a_step, height // ROWS, depth, block)
        for j in range(column, column + width, panel_width):
            right, used = at(packed, (j // panel_width * k + first) * panel_width), min(panel_width, n - j)
            for r in range(row, row + height, ROWS):
                left, to = at(a, r * job.a_row + first * job.a_step), at(c, r * n + j)
                rows = min(ROWS, row + height - r)
                if rows == ROWS and used == panel_width and job.pack_left:
                    outer_tile(at(block, (r - row) * depth), ROWS, 1, right, b_steps, to, n, depth, True, ROWS, VECTORS)
                elif rows == ROWS and used == panel_width:
                    outer_tile(left, a_steps, a_rows, right, b_steps, to, n, depth, True, ROWS, VECTORS)
                elif rows == ROWS:
                    outer_tile(left, a_steps, a_rows, right, b_steps, spare, panel_width, depth, False, ROWS, VECTORS)
                    _add_spare(spare, panel_width, rows, used, to, n)
                else:
                    for i in range(rows):
                        one = at(left, i * job.a_row)
                        outer_tile(one, a_steps, 0, right, b_steps, spare, panel_width, depth, False, 1, VECTORS)
                        _add_spare(spare, panel_width, 1, used, at(to, i * n), n)


@njit_inner
def _pack_left(a: Any, a_row: int, a_step: int, blocks: int, depth: int, block: Any) -> None:
    """block[rows / ROWS, k, row] = a[row, k], for whole blocks of rows."""
    for r in range(blocks):
        source, to = at(a, r * ROWS * a_row), at(block, r * ROWS * depth)
        for i in range(depth):
            for m in range(ROWS):
                to[i * ROWS + m] = source[m * a_row + i * a_step]


@njit_inner
def _add_spare(spare: Any, width: int, rows: int, used: int, c: Any, n: int) -> None:
    """Add a tile that c has not room for."""
    for r in range(rows):
        for j in range(used):
            c[r * n + j] += spare[r * width + j]
