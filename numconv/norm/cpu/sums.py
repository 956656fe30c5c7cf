"""Sums over a run of numbers, in vectors: what the compiler may not reorder by itself.

    sum_of         sum of x[i]
    deviations     sums of d and d^2                    d = x[i] - centre
    products       sums of dy[i] and dy[i] d            d = (x[i] - centre) - rest
    scaled_products       sums of h and h d             h = dy[i] scale[i]

Four vectors of partial sums in the numbers' own dtype, added up in float64; in which order depends on the length alone. Callers
keep runs to some thousand numbers, so that few roundings meet in one partial sum.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..._simd import VECTOR_BYTES

_UNROLLED = 4


@intrinsic
def sum_of(typing_context, x, n):  # type: ignore[no-untyped-def]
    """Sum x[i] for i < n, as a float64."""
    return types.float64(x, types.int64), _Sum(x.dtype.bitwidth).build


@intrinsic
def deviations(typing_context, x, n, centre):  # type: ignore[no-untyped-def]
    """Sum d and d^2 for i < n, as two float64."""
    return types.UniTuple(types.float64, 2)(x, types.int64, x.dtype), _Deviations(x.dtype.bitwidth).build


@intrinsic
def products(typing_context, x, n, centre, rest, dy):  # type: ignore[no-untyped-def]
    """Sum dy[i] and dy[i] d for i < n, as two float64."""
    return types.UniTuple(types.float64, 2)(x, types.int64, x.dtype, x.dtype, dy), _Products(x.dtype.bitwidth).build


@intrinsic
def scaled_products(typing_context, x, n, centre, rest, dy, scale):  # type: ignore[no-untyped-def]
    """Sum h and h d for i < n, as two float64."""
    signature = types.UniTuple(types.float64, 2)(x, types.int64, x.dtype, x.dtype, dy, scale)
    return signature, _Products(x.dtype.bitwidth).build


@intrinsic
def float64_pointer(typing_context, address):  # type: ignore[no-untyped-def]
    """Return an address as a pointer to float64."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float64)(types.uint64), build


class _Sum:
    """Builds the loops; `_terms` says what is summed, for a vector of numbers from i on."""

    sums = 1

    def __init__(self, bits: int) -> None:
        self.bits, self.scalar = bits, ir.FloatType() if bits == 32 else ir.DoubleType()

    def build(self, context: Any, builder: Any, signature: Any, args: Any) -> Any:
        n, lanes = args[1], VECTOR_BYTES * 8 // self.bits
        vector = ir.VectorType(self.scalar, lanes)
        partial = [[self._zero(builder, vector) for _ in range(self.sums)] for _ in range(_UNROLLED)]
        total = [self._zero(builder, ir.DoubleType()) for _ in range(self.sums)]
        many, some = (builder.sdiv(n, _int(lanes * each)) for each in (_UNROLLED, 1))
        with cgutils.for_range(builder, many, intp=_I64) as loop:
            first = builder.mul(loop.index, _int(lanes * _UNROLLED))
            for unrolled in range(_UNROLLED):
                self._add(builder, args, builder.add(first, _int(unrolled * lanes)), vector, partial[unrolled])
        with cgutils.for_range_slice(builder, builder.mul(many, _int(_UNROLLED)), some, _int(1), intp=_I64) as (i, _):
            self._add(builder, args, builder.mul(i, _int(lanes)), vector, partial[0])
        for s in range(self.sums):
            a, b, c, d = (builder.load(of[s]) for of in partial)
            builder.store(self._across(builder, builder.fadd(builder.fadd(a, b), builder.fadd(c, d)), lanes), total[s])
        one = ir.VectorType(self.scalar, 1)
        with cgutils.for_range_slice(builder, builder.mul(some, _int(lanes)), n, _int(1), intp=_I64) as (i, _):
            for term, place in zip(self._terms(builder, args, i, one), total, strict=True):
                builder.store(builder.fadd(builder.load(place), self._across(builder, term, 1)), place)
        found = [builder.load(place) for place in total]
        return found[0] if self.sums == 1 else context.make_tuple(builder, signature.return_type, found)

    def _add(self, builder: Any, args: Any, i: Any, vector: Any, to: list[Any]) -> None:
        for term, place in zip(self._terms(builder, args, i, vector), to, strict=True):
            builder.store(builder.fadd(builder.load(place), term), place)

    def _across(self, builder: Any, value: Any, lanes: int) -> Any:
        """Sum of the lanes in float64, halves onto halves."""
        if self.bits == 32:
            value = builder.fpext(value, ir.VectorType(ir.DoubleType(), lanes))
        while lanes > 1:
            lanes //= 2
            low, high = (
                ir.Constant(ir.VectorType(_I32, lanes), [ir.Constant(_I32, f + i) for i in range(lanes)]) for f in (0, lanes)
            )
            value = builder.fadd(builder.shuffle_vector(value, value, low), builder.shuffle_vector(value, value, high))
        return builder.extract_element(value, ir.Constant(_I32, 0))

    def _zero(self, builder: Any, kind: Any) -> Any:
        place = cgutils.alloca_once(builder, kind)
        builder.store(ir.Constant(kind, 0.0 if isinstance(kind, ir.DoubleType) else None), place)
        return place

    def _load(self, builder: Any, base: Any, i: Any, vector: Any) -> Any:
        value = builder.load(builder.bitcast(builder.gep(base, [i]), vector.as_pointer()))
        value.align = self.bits // 8
        return value

    def _terms(self, builder: Any, args: Any, i: Any, vector: Any) -> list[Any]:
        return [self._load(builder, args[0], i, vector)]


class _Deviations(_Sum):
    sums = 2

    def _terms(self, builder: Any, args: Any, i: Any, vector: Any) -> list[Any]:
        x, _, centre = args
        d = builder.fsub(self._load(builder, x, i, vector), _spread(builder, centre, vector))
        return [d, builder.fmul(d, d)]


class _Products(_Sum):
    sums = 2

    def _terms(self, builder: Any, args: Any, i: Any, vector: Any) -> list[Any]:
        x, _, centre, rest, dy, *scale = args
        d = builder.fsub(self._load(builder, x, i, vector), _spread(builder, centre, vector))
        h = self._load(builder, dy, i, vector)
        if scale:
            h = builder.fmul(h, self._load(builder, scale[0], i, vector))
        return [h, builder.fmul(h, builder.fsub(d, _spread(builder, rest, vector)))]


def _spread(builder: Any, value: Any, vector: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_I32, vector.count), None))


_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _int(value: int) -> Any:
    return ir.Constant(_I64, value)
