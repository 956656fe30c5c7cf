"""The register tile: the only arithmetic loop of the CPU kernels, written in vectors, with nothing left to auto-vectorisation.

    acc[m, :] += a[row m, step i] * b[step i, lanes]        for i < length

`a` is read one number at a time and spread over a vector, `b` is read a vector at a time, and rows x vectors sums stay in
registers. Where step i and row m lie is told by offset tables, so one loop serves packed weights times image rows, image samples
times packed gradients, or any other sum of outer products.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

# What Numba compiles for, which need not be what it runs on: NUMBA_CPU_NAME and NUMBA_CPU_FEATURES count. The same triple is in
# the key of Numba's disk cache, so code cached for one vector length is never loaded for another.
_, CPU_NAME, _FEATURES = cpu_target.target_context.codegen().magic_tuple()
_ENABLED = frozenset(_FEATURES.split(","))
VECTOR_BYTES = 64 if "+avx512f" in _ENABLED else 32 if "+avx2" in _ENABLED else 16
REGISTERS = 32 if VECTOR_BYTES == 64 or CPU_NAME.startswith(("apple", "neoverse", "cortex")) else 16

# Shapes of the tile, (rows, vectors), that fit the registers: rows * vectors sums, one vector of b and a spread number of a.
TILES = ((8, 3), (4, 6), (2, 10), (1, 12)) if REGISTERS == 32 else ((6, 2), (4, 3), (2, 5), (1, 8))


@intrinsic(prefer_literal=True)
def outer_tile(typing_context, a, a_step, a_row, b, b_step, c, c_row, length, accumulate, rows, vectors):  # type: ignore[no-untyped-def]
    """Sum `length` outer products into c: c[m * c_row + lanes] = or += the tile.

    `a`, `b` and `c` are pointers. Step i of `a` is at `a_step[i]` (a pointer to int32) or at `a_step * i` (a literal); its row m
    is `a_row[m]` (a pointer to int32) or `a_row * m` (a literal) further on. Step i of `b` is at `b_step[i]`. `rows` and
    `vectors` are literals, `length` at least 1.
    """
    if not (isinstance(rows, types.IntegerLiteral) and isinstance(vectors, types.IntegerLiteral)):
        return None
    signature = types.void(a, a_step, a_row, b, b_step, c, types.intp, types.intp, types.boolean, rows, vectors)
    return signature, _TileCode(a.dtype.bitwidth, a_step, a_row, rows.literal_value, vectors.literal_value).build


class _TileCode:
    """Builds the tile's LLVM code for one type of number and one shape."""

    def __init__(self, bits: int, a_step: Any, a_row: Any, rows: int, vectors: int) -> None:
        self.bits, self.lanes = bits, VECTOR_BYTES * 8 // bits
        self.a_step = a_step.literal_value if isinstance(a_step, types.IntegerLiteral) else None
        self.a_row = a_row.literal_value if isinstance(a_row, types.IntegerLiteral) else None
        self.rows, self.vectors = range(rows), range(vectors)
        scalar = ir.FloatType() if bits == 32 else ir.DoubleType()
        self.vector = ir.VectorType(scalar, self.lanes)

    def build(self, context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, a_step, a_row, b, b_step, c, c_row, length, accumulate = args[:9]
        row_offset = [_int(self.a_row * m) if self.a_row is not None else self._table(builder, a_row, _int(m)) for m in self.rows]
        before = builder.block
        loop, after = builder.append_basic_block("reduce"), builder.append_basic_block("reduced")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(_I64)
        i.add_incoming(_int(0), before)
        acc = [[builder.phi(self.vector) for _ in self.vectors] for _ in self.rows]
        at_a = builder.gep(a, [builder.mul(i, _int(self.a_step)) if self.a_step is not None else self._table(builder, a_step, i)])
        at_b = builder.gep(b, [self._table(builder, b_step, i)])
        b_vectors = [self._load(builder, self._vector_at(builder, at_b, _int(n * self.lanes))) for n in self.vectors]
        total = [self._fma_row(builder, builder.gep(at_a, [row_offset[m]]), b_vectors, acc[m]) for m in self.rows]
        following = builder.add(i, _int(1))
        i.add_incoming(following, loop)
        for m in self.rows:
            for n in self.vectors:
                acc[m][n].add_incoming(ir.Constant(self.vector, None), before)
                acc[m][n].add_incoming(total[m][n], loop)
        builder.cbranch(builder.icmp_signed("<", following, length), loop, after)
        builder.position_at_end(after)
        with builder.if_else(accumulate) as (then, otherwise):
            for adds, branch in ((True, then), (False, otherwise)):
                with branch:
                    self._store(builder, c, c_row, total, adds)
        return context.get_dummy_value()

    def _fma_row(self, builder: Any, at: Any, b_vectors: list[Any], acc: list[Any]) -> list[Any]:
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = builder.insert_element(undefined, self._load(builder, at), ir.Constant(_I32, 0))
        spread = builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_I32, self.lanes), None))
        # fmuladd, not fma: without FMA instructions the latter is a library call per number (2 against 43 GFLOP/s, measured).
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{self.lanes}f{self.bits}")
        return [builder.call(fma, [spread, b, sums]) for b, sums in zip(b_vectors, acc, strict=True)]

    def _store(self, builder: Any, c: Any, c_row: Any, total: list[list[Any]], adds: bool) -> None:
        for m in self.rows:
            for n in self.vectors:
                place = self._vector_at(builder, c, builder.add(builder.mul(c_row, _int(m)), _int(n * self.lanes)))
                value = builder.fadd(self._load(builder, place), total[m][n]) if adds else total[m][n]
                builder.store(value, place).align = self.bits // 8

    def _vector_at(self, builder: Any, base: Any, element: Any) -> Any:
        return builder.bitcast(builder.gep(base, [element]), self.vector.as_pointer())

    def _load(self, builder: Any, pointer: Any) -> Any:
        value = builder.load(pointer)
        value.align = self.bits // 8
        return value

    def _table(self, builder: Any, table: Any, i: Any) -> Any:
        value = builder.load(builder.gep(table, [i]))
        value.align = 4
        return builder.sext(value, _I64)


@intrinsic
def at(typing_context, array, element):  # type: ignore[no-untyped-def]
    """Pointer to an element of a flat array: no bounds check, no Python object."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.gep(view.data, [args[1]])

    return types.CPointer(array.dtype)(array, types.intp), build


_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _int(value: int) -> Any:
    return ir.Constant(_I64, value)
