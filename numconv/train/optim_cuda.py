"""Steps of the optimisers in CUDA kernels: one launch per array, nothing read by the host.

A learning rate, and what Adam corrects its means by, are numbers of the host or arrays of float64 on the GPU. Those on the GPU
are read there, at each run of the kernel: a CUDA graph that captured such a step replays it for the step that it has come to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from .. import _cuda, _cuda_formula
from .._array import Array

SOURCE = Path(__file__).with_suffix(".cu")

_F8 = np.dtype("float64")


class Descent(NamedTuple):
    """What `sgd_moved` is told: how many numbers, and how to go."""

    n: int
    nesterov: int
    momentum: float
    rate: float


class Moments(NamedTuple):
    """What `adam_moved` is told: how many numbers, the corrections where they are the host's, and what stays."""

    n: int
    scale: float
    floor: float
    rate: float
    b1: float
    b2: float
    decay: float


class Moment(NamedTuple):
    """What `adam_corrections` is told: what of the step and the rate the host knows, and what stays."""

    step: int
    rate: float
    b1: float
    b2: float
    eps: float


class Sums(NamedTuple):
    """What `norm_of` is told: how many partial sums, and the largest norm."""

    n: int
    limit: float


def descended(
    p: Array, g: Array, velocity: Array | None, rate: Any, momentum: float, nesterov: bool
) -> tuple[Array, Array | None]:
    """Return p and the velocity after a step of gradient descent, for arrays of one shape and dtype; None for no momentum."""
    with _cuda.on(p):
        after = _like(p, "the parameters")
        velocity_after = None if velocity is None else _like(p, "the velocity")
        given = (None if a is None else _cuda.contiguous(a) for a in (p, g, velocity))
        pointer, value = _either(rate, 0.0)
        told = Descent(p.size, int(nesterov), float(momentum), value)
        _moved("sgd_moved", p, (*given, after, velocity_after, pointer, told))
    return after, velocity_after


def moved(
    p: Array, g: Array, mean: Array, square: Array, corrections: Any, betas: tuple[float, float], decay: float
) -> tuple[Array, Array, Array]:
    """Return p, m and v after a step of Adam, for arrays of one shape and dtype.

    The corrections are `optim.Corrections`, or an array of the three.
    """
    with _cuda.on(p):
        after = [_like(p, f"{name} after a step of Adam") for name in ("the parameters", "m", "v")]
        given = (_cuda.contiguous(a) for a in (p, g, mean, square))
        pointer, values = _either(corrections, (0.0, 0.0, 0.0))
        # As doubles, whatever the schedule computed them in: the struct is laid out by what it is given.
        told = Moments(p.size, *map(float, (*values, *betas, decay)))
        _moved("adam_moved", p, (*given, *after, pointer, told))
    return after[0], after[1], after[2]


def corrections(step: Any, rate: Any, betas: tuple[float, float], eps: float) -> Array:
    """Return the three of `optim.Corrections` as an array, of a step or a rate that lie on the GPU: int64, float64, no axes."""
    given, values = zip(_either(step, 0), _either(rate, 0.0), strict=True)
    told = Moment(*values, *map(float, (*betas, eps)))
    where = next(a for a in given if a is not None)
    with _cuda.on(where):
        found = _cuda.empty((3,), _F8, what="what Adam corrects its means by")
        args = (*given, found, told)
        _cuda.launch(program=_CORRECTIONS, device=_cuda.device(where), grid=(1,), block=(1,), args=args)
    return found


def norm(square: Callable[..., Any], arrays: list[Array], limit: float | None) -> tuple[Array, Array | None]:
    """Return the L2 norm of all numbers together, and the factor that brings it to at most the limit, if there is one.

    Both have the dtype that the arrays promote to. `square` is the formula of what is summed, in chunks, array by array.
    """
    first, xp = arrays[0], array_namespace(*arrays)
    dtype = xp.result_type(*arrays)
    with _cuda.on(first):
        sizes = [_cuda_formula.chunks(a) for a in arrays]
        partial, begin = _cuda.empty((sum(sizes),), _F8, what="the partial sums of a norm"), 0
        for a, size in zip(arrays, sizes, strict=True):
            _cuda_formula.partial_sums(square, (a,), partial[begin : begin + size])
            begin += size
        length = _cuda.empty((), dtype, what="a norm")
        factor = None if limit is None else _cuda.empty((), dtype, what="the factor of clipping")
        args = (partial, length, factor, Sums(partial.size, float(limit or 0.0)))
        _cuda.launch(program=_program("norm_of", dtype), device=_cuda.device(first), grid=(1,), block=(_cuda.BLOCK,), args=args)
    return length, factor


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in _cuda.DTYPES:
        for name in ("sgd_moved", "adam_moved", "norm_of"):
            yield _program(name, dtype), "sm_80"
    yield _CORRECTIONS, "sm_80"


def _either(given: Any, nothing: Any) -> tuple[Array | None, Any]:
    """Return what a kernel reads on the GPU, and what it gets by value: one of both is there."""
    return (None, given) if isinstance(given, (int, float, tuple)) else (given, nothing)


def _moved(name: str, p: Array, args: tuple[Any, ...]) -> None:
    grid, block = _cuda.spread(p.size)
    _cuda.launch(program=_program(name, p.dtype), device=_cuda.device(p), grid=grid, block=block, args=args)


def _like(p: Array, what: str) -> Array:
    return _cuda.empty(p.shape, p.dtype, what=what)


def _program(name: str, dtype: object) -> _cuda.Program:
    return _cuda.Program(SOURCE, name, _cuda.types(dtype))


_CORRECTIONS = _program("adam_corrections", _F8)
