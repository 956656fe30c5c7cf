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

from ..._simd import VECTOR_BYTES, fma, load_vector, store_vector, vector_of

_I64 = ir.IntType(64)
_ROWS, _VECTORS = 2, 2  # eight vectors of sums: a product and sum takes four cycles, and two begin in each
BLOCK = _VECTORS * VECTOR_BYTES


@intrinsic
def sum_products(typing_context, c, c_left, c_right, n, a, a_row, a_step, b, b_row, b_step, count, add):  # type: ignore[no-untyped-def]
    """Sum `count` products of rows into a tile of `c`: = or, if `add`, +=, in the order of t.

    `c`, `a` and `b` are pointers: c[l, r, j] is at `c_left * l + c_right * r + j`, a[l, t, j] at `a_row * l + a_step * t + j`,
    and b likewise; n is a whole number of `BLOCK` bytes. Where there is but one row left, its steps may be 0: it is summed twice
    and stored twice.
    """
    ints = types.int64
    signature = types.void(c, ints, ints, ints, a, ints, ints, b, ints, ints, ints, types.boolean)
    return signature, _build


def _build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Take a block of vectors at a time, whose sums stay in registers."""
    c, c_left, c_right, n, a, a_row, a_step, b, b_row, b_step, count, add = args
    vector = vector_of(signature.args[0].dtype.bitwidth)
    with cgutils.for_range(builder, builder.sdiv(n, _int(_VECTORS * vector.count)), intp=_I64) as block:
        start = builder.mul(block.index, _int(_VECTORS * vector.count))
        places = [builder.add(start, _int(v * vector.count)) for v in range(_VECTORS)]
        tile = {}
        for left, right, v in product(range(_ROWS), range(_ROWS), range(_VECTORS)):
            row = builder.add(builder.mul(c_left, _int(left)), builder.mul(c_right, _int(right)))
            place, total = builder.add(row, places[v]), cgutils.alloca_once(builder, vector)
            tile[left, right, v] = place, total
            builder.store(builder.select(add, load_vector(builder, c, place, vector), ir.Constant(vector, None)), total)
        with cgutils.for_range(builder, count, intp=_I64) as term:
            lefts = _rows(builder, a, a_row, builder.mul(term.index, a_step), places, vector)
            rights = _rows(builder, b, b_row, builder.mul(term.index, b_step), places, vector)
            for (left, right, v), (_, total) in tile.items():
                builder.store(fma(builder, lefts[left][v], rights[right][v], builder.load(total)), total)
        for place, total in tile.values():
            store_vector(builder, builder.load(total), c, place)
    return context.get_dummy_value()


def _rows(builder: Any, base: Any, row: Any, offset: Any, places: list[Any], vector: Any) -> list[list[Any]]:
    starts = [builder.gep(base, [builder.add(offset, builder.mul(row, _int(i)))]) for i in range(_ROWS)]
    return [[load_vector(builder, start, place, vector) for place in places] for start in starts]


def _int(value: int) -> Any:
    return ir.Constant(_I64, value)
