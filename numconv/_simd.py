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
# Shapes of the tile of dot products, (rows, columns): rows * columns sums, one vector of each column and one of a row.
DOT_TILES = ((6, 4), (12, 2), (20, 1)) if REGISTERS == 32 else ((4, 3), (6, 2), (10, 1))


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
        row_offset = [_int(self.a_row * m) if self.a_row is not None else _table(builder, a_row, _int(m)) for m in self.rows]
        before = builder.block
        loop, after = builder.append_basic_block("reduce"), builder.append_basic_block("reduced")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(_I64)
        i.add_incoming(_int(0), before)
        acc = [[builder.phi(self.vector) for _ in self.vectors] for _ in self.rows]
        at_a = builder.gep(a, [builder.mul(i, _int(self.a_step)) if self.a_step is not None else _table(builder, a_step, i)])
        at_b = builder.gep(b, [_table(builder, b_step, i)])
        b_vectors = [load_vector(builder, at_b, _int(n * self.lanes), self.vector) for n in self.vectors]
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
        number = spread(builder, builder.load(at), self.vector)
        return [fma(builder, number, b, sums) for b, sums in zip(b_vectors, acc, strict=True)]

    def _store(self, builder: Any, c: Any, c_row: Any, total: list[list[Any]], adds: bool) -> None:
        for m in self.rows:
            for n in self.vectors:
                element = builder.add(builder.mul(c_row, _int(m)), _int(n * self.lanes))
                old = load_vector(builder, c, element, self.vector) if adds else None
                store_vector(builder, builder.fadd(old, total[m][n]) if adds else total[m][n], c, element)


@intrinsic(prefer_literal=True)
def dot_tile(typing_context, a, a_row, b, b_row, c, c_column, steps, accumulate, rows, columns):  # type: ignore[no-untyped-def]
    """c[n * c_column + m] = or += sum over i < steps * lanes of a[a_row[m] + i] * b[b_row * n + i].

    `a`, `b` and `c` are pointers, `a_row` a pointer to int32; `rows` and `columns` are literals, `steps` at least 1.
    """
    if not (isinstance(rows, types.IntegerLiteral) and isinstance(columns, types.IntegerLiteral)):
        return None
    signature = types.void(a, a_row, b, types.intp, c, types.intp, types.intp, types.boolean, rows, columns)
    return signature, _DotCode(a.dtype.bitwidth, rows.literal_value, columns.literal_value).build


class _DotCode:
    """Builds the code of `dot_tile`: vectors of sums, added up across their lanes at the end in a fixed order."""

    def __init__(self, bits: int, rows: int, columns: int) -> None:
        self.bits, self.lanes = bits, VECTOR_BYTES * 8 // bits
        self.rows, self.columns = range(rows), range(columns)
        self.vector = ir.VectorType(ir.FloatType() if bits == 32 else ir.DoubleType(), self.lanes)

    def build(self, context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, a_row, b, b_row, c, c_column, steps, accumulate = args[:8]
        at_a = [builder.gep(a, [_table(builder, a_row, _int(m))]) for m in self.rows]
        at_b = [builder.gep(b, [builder.mul(b_row, _int(n))]) for n in self.columns]
        before, loop, after = builder.block, builder.append_basic_block("dot"), builder.append_basic_block("dotted")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(_I64)
        i.add_incoming(_int(0), before)
        acc = [[builder.phi(self.vector) for _ in self.rows] for _ in self.columns]
        here = builder.mul(i, _int(self.lanes))
        b_vectors = [load_vector(builder, place, here, self.vector) for place in at_b]
        total: list[list[Any]] = [[] for _ in self.columns]
        for m in self.rows:
            a_vector = load_vector(builder, at_a[m], here, self.vector)
            for n in self.columns:
                total[n].append(fma(builder, a_vector, b_vectors[n], acc[n][m]))
        following = builder.add(i, _int(1))
        i.add_incoming(following, loop)
        for n in self.columns:
            for m in self.rows:
                acc[n][m].add_incoming(ir.Constant(self.vector, None), before)
                acc[n][m].add_incoming(total[n][m], loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
        builder.position_at_end(after)
        sums = [self._across(builder, total[n]) for n in self.columns]
        for n in self.columns:
            for m in self.rows:
                place = builder.gep(c, [builder.add(builder.mul(c_column, _int(n)), _int(m))])
                old = builder.select(accumulate, builder.load(place), ir.Constant(self.vector.element, 0.0))
                builder.store(builder.fadd(old, sums[n][m]), place).align = self.bits // 8
        return context.get_dummy_value()

    def _across(self, builder: Any, vectors: list[Any]) -> list[Any]:
        """Add up the lanes of each of some vectors, two vectors at a time, halves with halves, in the order of the vectors."""
        spare = ir.Constant(self.vector, ir.Undefined)
        level, width = list(vectors), self.lanes  # each vector of a level holds lanes // width partial sums of `width` lanes
        while width > 1:
            if len(level) % 2:
                level.append(spare)
            half = width // 2
            groups = range(0, self.lanes, width)
            low = [s + g + j for s in (0, self.lanes) for g in groups for j in range(half)]
            high = [s + g + half + j for s in (0, self.lanes) for g in groups for j in range(half)]
            level = [
                builder.fadd(shuffle(builder, p, q, low), shuffle(builder, p, q, high))
                for p, q in zip(level[::2], level[1::2], strict=True)
            ]
            width = half
        return [builder.extract_element(level[m // self.lanes], ir.Constant(_I32, m % self.lanes)) for m in self.rows]


@intrinsic
def at(typing_context, array, element):  # type: ignore[no-untyped-def]
    """Return a pointer to an element of a flat array, or so far past a pointer: no bounds check, no Python object."""
    if isinstance(array, types.CPointer):
        return array(array, types.intp), lambda context, builder, signature, args: builder.gep(args[0], [args[1]])

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.gep(view.data, [args[1]])

    return types.CPointer(array.dtype)(array, types.intp), build


@intrinsic
def pointer(typing_context, address, like):  # type: ignore[no-untyped-def]
    """Return an address as a pointer to what `like` points to. Pointers are indexed like arrays, but never from the end."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return like(types.uint64, like), build


@intrinsic
def int32_pointer(typing_context, address):  # type: ignore[no-untyped-def]
    """Return an address as a pointer to int32."""
    return types.CPointer(types.int32)(types.uint64), _pointer_to


@intrinsic
def int64_pointer(typing_context, address):  # type: ignore[no-untyped-def]
    """Return an address as a pointer to int64."""
    return types.CPointer(types.int64)(types.uint64), _pointer_to


@intrinsic
def number(typing_context, like, value):  # type: ignore[no-untyped-def]
    """Return `value` as the kind of number that `like` points to."""
    kind = like.dtype

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.cast(builder, args[1], signature.args[1], kind)

    return kind(like, value), build


@intrinsic
def copy(typing_context, to, source, count):  # type: ignore[no-untyped-def]
    """Copy `count` numbers between places that do not overlap."""
    size = to.dtype.bitwidth // 8

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        cgutils.raw_memcpy(builder, args[0], args[1], args[2], size)
        return context.get_dummy_value()

    return types.void(to, source, types.intp), build


@intrinsic
def zero(typing_context, to, count):  # type: ignore[no-untyped-def]
    """Write `count` zeros."""
    size = to.dtype.bitwidth // 8

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        cgutils.memset(builder, args[0], builder.mul(args[1], _int(size)), 0)
        return context.get_dummy_value()

    return types.void(to, types.intp), build


@intrinsic(prefer_literal=True)
def take_vector(typing_context, line, step, first, low, high, to):  # type: ignore[no-untyped-def]
    """to[lanes] = line[step * j] for the lanes j = first + lane with low <= j < high, zero for the others, which are not read.

    `step` is a literal, 1 or 2.
    """
    if not isinstance(step, types.IntegerLiteral):
        return None
    vector = vector_of(line.dtype.bitwidth)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        line, _, first, low, high, to = args
        masks = strided_masks(builder, step.literal_value, first, low, high, vector)
        store_vector(builder, strided_load(builder, line, masks, first, vector), to, _int(0))
        return context.get_dummy_value()

    return types.void(line, step, types.intp, types.intp, types.intp, to), build


@intrinsic
def add_vector(typing_context, source, number, floor, to):  # type: ignore[no-untyped-def]
    """to[lanes] = source[lanes] + number, but not less than floor; NaN stays."""
    vector = vector_of(to.dtype.bitwidth)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, add, floor = load_vector(builder, args[0], _int(0), vector), *(spread(builder, a, vector) for a in args[1:3])
        store_vector(builder, at_least(builder, builder.fadd(value, add), floor), args[3], _int(0))
        return context.get_dummy_value()

    return types.void(source, number, floor, to), build


@intrinsic
def accumulate(typing_context, to, source):  # type: ignore[no-untyped-def]
    """to[lanes] += source[lanes]."""
    vector = vector_of(to.dtype.bitwidth)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total = builder.fadd(load_vector(builder, args[0], _int(0), vector), load_vector(builder, args[1], _int(0), vector))
        store_vector(builder, total, args[0], _int(0))
        return context.get_dummy_value()

    return types.void(to, source), build


@intrinsic
def prefetch(typing_context, line):  # type: ignore[no-untyped-def]
    """Bring the line of cache at a pointer near; it may lie outside any array."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        code = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(code, [builder.bitcast(args[0], byte), *(ir.Constant(_I32, n) for n in (0, 3, 1))])  # to read, keep, data
        return context.get_dummy_value()

    return types.void(line), build


@intrinsic
def call(typing_context, address, worker, workers, job):  # type: ignore[no-untyped-def]
    """Call the kernel at `address` for one worker's share of a job."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_I64] * 4)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [*args[1:], _int(0)])
        return context.get_dummy_value()

    return types.void(types.uint64, types.int64, types.int64, types.uint64), build


def vector_of(bits: int) -> Any:
    """Return the type of a vector of numbers of so many bits."""
    return ir.VectorType(ir.FloatType() if bits == 32 else ir.DoubleType(), VECTOR_BYTES * 8 // bits)


def between(builder: Any, first: Any, low: Any, high: Any, lanes: int, stride: int) -> Any:
    """Return a mask of every stride-th lane i with low <= first + i / stride < high, all of them small enough for int32."""
    ints = ir.VectorType(_I32, lanes)
    steps = ir.Constant(ints, [ir.Constant(_I32, i // stride) for i in range(lanes)])
    place = builder.add(spread(builder, builder.trunc(first, _I32), ints), steps)
    above = builder.icmp_signed(">=", place, spread(builder, builder.trunc(low, _I32), ints))
    below = builder.icmp_signed("<", place, spread(builder, builder.trunc(high, _I32), ints))
    wanted = ir.Constant(above.type, [ir.Constant(ir.IntType(1), int(i % stride == 0)) for i in range(lanes)])
    return builder.and_(builder.and_(above, below), wanted)


def masked_load(builder: Any, base: Any, element: Any, mask: Any, vector: Any) -> Any:
    """Load the lanes of a vector that are in the mask, zero for the others."""
    place = builder.bitcast(builder.gep(base, [element]), vector.as_pointer())
    kind = ir.FunctionType(vector, [vector.as_pointer(), _I32, mask.type, vector])
    name = f"llvm.masked.load.v{vector.count}f{_bytes(vector) * 8}.p0"
    load = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(load, [place, ir.Constant(_I32, _bytes(vector)), mask, ir.Constant(vector, None)])


def load_vector(builder: Any, base: Any, element: Any, vector: Any) -> Any:
    """Load the vector that starts at an element."""
    value = builder.load(builder.bitcast(builder.gep(base, [element]), vector.as_pointer()))
    value.align = _bytes(vector)
    return value


def strided_masks(builder: Any, step: int, first: Any, low: Any, high: Any, vector: Any) -> list[Any]:
    """Return which of `step` vectors of neighbouring samples hold sample step * j for the lanes j = first + lane in low..high."""
    starts = [builder.add(first, _int(part * vector.count // step)) for part in range(step)]
    return [between(builder, j, low, high, vector.count, step) for j in starts]


def strided_load(builder: Any, line: Any, masks: list[Any], first: Any, vector: Any) -> Any:
    """Load line[step * j] for the lanes j = first + lane of masks, one for each of 1 or 2 steps; zero elsewhere, not read."""
    lanes, step = vector.count, len(masks)
    starts = [builder.mul(builder.add(first, _int(part * lanes // step)), _int(step)) for part in range(step)]
    parts = [masked_load(builder, line, start, mask, vector) for start, mask in zip(starts, masks, strict=True)]
    return parts[0] if step == 1 else shuffle(builder, parts[0], parts[1], list(range(0, 2 * lanes, 2)))


def store_vector(builder: Any, value: Any, base: Any, element: Any) -> None:
    """Store a vector where it starts at an element."""
    builder.store(value, builder.bitcast(builder.gep(base, [element]), value.type.as_pointer())).align = _bytes(value.type)


def _bytes(vector: Any) -> int:
    return 8 if isinstance(vector.element, ir.DoubleType) else 4


def _table(builder: Any, table: Any, i: Any) -> Any:
    value = builder.load(builder.gep(table, [i]))
    value.align = 4
    return builder.sext(value, _I64)


def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c of vectors."""
    # fmuladd, not fma: without FMA instructions the latter is a library call per number (2 against 43 GFLOP/s, measured).
    kind = ir.FunctionType(a.type, [a.type] * 3)
    name = f"llvm.fmuladd.v{a.type.count}f{_bytes(a.type) * 8}"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def at_least(builder: Any, value: Any, floor: Any) -> Any:
    """Return the larger of two vectors' numbers, NaN where `value` is NaN."""
    return builder.select(builder.fcmp_ordered("<", value, floor), floor, value)


def shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    """Return the lanes named, counted through a and then b."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), [ir.Constant(_I32, j) for j in lanes]))


def spread(builder: Any, value: Any, vector: Any) -> Any:
    """Return a vector that holds one number in all lanes."""
    undefined = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_I32, vector.count), None))


def _pointer_to(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.inttoptr(args[0], context.get_value_type(signature.return_type))


_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _int(value: int) -> Any:
    return ir.Constant(_I64, value)
