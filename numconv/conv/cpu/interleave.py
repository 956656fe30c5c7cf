"""Vectors dealt out to phases, and phases woven into one row again: what samples and outputs of a stride need, in shuffles.

    deal   to[f * pitch + j] = line[phases * j + f]
    weave  to[phases * j + f] = row f[j] + number, but not less than floor

for the lanes j of a vector and 2 or 4 phases f.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..._simd import at_least, between, load_vector, masked_load, shuffle, spread, store_vector, vector_of


@intrinsic(prefer_literal=True)
def deal(typing_context, line, to, pitch, phases):  # type: ignore[no-untyped-def]
    """to[f * pitch + j] = line[phases * j + f] for the lanes j; `phases` is a literal, 2 or 4."""
    return _dealing(line, to, phases, types.void(line, to, types.intp, phases), bounded=False)


@intrinsic(prefer_literal=True)
def deal_between(typing_context, line, low, high, to, pitch, phases):  # type: ignore[no-untyped-def]
    """Deal likewise where low <= phases * j + f < high; the others become zero, and line is not read there."""
    return _dealing(line, to, phases, types.void(line, types.intp, types.intp, to, types.intp, phases), bounded=True)


@intrinsic
def weave2(typing_context, a, b, number, floor, to):  # type: ignore[no-untyped-def]
    """to[2 * j + f] = (a, b)[f][j] + number for the lanes j, but not less than floor."""
    return types.void(a, b, number, floor, to), _weave


@intrinsic
def weave4(typing_context, a, b, c, d, number, floor, to):  # type: ignore[no-untyped-def]
    """to[4 * j + f] = (a, b, c, d)[f][j] + number for the lanes j, but not less than floor."""
    return types.void(a, b, c, d, number, floor, to), _weave


def _weave(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    *rows, number, floor, to = args
    vector = vector_of(signature.args[0].dtype.bitwidth)
    add, least = spread(builder, number, vector), spread(builder, floor, vector)
    vectors = [at_least(builder, builder.fadd(load_vector(builder, row, _int(0), vector), add), least) for row in rows]
    for part, value in enumerate(_woven(builder, vectors, vector.count)):
        store_vector(builder, value, to, _int(part * vector.count))
    return context.get_dummy_value()


def _dealing(line: Any, to: Any, phases: Any, signature: Any, bounded: bool) -> Any:
    if not isinstance(phases, types.IntegerLiteral):
        return None
    count, vector = phases.literal_value, vector_of(line.dtype.bitwidth)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        line, to, pitch = args[0], args[-3], args[-2]
        vectors = []
        for part in range(count):
            first = _int(part * vector.count)
            if bounded:
                mask = between(builder, first, args[1], args[2], vector.count, 1)
                vectors.append(masked_load(builder, line, first, mask, vector))
            else:
                vectors.append(load_vector(builder, line, first, vector))
        for f, value in enumerate(_dealt(builder, vectors, vector.count)):
            store_vector(builder, value, to, builder.mul(pitch, _int(f)))
        return context.get_dummy_value()

    return signature, build


def _dealt(builder: Any, vectors: list[Any], lanes: int) -> list[Any]:
    """Vectors of a run of numbers, as one vector for each residue of their place."""
    if len(vectors) == 1:
        return vectors
    pairs = list(zip(vectors[::2], vectors[1::2], strict=True))
    even, odd = (
        _dealt(builder, [shuffle(builder, p, q, list(range(side, 2 * lanes, 2))) for p, q in pairs], lanes) for side in (0, 1)
    )
    return [value for pair in zip(even, odd, strict=True) for value in pair]


def _woven(builder: Any, vectors: list[Any], lanes: int) -> list[Any]:
    """Undo `_dealt`."""
    if len(vectors) == 1:
        return vectors
    even, odd = (_woven(builder, vectors[side::2], lanes) for side in (0, 1))
    turns = [[j // 2 + lanes * (j % 2) for j in range(begin, begin + lanes)] for begin in (0, lanes)]
    return [shuffle(builder, p, q, turn) for p, q in zip(even, odd, strict=True) for turn in turns]


def _int(value: int) -> Any:
    return ir.Constant(ir.IntType(64), value)
