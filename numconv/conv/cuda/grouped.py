"""Convolution of many narrow groups, depthwise among them: each thread a strip of the answer, read straight from memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil, prod
from pathlib import Path
from typing import NamedTuple

from ... import _cuda
from ..._array import Array
from ..geometry import Triple
from . import layout, parts
from .problem import BANDWIDTH, CLOCK, LAUNCH, Plan, Problem

SOURCE = Path(__file__).with_suffix(".cu")
LEAST_CAPABILITY = (8, 0)
WIDEST = 32  # channels of a group: of more, a product of matrices makes a good tile
WIDE = 4  # taps of the last axis that a block of `weigh` sums at a time, as in grouped.cu
LEAST_SHARE, MOST_SHARE, ENOUGH = 2048, 65536, 512  # pixels of a share, and blocks wanted, the same on every GPU
_ERRORS = {"float64": 1e-15, "float32": 3e-7, "float16": 2.1e-4, "bfloat16": 1.7e-3}
_RATES = {1: 28.0, 4: 56.0}  # products a clock of a multiprocessor, by output channels of a thread: a prediction


class Slide(NamedTuple):
    """The fields of Slide in grouped.cu."""

    batch: int
    groups: int
    ins: int
    outs: int
    last: int
    rectify: int
    in_size: Triple
    taps: Triple
    out_size: Triple
    scale: Triple
    step: Triple
    shift: Triple
    divisor: Triple
    in_steps: Triple
    out_steps: Triple
    w_steps: Triple


class How(NamedTuple):
    """What is launched, with what; shares and their pixels are for `weigh` alone."""

    program: _cuda.Program
    slide: Slide
    shares: int = 0
    share: int = 0


def plans(problem: Problem) -> Iterator[Plan]:
    """Yield plans by strips of rows, and by four channels at a time where a group has as many; sums over pixels by shares."""
    g = problem.g
    if problem.device.capability < LEAST_CAPABILITY or g.groups == 1 or max(g.c_in, g.c_out) > WIDEST or not _small(problem):
        return
    slide = _slide(problem)
    moved = (prod(g.x_shape) + prod(g.y_shape) + prod(g.w_shape)) * problem.itemsize
    clocks = g.flops / 2 / problem.device.multiprocessors * (2 if problem.itemsize == 8 else 1)
    if problem.contraction == "contract_w":
        yield _by_shares(problem, slide, moved, clocks)
        return
    tested = prod(slide.divisor)  # taps that are looked at for one that reaches
    for strip, outs in product((4, 1) if slide.out_size[1] > 1 else (1,), (4, 1) if slide.outs >= 4 else (1,)):
        seconds = LAUNCH + max(moved / BANDWIDTH, clocks * min(tested, 4) / _RATES[outs] / CLOCK * (1 if strip == 4 else 2))
        how = How(_slid(problem.dtype, strip, outs), slide)
        yield Plan("grouped", f"{strip} rows by {outs} channels", 0, _ERRORS[problem.dtype], seconds, how)


def _by_shares(problem: Problem, slide: Slide, moved: int, clocks: float) -> Plan:
    g = problem.g
    pixels, elements = g.batch * prod(g.y_size), prod(g.w_shape)
    wanted = max(ceil(ENOUGH / max(elements // g.w_size[2] * ceil(g.w_size[2] / WIDE), 1)), ceil(pixels / MOST_SHARE))
    share = max(ceil(pixels / wanted), min(LEAST_SHARE, pixels), 1)
    shares = max(ceil(pixels / share), 1)
    workspace = shares * elements * (8 if problem.itemsize == 8 else 4)
    copied = sum(prod(s) * problem.itemsize for s, last in zip((g.x_shape, g.y_shape), problem.last, strict=True) if last)
    seconds = (2 + sum(problem.last)) * LAUNCH + max((moved + 2 * copied) / BANDWIDTH, clocks / 15 / CLOCK)
    how = How(_weigh(problem.dtype), slide, shares, share)
    return Plan("grouped", f"{WIDE} taps, {shares} shares", workspace + copied, _ERRORS[problem.dtype], seconds, how)


def run(problem: Problem, found: Plan, given: tuple[Array, Array], b: Array | None, rectify: bool) -> Array:
    """Compute a contraction."""
    how: How = found.how
    if problem.contraction == "contract_w":
        return _weighed(problem, how, given)
    first, w = given
    shape = problem.g.y_shape if problem.contraction == "contract_y" else problem.g.x_shape
    last = bool(how.slide.last)
    read = layout.channels_last(first) if last else _cuda.contiguous(first)
    lies = (shape[0], *shape[2:], shape[1]) if last else shape
    answer = _cuda.empty(lies, first.dtype, what=f"the answer of {problem.contraction}")
    program = how.program
    sizes = dict(program.defines)
    slide, strip = how.slide._replace(rectify=int(rectify)), int(sizes["STRIP"])
    rows, chunks = ceil(slide.out_size[1] / strip), ceil(slide.outs / int(sizes["OUTS"]))
    grid, block = _cuda.spread(slide.batch * slide.groups * chunks * slide.out_size[0] * rows * slide.out_size[2])
    args = (read, _cuda.contiguous(w), None if b is None else _cuda.contiguous(b), answer, slide)
    _cuda.launch(program=program, device=problem.device, grid=grid, block=block, args=args)
    return layout.logical(answer) if last else answer


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in _cuda.DTYPES:
        for strip in (1, 4):
            for outs in (1, 4):
                yield _slid(dtype, strip, outs), "sm_80"
        yield _weigh(dtype), "sm_80"


def _weighed(problem: Problem, how: How, given: tuple[Array, Array]) -> Array:
    w = _cuda.empty(problem.g.w_shape, given[0].dtype, what="the weights' gradient")
    sums = _cuda.empty(
        (how.shares, w.size), "float64" if problem.itemsize == 8 else "float32", what="the shares of the weights' gradient"
    )
    slide = how.slide
    blocks = slide.groups * slide.outs * slide.ins * prod(slide.taps[:2]) * ceil(slide.taps[2] / WIDE)
    args = (*map(_cuda.contiguous, given), sums, slide, Share(how.share))
    grid = (blocks, how.shares)
    _cuda.launch(program=how.program, device=problem.device, grid=grid, block=(_cuda.BLOCK,), args=args)
    parts.add(sums, None, w, 1, 1, False)
    return w


class Share(NamedTuple):
    """The fields of Share in grouped.cu."""

    pixels: int


def _slide(problem: Problem) -> Slide:
    """Return the geometry as seen from the answer, or from y where the answer is w."""
    g, volume = problem.g, prod(problem.g.w_size)
    ahead = problem.contraction != "contract_x"
    last = int(problem.last[0] and problem.contraction != "contract_w")
    ins, outs = (g.c_in, g.c_out) if ahead else (g.c_out, g.c_in)
    in_size, out_size = (g.x_size, g.y_size) if ahead else (g.y_size, g.x_size)
    sign, one = 1 if ahead else -1, (1, 1, 1)
    step, shift = (tuple(sign * d for d in g.dilation), tuple(-sign * p for p in g.pad_lo))

    def steps(channels: int, size: Triple) -> Triple:
        return (channels * prod(size), 1, channels) if last else (channels * prod(size), prod(size), 1)

    w_steps = (g.c_out * g.c_in * volume, *((g.c_in * volume, volume) if ahead else (volume, g.c_in * volume)))
    sizes = (in_size, g.w_size, out_size, g.stride if ahead else one, step, shift, one if ahead else g.stride)
    lie = (steps(g.groups * ins, in_size), steps(g.groups * outs, out_size), w_steps)
    return Slide(g.batch, g.groups, ins, outs, last, 0, *sizes, *lie)  # type: ignore[arg-type]


def _small(problem: Problem) -> bool:
    """Say whether positions along an axis fit into 30 bits; and for `weigh` all pixels, its shares and its blocks into 32."""
    g = problem.g
    spans = (s * p + d * k + abs(lo) for s, p, d, k, lo in zip(g.stride, g.y_size, g.dilation, g.w_size, g.pad_lo, strict=True))
    small = max(*spans, *g.x_size) < 1 << 29
    return small and (problem.contraction != "contract_w" or g.batch * prod(g.y_size) < 1 << 31)


def _slid(dtype: str, strip: int, outs: int) -> _cuda.Program:
    return _cuda.Program(SOURCE, "slide", (*_cuda.types(dtype), ("STRIP", strip), ("OUTS", outs)))


def _weigh(dtype: str) -> _cuda.Program:
    return _cuda.Program(SOURCE, "weigh", (*_cuda.types(dtype), ("STRIP", 4), ("OUTS", 1)))
