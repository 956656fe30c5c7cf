"""The arithmetic of locally connected convolution: sums of products of rows, number by number, in tiles of two rows by two.

    c[l, r, j] = or += sum over t < count of a[l, t, j] * b[r, t, j]        l, r < 2, j < n

Every place j has weights of its own, so nothing is spread over a vector: each product would take two loads, were not each load
used twice.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..._simd import fma, load_vector, store_vector, vector_of

_I64 = ir.IntType(64)
_ROWS, _VECTORS = 2, 2  # eight vectors of sums: a product and sum takes four cycles, and two begin in each


@intrinsic
def sum_products(typing_context, c, c_left, c_right, n, a, a_row, a_step, b, b_row, b_step, count, add):  # type: ignore[no-untyped-def]
    """Sum `count` products of rows into a tile of `c`: = or, if `add`, +=, in the order of t.

    `c`, `a` and `b` are pointers: c[l, r, j] is at `c_left * l + c_right * r + j`, a[l, t, j] at `a_row * l + a_step * t + j`,
    and b likewise. Where there is but one row left, its steps may be 0: it is summed twice and stored twice.
    """
    ints = types.int64
    signature = types.void(c, ints, ints, ints, a, ints, ints, b, ints, ints, ints, types.boolean)
    return signature, _Products(c.dtype.bitwidth).build


class _Products:
    """Builds the loops: rows in blocks of vectors whose sums stay in registers, then in vectors, then number by number."""

    def __init__(self, bits: int) -> None:
        self.vector = vector_of(bits)

    def build(self, context: Any, builder: Any, signature: Any, args: Any) -> Any:
        n, one, start = args[3], ir.VectorType(self.vector.element, 1), _int(0)
        for vector, vectors in ((self.vector, _VECTORS), (self.vector, 1), (one, 1)):
            width = _int(vector.count * vectors)
            blocks = builder.sdiv(builder.sub(n, start), width)
            with cgutils.for_range(builder, blocks, intp=_I64) as block:
                self._block(builder, args, builder.add(start, builder.mul(block.index, width)), vector, vectors)
            start = builder.add(start, builder.mul(blocks, width))
        return context.get_dummy_value()

    def _block(self, builder: Any, args: Any, start: Any, vector: Any, vectors: int) -> None:
        c, c_left, c_right, _, a, a_row, a_step, b, b_row, b_step, count, add = args
        places = [builder.add(start, _int(v * vector.count)) for v in range(vectors)]
        tile = {}
        for left, right, v in product(range(_ROWS), range(_ROWS), range(vectors)):
            row = builder.add(builder.mul(c_left, _int(left)), builder.mul(c_right, _int(right)))
            tile[left, right, v] = builder.add(row, places[v]), cgutils.alloca_once(builder, vector)
        for place, total in tile.values():
            builder.store(builder.select(add, load_vector(builder, c, place, vector), ir.Constant(vector, None)), total)
        with cgutils.for_range(builder, count, intp=_I64) as term:
            lefts = self._rows(builder, a, a_row, builder.mul(term.index, a_step), places, vector)
            rights = self._rows(builder, b, b_row, builder.mul(term.index, b_step), places, vector)
            for (left, right, v), (_, total) in tile.items():
                builder.store(fma(builder, lefts[left][v], rights[right][v], builder.load(total)), total)
        for place, total in tile.values():
            store_vector(builder, builder.load(total), c, place)

    def _rows(self, builder: Any, base: Any, row: Any, offset: Any, places: list[Any], vector: Any) -> list[list[Any]]:
        starts = [builder.gep(base, [builder.add(offset, builder.mul(row, _int(i)))]) for i in range(_ROWS)]
        return [[load_vector(builder, start, place, vector) for place in places] for start in starts]


def _int(value: int) -> Any:
    return ir.Constant(_I64, value)
