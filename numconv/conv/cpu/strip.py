"""Copying samples into a strip: the one place in the CPU kernels that knows padding and stride."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..._jit import njit_inner
from ..._simd import VECTOR_BYTES, at, copy, int64_pointer, take_vector, zero
from ..geometry import Triple
from .interleave import deal, deal_between
from .lattice import Axes

LINE = 64  # bytes of a cache line

# strip[channel, depth tap, row part, column part, image, row, column]; a plane is what one channel, tap and parts have.
STRIP = np.dtype(
    [
        *((name, np.uint64) for name in ("depth_start", "row_residues", "column_residues")),
        *((name, np.int64) for name in ("depths", "row_parts", "column_parts", "rows", "width", "plane", "lanes", "image_step")),
        *((name, np.int64, (3,)) for name in ("size", "first", "step")),
    ]
)


class Strip(NamedTuple):
    """The layout of a strip that holds `images` blocks of rows x columns outputs, for a number of channels decided later."""

    axes: Axes
    images: int
    rows: int  # of a part of the strip, of one image: outputs and the reach of the taps
    width: int
    itemsize: int
    size: Triple  # of the source
    channels: int  # of one image of the source, all groups
    tables: tuple[np.ndarray[Any, Any], ...]

    @property
    def parts(self) -> int:
        """Planes of one channel."""
        depth, rows, columns = self.axes
        return len(depth.starts) * len(rows.residues) * len(columns.residues)

    @property
    def plane(self) -> int:
        """Numbers in a plane: room for a vector past the end, and an odd number of cache lines, so that planes differ in set."""
        lines = -(-(self.images * self.rows * self.width * self.itemsize + VECTOR_BYTES) // LINE)
        return (lines | 1) * LINE // self.itemsize

    @property
    def record(self) -> Any:
        """What kernels read."""
        depth, rows, columns = self.axes
        record = np.zeros((), STRIP)
        for name, table in zip(("depth_start", "row_residues", "column_residues"), self.tables, strict=True):
            record[name] = table.ctypes.data
        record["depths"], record["row_parts"], record["column_parts"] = (
            len(depth.starts),
            len(rows.residues),
            len(columns.residues),
        )
        record["rows"], record["width"], record["plane"] = self.rows, self.width, self.plane
        record["lanes"], record["size"] = VECTOR_BYTES // self.itemsize, self.size
        record["image_step"] = self.channels * self.size[0] * self.size[1] * self.size[2]
        record["first"], record["step"] = [a.first for a in self.axes], [a.src_step for a in self.axes]
        return record


def strip(axes: Axes, block: tuple[int, int, int], itemsize: int, size: Triple, channels: int, least_width: int = 0) -> Strip:
    """Lay out a strip for blocks of images x rows x columns of outputs."""
    images, rows, columns = block
    width = max(least_width, columns + axes[2].reach)
    tables = tuple(np.array(t, np.int64) for t in (axes[0].starts, axes[1].residues, axes[2].residues))
    return Strip(axes, images, rows + axes[1].reach, width, itemsize, size, channels, tables)


@njit_inner
def fill_strip(s: Any, src: Any, channels: int, images: int, begin: Any, rows: int, columns: int, strip: Any) -> None:
    """Fill `rows` x `columns` of each plane with the samples under a block of outputs, zero outside the source.

    `src` points to the first channel of the first image; `begin` is the first output on each axis. Row r of a part holds source
    row `first + residue + step * (begin + r)`, and so for columns. What is left of each row, the rows between images and a vector
    after the last are zeros.
    """
    depth_start, row_residues = int64_pointer(s.depth_start), int64_pointer(s.row_residues)
    residues, step, lanes = int64_pointer(s.column_residues), s.step[2], s.lanes
    size0, size1, size2, row_parts, parts = s.size[0], s.size[1], s.size[2], s.row_parts, s.column_parts
    row_step, width, plane, plane_rows, image_step = s.step[1], s.width, s.plane, s.rows, s.image_step
    first = s.first[2] + step * begin[2]
    dealt = parts == step and (step == 2 or step == 4)
    high = min(size2 - first, step * columns)
    for cp in range(1 if dealt else parts):
        here = first + residues[cp]
        left = min(columns, max(0, -(here // step)))  # columns before the source starts
        right = max(left, min(columns, -((here - size2) // step)))  # and where it ends
        for c in range(channels):
            for z in range(s.depths):
                q0 = s.step[0] * begin[0] + depth_start[z]
                for rp in range(row_parts):
                    part = at(strip, (((c * s.depths + z) * row_parts + rp) * parts + cp) * plane)
                    q1_first = s.first[1] + row_residues[rp] + row_step * begin[1]
                    for i in range(images):
                        for r in range(rows):
                            q1 = q1_first + row_step * r
                            inside = 0 <= q0 < size0 and 0 <= q1 < size1
                            row = at(part, (i * plane_rows + r) * width)
                            line = at(src, i * image_step + ((c * size0 + q0) * size1 + q1) * size2 + here)
                            if dealt:
                                deal_row(line, step, -first, high if inside else -first, width, lanes, row, plane)
                            elif inside:
                                fill_row(line, step, left, right, width, lanes, row)
                            else:
                                fill_row(line, step, 0, 0, width, lanes, row)
                    for tail in range(parts if dealt else 1):
                        clear_gaps(at(part, tail * plane), images, plane_rows, rows, width, lanes)


@njit_inner
def clear_gaps(part: Any, images: int, plane_rows: int, rows: int, width: int, lanes: int) -> None:
    """Write zeros after the rows of each image, and in a vector after the last."""
    gap = (plane_rows - rows) * width
    if gap:
        for i in range(1, images):
            zero(at(part, i * plane_rows * width - gap), gap)
    zero(at(part, ((images - 1) * plane_rows + rows) * width), lanes)


@njit_inner
def deal_row(line: Any, step: int, low: int, high: int, width: int, lanes: int, row: Any, plane: int) -> None:
    """row[part, j] = line[step * j + part] where low <= step * j + part < high, zero elsewhere, for each part < step."""
    for j in range(0, width, lanes):
        u = step * j
        whole = low <= u and u + step * lanes <= high
        if step == 2:
            if whole:
                deal(at(line, u), at(row, j), plane, 2)
            else:
                deal_between(at(line, u), low - u, high - u, at(row, j), plane, 2)
        elif whole:
            deal(at(line, u), at(row, j), plane, 4)
        else:
            deal_between(at(line, u), low - u, high - u, at(row, j), plane, 4)


@njit_inner
def fill_row(line: Any, step: int, left: int, right: int, width: int, lanes: int, row: Any) -> None:
    """row[j] = line[step * j] for left <= j < right, zero elsewhere; up to a vector past the width may be written too."""
    if step == 1 and width < 8 * lanes:
        for j in range(0, width, lanes):
            take_vector(line, 1, j, left, right, at(row, j))
    elif step == 2:
        for j in range(0, width, lanes):
            take_vector(line, 2, j, left, right, at(row, j))
    else:
        zero(row, left)
        if step == 1:
            copy(at(row, left), at(line, left), right - left)
        else:
            for j in range(left, right):
                row[j] = line[step * j]
        zero(at(row, right), width - right)
