"""Rows of tiles of samples, changed to a basis of Winograd's method: through a strip where channels come last."""

from __future__ import annotations

from typing import Any

from ..._jit import njit_inner
from ..._simd import VECTOR_BYTES, at, prefetch, zero
from .winograd_basis import to_x, to_y, transpose, transpose_part
from .winograd_tiles import Tiling


def whole_lines(numbers: int, itemsize: int) -> int:
    """Round up to an odd number of lines of cache: what lies so far apart does not compete for the same places in it."""
    return (-(-numbers * itemsize // 64) | 1) * 64 // itemsize


def strip_size(t: Tiling, columns: int, itemsize: int) -> int:
    """Numbers in the strip that a row of `columns` tiles takes, for as many channels as a line of cache has."""
    down, across = t.axes
    return down.n * across.src_step * (across.m * columns + across.n) * 64 // itemsize + (VECTOR_BYTES // itemsize) ** 2


@njit_inner
def place_of(t: Any, image: int) -> Any:
    """Return batch index, slice of the result and residues of rows and columns of an image in the sense of tilings."""
    rest = image // t.residues[1]
    planes = rest // t.residues[0]
    return planes // t.slices, planes % t.slices, rest % t.residues[0], image % t.residues[1]


@njit_inner
def samples_to_basis(
    t: Any, src: Any, channels: int, groups: int, h: int, place: Any, first: Any, columns: int, lanes: int, strip: Any, to: Any,
    layout: Any,
) -> None:  # fmt: skip
    """to[f, tile, c] = (B' x B)[f] for a row of tiles from `first`, and all channels of a group and all their parts."""
    n, z, row, column = place
    depth, height, width = t.src_size[0], t.src_size[1], t.src_size[2]
    top, left = (
        t.src_step[0] * first[0] * t.m[0] + t.src_first[0] + row,
        t.src_step[1] * first[1] * t.m[1] + t.src_first[1] + column,
    )
    part = 0
    for tap in range(t.depth):
        q = t.slice_step * z + t.slice_tap * tap + t.slice_first
        known = q % t.slice_every == 0 and 0 <= q < depth * t.slice_every
        plane = ((n * groups + h) * channels * depth + (q // t.slice_every if known else 0)) * height * width
        size = (depth * height * width, height if known else 0, width)  # a slice of padding has no rows
        for i in range(t.src_parts[0]):
            row_to_basis(
                t, False, at(src, plane), size, (top + i, left), (t.src_step[0], t.src_step[1]), t.src_parts[1], columns,
                channels, lanes, strip, at(to, part * channels), layout,
            )  # fmt: skip
            part += t.src_parts[1]


@njit_inner
def row_to_basis(
    t: Any, of_y: bool, src: Any, size: Any, first: Any, step: Any, parts: int, columns: int, channels: int, lanes: int,
    strip: Any, to: Any, layout: Any,
) -> None:  # fmt: skip
    """to[f, tile, c] = (B' x B)[f] for a row of windows of n samples x, (A y A')[f] for m samples y, from a row and column.

    `size` is (stride of channels, height, width) of src, zero outside; `layout` the strides of f and tiles in `to`. Columns are
    changed in the strip, where neighbouring tiles and parts share them, then rows from there: with several parts, a channel of
    its own each, samples of all columns lie in the strip, else those of every `step`-th.
    """
    pitch, tile = layout
    n0, n1, m1, kind0, kind1 = t.n[0], t.n[1], t.m[1], t.kind[0], t.kind[1]
    reach0, samples = (t.m[0], m1 * columns) if of_y else (n0, m1 * columns + n1 - m1)
    gap, step = (step[1], (step[0], 1)) if parts > 1 else (1, step)
    width = gap * (samples - 1) + parts
    line, piece = width * lanes, 64 // VECTOR_BYTES * lanes
    for begin in range(0, channels, piece):
        end = min(begin + piece, channels)
        for c in range(begin, end, lanes):
            start = max(0, min(c, channels - lanes))  # the last vector overlaps its neighbour
            part = at(strip, (c - begin) // lanes * n0 * line)
            _fill(at(src, start * size[0]), min(lanes, channels), size, first, step, reach0, width, lanes, part)
            if kind0 > 0:
                for j in range(0, line, lanes):
                    if of_y:
                        to_y(kind0, at(part, j), line, at(part, j), line)
                    else:
                        to_x(kind0, at(part, j), line, at(part, j), line)
        for j in range(parts):
            for k in range(columns):
                for c in range(begin, end, lanes):
                    part = at(strip, (c - begin) // lanes * n0 * line + (k * m1 * gap + j) * lanes)
                    place = at(to, k * tile + j * channels + max(0, min(c, channels - lanes)))
                    for i in range(n0):
                        if of_y:
                            to_y(kind1, at(part, i * line), gap * lanes, at(place, i * n1 * pitch), pitch)
                        else:
                            to_x(kind1, at(part, i * line), gap * lanes, at(place, i * n1 * pitch), pitch)


@njit_inner
def _fill(src: Any, count: int, size: Any, first: Any, step: Any, rows: int, width: int, lanes: int, strip: Any) -> None:
    """strip[i, j, c] = src[c, top + i * down, left + j * across], zero outside, for `count` channels; and a square beyond."""
    plane, height, columns = size
    (top, left), (down, across) = first, step
    low = min(max(0, -(left // across)), width)
    high = max(low, min(width, -((left - columns) // across)))
    squares = width if width % lanes > 2 else width - width % lanes  # a square costs as much as some three columns of scalars
    if across > 2:
        squares = 0
    for i in range(rows):
        q = top + i * down
        to, source = at(strip, i * width * lanes), at(src, q * columns + left)
        if q < 0 or q >= height:
            zero(to, width * lanes)
            continue
        for j in range(0, squares, lanes):
            for c in range(lanes, 2 * lanes):  # the next channels' rows: too short for the machine to see them coming
                prefetch(at(source, c * plane + j * across))
            if across == 2:
                transpose_part(source, plane, 2, j, low, high, count, at(to, j * lanes))
            elif count == lanes and low <= j and j + lanes <= high:
                transpose(at(source, j), plane, at(to, j * lanes), lanes)
            else:
                transpose_part(source, plane, 1, j, low, high, count, at(to, j * lanes))
        for j in range(squares, width):
            column, sample = at(to, j * lanes), at(source, j * across)
            if low <= j < high:
                for c in range(count):
                    column[c] = sample[c * plane]
            else:
                zero(column, lanes)
