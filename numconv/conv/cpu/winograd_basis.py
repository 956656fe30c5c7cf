"""The bases in which a convolution is a product: their matrices, and the intrinsics that change to them and back, in vectors.

In one dimension, with matrices B, G and A of Toom and Cook (Winograd 1980; Lavin and Gray 2016, arXiv:1509.09308), m outputs y,
r taps w and n = m + r - 1 samples x,

    T(x, w, y) = sum over p,k of y[p] * w[k] * x[p + k] = sum over f of (B'x)[f] * (G w)[f] * (A y)[f],

for T is the value at infinity and the product of values at n - 1 points of polynomials. In two dimensions each matrix acts on
rows and on columns: B' x B, G w G', A y A'. Leaving one argument open leaves the transpose of its own matrix: A' m A gives y.
Whatever runs here runs along one axis, over a vector of channels at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..._simd import VECTOR_BYTES, at_least, fma, load_vector, shuffle, spread, store_vector, strided_load, strided_masks
from .winograd_tiles import KINDS

Matrix = np.ndarray[Any, Any]
Values = list[Any]

# Points at which polynomials of n elements are evaluated, beside 0 and infinity: pairs of opposite sign, then single ones. Not
# the customary 1 and 2, which make more than twice the error (n = 6, float32, 64 channels: 1.7e-6 of rms against 8e-7), and all
# of them exact in binary, as are their powers.
POINTS: dict[int, tuple[tuple[float, ...], tuple[float, ...]]] = {
    1: ((), ()),
    4: ((1.0,), ()),
    5: ((0.75,), (2.0,)),
    6: ((0.75, 1.5), ()),
}


class Basis(NamedTuple):
    """B', G and A, each the product of a matrix of pairs (sums and differences) and a sparse one."""

    pairs: Matrix
    x: Matrix
    w: Matrix
    y: Matrix


@cache
def basis(m: int, r: int) -> Basis:
    """Return the basis of m outputs and r taps: B' = pairs @ x, G = pairs @ w, A = pairs @ y."""
    n = m + r - 1
    if n == 1:
        return Basis(*(np.ones((1, 1)) for _ in range(4)))
    paired, single = POINTS[n]
    points = (0.0, *(s * p for p in paired for s in (1, -1)), *single)
    b, g, a = np.zeros((n, n)), np.zeros((n, r)), np.zeros((n, m))
    for f, point in enumerate(points):
        others = [p for p in points if p != point]
        b[f, : n - 1] = np.poly(others)[::-1]
        g[f] = point ** np.arange(r) / np.prod([point - p for p in others])
        a[f] = point ** np.arange(m)
    b[-1], g[-1, -1], a[-1, -1] = np.poly(points)[::-1], 1, 1
    # Rows of opposite points are the sum and the difference of an even and an odd part, which they share.
    pairs = np.eye(n)
    for f in range(1, 2 * len(paired), 2):
        pairs[f : f + 2, f : f + 2] = [[1, 1], [1, -1]]
    return Basis(pairs, *(np.linalg.inv(pairs) @ matrix for matrix in (b, g, a)))


@intrinsic
def to_x(typing_context, kind, source, source_step, to, to_step):  # type: ignore[no-untyped-def]
    """to[f] = (B' x)[f] for n vectors x; a vector after the other at these steps, all read before any is written."""
    return _changed(kind, source, to, lambda b: [b.x, b.pairs])


@intrinsic
def to_y(typing_context, kind, source, source_step, to, to_step):  # type: ignore[no-untyped-def]
    """to[f] = (A y)[f] for m vectors y, as `to_x`."""
    return _changed(kind, source, to, lambda b: [b.y, b.pairs])


@intrinsic
def to_w(typing_context, kind, source, source_step, to, to_step):  # type: ignore[no-untyped-def]
    """to[f] = (G w)[f] for r vectors w, as `to_x`."""
    return _changed(kind, source, to, lambda b: [b.w, b.pairs])


@intrinsic
def from_y(typing_context, kind, source, source_step, to, to_step):  # type: ignore[no-untyped-def]
    """to[p] = (A' source)[p] for n vectors, as `to_x`."""
    return _changed(kind, source, to, lambda b: [b.pairs.T, b.y.T])


@intrinsic
def from_y_plus(typing_context, kind, source, source_step, to, to_step, bias, floor):  # type: ignore[no-untyped-def]
    """to[p] = (A' source)[p] for n vectors, plus the vector at `bias`, but not less than a number, as `to_x`."""
    return _changed(kind, source, to, lambda b: [b.pairs.T, b.y.T], (bias, floor))


@intrinsic
def from_w(typing_context, kind, source, source_step, to, to_step):  # type: ignore[no-untyped-def]
    """to[k] = (G' source)[k] for n vectors, as `to_x`."""
    return _changed(kind, source, to, lambda b: [b.pairs.T, b.w.T])


@intrinsic
def transpose(typing_context, source, row, to, to_row):  # type: ignore[no-untyped-def]
    """to[j * to_row + i] = source[i * row + j], lanes by lanes."""
    vector = _vector(source.dtype)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, row, to, to_row = args
        rows = [load_vector(builder, source, builder.mul(row, _int(i)), vector) for i in range(vector.count)]
        for i, column in enumerate(_turned(builder, rows)):
            store_vector(builder, column, to, builder.mul(to_row, _int(i)))
        return context.get_dummy_value()

    return types.void(source, types.intp, to, types.intp), build


@intrinsic(prefer_literal=True)
def transpose_part(typing_context, source, row, step, first, low, high, count, to):  # type: ignore[no-untyped-def]
    """to[j * lanes + i] = source[i * row + step * (first + j)], lanes by lanes, 0 and not read unless low <= first + j < high.

    Of rows there are `count`; what a missing one would have given is arbitrary. `step` is a literal, 1 or 2.
    """
    if not isinstance(step, types.IntegerLiteral):
        return None
    vector = _vector(source.dtype)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, row, _, first, low, high, count, to = args
        masks, rows = strided_masks(builder, step.literal_value, first, low, high, vector), []
        for i in range(vector.count):
            known = builder.select(builder.icmp_signed("<", _int(i), count), _int(i), _int(0))
            rows.append(strided_load(builder, builder.gep(source, [builder.mul(row, known)]), masks, first, vector))
        for i, column in enumerate(_turned(builder, rows)):
            store_vector(builder, column, to, _int(i * vector.count))
        return context.get_dummy_value()

    return types.void(source, types.intp, step, *[types.intp] * 4, to), build


def _turned(builder: Any, rows: Values) -> Values:
    """Turn a square by exchanging halves, quarters and so on."""
    rows, distance = list(rows), len(rows) // 2
    while distance:
        low = [j if not j & distance else len(rows) + (j ^ distance) for j in range(len(rows))]
        high = [j ^ distance if not j & distance else len(rows) + j for j in range(len(rows))]
        for i in range(len(rows)):
            if not i & distance:
                pair = rows[i], rows[i | distance]
                rows[i], rows[i | distance] = (shuffle(builder, *pair, lanes) for lanes in (low, high))
        distance //= 2
    return rows


def _changed(kind: Any, source: Any, to: Any, factors: Callable[[Basis], list[Matrix]], more: tuple[Any, ...] = ()) -> Any:
    """Typing and code of an intrinsic that multiplies vectors by matrices of a basis: a branch for every kind that differs."""
    vector = _vector(source.dtype)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        distinct: dict[Any, tuple[list[Matrix], list[int]]] = {}
        for number, shape in enumerate(KINDS):
            of_basis = factors(basis(*shape))
            key = tuple((f.shape, f.tobytes()) for f in of_basis)
            distinct.setdefault(key, (of_basis, []))[1].append(number)
        after, blocks = builder.append_basic_block("changed"), [builder.append_basic_block("kind") for _ in distinct]
        switch = builder.switch(args[0], blocks[0])
        for block, (of_basis, numbers) in zip(blocks, distinct.values(), strict=True):
            for number in numbers:
                switch.add_case(_int(number), block)
            builder.position_at_end(block)
            _multiply(builder, of_basis, vector, args[1:])
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(types.intp, source, types.intp, to, types.intp, *more), build


def _multiply(builder: Any, factors: list[Matrix], vector: Any, args: list[Any]) -> None:
    source, source_step, to, to_step, *more = args
    values = [load_vector(builder, source, builder.mul(source_step, _int(i)), vector) for i in range(factors[0].shape[1])]
    for factor in factors:
        values = [_combined(builder, line, values) for line in factor]
    if more:
        added, floor = load_vector(builder, more[0], _int(0), vector), spread(builder, more[1], vector)
        values = [at_least(builder, builder.fadd(value, added), floor) for value in values]
    for f, value in enumerate(values):
        store_vector(builder, value, to, builder.mul(to_step, _int(f)))


def _combined(builder: Any, coefficients: Matrix, values: Values) -> Any:
    """Sum of coefficients times values, beginning with a coefficient of 1 if there is one."""
    terms = sorted(((c, v) for c, v in zip(coefficients, values, strict=True) if c), key=lambda term: term[0] != 1)
    (c, total), *others = terms
    if c != 1:
        total = builder.fmul(total, _constant(total.type, c))
    for c, value in others:
        if abs(c) == 1:
            total = builder.fadd(total, value) if c == 1 else builder.fsub(total, value)
        else:
            total = fma(builder, value, _constant(total.type, c), total)
    return total


def _constant(vector: Any, value: float) -> Any:
    return ir.Constant(vector, [ir.Constant(vector.element, float(value))] * vector.count)


def _vector(dtype: Any) -> Any:
    return ir.VectorType(ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType(), VECTOR_BYTES * 8 // dtype.bitwidth)


def _int(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)
