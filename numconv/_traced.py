"""Formulas made into parts of kernels, and into kernels of their own, by evaluating them on the numbers of `_elementary`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, lru_cache
from hashlib import sha256
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from . import _elementary
from ._elementary import Number
from ._jit import Job, Kernel, njit_inner, workers
from ._memory import empty
from ._simd import number, pointer

Array = np.ndarray[Any, Any]

# Workers' shares are whole blocks, so that which numbers a vector holds, and which terms a sum, does not depend on their number.
_BLOCK = 1024
_JOB = Job("a b c factor y", n=1, scale=np.dtype("f8"), parameter=np.dtype("f8"))


def traced(f: Callable[..., Number]) -> Any:
    """Make a function of numbers one that kernels can call; it becomes a part of them, and of their vectors."""

    def typed(context: Any, *args: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return f(*(Number(builder, value) for value in values)).value

        return args[0](*args), build

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = ["context", *inspect.signature(f).parameters]
    typed.__name__ = f.__name__
    typed.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])  # type: ignore[attr-defined]
    return intrinsic(typed)


def scaled(formula: Callable[..., Any], scale: Array | float, arrays: list[Array], parameter: float | None) -> Array:
    """Return scale * formula(xp, *arrays, parameter), where the scale is a number or has the shape of the arrays."""
    y = empty(arrays[0].shape, arrays[0].dtype)
    if isinstance(scale, float):
        _run(_by_number, formula, arrays, parameter, y, scale=scale)
    else:
        _run(_by_array, formula, arrays, parameter, y, factor=scale)
    return y


def summed(formula: Callable[..., Any], arrays: list[Array], parameter: float | None) -> Any:
    """Return the sum of formula(xp, *arrays, parameter)."""
    sums = np.empty(-(-arrays[0].size // _BLOCK), arrays[0].dtype)
    _run(_sums, formula, arrays, parameter, sums)
    return sums.dtype.type(np.sum(sums, dtype=np.float64))


def _run(
    template: Callable[..., None],
    formula: Callable[..., Any],
    arrays: list[Array],
    parameter: float | None,
    y: Array,
    *,
    scale: float = 1.0,
    factor: Array | None = None,
) -> None:
    size = arrays[0].size
    kernel = _kernel(template, formula, len(arrays), parameter is not None)
    addresses = dict(zip("abc", arrays, strict=False))
    kernel(workers(-(-size // _BLOCK), size), y.dtype, _job(size, scale, parameter or 0.0), factor=factor, y=y, **addresses)


@lru_cache(256)
def _job(n: int, scale: float, parameter: float) -> Array:
    return _JOB.fill(n=n, scale=scale, parameter=parameter)


term: Any = None  # the formula's value at a place, in a template's copies


def _by_number(worker, workers, job, like):  # type: ignore[no-untyped-def]
    """y[i] = scale * term i."""
    a, b, c, y = pointer(job.a, like), pointer(job.b, like), pointer(job.c, like), pointer(job.y, like)
    scale, parameter = number(like, job.scale), number(like, job.parameter)
    begin, end = _share(worker, workers, job.n)
    for i in range(begin, end):
        y[i] = scale * term(a, b, c, i, parameter)


def _by_array(worker, workers, job, like):  # type: ignore[no-untyped-def]
    """y[i] = factor[i] * term i."""
    a, b, c, y = pointer(job.a, like), pointer(job.b, like), pointer(job.c, like), pointer(job.y, like)
    factor, parameter = pointer(job.factor, like), number(like, job.parameter)
    begin, end = _share(worker, workers, job.n)
    for i in range(begin, end):
        y[i] = factor[i] * term(a, b, c, i, parameter)


def _sums(worker, workers, job, like):  # type: ignore[no-untyped-def]
    """y[j] = sum of the terms of block j."""
    a, b, c, y = pointer(job.a, like), pointer(job.b, like), pointer(job.c, like), pointer(job.y, like)
    parameter = number(like, job.parameter)
    begin, end = _share(worker, workers, job.n)
    for first in range(begin, end, _BLOCK):
        total = number(like, 0.0)
        for i in range(first, min(first + _BLOCK, end)):
            total = add_in_any_order(total, term(a, b, c, i, parameter))
        y[first // _BLOCK] = total


@njit_inner
def _share(worker: int, workers: int, n: int) -> tuple[int, int]:
    """Return where a worker's numbers begin and end."""
    blocks = (n + _BLOCK - 1) // _BLOCK
    return worker * blocks // workers * _BLOCK, min(n, (worker + 1) * blocks // workers * _BLOCK)


@intrinsic
def add_in_any_order(typing_context, total, x):  # type: ignore[no-untyped-def]
    """Add x to the total, in a loop whose sum may be taken in the lanes of vectors: its length alone decides how."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args, flags=("reassoc", "nsz", "contract"))

    return x(total, x), build


def make_kernels(formula: Callable[..., Any]) -> None:
    """Make the kernels of a formula, which are compiled with all others."""
    *arrays, last = list(inspect.signature(formula).parameters.values())[1:]
    takes_parameter = last.annotation in ("float", float)
    for template in (_by_number, _by_array, _sums):
        _kernel(template, formula, len(arrays) + (not takes_parameter), takes_parameter)


@cache
def _kernel(template: Callable[..., None], formula: Callable[..., Any], arrays: int, takes_parameter: bool) -> Kernel:
    """Compile a template for a formula: a copy of it, by a name of its own, that finds the formula's term among its globals."""

    def evaluated(builder: Any, arrays: list[Any], parameter: Any) -> Any:
        return formula(_elementary, *[Number(builder, value) for value in arrays + [parameter] * takes_parameter]).value

    def term(context: Any, a: Any, b: Any, c: Any, i: Any, parameter: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            here = [builder.load(builder.gep(pointer, [args[3]])) for pointer in args[:arrays]]
            return evaluated(builder, here, args[4])

        return parameter(a, b, c, i, parameter), build

    f = FunctionType(template.__code__, {**globals(), "term": intrinsic(term)}, f"{formula.__name__}{template.__name__}")
    f.__qualname__ = f"{f.__name__}.{_digest(evaluated, arrays)}"
    return Kernel(f, _JOB)


def _digest(evaluated: Callable[..., Any], arrays: int) -> str:
    """Hash the code of a formula: kernels on disk are found by it, wherever the formula and what it calls are written."""
    digest = sha256()
    for kind in (ir.FloatType(), ir.DoubleType()):
        function = ir.Function(ir.Module(), ir.FunctionType(kind, [kind] * (arrays + 1)), "formula")
        builder = ir.IRBuilder(function.append_basic_block())
        builder.ret(evaluated(builder, list(function.args[:arrays]), function.args[arrays]))
        digest.update(str(function).encode())
    return digest.hexdigest()[:16]
