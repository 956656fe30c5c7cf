"""A sparse linear map along one axis of a CuPy array: one launch, one thread per element of the answer.

Its lists are copied to the GPU once. Bound by bytes, it is predicted: x is read and y written once, and the entries of a row, and
of neighbouring rows, lie in the same lines of the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import _cuda
from ._array import Array

SOURCE = Path(__file__).with_name("_axis_map.cu")

Matrix = np.ndarray[Any, Any]


class Along(NamedTuple):
    """What the kernel reads: x is (outer, size, inner), y (outer, out, inner), and each row of the map has `entries`."""

    outer: int
    size: int
    out: int
    inner: int
    entries: int
    by_out: int
    by_inner: int


def apply(source: Matrix, weight: Matrix, x: Array, axis: int) -> Array:
    """Return y[..., p, ...] = sum over k of weight[k, p] * x[..., source[k, p], ...] along an axis, counted from the front."""
    shape = tuple(x.shape)
    g = along(shape[:axis], shape[axis], shape[axis + 1 :], source.shape)
    with _cuda.on(x):
        device = _cuda.device(x)
        y = _cuda.empty((*shape[:axis], g.out, *shape[axis + 1 :]), x.dtype, what="a linear map along one axis")
        sums = np.float64 if x.dtype == np.float64 else np.float32
        chosen = program(g, x.dtype)
        indices = np.int64 if ("WIDE", 1) in chosen.defines else np.int32
        lists = _cuda.kept(source, indices, device), _cuda.kept(weight, sums, device)
        grid, block = _cuda.spread(y.size)
        args = (_cuda.contiguous(x), *lists, y, g)
        _cuda.launch(program=chosen, device=device, grid=grid, block=block, args=args)
    return y


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in _cuda.DTYPES:
        for wide in (False, True):
            yield _program(dtype, wide), "sm_80"


def program(g: Along, dtype: Any) -> _cuda.Program:
    """Return the kernel for a geometry: with indices of 32 bits wherever they hold all there is to count."""
    return _program(dtype, max(g.outer * max(g.size, g.out) * g.inner, g.entries * g.out) >= 1 << 31)


@lru_cache(1024)
def along(before: tuple[int, ...], size: int, after: tuple[int, ...], entries_and_out: tuple[int, int]) -> Along:
    """Return what the kernel reads, for x of shape (*before, size, *after) and lists of shape (entries, out)."""
    (entries, out), inner = entries_and_out, prod(after)
    return Along(prod(before), size, out, inner, entries, _cuda.reciprocal(out), _cuda.reciprocal(inner))


def _program(dtype: Any, wide: bool) -> _cuda.Program:
    return _cuda.Program(SOURCE, "along", (*_cuda.types(dtype), ("WIDE", int(wide))))
