"""The arithmetic of pooling: one row of outputs, each the sum or the maximum over taps, in vectors that stay in registers.

    y[j] = op over t < count of x[offset[t] + stride * j]        j < n

`x` and `y` are pointers, `offset` a pointer to int64. Strides 1 and 2 load vectors, others number by number. The last vector of a
row overlaps the one before it, so only rows shorter than half a vector are left to single numbers, and nothing is read before the
first sample of a row or after its last.
"""

from __future__ import annotations

from math import inf
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..._simd import VECTOR_BYTES


@intrinsic
def sum_row(typing_context, x, stride, offset, count, y, n, divisor, divisors):  # type: ignore[no-untyped-def]
    """y[j] = sum over taps of x, divided by `divisor * divisors[j]` unless `divisors` is null."""
    signature = types.void(x, types.int64, offset, types.int64, y, types.int64, divisor, divisors)
    return signature, _Sum(y.dtype.bitwidth).build


@intrinsic
def max_row(typing_context, x, stride, offset, count, y, n):  # type: ignore[no-untyped-def]
    """y[j] = maximum over taps of x; NaN is above all numbers, and of equal samples the first stays."""
    return types.void(x, types.int64, offset, types.int64, y, types.int64), _Max(y.dtype.bitwidth).build


@intrinsic
def max_row_and_taps(typing_context, x, stride, offset, count, y, n, number, first, base, taps):  # type: ignore[no-untyped-def]
    """`max_row`, and taps[j] = number[t] of the first tap that reaches it, `base + first[j]` where all are -inf."""
    signature = types.void(x, types.int64, offset, types.int64, y, types.int64, number, first, types.int64, taps)
    return signature, _MaxAndTaps(y.dtype.bitwidth).build


class _Row:
    """Builds the loop over one row for each stride and vector length; a subclass says what becomes of a vector's taps."""

    def __init__(self, bits: int) -> None:
        self.bits, self.scalar = bits, ir.FloatType() if bits == 32 else ir.DoubleType()

    def build(self, context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for step, compare, bound in ((1, "==", 1), (2, "==", 2), (0, ">", 2)):
            with builder.if_then(builder.icmp_signed(compare, args[1], _int(bound))):
                self._row(builder, args, step)
        return context.get_dummy_value()

    def _row(self, builder: Any, args: Any, step: int) -> None:
        lanes = VECTOR_BYTES * 8 // self.bits
        with _at_least(builder, args[5], lanes) as (long, other):
            with long:
                self._blocks(builder, args, step, lanes)
            with other, _at_least(builder, args[5], lanes // 2) as (short, rest):
                with short:
                    self._blocks(builder, args, step, lanes // 2)
                with rest:
                    self._blocks(builder, args, step, 1)

    def _blocks(self, builder: Any, args: Any, step: int, lanes: int) -> None:
        """Cover the row with vectors; the last begins where it just ends with the row."""
        x, stride, _, _, _, n, *_ = args
        count = builder.sdiv(builder.add(n, _int(lanes - 1)), _int(lanes))
        with cgutils.for_range(builder, count, intp=_I64) as block:
            j, last = builder.mul(block.index, _int(lanes)), builder.sub(n, _int(lanes))
            j = builder.select(builder.icmp_signed("<", j, last), j, last)
            self._vector(builder, args, j, lambda offset, i=j: self._samples(builder, x, offset, stride, i, step, lanes), lanes)

    def _samples(self, builder: Any, x: Any, offset: Any, stride: Any, j: Any, step: int, lanes: int) -> Any:
        """x[offset + stride * (j + lanes)] as a vector."""
        vector, at = ir.VectorType(self.scalar, lanes), builder.gep(x, [builder.add(offset, builder.mul(j, stride))])
        if step == 1 or lanes == 1:
            return _load(builder, at, vector)
        if step == 2:  # the second vector begins one early, to end on the last sample that is needed
            halves = _load(builder, at, vector), _load(builder, builder.gep(at, [_int(lanes - 1)]), vector)
            even = [2 * i if i < lanes // 2 else 2 * i + 1 for i in range(lanes)]
            return builder.shuffle_vector(*halves, ir.Constant(ir.VectorType(_I32, lanes), [ir.Constant(_I32, i) for i in even]))
        value = ir.Constant(vector, ir.Undefined)
        for i in range(lanes):
            one = builder.load(builder.gep(at, [builder.mul(stride, _int(i))]))
            value = builder.insert_element(value, one, ir.Constant(_I32, i))
        return value

    def _vector(self, builder: Any, args: Any, j: Any, samples: Any, lanes: int) -> None:
        raise NotImplementedError


class _Sum(_Row):
    def _vector(self, builder: Any, args: Any, j: Any, samples: Any, lanes: int) -> None:
        _, _, offset, count, y, _, divisor, divisors = args
        vector = ir.VectorType(self.scalar, lanes)
        total = cgutils.alloca_once(builder, vector)
        builder.store(ir.Constant(vector, None), total)
        with cgutils.for_range(builder, count, intp=_I64) as tap:
            here = samples(builder.load(builder.gep(offset, [tap.index])))
            builder.store(builder.fadd(builder.load(total), here), total)
        with builder.if_then(cgutils.is_not_null(builder, divisors)):
            by = builder.fmul(_spread(builder, divisor, vector), _load(builder, builder.gep(divisors, [j]), vector))
            builder.store(builder.fdiv(builder.load(total), by), total)
        _store(builder, builder.load(total), builder.gep(y, [j]))


class _Max(_Row):
    def _vector(self, builder: Any, args: Any, j: Any, samples: Any, lanes: int) -> None:
        _, _, offset, count, y, *_ = args
        top = self._start(builder, lanes)
        with cgutils.for_range(builder, count, intp=_I64) as tap:
            self._raise(builder, samples(builder.load(builder.gep(offset, [tap.index]))), top)
        _store(builder, builder.load(top), builder.gep(y, [j]))

    def _start(self, builder: Any, lanes: int) -> Any:
        vector = ir.VectorType(self.scalar, lanes)
        top = cgutils.alloca_once(builder, vector)
        builder.store(ir.Constant(vector, [ir.Constant(self.scalar, -inf)] * lanes), top)
        return top

    def _raise(self, builder: Any, here: Any, top: Any) -> Any:
        """Raise `top` where `here` is larger, or NaN before any other, and say where."""
        before = builder.load(top)
        above = builder.fcmp_unordered(">", here, before)  # or one of them is NaN
        above = builder.and_(above, builder.fcmp_ordered("ord", before, before))
        builder.store(builder.select(above, here, before), top)
        return above


class _MaxAndTaps(_Max):
    def _vector(self, builder: Any, args: Any, j: Any, samples: Any, lanes: int) -> None:
        _, _, offset, count, y, _, number, first, base, taps = args
        # As wide as the samples, so that one mask serves both.
        wide, narrow = ir.VectorType(ir.IntType(self.bits), lanes), ir.VectorType(_I32, lanes)
        top, winner = self._start(builder, lanes), cgutils.alloca_once(builder, wide)
        start = _load(builder, builder.gep(first, [j]), narrow)
        start = builder.add(start, _spread(builder, builder.trunc(base, _I32), narrow))
        builder.store(self._as(builder, start, wide), winner)
        with cgutils.for_range(builder, count, intp=_I64) as tap:
            above = self._raise(builder, samples(builder.load(builder.gep(offset, [tap.index]))), top)
            this = self._as(builder, _spread(builder, builder.load(builder.gep(number, [tap.index])), narrow), wide)
            builder.store(builder.select(above, this, builder.load(winner)), winner)
        _store(builder, builder.load(top), builder.gep(y, [j]))
        _store(builder, self._as(builder, builder.load(winner), narrow), builder.gep(taps, [j]))

    def _as(self, builder: Any, value: Any, kind: Any) -> Any:
        if value.type == kind:
            return value
        return builder.zext(value, kind) if kind.element.width == 64 else builder.trunc(value, kind)


def _at_least(builder: Any, n: Any, least: int) -> Any:
    return builder.if_else(builder.icmp_signed(">=", n, _int(least)))


def _load(builder: Any, at: Any, vector: Any) -> Any:
    value = builder.load(builder.bitcast(at, vector.as_pointer()))
    value.align = _bytes(vector)
    return value


def _store(builder: Any, value: Any, at: Any) -> None:
    builder.store(value, builder.bitcast(at, value.type.as_pointer())).align = _bytes(value.type)


def _bytes(vector: Any) -> int:
    return 8 if isinstance(vector.element, ir.DoubleType) else 4


def _spread(builder: Any, value: Any, vector: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_I32, vector.count), None))


_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _int(value: int) -> Any:
    return ir.Constant(_I64, value)
