"""Normalisation on a GPU: moments in one pass over x, sums in chunks that are added in order, and one kernel per result."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import _cuda
from .._array import Array
from .geometry import NormGeometry

SOURCE = Path(__file__).with_suffix(".cu")
CHUNKS = {1: 256, 32: 2048, _cuda.BLOCK: 8192}  # numbers of a chunk, by threads of a team: some 8 to 256 for each thread
_SUMS = ("moments", "products_of_sets", "products_of_channels")
_ELSE = ("statistics", "normal", "added", "input_gradient")


class Norm(NamedTuple):
    """The fields of Norm in cuda.cu."""

    rows: int
    groups: int
    parts: int
    size: int
    over_batch: int
    fixed: int
    small: int
    targets: int
    outer: int
    run: int
    chunks: int
    chunk: int
    eps: float

    @property
    def team(self) -> int:
        """Threads that take a chunk together."""
        return 1 if self.run == 1 else 32 if self.outer * self.run < CHUNKS[32] else _cuda.BLOCK


class Moments(NamedTuple):
    """Mean and 1 / sqrt(var + eps) of each set, in float64; `fixed` ones do not depend on x."""

    of: Array
    fixed: bool


def moments(x: Array, g: NormGeometry) -> tuple[Array, Array]:
    """Mean and variance of each set."""
    with _cuda.on(x):
        mean, var = (_cuda.empty((g.sets,), x.dtype, what=what) for what in ("the means", "the variances"))
        _statistics(_cuda.contiguous(x), None, g, 0.0, mean, var)
    return mean, var


def normal_y(
    x: Array, scale: Array | None, shift: Array | None, given: tuple[Array, Array] | None, g: NormGeometry, eps: float
) -> tuple[Array, Moments]:
    """Return y = d r scale + shift with the moments of x, or `given` mean and variance of each set."""
    with _cuda.on(x):
        x = _cuda.contiguous(x)
        kept = _statistics(x, given, g, float(eps), None, None)
        y = _cuda.empty(g.x_shape, x.dtype, what="what is normalised")
        _each("normal", _norm(g, "sets"), (x, _line(scale), _line(shift), kept, y), x, y.size)
    return y, Moments(kept, given is not None)


def gradients(
    dy: Array, x: Array, scale: Array | None, kept: Moments, g: NormGeometry, need_x: bool
) -> tuple[Array | None, Array, Array]:
    """Return dx = r (h - mean(h) - d r^2 mean(h d)) with h = dy scale, r h if moments are fixed; sums of dy d r; sums of dy."""
    with _cuda.on(x):
        x, dy, scale = _cuda.contiguous(x), _cuda.contiguous(dy), _line(scale)
        dshift, dscale = (_cuda.empty(g.channels, x.dtype, what=what) for what in ("dshift", "dscale"))
        totals = _products("channels", (x, dy, kept.of), x, g, dshift, dscale)
        if not need_x:
            return None, dscale, dshift
        if not (g.over_batch or kept.fixed):
            totals = _products("sets", (x, dy, scale, kept.of), x, g, None, None)
        dx = _cuda.empty(g.x_shape, x.dtype, what="the gradient of what is normalised")
        n = _norm(g, "sets")._replace(fixed=int(kept.fixed))
        _each("input_gradient", n, (x, dy, scale, kept.of, totals, dx), x, dx.size)
    return dx, dscale, dshift


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in _cuda.DTYPES:
        for team in CHUNKS:
            for name in (*_SUMS, *(_ELSE if team == _cuda.BLOCK else ())):
                yield _program(name, dtype, team), "sm_80"


def _norm(g: NormGeometry, target: str, eps: float = 0.0) -> Norm:
    """Return what the kernels are told where sums are over sets, or over channels."""
    rows, groups, parts, size = g.view
    if target == "sets" and not g.over_batch:
        targets, outer, run = rows * groups, 1, parts * size
    else:
        targets, outer, run = groups * parts, rows, size
    small = prod(g.view) < 2**31
    n = Norm(rows, groups, parts, size, int(g.over_batch), 0, int(small), targets, outer, run, 1, 1, eps)
    chunk = CHUNKS[n.team]
    return n._replace(chunks=max(1, ceil(outer * run / chunk)), chunk=chunk)


def _statistics(
    x: Array, given: tuple[Array, Array] | None, g: NormGeometry, eps: float, mean: Array | None, var: Array | None
) -> Array:
    """Return mean and 1 / sqrt(var + eps) of each set; write mean and variance, if they are wanted."""
    n, partial = _norm(g, "sets", eps), None
    kept = _cuda.empty((n.targets, 2), np.dtype("float64"), what="the moments")
    if given is None:
        partial = _cuda.empty((n.targets, n.chunks, 3), np.dtype("float64"), what="the moments of chunks")
        _teams("moments", n, (x, partial), x)
    given_mean, given_var = (None, None) if given is None else map(_line, given)
    _each("statistics", n, (partial, given_mean, given_var, kept, mean, var), x, n.targets)
    return kept


def _products(
    target: str, given: tuple[Any, ...], x: Array, g: NormGeometry, dshift: Array | None, dscale: Array | None
) -> Array:
    """Return the sums of h and h normal over each set or channel."""
    n = _norm(g, target)
    partial = _cuda.empty((n.targets, n.chunks, 2), np.dtype("float64"), what="the sums of chunks")
    totals = _cuda.empty((n.targets, 2), np.dtype("float64"), what="the sums of a gradient")
    _teams(f"products_of_{target}", n, (*given, partial), x)
    _each("added", n, (partial, totals, dshift, dscale), x, n.targets)
    return totals


def _teams(name: str, n: Norm, args: tuple[Any, ...], x: Array) -> None:
    """Run a kernel of which a team takes a chunk."""
    grid = (ceil(n.targets * n.chunks * n.team / _cuda.BLOCK),)
    program = _program(name, x.dtype, n.team)
    _cuda.launch(program=program, device=_cuda.device(x), grid=grid, block=(_cuda.BLOCK,), args=(*args, n))


def _each(name: str, n: Norm, args: tuple[Any, ...], x: Array, elements: int) -> None:
    """Run a kernel of which a thread takes an element."""
    grid, block = _cuda.spread(elements)
    program = _program(name, x.dtype, _cuda.BLOCK)
    _cuda.launch(program=program, device=_cuda.device(x), grid=grid, block=block, args=(*args, n))


def _program(name: str, dtype: Any, team: int) -> _cuda.Program:
    return _cuda.Program(SOURCE, name, (*_cuda.types(dtype), ("TEAM", team)))


def _line(a: Array | None) -> Array | None:
    return None if a is None else _cuda.contiguous(a)
