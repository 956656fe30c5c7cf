"""contract_w as a product of matrices: a plan that is a pure function of the geometry, and its two launches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import ceil, prod
from pathlib import Path
from typing import Any, NamedTuple

from ... import _cuda
from ..._array import Array
from ..geometry import ConvGeometry

SOURCE = Path(__file__).with_suffix(".cu")
ADDED = Path(__file__).with_name("added.cu")
STAGES = 4
DEEP = 32  # tiles of pixels that a share has at least, where there are so many: less, and filling the pipeline counts
LONG = 4096  # pixels that a share has at most, so that rounding grows with fewer terms

# What multiplies, by dtype and precision: the kernel's KIND, and the pixels of a tile.
_KINDS = {
    ("float32", "default"): (3, 16),
    ("float32", "tf32"): (1, 16),
    ("float32", "highest"): (0, 16),
    ("float32", "ieee"): (0, 16),
    ("float64", "default"): (4, 16),
    ("float16", "default"): (2, 32),
    ("bfloat16", "default"): (2, 32),
}
_SIZES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}


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
    """What the kernels are told, as `gradient.cu` has it."""

    batch: int
    groups: int
    c_in: int
    c_out: int
    x_size: tuple[int, ...]
    w_size: tuple[int, ...]
    y_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pad_lo: tuple[int, ...]
    splits: int
    tiles: int
    step: tuple[int, ...]


class Plan(NamedTuple):
    """The launches of one weight gradient."""

    product: _cuda.Program
    addition: _cuda.Program
    grid: tuple[int, int]
    block: tuple[int]
    shared: int
    workspace: int  # numbers
    reduction: Reduction


@lru_cache(1024)
def plan(g: ConvGeometry, dtype: str, precision: str, device: _cuda.Device) -> Plan:
    """Choose tile and shares: blocks enough for all multiprocessors, if each still has some work."""
    _, deep = _KINDS[_kind(dtype, precision)]
    columns, pixels = g.c_in * prod(g.w_size), g.batch * prod(g.y_size)
    large = _large(dtype, precision) and g.c_out > SMALL.m and columns > SMALL.n
    vectors = tuple(16 // _SIZES[dtype] if c * _SIZES[dtype] % 16 == 0 else 1 for c in (g.c_out, g.c_in))
    tile = LARGE if large and 1 not in vectors else SMALL
    if vectors == (1, 16 // _SIZES[dtype]):  # rare: few output channels for many input channels
        vectors = (1, 1)
    blocks = ceil(columns / tile.n) * ceil(g.c_out / tile.m) * g.groups
    all_tiles = max(1, ceil(pixels / deep))
    wanted = max(ceil(2 * device.multiprocessors / blocks), ceil(all_tiles * deep / LONG))
    tiles = ceil(all_tiles / min(wanted, max(ceil(all_tiles / DEEP), ceil(all_tiles * deep / LONG)), 65535))
    splits = ceil(all_tiles / tiles)
    p0, p1, p2 = g.y_size
    step = (
        deep // max(p0 * p1 * p2, 1),
        deep // max(p1 * p2, 1) % max(p0, 1),
        deep // max(p2, 1) % max(p1, 1),
        deep % max(p2, 1),
    )
    reduction = Reduction(
        g.batch, g.groups, g.c_in, g.c_out, g.x_size, g.w_size, g.y_size, g.stride, g.dilation, g.pad_lo, splits, tiles, step
    )
    program = _product(dtype, precision, tile, vectors)
    pad = 4 if dtype == "float64" else 8
    shared = STAGES * deep * (tile.m + tile.n + 2 * pad) * _SIZES[dtype]
    workspace = splits * g.groups * g.c_out * columns
    addition = _cuda.Program(ADDED, "added", _cuda.types(dtype))
    return Plan(program, addition, (blocks, splits), (tile.threads,), shared, workspace, reduction)


def contract_w(x: Array, y: Array, g: ConvGeometry, precision: str) -> Array:
    """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i,q], for x and y that lie in memory with channels last, C-contiguous."""
    device, dtype = _cuda.device(x), str(x.dtype)
    found = plan(g, dtype, precision, device)
    with _cuda.on(x):
        w = _cuda.empty(g.w_shape, x.dtype, what="the weights' gradient")
        sums = _cuda.empty((found.workspace,), _sum(dtype), what="the partial sums of the weights' gradient")
        _cuda.launch(
            program=found.product,
            device=device,
            grid=found.grid,
            block=found.block,
            args=(x, y, sums, found.reduction),
            shared=found.shared,
        )
        grid, block = _cuda.spread(w.size)
        _cuda.launch(program=found.addition, device=device, grid=grid, block=block, args=(sums, w, found.reduction))
    return w


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for dtype, precision in _KINDS:
        if precision == "highest":
            continue
        wide = 16 // _SIZES[dtype]
        for vectors in ((wide, wide), (wide, 1), (1, 1)):
            yield _product(dtype, precision, SMALL, vectors), "sm_80"
        if _large(dtype, precision):
            yield _product(dtype, precision, LARGE, (wide, wide)), "sm_80"
    for dtype in _SIZES:
        yield _cuda.Program(ADDED, "added", _cuda.types(dtype)), "sm_80"


def _product(dtype: str, precision: str, tile: Tile, vectors: tuple[int, ...]) -> _cuda.Program:
    kind, deep = _KINDS[_kind(dtype, precision)]
    sizes: dict[str, Any] = {"KIND": kind, "BM": tile.m, "BN": tile.n, "BK": deep, "WM": tile.warp_m, "WN": tile.warp_n}
    sizes |= {"STAGES": STAGES, "VECTOR_Y": vectors[0], "VECTOR_X": vectors[1]}
    if kind == 2:
        sizes["MULTIPLY"] = "multiply_f16" if dtype == "float16" else "multiply_bf16"
    return _cuda.Program(SOURCE, "summed", (*_cuda.types(dtype), *sizes.items()))


def _kind(dtype: str, precision: str) -> tuple[str, str]:
    """Return how a dtype is multiplied: only float32 has a choice."""
    return dtype, precision if dtype == "float32" else "default"


def _large(dtype: str, precision: str) -> bool:
    """Say whether the large tile's sums fit a thread's registers."""
    return dtype != "float64" and precision not in ("highest", "ieee")


def _sum(dtype: str) -> str:
    return "float64" if dtype == "float64" else "float32"
