"""Formulas made into CUDA C++, by evaluating them on numbers that write down what is done with them; and their launches.

The same formulas in array API that `_traced` makes into kernels of the CPU. Every intermediate has a name of its own, so what a
formula uses twice is computed once. Functions are CUDA's accurate ones, in float32 or float64; numbers of 16 bits are widened
where they are read and rounded once where they are written.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace

from . import _cuda
from ._array import Array
from ._cuda import Program

_CHUNK = 4096  # as in _pointwise.cuh


class Number:
    """A number or a truth that a kernel will compute: to calculate with it is to write."""

    __array_ufunc__ = None  # a NumPy scalar before it leaves the operation to it

    def __init__(self, lines: list[str], text: str, dtype: Any) -> None:
        self.lines, self.text, self.dtype = lines, text, dtype

    def write(self, expression: str, kind: str = "Sum") -> Number:
        """Name an expression."""
        name = f"t{len(self.lines)}"
        self.lines.append(f"const {kind} {name} = {expression};")
        return Number(self.lines, name, self.dtype)

    def __add__(self, other: Any) -> Number:
        return self.write(f"{self.text} + {_text(other)}")

    def __radd__(self, other: Any) -> Number:
        return self.write(f"{_text(other)} + {self.text}")

    def __sub__(self, other: Any) -> Number:
        return self.write(f"{self.text} - {_text(other)}")

    def __rsub__(self, other: Any) -> Number:
        return self.write(f"{_text(other)} - {self.text}")

    def __mul__(self, other: Any) -> Number:
        return self.write(f"{self.text} * {_text(other)}")

    def __rmul__(self, other: Any) -> Number:
        return self.write(f"{_text(other)} * {self.text}")

    def __truediv__(self, other: Any) -> Number:
        return self.write(f"{self.text} / {_text(other)}")

    def __rtruediv__(self, other: Any) -> Number:
        return self.write(f"{_text(other)} / {self.text}")

    def __neg__(self) -> Number:
        return self.write(f"-{self.text}")

    def __lt__(self, other: Any) -> Number:
        return self.write(f"{self.text} < {_text(other)}", "bool")

    def __le__(self, other: Any) -> Number:
        return self.write(f"{self.text} <= {_text(other)}", "bool")

    def __gt__(self, other: Any) -> Number:
        return self.write(f"{self.text} > {_text(other)}", "bool")

    def __ge__(self, other: Any) -> Number:
        return self.write(f"{self.text} >= {_text(other)}", "bool")


def finfo(dtype: Any) -> np.finfo[Any]:
    """Return what NumPy says of the limits of a type."""
    return np.finfo(dtype)


def where(condition: Number, a: Any, b: Any) -> Number:
    """Return a where the condition holds, else b."""
    return condition.write(f"{condition.text} ? {_text(a)} : {_text(b)}")


def logical_not(truth: Number) -> Number:
    """Return whether it does not hold."""
    return truth.write(f"!{truth.text}", "bool")


def astype(x: Number, dtype: Any) -> Number:
    """Return a truth as 1 or 0."""
    return x.write(f"Sum({x.text})")


def ones_like(x: Number) -> Number:
    """Return 1."""
    return x.write("Sum(1)")


def maximum(x: Number, y: Any) -> Number:
    """Return the larger, or NaN if one of both is."""
    other = _text(y)
    return x.write(f"{x.text} >= {other} || {x.text} != {x.text} ? {x.text} : {other}")


def minimum(x: Number, y: Any) -> Number:
    """Return the smaller, or NaN if one of both is."""
    other = _text(y)
    return x.write(f"{x.text} <= {other} || {x.text} != {x.text} ? {x.text} : {other}")


def clip(x: Number, min: Any = None, max: Any = None) -> Number:  # noqa: A002  (the array API's names)
    """Return x, no less and no more than that."""
    raised = x if min is None else maximum(x, min)
    return raised if max is None else minimum(raised, max)


def sign(x: Number) -> Number:
    """Return -1, 0 or 1, or NaN."""
    return x.write(f"{x.text} > Sum(0) ? Sum(1) : {x.text} < Sum(0) ? Sum(-1) : {x.text}")


def erfc_and_gaussian(x: Number) -> tuple[Number, Number]:
    """Return erfc(x) and exp(-x**2), whose argument's rounding is made good."""
    square = x * x
    rest = x.write(f"fma({x.text}, {x.text}, -{square.text})")
    raised = exp(-square)
    return erfc(x), raised - where(raised > 0.0, raised * rest, 0.0)


def _function(name: str) -> Callable[[Number], Number]:
    def function(x: Number) -> Number:
        return x.write(f"{name}({x.text})")

    return function


exp, expm1, log, log1p, tanh, erfc, sqrt = map(_function, ("exp", "expm1", "log", "log1p", "tanh", "erfc", "sqrt"))
abs = _function("fabs")  # noqa: A001  (the array API's name)


def _text(value: Any) -> str:
    """Return a number of the formula's, or a constant in full."""
    return value.text if isinstance(value, Number) else f"Sum({float(value)!r})"


class Places(NamedTuple):
    """The fields of Places in `_pointwise.cuh`."""

    places: int
    step_a: int
    step_b: int
    step_c: int
    step_factor: int
    scale: float
    parameter: float


def scaled(formula: Callable[..., Any], scale: Any, arguments: tuple[Any, ...]) -> Array:
    """Return scale * formula(xp, *arguments): the scale is a number, or an array of no axes or of the first argument's shape."""
    first = arguments[0]
    with _cuda.on(first):
        factor, step = (None, 0) if isinstance(scale, (int, float)) else _array(scale, first)
        arrays, steps, parameter = _split(arguments)
        y = _cuda.empty(tuple(first.shape), first.dtype, what=f"the values of {formula.__name__}")
        places = Places(y.size, *steps, step, 1.0 if factor is not None else float(scale), parameter)
        program = _program("scaled", formula, len(arguments), first.dtype)
        grid, block = _cuda.spread(-(-y.size * y.dtype.itemsize // 16))
        _cuda.launch(program=program, device=_cuda.device(first), grid=grid, block=block, args=(*arrays, factor, y, places))
    return y


def summed(formula: Callable[..., Any], arguments: tuple[Any, ...]) -> Array:
    """Return the sum of formula(xp, *arguments) over all places, an array of no axes: chunks first, then their sums, in order."""
    first = arguments[0]
    with _cuda.on(first):
        partial = _cuda.empty((chunks(first),), np.dtype("float64"), what=f"the partial sums of {formula.__name__}")
        places = partial_sums(formula, arguments, partial)
        y = _cuda.empty((), first.dtype, what=f"the sum of {formula.__name__}")
        program, args = (
            _program("added", formula, len(arguments), first.dtype),
            (partial, y, places._replace(places=partial.size)),
        )
        _cuda.launch(program=program, device=_cuda.device(first), grid=(1,), block=(_cuda.BLOCK,), args=args)
    return y


def chunks(a: Array) -> int:
    """Return how many partial sums there are of an array's places."""
    return -(-int(a.size) // _CHUNK)


def partial_sums(formula: Callable[..., Any], arguments: tuple[Any, ...], partial: Array) -> Places:
    """Fill an array of float64 with the sums of formula(xp, *arguments) over chunks of its places, in order."""
    first = arguments[0]
    arrays, steps, parameter = _split(arguments)
    places = Places(first.size, *steps, 0, 1.0, parameter)
    program, args = _program("summed", formula, len(arguments), first.dtype), (*arrays, partial, places)
    _cuda.launch(program=program, device=_cuda.device(first), grid=(chunks(first),), block=(_cuda.BLOCK,), args=args)
    return places


def programs(formulas: list[Callable[..., Any]]) -> Iterator[tuple[Program, str]]:
    """Yield every kernel of these formulas, and the least architecture it is for."""
    for formula in formulas:
        count = len(inspect.signature(formula).parameters) - 1
        for dtype in _cuda.DTYPES:
            for name in ("scaled", "summed", "added"):
                yield _program(name, formula, count, dtype), "sm_80"


def _split(arguments: tuple[Any, ...]) -> tuple[list[Array | None], tuple[int, int, int], float]:
    """Return three arrays, None for those there are not; the step through each; and the parameter."""
    first, last = arguments[0], arguments[-1]
    parameter = float(last) if isinstance(last, (int, float)) else 0.0
    found = [_array(a, first) for a in arguments if not isinstance(a, (int, float))]
    found += [(None, 0)] * (3 - len(found))
    (_, step_a), (_, step_b), (_, step_c) = found
    return [a for a, _ in found], (step_a, step_b, step_c), parameter


def _array(a: Array, first: Array) -> tuple[Array, int]:
    """Return an array as the kernels read it beside the first: of its dtype, in its shape and order, or one number for all."""
    a = a if a.dtype == first.dtype else a.astype(first.dtype)
    if a.size == 1 != first.size:
        return _cuda.contiguous(a), 0
    if a.shape != first.shape:
        a = array_namespace(first).broadcast_to(a, first.shape)
    return _cuda.contiguous(a), 1


def _program(name: str, formula: Callable[..., Any], arguments: int, dtype: Any) -> Program:
    of = dict(_cuda.types(dtype))
    return Program(_source(formula, arguments, of["Sum"]), name, tuple(of.items()))


@lru_cache(512)
def _source(formula: Callable[..., Any], arguments: int, calculated: str) -> str:
    """Return the text of a formula's kernels, calculated in float or double."""
    lines: list[str] = []
    dtype = np.dtype(np.float64 if calculated == "double" else np.float32)
    *_, last = inspect.signature(formula).parameters.values()
    names = ["a", "b", "c"][:arguments]
    if last.annotation in ("float", float):
        names[-1] = "parameter"
    value = formula(_namespace(), *(Number(lines, name, dtype) for name in names))
    body = "\n".join(f"    {line}" for line in _used(lines, value.text))
    return (
        f'// {formula.__name__}\n#include "_numbers.cuh"\n'
        f"__device__ __forceinline__ Sum term(Sum a, Sum b, Sum c, Sum parameter)\n{{\n{body}\n    return {value.text};\n}}\n"
        '#include "_pointwise.cuh"\n'
    )


def _used(lines: list[str], value: str) -> list[str]:
    """Return the lines that a value needs: a formula may leave a part of what it asked for."""
    kept, needed = [], {value}
    for line in reversed(lines):
        _, _, name, _, *_ = line.split()
        if name in needed:
            kept.append(line)
            needed |= set(_NAME.findall(line))
    return kept[::-1]


_NAME = re.compile(r"\bt\d+\b")


@cache
def _namespace() -> Any:
    return sys.modules[__name__]
