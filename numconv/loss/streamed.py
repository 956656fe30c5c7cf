"""Softmax over inner products on a GPU, forward and gradient, without the matrix of logits: memory grows with the rows alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from math import ceil
from pathlib import Path
from typing import NamedTuple

from .. import _cuda
from .._array import Array

SOURCE = Path(__file__).with_suffix(".cu")
TILE, DEEP, SLICE = 64, 16, 128  # as in streamed.cu


class Streamed(NamedTuple):
    """The fields of Streamed in streamed.cu."""

    rows: int
    columns: int
    dim: int
    shift: int
    apart: int
    inverse: float
    by_row: float = 0.0
    by_column: float = 0.0


class Statistics(NamedTuple):
    """Of each row: its term of the loss, its largest logit, and the sum of exponentials."""

    terms: Array
    most: Array
    total: Array


def among_others(unit: Array, temperature: float, shift: int) -> tuple[Array, Callable[[], Array]]:
    """Return the terms of each row's choice of row i + shift among all others, and the gradient of their mean in the rows."""
    n, dim = unit.shape
    r = Streamed(n, n, dim, shift, 1, 1 / temperature, 1 / n, 1 / n)
    with _cuda.on(unit):
        unit = _cuda.contiguous(unit)
        found = _statistics(unit, unit, r)
    return found.terms, cache(lambda: _gradient(unit, unit, found, found, r))


def between_towers(
    a: Array, b: Array, temperature: float, symmetric: bool
) -> tuple[list[Array], tuple[Callable[[], Array], Callable[[], Array]]]:
    """Return the terms of each row's choice of its own among b (and back, if symmetric), and the gradients of their means."""
    n, dim = a.shape
    share = (0.5 if symmetric else 1.0) / n
    r = Streamed(n, n, dim, 0, 0, 1 / temperature, share, share if symmetric else 0.0)
    with _cuda.on(a):
        a, b = _cuda.contiguous(a), _cuda.contiguous(b)
        of_a = _statistics(a, b, r)
        of_b = _statistics(b, a, r) if symmetric else None
    back = r._replace(by_row=r.by_column, by_column=r.by_row)
    terms = [each.terms for each in (of_a, of_b) if each is not None]
    return terms, (cache(lambda: _gradient(a, b, of_a, of_b, r)), cache(lambda: _gradient(b, a, of_b, of_a, back)))


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in ("float32", "float64"):
        for name in ("statistics", "gradient"):
            yield _cuda.Program(SOURCE, name, _cuda.types(dtype)), "sm_80"


def _statistics(u: Array, v: Array, r: Streamed) -> Statistics:
    found = Statistics(*(_cuda.empty((r.rows,), u.dtype, what=f"each row's {what}") for what in Statistics._fields))
    program = _cuda.Program(SOURCE, "statistics", _cuda.types(u.dtype))
    grid = (ceil(r.rows / TILE),)
    _cuda.launch(program=program, device=_cuda.device(u), grid=grid, block=(_cuda.BLOCK,), args=(u, v, *found, r))
    return found


def _gradient(u: Array, v: Array, of_u: Statistics | None, of_v: Statistics | None, r: Streamed) -> Array:
    with _cuda.on(u):
        du = _cuda.empty(tuple(u.shape), u.dtype, what="the gradient in the embeddings")
        program = _cuda.Program(SOURCE, "gradient", _cuda.types(u.dtype))
        known = [a for of in (of_u, of_v) for a in ((None, None) if of is None else (of.most, of.total))]
        _cuda.launch(
            program=program,
            device=_cuda.device(u),
            grid=(ceil(r.rows / TILE), ceil(r.dim / SLICE)),
            block=(_cuda.BLOCK,),
            args=(u, v, *known, du, r),
            shared=(DEEP * max(2 * (TILE + 1), SLICE) + TILE * (TILE + 1)) * u.dtype.itemsize,
        )
    return du
