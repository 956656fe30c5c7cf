"""Which tiles Winograd's method cuts a convolution into: every axis becomes one of stride 1, without dilation or gaps.

Outputs of one residue modulo the dilation read samples of one residue: each is an image of its own, read and written in steps.
With a stride s, taps s * j + part meet samples of that residue only: each part is a channel of its own, with a window s times
smaller; of the source in contract_y, of the result in contract_x. Taps along depth are channels of the source too.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..geometry import ConvGeometry

# Outputs m and taps r of the bases F(m, r) that are in use, each of n = m + r - 1 elements. The first changes nothing.
KINDS = ((1, 1), (2, 3), (3, 3), (4, 3), (3, 2), (4, 2), (5, 2), (3, 4), (2, 5))

# What kernels read of a tiling.
TILING = np.dtype(
    [
        *((name, np.int64, (2,)) for name in ("kind", "m", "r", "n", "tiles", "residues", "src_parts", "dst_parts")),
        *((name, np.int64, (2,)) for name in ("src_first", "src_step", "dst_first", "dst_step")),
        *((name, np.int64) for name in ("slices", "depth", "slice_step", "slice_tap", "slice_first", "slice_every")),
        *((name, np.int64, (3,)) for name in ("src_size", "dst_size")),
    ]
)


class Along(NamedTuple):
    """One axis: sample j under output t, of some residue and part, is at src_step * (t + j) + src_first + residue + part."""

    outputs: int  # of each residue
    residues: int
    parts: int
    src_first: int
    src_step: int
    dst_first: int  # output t is at dst_step * t + dst_first + residue + part, if that is inside
    dst_step: int
    taps: tuple[tuple[int, ...], ...]  # of each part, which tap meets sample j; -1 for none
    kind: int = 0

    @property
    def m(self) -> int:
        """Outputs of a tile."""
        return KINDS[self.kind][0]

    @property
    def r(self) -> int:
        """Taps of a part."""
        return KINDS[self.kind][1]

    @property
    def n(self) -> int:
        """Elements of a tile in the basis, as many as samples under it."""
        return sum(KINDS[self.kind]) - 1

    @property
    def tiles(self) -> int:
        """Tiles that cover the outputs of a residue."""
        return -(-self.outputs // self.m)


class Tiling(NamedTuple):
    """The tiles of contract_y, which are those of contract_w, or of contract_x."""

    axes: tuple[Along, Along]
    adjoint: bool
    slices: int  # of the result
    depth: int  # taps along depth
    images: int  # slices and residues of the whole batch
    record: Any

    @property
    def elements(self) -> int:
        """Numbers that a tile of one channel is in the basis."""
        return self.axes[0].n * self.axes[1].n

    @property
    def tiles(self) -> int:
        """Tiles of one channel."""
        return self.images * self.axes[0].tiles * self.axes[1].tiles

    @property
    def parts(self) -> int:
        """Parts of the stride."""
        return self.axes[0].parts * self.axes[1].parts

    @property
    def src_parts(self) -> int:
        """Channels in the basis that a channel of the source makes."""
        return self.depth * (1 if self.adjoint else self.parts)

    @property
    def dst_parts(self) -> int:
        """Channels in the basis that a channel of the result makes."""
        return self.parts if self.adjoint else 1

    @property
    def name(self) -> str:
        """F(outputs, taps) of a tile."""
        (a, b), (c, d) = (KINDS[axis.kind] for axis in self.axes)
        return f"F({a}x{c}, {b}x{d})" if (a, b) != (1, 1) else f"F({c}, {d})"

    def taps(self, plane: int, columns: int) -> np.ndarray[Any, Any]:
        """Return which tap of w meets each sample, -1 for none: [depth, part, (row, column) of the window]."""
        rows, cols = (np.array(axis.taps)[..., None] for axis in self.axes)
        tap = columns * rows[:, None, :, 0, None] + cols[None, :, None, :, 0]
        known = (rows[:, None, :, 0, None] >= 0) & (cols[None, :, None, :, 0] >= 0)
        return np.stack([np.where(known, tap + plane * z, -1) for z in range(self.depth)]).astype(np.int32)


def fits(g: ConvGeometry) -> bool:
    """Say whether rows or columns have windows of two to five taps, counted in steps of the stride, and none has more."""
    return all(axis is not None for axis in _along(g, False)) and 1 < max(len(a.taps[0]) for a in _along(g, False) if a) <= 5


@lru_cache(256)
def tiling(g: ConvGeometry, adjoint: bool, m: int | None = None) -> Tiling:
    """Return the tiles that multiply least: along each axis, of m outputs if m is given and there is such a basis."""
    rows, columns = (_best(axis, m) for axis in _along(g, adjoint) if axis)
    src_size, dst_size = (g.y_size, g.x_size) if adjoint else (g.x_size, g.y_size)
    record = np.zeros((), TILING)
    for name in ("kind", "m", "r", "n", "tiles", "residues", "src_first", "src_step", "dst_first", "dst_step"):
        record[name] = [getattr(axis, name) for axis in (rows, columns)]
    for name, counts in (("src_parts", not adjoint), ("dst_parts", adjoint)):
        record[name] = [axis.parts if counts else 1 for axis in (rows, columns)]
    record["slices"], record["depth"], record["src_size"], record["dst_size"] = dst_size[0], g.w_size[0], src_size, dst_size
    stride, dilation, pad = g.stride[0], g.dilation[0], g.pad_lo[0]
    for name, value in zip(
        ("slice_step", "slice_tap", "slice_first", "slice_every"),
        (1, -dilation, pad, stride) if adjoint else (stride, dilation, -pad, 1),
        strict=True,
    ):
        record[name] = value
    images = g.batch * dst_size[0] * rows.residues * columns.residues
    return Tiling((rows, columns), adjoint, dst_size[0], g.w_size[0], images, record)


def _along(g: ConvGeometry, adjoint: bool) -> list[Along | None]:
    sizes = (g.x_size, g.w_size, g.y_size, g.stride, g.dilation, g.pad_lo)
    axes = ((size[axis] for size in sizes) for axis in (1, 2))
    return [(_along_x if adjoint else _along_y)(*axis) for axis in axes]


def _along_y(x: int, k: int, y: int, s: int, d: int, pad: int) -> Along | None:
    if s == 1 or k == 1:
        d = d if s == 1 and k > 1 else 1
        return Along(-(-y // d), min(d, y), 1, -pad, s * d, 0, d, (tuple(range(k)),))
    if d > 1:
        return None
    return Along(y, 1, min(s, k), -pad, s, 0, 1, _taps(k, s, min(s, k)))


def _along_x(x: int, k: int, y: int, s: int, d: int, pad: int) -> Along | None:
    if s == 1:
        d = d if k > 1 else 1
        return Along(-(-x // d), min(d, x), 1, pad - d * (k - 1), d, 0, d, (tuple(range(k))[::-1],))
    if d > 1 and k > 1:
        return None
    first, reach = pad // s, -(-k // s) - 1  # of the outputs s * t + part - pad, those before `first` are outside for all parts
    taps = tuple(part[::-1] for part in _taps(k, s, s))
    return Along((x - 1 + pad) // s + 1 - first, 1, s, first - reach, 1, s * first - pad, s, taps)


def _taps(k: int, s: int, parts: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(tap if tap < k else -1 for tap in range(part, part + s * -(-k // s), s)) for part in range(parts))


def _best(axis: Along, m: int | None) -> Along:
    """Choose the basis that multiplies least; where equal the smaller, which makes the smaller error."""
    all_of = [axis._replace(kind=i) for i, (_, r) in enumerate(KINDS) if r == len(axis.taps[0])]
    wanted = [a for a in all_of if a.m == m] or all_of
    return min(wanted, key=lambda a: (a.tiles * a.n, a.n))


# Times in products of direct sums at their best, of which float32 on AVX2 does some 35 in a nanosecond on one core: of a product
# in the basis, then to change one element of the source, of the result and of w. Fitted to 462 contractions with 3 to 160
# channels, eight of ten within 0.65 and 1.2. Beside them what direct sums take, for each product, number of the source, of the
# result and of w. Choosing by them took 4 % longer than choosing by the clock, but with 3 channels they promise gains where all
# of 14 such cases were slower, by 0.33 to 0.93.
IN_BASIS = {
    "contract_y": (0.93, 19.6, 27.0, 9.9),
    "contract_x": (0.93, 19.6, 27.0, 9.9),
    "contract_w": (0.76, 23.7, 15.4, 18.9),
}
DIRECT = {
    "contract_y": (0.78, 38.0, 26.0, 15.0),
    "contract_x": (0.67, 58.0, 23.0, 116.0),
    "contract_w": (0.81, 42.0, 15.0, 0.3),
}
LEAST_CHANNELS = 8


def speedup(g: ConvGeometry, contraction: str, shape: tuple[int, int]) -> float:
    """Estimate how many times as long direct sums take; `shape` is that of the register tile, in numbers."""
    if not g.batch or min(g.c_in, g.c_out) < LEAST_CHANNELS:
        return 0.0
    t = tiling(g, contraction == "contract_x")
    c_src, c_dst, src, dst = g.c_in, g.c_out, prod(g.x_size), prod(g.y_size)
    if t.adjoint:
        c_src, c_dst, src, dst = c_dst, c_src, dst, src
    sizes = (g.batch * c_src * c_dst * prod(g.y_size) * prod(g.w_size), g.batch * src * c_src, g.batch * dst * c_dst)
    direct = sum(a * b for a, b in zip(DIRECT[contraction], (*sizes, c_src * c_dst * prod(g.w_size)), strict=True))
    rows, width = shape
    c_src, c_dst, tiles = c_src * t.src_parts, even_up(c_dst, 8) * t.dst_parts, t.tiles
    if contraction == "contract_w":
        products = tiles * even_up(c_src, rows) * even_up(c_dst, width)
    else:
        products = even_up(tiles, rows) * c_src * even_up(c_dst, width)
    counts = (products, tiles * c_src, tiles * c_dst, c_src * c_dst)
    return direct / (t.elements * sum(a * b for a, b in zip(IN_BASIS[contraction], counts, strict=True)))


def even_up(n: int, unit: int) -> int:
    """Return n rounded up to whole units."""
    return -(-n // unit) * unit
