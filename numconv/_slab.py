"""Softmax's inner loops: over a slab of `n` rows of `width` columns, whose rows lie `pitch` apart, down each column at once.

An array of shape (outer, n, inner) is slabs: of many columns where `inner` is large, which are the lanes of vectors then, and of
one where it is 1, whose rows are. Every column's result depends on that column alone.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from . import _elementary
from ._jit import njit_inner
from ._simd import number
from ._traced import add_in_any_order, traced

COLUMNS = 256  # of a slab at most, so that what is kept for each stays in the first cache

exp, log, larger = traced(_elementary.exp), traced(_elementary.log), traced(_elementary.maximum)


@njit_inner
def slabs(outer: int, inner: int) -> int:
    """Return the number of slabs."""
    return outer * ((inner + COLUMNS - 1) // COLUMNS)


@njit_inner
def slab(task: int, n: int, inner: int) -> tuple[int, int, int]:
    """Return where a slab starts in the array, where its columns' results start, and how many columns it has."""
    across = (inner + COLUMNS - 1) // COLUMNS
    o, first = task // across, task % across * COLUMNS
    return o * n * inner + first, o * inner + first, min(COLUMNS, inner - first)


@njit_inner
def largest(x: Any, n: int, pitch: int, width: int, most: Any) -> None:
    """most[j] = maximum over k of x[k, j]."""
    if pitch == 1:
        m = x[0]
        for k in range(1, n):
            m = largest_in_any_order(m, x[k])
        most[0] = m
        return
    for j in range(width):
        most[j] = x[j]
    for k in range(1, n):
        for j in range(width):
            most[j] = larger(most[j], x[k * pitch + j])


@njit_inner
def sum_exp(x: Any, n: int, pitch: int, width: int, most: Any, total: Any) -> None:
    """total[j] = sum over k of exp(x[k, j] - most[j])."""
    if pitch == 1:
        m, t = most[0], number(x, 0.0)
        for k in range(n):
            t = add_in_any_order(t, exp(x[k] - m))
        total[0] = t
        return
    for j in range(width):
        total[j] = number(x, 0.0)
    for k in range(n):
        for j in range(width):
            total[j] += exp(x[k * pitch + j] - most[j])


@njit_inner
def write_exp(x: Any, n: int, pitch: int, width: int, most: Any, e: Any, total: Any) -> None:
    """e[k, j] = exp(x[k, j] - most[j]), and total[j] their sum over k."""
    if pitch == 1:
        m, t = most[0], number(x, 0.0)
        for k in range(n):
            value = exp(x[k] - m)
            e[k] = value
            t = add_in_any_order(t, value)
        total[0] = t
        return
    for j in range(width):
        total[j] = number(x, 0.0)
    for k in range(n):
        for j in range(width):
            value = exp(x[k * pitch + j] - most[j])
            e[k * pitch + j] = value
            total[j] += value


@njit_inner
def sum_products(x: Any, y: Any, n: int, pitch: int, width: int, total: Any) -> None:
    """total[j] = sum over k of x[k, j] * y[k, j]."""
    if pitch == 1:
        t = number(x, 0.0)
        for k in range(n):
            t = add_in_any_order(t, x[k] * y[k])
        total[0] = t
        return
    for j in range(width):
        total[j] = number(x, 0.0)
    for k in range(n):
        for j in range(width):
            total[j] += x[k * pitch + j] * y[k * pitch + j]


@njit_inner
def sum_down(x: Any, n: int, pitch: int, width: int, total: Any) -> None:
    """total[j] = sum over k of x[k, j]."""
    if pitch == 1:
        t = number(x, 0.0)
        for k in range(n):
            t = add_in_any_order(t, x[k])
        total[0] = t
        return
    for j in range(width):
        total[j] = number(x, 0.0)
    for k in range(n):
        for j in range(width):
            total[j] += x[k * pitch + j]


@njit_inner
def sum_shifted(x: Any, n: int, pitch: int, width: int, most: Any, total: Any) -> None:
    """total[j] = sum over k of x[k, j] - most[j]."""
    if pitch == 1:
        m, t = most[0], number(x, 0.0)
        for k in range(n):
            t = add_in_any_order(t, x[k] - m)
        total[0] = t
        return
    for j in range(width):
        total[j] = number(x, 0.0)
    for k in range(n):
        for j in range(width):
            total[j] += x[k * pitch + j] - most[j]


@intrinsic
def largest_in_any_order(typing_context, most, x):  # type: ignore[no-untyped-def]
    """Return the larger, or NaN if one of both is, in a loop that may take it in the lanes of vectors."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        name = f"llvm.maximum.f{x.bitwidth}"
        return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 2), name), args)

    return x(most, x), build
