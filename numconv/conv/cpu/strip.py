"""Copying samples into a strip: the one place in the CPU kernels that knows padding and stride."""

from __future__ import annotations

from typing import Any

from ..._jit import njit_inner

Flat = Any  # a one-dimensional NumPy array


@njit_inner
def fill_strip(
    src: Flat,
    base: int,
    src_size: tuple[int, int, int],
    src_first: tuple[int, int, int],
    src_step: tuple[int, int, int],
    shape: tuple[int, int, int, int, int, int],
    depth_start: Flat,
    row_residues: Flat,
    column_residues: Flat,
    begin: tuple[int, int, int],
    fill_rows: int,
    strip: Flat,
) -> None:
    """Fill strip[c, depth tap, row part, column part, r, j] with the samples under a block of outputs, zero outside the source.

    `begin` is the first output of the block on each axis; only the first `fill_rows` rows of the strip are needed. Row r of a
    part holds source row `src_first + residue + src_step * (begin + r)`, and so for columns.
    """
    channels, depths, row_parts, column_parts, strip_rows, width = shape
    step = src_step[2]
    to = 0
    for c in range(channels):
        for z in range(depths):
            q0 = src_step[0] * begin[0] + depth_start[z]
            for rp in range(row_parts):
                for cp in range(column_parts):
                    first = src_first[2] + column_residues[cp] + step * begin[2]
                    left = min(width, max(0, -(first // step)))  # columns before the source starts
                    right = max(left, min(width, -((first - src_size[2]) // step)))  # and where it ends
                    for r in range(fill_rows):
                        q1 = src_first[1] + row_residues[rp] + src_step[1] * (begin[1] + r)
                        row = to + r * width
                        if q0 < 0 or q0 >= src_size[0] or q1 < 0 or q1 >= src_size[1]:
                            for j in range(width):
                                strip[row + j] = 0
                        else:
                            start = base + ((c * src_size[0] + q0) * src_size[1] + q1) * src_size[2] + first
                            for j in range(left):
                                strip[row + j] = 0
                            if step == 1:
                                for j in range(left, right):
                                    strip[row + j] = src[start + j]
                            else:
                                for j in range(left, right):
                                    strip[row + j] = src[start + step * j]
                            for j in range(right, width):
                                strip[row + j] = 0
                    to += strip_rows * width
