"""The three contractions, plain: one launch each, one thread per element of the answer. Any geometry, dtype and GPU."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

from ... import _cuda
from ..._array import Array
from ..finish import finished
from ..geometry import ConvGeometry
from .problem import BANDWIDTH, CLOCK, LAUNCH, Plan, Problem

SOURCE = Path(__file__).with_suffix(".cu")


def contract_y(x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
    """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i, stride*p + dilation*k - pad_lo], plus b[o]."""
    return finished(_answer("contract_y", (x, w, b), g.y_shape, g), None, rectify)


def contract_x(y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
    """x[n,i,q] = sum over the o,p,k with stride*p + dilation*k - pad_lo = q of w[o,i,k] * y[n,o,p], plus b[i]."""
    return finished(_answer("contract_x", (y, w, b), g.x_shape, g), None, rectify)


def contract_w(x: Array, y: Array, g: ConvGeometry) -> Array:
    """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i, stride*p + dilation*k - pad_lo]."""
    return _answer("contract_w", (x, y), g.w_shape, g)


def plans(problem: Problem) -> Iterator[Plan]:
    """Yield how: there is one way. A multiplication waits for its two reads, and a thread has nothing else to do."""
    g = problem.g
    answer = {"contract_y": g.y_shape, "contract_x": g.x_shape, "contract_w": g.w_shape}[problem.contraction]
    terms = g.flops / 2 / max(prod(answer), 1)
    rounds = -(-prod(answer) // (problem.device.multiprocessors * 2048))  # so many threads are at work at a time
    clocks = terms * rounds * (160 if problem.dtype == "float64" else 80)  # a prediction
    moved = (prod(g.x_shape) + prod(g.w_shape) + prod(g.y_shape)) * problem.itemsize
    unit = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}[problem.dtype]
    yield Plan(
        "plain", "one element", 0, unit * (1 if problem.itemsize == 2 else 2), LAUNCH + max(moved / BANDWIDTH, clocks / CLOCK)
    )


def run(problem: Problem, found: Plan, given: tuple[Array, Array], b: Array | None, rectify: bool) -> Array:
    """Compute a contraction."""
    first, second = given
    if problem.contraction == "contract_w":
        return contract_w(first, second, problem.g)
    return (contract_y if problem.contraction == "contract_y" else contract_x)(first, second, problem.g, b, rectify)


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in _cuda.DTYPES:
        for name in ("contract_y", "contract_x", "contract_w"):
            yield _cuda.Program(SOURCE, name, _cuda.types(dtype)), "sm_80"


def _answer(name: str, given: tuple[Array | None, ...], shape: tuple[int, ...], g: ConvGeometry) -> Array:
    """Launch the kernel whose parameters are the arrays given, the answer and the geometry."""
    first: Array = given[0]
    with _cuda.on(first):
        answer = _cuda.empty(shape, first.dtype, what=f"the answer of {name}")
        arrays = (None if a is None else _cuda.contiguous(a) for a in given)
        grid, block = _cuda.spread(answer.size)
        program = _cuda.Program(SOURCE, name, _cuda.types(first.dtype))
        _cuda.launch(program=program, device=_cuda.device(first), grid=grid, block=block, args=(*arrays, answer, g))
    return answer
