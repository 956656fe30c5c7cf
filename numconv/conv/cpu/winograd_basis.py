"""The basis in which a 3x3 convolution is a product: its matrices, and the intrinsics that change to it and back, in vectors.

In one dimension, with matrices B, G and A of Toom and Cook (Winograd 1980; Lavin and Gray 2016, arXiv:1509.09308), m outputs y,
3 taps w and n = m + 2 samples x,

    T(x, w, y) = sum over p,k of y[p] * w[k] * x[p + k] = sum over f of (B'x)[f] * (G w)[f] * (A y)[f],

for T is the value at infinity and the product of values at n - 1 points of polynomials. In two dimensions each matrix acts on
rows and on columns: B' x B, G w G', A y A'. Leaving one argument open leaves the transpose of its own matrix: A' m A gives y.
Whatever runs here runs over a vector of channels at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..._jit import njit_inner
from ..._simd import REGISTERS, VECTOR_BYTES, at, fma, load_vector, shuffle, store_vector, zero

Matrix = np.ndarray[Any, Any]
Values = list[Any]

# Points at which polynomials are evaluated, beside 0 and infinity, in pairs of opposite sign. For m = 4 the customary 1 and 2
# make 4 times the error of 3/4 and 3/2, whose powers are exact in binary as well (float32, 64 channels: 6e-6 and 1.4e-6).
POINTS = {2: (1.0,), 4: (0.75, 1.5)}

# Shapes of the register tile, (rows, vectors): the first divides the usual powers of two, the second fits other counts.
SHAPES = ((6, 4), (14, 2)) if REGISTERS == 32 else ((6, 2), (4, 3))


class Basis(NamedTuple):
    """B', G and A, each the product of a matrix of pairs (sums and differences) and a sparse one."""

    pairs: Matrix
    x: Matrix
    w: Matrix
    y: Matrix


def basis(m: int) -> Basis:
    """Return the basis of m outputs and 3 taps: B' = pairs @ x, G = pairs @ w, A = pairs @ y."""
    points = (0.0, *(s * p for p in POINTS[m] for s in (1, -1)))
    n = len(points) + 1
    b, g, a = np.zeros((n, n)), np.zeros((n, 3)), np.zeros((n, m))
    for f, point in enumerate(points):
        others = [p for p in points if p != point]
        b[f, : n - 1] = np.poly(others)[::-1]
        g[f] = point ** np.arange(3) / np.prod([point - p for p in others])
        a[f] = point ** np.arange(m)
    b[-1], g[-1, -1], a[-1, -1] = np.poly(points)[::-1], 1, 1
    # Rows of opposite points are the sum and the difference of an even and an odd part, which they share.
    pairs = np.eye(n)
    for f in range(1, n - 1, 2):
        pairs[f : f + 2, f : f + 2] = [[1, 1], [1, -1]]
    return Basis(pairs, *(np.linalg.inv(pairs) @ matrix for matrix in (b, g, a)))


def whole_lines(numbers: int, itemsize: int) -> int:
    """Round up to an odd number of lines of cache: what lies so far apart does not compete for the same places in it."""
    return (-(-numbers * itemsize // 64) | 1) * 64 // itemsize


@intrinsic(prefer_literal=True)
def transform_x(typing_context, m, source, row, to, step):  # type: ignore[no-untyped-def]
    """to[f] = (B' x B)[f] for a square x of vectors: x[i, j] at `row * i + lanes * j`, f at `step * f`; m is a literal."""
    return _square(m, source, row, to, step, "x")


@intrinsic(prefer_literal=True)
def transform_y(typing_context, m, source, row, to, step):  # type: ignore[no-untyped-def]
    """to[f] = (A y A')[f], as `transform_x`."""
    return _square(m, source, row, to, step, "y")


@intrinsic(prefer_literal=True)
def transform_w(typing_context, m, source, first, last, channel_step, tap_step, to, step):  # type: ignore[no-untyped-def]
    """to[f] = (G w G')[f], for a vector of channels from `first`, those past `last` repeating it; f at `step * f`.

    Taps are at `channel_step * channel + tap_step * tap`: a negative step turns the weights round.
    """
    code = _Code(source.dtype, m.literal_value)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, source, first, last, channel_step, tap_step, to, step = args
        channels = [builder.add(first, _int(lane)) for lane in range(code.lanes)]
        channels = [builder.select(builder.icmp_signed("<", c, last), c, last) for c in channels]
        lanes = [builder.gep(source, [builder.mul(channel_step, c)]) for c in channels]
        taps = [[code.gather(builder, lanes, builder.mul(tap_step, _int(3 * i + j))) for j in range(3)] for i in range(3)]
        code.store(builder, code.sandwich(builder, code.to_basis("w"), taps), to, lambda f: builder.mul(step, _int(f)))
        return context.get_dummy_value()

    return types.void(m, source, *[types.intp] * 4, to, types.intp), build


@intrinsic(prefer_literal=True)
def restore_y(typing_context, m, source, step, bias, to):  # type: ignore[no-untyped-def]
    """to[p] = (A' source A)[p] + bias for m * m outputs p, a vector after the other; source[f] is at `step * f`."""
    return _restored(m, source, step, bias, to, "y")


@intrinsic(prefer_literal=True)
def restore_w(typing_context, m, source, step, to):  # type: ignore[no-untyped-def]
    """to[k] = (G' source G)[k] for 9 taps k, a vector after the other; source[f] is at `step * f`."""
    return _restored(m, source, step, None, to, "w")


@intrinsic
def transpose(typing_context, source, row, to, to_row):  # type: ignore[no-untyped-def]
    """to[j * to_row + i] = source[i * row + j], lanes by lanes, by exchanging halves, quarters and so on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, row, to, to_row = args
        code = _Code(signature.args[0].dtype, 0)
        rows = [load_vector(builder, source, builder.mul(row, _int(i)), code.vector) for i in range(code.lanes)]
        distance = code.lanes // 2
        while distance:
            low = [j if not j & distance else code.lanes + (j ^ distance) for j in range(code.lanes)]
            high = [j ^ distance if not j & distance else code.lanes + j for j in range(code.lanes)]
            for i in range(code.lanes):
                if not i & distance:
                    pair = rows[i], rows[i | distance]
                    rows[i], rows[i | distance] = (shuffle(builder, *pair, lanes) for lanes in (low, high))
            distance //= 2
        for i in range(code.lanes):
            store_vector(builder, rows[i], to, builder.mul(to_row, _int(i)))
        return context.get_dummy_value()

    return types.void(source, types.intp, to, types.intp), build


@njit_inner
def row_to_basis(
    src: Any,
    size: Any,
    window: Any,
    columns: int,
    m: int,
    reach: int,
    channels: int,
    lanes: int,
    strip: Any,
    to: Any,
    layout: Any,
) -> None:
    """to[f, t, c] = (B' x B)[f] for the windows t of a row of tiles if they reach m + 2 samples, (A y A')[f] if they reach m.

    `size` is (stride of channels, height, width) of src, zero outside; `window` the first row and column; `layout` the strides
    of f and t in `to`. Through `strip`, where the row lies channels last, as many channels as a line of cache takes.
    """
    plane, height, width = size
    top, left = window
    step, pitch = layout
    line = (m * columns + reach - m) * lanes
    piece = 64 // VECTOR_BYTES * lanes
    for begin in range(0, channels, piece):
        end = min(begin + piece, channels)
        for c in range(begin, end, lanes):
            first = max(0, min(c, channels - lanes))  # the last vector overlaps its neighbour
            part = at(strip, (c - begin) // lanes * reach * line)
            _fill(at(src, first * plane), min(lanes, channels), plane, height, width, top, left, reach, line, lanes, part)
        for t in range(columns):
            for c in range(begin, end, lanes):
                part = at(strip, (c - begin) // lanes * reach * line + t * m * lanes)
                place = at(to, t * pitch + max(0, min(c, channels - lanes)))
                if reach == 6:
                    transform_x(4, part, line, place, step)
                elif m == 4:
                    transform_y(4, part, line, place, step)
                elif reach == 4:
                    transform_x(2, part, line, place, step)
                else:
                    transform_y(2, part, line, place, step)


@njit_inner
def _fill(
    src: Any, count: int, plane: int, height: int, width: int, top: int, left: int, rows: int, line: int, lanes: int, strip: Any
) -> None:
    """strip[i, j, c] = src[c, top + i, left + j], zero outside, for `count` channels."""
    low = min(max(0, -left), line // lanes)
    high = max(low, min(width - left, line // lanes))
    for i in range(rows):
        to, source = at(strip, i * line), at(src, (top + i) * width + left)
        if top + i < 0 or top + i >= height:
            zero(to, line)
            continue
        zero(to, low * lanes)
        zero(at(to, high * lanes), line - high * lanes)
        if count == lanes and high - low >= lanes:
            for j in range(low, high - lanes, lanes):
                transpose(at(source, j), plane, at(to, j * lanes), lanes)
            transpose(at(source, high - lanes), plane, at(to, (high - lanes) * lanes), lanes)
        else:
            for c in range(count):
                channel = at(source, c * plane + low)  # indices of pointers do not go below 0
                for j in range(high - low):
                    to[(low + j) * lanes + c] = channel[j]


def _square(m: Any, source: Any, row: Any, to: Any, step: Any, name: str) -> Any:
    code = _Code(source.dtype, m.literal_value)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, source, row, to, step = args
        size = range(getattr(code.basis, name).shape[1])
        place = [[builder.add(builder.mul(row, _int(i)), _int(j * code.lanes)) for j in size] for i in size]
        values = [[load_vector(builder, source, p, code.vector) for p in line] for line in place]
        code.store(builder, code.sandwich(builder, code.to_basis(name), values), to, lambda f: builder.mul(step, _int(f)))
        return context.get_dummy_value()

    return types.void(m, source, types.intp, to, types.intp), build


def _restored(m: Any, source: Any, step: Any, bias: Any, to: Any, name: str) -> Any:
    code = _Code(source.dtype, m.literal_value)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, step, to = args[1], args[2], args[-1]
        n = len(code.basis.pairs)
        place = [[builder.mul(step, _int(n * i + j)) for j in range(n)] for i in range(n)]
        values = [[load_vector(builder, source, p, code.vector) for p in line] for line in place]
        answer = code.sandwich(builder, code.from_basis(name), values)
        if bias is not None:
            add = load_vector(builder, args[3], _int(0), code.vector)
            answer = [[builder.fadd(value, add) for value in line] for line in answer]
        code.store(builder, answer, to, lambda f: _int(f * code.lanes))
        return context.get_dummy_value()

    return types.void(m, source, types.intp, *([bias] if bias is not None else []), to), build


class _Code:
    """Builds the code of transforms for one kind of number and one basis."""

    def __init__(self, dtype: Any, m: int) -> None:
        self.lanes = VECTOR_BYTES * 8 // dtype.bitwidth
        self.vector = ir.VectorType(ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType(), self.lanes)
        if m:
            self.basis = basis(m)

    def to_basis(self, name: str) -> list[Matrix]:
        return [getattr(self.basis, name), self.basis.pairs]

    def from_basis(self, name: str) -> list[Matrix]:
        return [self.basis.pairs.T, getattr(self.basis, name).T]

    def sandwich(self, builder: Any, factors: list[Matrix], values: list[Values]) -> list[Values]:
        """M v M' for the product M of factors, the first applied first."""
        columns = [self.times(builder, factors, list(column)) for column in zip(*values, strict=True)]
        return [self.times(builder, factors, list(line)) for line in zip(*columns, strict=True)]

    def times(self, builder: Any, factors: list[Matrix], values: Values) -> Values:
        for factor in factors:
            values = [self.combined(builder, line, values) for line in factor]
        return values

    def combined(self, builder: Any, coefficients: Matrix, values: Values) -> Any:
        """Sum of coefficients times values, beginning with a coefficient of 1 if there is one."""
        terms = sorted(((c, v) for c, v in zip(coefficients, values, strict=True) if c), key=lambda term: term[0] != 1)
        (c, total), *others = terms
        if c != 1:
            total = builder.fmul(total, self.constant(c))
        for c, value in others:
            if abs(c) == 1:
                total = builder.fadd(total, value) if c == 1 else builder.fsub(total, value)
            else:
                total = fma(builder, value, self.constant(c), total)
        return total

    def constant(self, value: float) -> Any:
        return ir.Constant(self.vector, [ir.Constant(self.vector.element, float(value))] * self.lanes)

    def gather(self, builder: Any, lanes: Values, offset: Any) -> Any:
        total = ir.Constant(self.vector, ir.Undefined)
        for lane, base in enumerate(lanes):
            total = builder.insert_element(total, builder.load(builder.gep(base, [offset])), ir.Constant(ir.IntType(32), lane))
        return total

    def store(self, builder: Any, values: list[Values], to: Any, place: Any) -> None:
        for f, value in enumerate(value for line in values for value in line):
            store_vector(builder, value, to, place(f))


def _int(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)
