"""Dense contract_y and contract_x as one product of matrices, gathered from an input with channels last as it goes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import gcd, prod
from pathlib import Path
from typing import NamedTuple

from ... import _cuda
from ..._array import Array
from ..geometry import ConvGeometry, Triple
from . import layout, parts
from .problem import BANDWIDTH, CLOCK, LAUNCH, Plan, Problem

SOURCE = Path(__file__).with_suffix(".cu")
LEAST_CAPABILITY = (8, 0)
MOST = 1 << 29  # of a position along an axis: sums of two such numbers have 31 bits

# The shapes of a tile, the largest first. `CHUNK`s below 16 bytes come with one of them.
_TILES = {
    "Halves": ((128, 128), (128, 64), (64, 64), (64, 32)),
    "Tf32": ((128, 128), (128, 64), (64, 64), (64, 32)),
    "Thrice": ((128, 64), (64, 64), (64, 32)),
    "Doubles": ((128, 64), (64, 64), (64, 32)),
    "Ieee": ((128, 64), (64, 64), (64, 32)),
}
_RAGGED = (64, 64)
_SIZES = {  # bytes of a copy that there are kernels for, by bytes of a number
    ("Halves", 2): (16, 4, 2),
    ("Ieee", 2): (16, 2),
    ("Tf32", 4): (16, 4),
    ("Thrice", 4): (16, 4),
    ("Ieee", 4): (16, 4),
    ("Doubles", 8): (16, 8),
}
_ROW, _STAGES, _THREADS = 64, 4, 128  # as in gemm.cu
_ENOUGH, _WORTH = 128, 8  # blocks that a split may make, the same on every GPU, and the least steps of a part

# Predictions for an H200, nothing of it measured: products a clock that a multiprocessor does, bytes a clock that reach it from
# L2, and clocks before and after the sums.
_RATES = {"Halves": 1270.0, "Tf32": 635.0, "Thrice": 212.0, "Doubles": 100.0, "Ieee": 77.0}
_BYTES_A_CLOCK, _AROUND, _LEAST_STEP = 40, 2000, 120
_COPY = {16: 1.0, 8: 1.5, 4: 2.5, 2: 6.0}  # how much longer the copies of a step take in small pieces
_ERRORS = {"Tf32": 3e-4, "Thrice": 2e-7, "Ieee": 2e-7}  # seen on the emulator, for sums of up to 4608 products
_ROUNDED = {"float16": 2.1e-4, "bfloat16": 1.7e-3}


class Gather(NamedTuple):
    """The fields of Gather in gemm.cu."""

    transposed: int
    batch: int
    groups: int
    channels: int
    outputs: int
    pitch: int
    rectify: int
    splits: int
    answer: int
    in_size: Triple
    taps: Triple
    out_size: Triple
    stride: Triple
    dilation: Triple
    common: Triple
    pad: Triple
    out_step: Triple


class How(NamedTuple):
    """An instantiation, and what it is launched with."""

    program: _cuda.Program
    grid: tuple[int, int, int]
    shared: int
    pitch: int  # channels of the input and of a group's weights as the kernel sees them: padded with zeros
    gather: Gather


def plans(problem: Problem) -> Iterator[Plan]:
    """Yield a plan for each size of a tile and of copies, which decide to how many channels the input is padded."""
    if problem.device.capability < LEAST_CAPABILITY or problem.contraction == "contract_w" or not _small_enough(problem.g):
        return
    tiles = _TILES[_multiply(problem.dtype, problem.precision)]
    for chunk, tile, split in product(_chunks(problem), tiles, (False, True)):
        if (found := _with(problem, chunk, tile, split)) is not None:
            yield found


def run(problem: Problem, found: Plan, given: tuple[Array, Array], b: Array | None, rectify: bool) -> Array:
    """Compute a contraction."""
    how: How = found.how
    first, w = given
    g, gather = problem.g, how.gather._replace(rectify=int(rectify))
    packed = layout.turned(w, _weights(problem), gather.channels, "weights with their channels last")
    inward = layout.channels_last(first, pitch=gather.pitch)
    shape = g.y_shape if problem.contraction == "contract_y" else g.x_shape
    last = problem.last[0]
    answer = _cuda.empty(
        (shape[0], *shape[2:], shape[1]) if last else shape, first.dtype, what=f"the answer of {problem.contraction}"
    )
    b, split, every = None if b is None else _cuda.contiguous(b), None, (gather.splits, gather.answer)
    if gather.splits > 1:
        split = _cuda.empty(
            every, "float64" if problem.itemsize == 8 else "float32", what=f"the parts of the sums of {problem.contraction}"
        )
    args = (inward, packed, b, answer, split, gather)
    _cuda.launch(program=how.program, device=problem.device, grid=how.grid, block=(_THREADS,), args=args, shared=how.shared)
    if split is not None:
        parts.add(split, b, answer, g.groups * gather.outputs, gather.out_step[2], rectify)
    return layout.logical(answer) if last else answer


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in _cuda.DTYPES:
        size = 8 if dtype == "float64" else 4 if dtype == "float32" else 2
        for precision in ("default", "tf32", "ieee"):
            multiply = _multiply(dtype, precision)
            if (precision == "tf32" and multiply != "Tf32") or (precision == "ieee" and multiply != "Ieee"):
                continue
            for chunk in _SIZES[multiply, size]:
                for tile in _TILES[multiply] if chunk == 16 and (multiply != "Ieee" or size == 4) else (_RAGGED,):
                    yield _program(dtype, multiply, tile, chunk), "sm_80"


def _program(dtype: str, multiply: str, tile: tuple[int, int], chunk: int) -> _cuda.Program:
    defines = (("MULTIPLY", multiply), ("TILE_M", tile[0]), ("TILE_N", tile[1]), ("CHUNK", chunk))
    return _cuda.Program(SOURCE, "gather", (*_cuda.types(dtype), *defines))


def _multiply(dtype: str, precision: str) -> str:
    if dtype == "float64":
        return "Doubles"  # whose sums are IEEE 754's on tensor cores as well
    if precision in ("highest", "ieee"):
        return "Ieee"
    return "Halves" if dtype != "float32" else "Tf32" if precision == "tf32" else "Thrice"


def _small_enough(g: ConvGeometry) -> bool:
    """Say whether what the kernel counts in 32 bits has room there: positions along an axis, rows, and the length of sums."""
    spans = (
        s * (p - 1) + d * (k - 1) + lo for s, p, d, k, lo in zip(g.stride, g.y_size, g.dilation, g.w_size, g.pad_lo, strict=True)
    )
    rows = g.batch * max(prod(g.x_size), prod(g.y_size))
    longest = (max(g.c_in, g.c_out) + 64) * prod(g.w_size)
    return max(*spans, *g.x_size) < MOST and rows < MOST and longest < MOST


def _summed(problem: Problem) -> tuple[int, int]:
    """Return how many channels of a group are summed over, and how many are made."""
    g = problem.g
    return (g.c_in, g.c_out) if problem.contraction == "contract_y" else (g.c_out, g.c_in)


def _chunks(problem: Problem) -> Iterator[tuple[int, int]]:
    """Yield bytes that can be copied at once, with the channels of a group they are for: more than there are only in a copy."""
    channels, size = _summed(problem)[0], problem.itemsize
    sizes = _SIZES[_multiply(problem.dtype, problem.precision), size]
    copied, aligned = not problem.last[0], problem.aligned[0] if problem.last[0] else 16
    for chunk in sizes:
        padded = -(-channels * size // chunk) * chunk // size
        if (padded == channels and aligned >= chunk) or (copied and problem.g.groups == 1):
            yield chunk, padded
            if padded == channels:
                return


def _with(problem: Problem, chunk_of: tuple[int, int], tile: tuple[int, int], split: bool) -> Plan | None:
    """Plan for a size of copies and of tiles, with sums split or not; None if there is no such kernel, or nothing to split."""
    (chunk, channels), g, size = chunk_of, problem.g, problem.itemsize
    multiply = _multiply(problem.dtype, problem.precision)
    if tile != _RAGGED and (chunk < 16 or (multiply == "Ieee" and size == 2)):
        return None
    gather = _gather(problem, channels)
    blocks, classes = g.groups * -(-gather.outputs // tile[1]), prod(g.stride) if gather.transposed else 1
    largest = gather.batch * prod(
        -(-n // (s if gather.transposed else 1)) for n, s in zip(gather.out_size, g.stride, strict=True)
    )
    steps = -(-prod(gather.taps) * channels * size // classes // _ROW)
    columns = blocks * -(-largest // tile[0])
    splits = min(_ENOUGH // max(columns * classes, 1), steps // _WORTH) if split else 1
    if split and splits < 2:
        return None
    gather = gather._replace(splits=splits)
    grid = (columns, classes, splits)
    pitch = _ROW + (32 if size == 8 else 16)
    shared = _STAGES * sum(tile) * pitch
    if shared > problem.device.shared_bytes or grid[0] > _cuda.MOST_BLOCKS or classes > 65535:
        return None
    step = max(prod(tile) * _ROW / size / _RATES[multiply], sum(tile) * _ROW / _BYTES_A_CLOCK * _COPY[chunk], _LEAST_STEP)
    rounds = -(-prod(grid) // problem.device.multiprocessors)
    steps, copies = -(-steps // splits), _copies(problem, gather)
    if split:
        copies.append(splits * gather.answer * max(size, 4))
    seconds = LAUNCH * (1 + len(copies)) + 2 * sum(copies) / BANDWIDTH + rounds * (steps * step + _AROUND) / CLOCK
    error = _ROUNDED.get(problem.dtype) or _ERRORS.get(multiply) or 3e-17 * (prod(gather.taps) * channels) ** 0.5
    how = How(_program(problem.dtype, multiply, tile, chunk), grid, shared, channels, gather)
    name = f"{tile[0]}x{tile[1]} {multiply.lower()}" + f" by {chunk}" * (chunk < 16) + f" / {splits}" * split
    return Plan("gemm", name, sum(copies), error, seconds, how)


def _weights(problem: Problem) -> tuple[int, int, int]:
    """Return the matrices that are to be turned to have the channels of the weights, which are summed over, last."""
    g, taps = problem.g, prod(problem.g.w_size)
    return (g.groups * g.c_out, g.c_in, taps) if problem.contraction == "contract_y" else (g.groups, g.c_out, g.c_in * taps)


def _copies(problem: Problem, gather: Gather) -> list[int]:
    """Return the bytes of what is to be turned before the product: weights, and an input with its channels first."""
    matrices, rows, columns = _weights(problem)
    positions = prod(gather.in_size)
    every = [] if layout.lies_turned(rows, columns, gather.channels) else [matrices * columns * gather.channels]
    if not problem.last[0] and not layout.lies_turned(problem.g.groups * _summed(problem)[0], positions, gather.pitch):
        every.append(gather.batch * positions * gather.pitch)
    return [numbers * problem.itemsize for numbers in every]


def _gather(problem: Problem, channels: int) -> Gather:
    g, transposed = problem.g, problem.contraction == "contract_x"
    outputs = _summed(problem)[1]
    of_in, of_out = (g.y_size, g.x_size) if transposed else (g.x_size, g.y_size)
    positions, every = prod(of_out), g.groups * outputs
    out_step = (positions * every, every, 1) if problem.last[0] else (positions * every, 1, positions)
    common: Triple = tuple(map(gcd, g.stride, g.dilation))  # type: ignore[assignment]
    return Gather(
        transposed=int(transposed),
        batch=g.batch,
        groups=g.groups,
        channels=channels,
        outputs=outputs,
        pitch=g.groups * channels,
        rectify=0,
        splits=1,
        answer=g.batch * positions * every,
        in_size=of_in,
        taps=g.w_size,
        out_size=of_out,
        stride=g.stride,
        dilation=g.dilation,
        common=common,
        pad=g.pad_lo,
        out_step=out_step,
    )
