"""Dense contract_w as one product of matrices, summed over shares of the pixels that are added in order."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod
from pathlib import Path
from typing import Any, NamedTuple

from ... import _cuda
from ..._array import Array
from ..geometry import Triple
from . import layout
from .problem import BANDWIDTH, CLOCK, LAUNCH, Plan, Problem

SOURCE = Path(__file__).with_suffix(".cu")
ADDED = Path(__file__).with_name("added.cu")
LEAST_CAPABILITY = (8, 0)
STAGES = 4
DEEP = (
    32  # tiles of pixels that a share has at least, where there are so many: of fewer, filling the pipeline is too large a part
)
LONG = 4096  # pixels that a share has at most, so that rounding grows with fewer terms

# How each is multiplied: the kernel's KIND, the pixels of a tile, products a clock of a multiprocessor (predictions for an H200).
_HALVES, _TF32, _THRICE, _DOUBLES, _IEEE = (2, 32, 1000.0), (1, 16, 500.0), (3, 16, 180.0), (4, 16, 100.0), (0, 16, 90.0)
_ERRORS = {1: 3e-4, 3: 2e-7, 0: 3e-7, 4: 1e-15}  # seen on the emulator; of KIND 2, that of rounding the answer
_ROUNDED = {"float16": 2.1e-4, "bfloat16": 1.7e-3}
_STEP_BYTES = 40  # bytes a clock that reach a multiprocessor; a prediction


class Tile(NamedTuple):
    """What a block and each of its warps sum: output channels times columns (tap, input channel)."""

    m: int
    n: int
    warp_m: int
    warp_n: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.m // self.warp_m * (self.n // self.warp_n) * 32


LARGE, SMALL = Tile(128, 128, 64, 32), Tile(64, 64, 32, 32)


class Reduction(NamedTuple):
    """The fields of Reduction in gradient.cu and added.cu."""

    batch: int
    groups: int
    c_in: int  # with the zeros behind them, as `c_out`
    c_out: int
    true_c_in: int
    true_c_out: int
    x_size: Triple
    w_size: Triple
    y_size: Triple
    stride: Triple
    dilation: Triple
    pad_lo: Triple
    splits: int
    tiles: int
    step: tuple[int, int, int, int]


class How(NamedTuple):
    """What is launched, with what."""

    product: _cuda.Program
    grid: tuple[int, int]
    block: tuple[int]
    shared: int
    sums: int  # numbers of all shares together
    reduction: Reduction


def plans(problem: Problem) -> Iterator[Plan]:
    """Yield a plan for each tile that has something to do."""
    g = problem.g
    if problem.contraction != "contract_w" or problem.device.capability < LEAST_CAPABILITY or not _small_enough(problem):
        return
    kind = _kind(problem.dtype, problem.precision)[0]
    (c_in, by_x), (c_out, by_y) = _vector(problem, 0, g.c_in), _vector(problem, 1, g.c_out)
    by_y, by_x = (1, 1) if by_y == 1 else (by_y, by_x)  # there is no kernel for single y beside vectors of x
    if _large(kind) and 1 not in (by_x, by_y) and c_out > SMALL.m and c_in * prod(g.w_size) > SMALL.n:
        yield _with(problem, LARGE, (c_out, c_in), (by_y, by_x))
    yield _with(problem, SMALL, (c_out, c_in), (by_y, by_x))


def _with(problem: Problem, tile: Tile, channels: tuple[int, int], vectors: tuple[int, int]) -> Plan:
    """Choose shares for a tile: blocks enough for all multiprocessors, if each still has some work."""
    g, size, (c_out, c_in), (by_y, by_x) = problem.g, problem.itemsize, channels, vectors
    kind, _, rate = _kind(problem.dtype, problem.precision)
    deep = _deep(problem.dtype, problem.precision, by_x)
    columns, pixels = c_in * prod(g.w_size), g.batch * prod(g.y_size)
    blocks, all_tiles = ceil(columns / tile.n) * ceil(c_out / tile.m) * g.groups, max(1, ceil(pixels / deep))
    least = ceil(all_tiles * deep / LONG)
    wanted = max(ceil(2 * problem.device.multiprocessors / blocks), least)
    tiles = ceil(all_tiles / min(wanted, max(all_tiles // DEEP, least, 1), 65535))
    splits = ceil(all_tiles / tiles)
    p0, p1, p2 = g.y_size
    step = (deep // (p0 * p1 * p2), deep // (p1 * p2) % p0, deep // p2 % p1, deep % p2)
    reduction = Reduction(g.batch, g.groups, c_in, c_out, g.c_in, g.c_out, *g[5:], splits, tiles, step)
    product = _product(problem.dtype, kind, deep, tile, (by_y, by_x))
    shared = STAGES * deep * (tile.m + tile.n + 2 * (4 if kind == 4 else 8)) * size
    sums = splits * g.groups * c_out * columns
    how = How(product, (blocks, splits), (tile.threads,), shared, sums, reduction)
    turned = [0 if last else prod(shape) * size for last, shape in zip(problem.last, (g.x_shape, g.y_shape), strict=True)]
    copied = {1: 2.5}.get(min(by_x, by_y), 1.0)
    clocks = max(tile.m * tile.n * deep / rate, (tile.m + tile.n) * deep * size / _STEP_BYTES * copied)
    rounds = ceil(blocks * splits / problem.device.multiprocessors)
    moved = 2 * sum(turned) + 2 * sums * (8 if size == 8 else 4)
    seconds = LAUNCH * (4 - sum(problem.last)) + moved / BANDWIDTH + rounds * (tiles * clocks + 2000) / CLOCK
    error = _ROUNDED.get(problem.dtype, _ERRORS.get(kind, 0.0))
    workspace = sum(turned) + sums * (8 if size == 8 else 4)
    return Plan("gradient", f"{tile.m}x{tile.n}, {splits} shares", workspace, error, seconds, how)


def run(problem: Problem, found: Plan, given: tuple[Array, Array], b: Array | None, rectify: bool) -> Array:
    """Compute the weight gradient of x and y. It has no bias, and is not rectified."""
    how: How = found.how
    r = how.reduction
    x, y = (layout.channels_last(a, pitch=r.groups * c) for a, c in zip(given, (r.c_in, r.c_out), strict=True))
    w = _cuda.empty(problem.g.w_shape, x.dtype, what="the weights' gradient")
    sums = _cuda.empty((how.sums,), _sum(problem.dtype), what="the shares of the weights' gradient")
    _cuda.launch(
        program=how.product, device=problem.device, grid=how.grid, block=how.block, args=(x, y, sums, r), shared=how.shared
    )
    grid, block = _cuda.spread(w.size)
    _cuda.launch(program=_added(problem.dtype), device=problem.device, grid=grid, block=block, args=(sums, w, r))
    return w


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype in _cuda.DTYPES:
        wide = 16 // _itemsize(dtype)
        for precision in ("default", "tf32", "ieee") if dtype == "float32" else ("default",):
            kind, deep, _ = _kind(dtype, precision)
            for vectors in ((wide, wide), (wide, 1), (1, 1)):
                yield _product(dtype, kind, _deep(dtype, precision, vectors[1]), SMALL, vectors), "sm_80"
            if _large(kind):
                yield _product(dtype, kind, deep, LARGE, (wide, wide)), "sm_80"
        yield _added(dtype), "sm_80"


def _product(dtype: str, kind: int, deep: int, tile: Tile, vectors: tuple[int, int]) -> _cuda.Program:
    sizes: dict[str, Any] = {"KIND": kind, "BM": tile.m, "BN": tile.n, "BK": deep, "WM": tile.warp_m, "WN": tile.warp_n}
    sizes |= {"STAGES": STAGES, "VECTOR_Y": vectors[0], "VECTOR_X": vectors[1]}
    if kind == 2:
        sizes["MULTIPLY"] = "multiply_f16" if dtype == "float16" else "multiply_bf16"
    return _cuda.Program(SOURCE, "summed", (*_cuda.types(dtype), *sizes.items()))


def _added(dtype: str) -> _cuda.Program:
    return _cuda.Program(ADDED, "added", _cuda.types(dtype))


def _kind(dtype: str, precision: str) -> tuple[int, int, float]:
    """Return how a dtype is multiplied: only float32 has a choice, as tensor cores lose nothing of the others' products."""
    if dtype != "float32":
        return _DOUBLES if dtype == "float64" else _HALVES
    return _IEEE if precision in ("highest", "ieee") else _TF32 if precision == "tf32" else _THRICE


def _deep(dtype: str, precision: str, by_x: int) -> int:
    """Return the pixels of a tile: fewer where single numbers of 16 bits are copied, each of which takes registers."""
    kind, deep, _ = _kind(dtype, precision)
    return 16 if kind == 2 and by_x == 1 else deep


def _large(kind: int) -> bool:
    """Say whether the large tile's sums fit a thread's registers."""
    return kind in (1, 2, 3)


def _vector(problem: Problem, which: int, channels: int) -> tuple[int, int]:
    """Return the channels of a group, with zeros where a copy is made anyway, and how many are copied at once."""
    wide = 16 // problem.itemsize
    if not problem.last[which]:
        padded = ceil(channels / wide) * wide if problem.g.groups == 1 else channels
        return padded, wide if padded % wide == 0 else 1
    return channels, wide if channels % wide == 0 and problem.aligned[which] == 16 else 1


def _small_enough(problem: Problem) -> bool:
    """Say whether positions along an axis, and columns, can be counted in 32 bits; and whether there are any pixels."""
    g = problem.g
    spans = (s * p + d * k + lo for s, p, d, k, lo in zip(g.stride, g.y_size, g.dilation, g.w_size, g.pad_lo, strict=True))
    return max(*spans, *g.x_size) < 1 << 29 and (g.c_in + 16) * prod(g.w_size) < 1 << 29 and 0 not in (g.batch, *g.y_size)


def _itemsize(dtype: str) -> int:
    return {"float64": 8, "float32": 4}.get(dtype, 2)


def _sum(dtype: str) -> str:
    return "float64" if dtype == "float64" else "float32"
