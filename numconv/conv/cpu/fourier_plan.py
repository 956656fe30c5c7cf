"""How a contraction by Fourier transforms is cut into windows, what that costs, and how much memory it takes."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache, lru_cache
from math import inf, prod
from typing import Any, Literal, NamedTuple

import numba
import numpy as np

from ..geometry import ConvGeometry, Triple

Array = np.ndarray[Any, Any]
Contraction = Literal["contract_y", "contract_x", "contract_w"]

HELD_BYTES = 32 << 20  # of spectra kept while the windows pass by
TASK_BYTES = 1 << 20  # of windows of one task, if one pair is not more: calls from Python cost some 80 us a task
PARTS = 8  # partial sums of contract_w: fixed, so that bits do not depend on the number of threads


class Plan(NamedTuple):
    """How a contraction is cut: axes into windows, channels into passes whose spectra are held, pairs of windows into tasks."""

    size: Triple  # samples of a window
    step: Triple  # outputs it gives
    blocks: Triple  # windows along each axis
    groups: int  # groups in a pass
    rows: int  # channels of y in a pass, of x in contract_x: all of them unless groups is 1
    pairs: int  # pairs of windows in a task
    seconds: float  # estimated for one core; infinite where memory does not suffice


def workspace(g: ConvGeometry, itemsize: int, contraction: Contraction) -> int:
    """Return how many bytes of scratch memory a contraction takes at most, with Numba's present number of threads."""
    p, roles = plan(g, itemsize, contraction), _roles(g, contraction)
    spectrum = 2 * itemsize * prod(p.size)
    held = p.groups * p.rows * roles.per_row * roles.read * spectrum
    task = p.pairs * p.groups * (roles.read + p.rows * roles.per_row) * spectrum
    # SciPy turns as many lines as a vector of 64 bytes holds at once, in memory of its own, and keeps their roots of unity.
    lines = 3 * 128 * max(p.size)
    size: int = held * roles.parts + numba.get_num_threads() * (task + lines)
    return size


def cost(g: ConvGeometry, itemsize: int, contraction: Contraction) -> float:
    """Estimate the seconds that a contraction takes on one core."""
    seconds: float = plan(g, itemsize, contraction).seconds
    return seconds


@lru_cache(1024)
def plan(g: ConvGeometry, itemsize: int, contraction: Contraction) -> Plan:
    """Choose the windows that take the least time, of those whose memory suffices."""
    roles, (taps, _) = _roles(g, contraction), taps_of(g)
    # Every size of every axis is weighed against all of the others: 0.6 ms in all.
    sizes = [_sizes(n, k) for n, k in zip(roles.outputs, taps, strict=True)]
    size = np.meshgrid(*sizes, indexing="ij", sparse=True)
    step = [n - k + 1 for n, k in zip(size, taps, strict=True)]
    blocks = [-(-n // s) for n, s in zip(roles.outputs, step, strict=True)]
    samples = size[0] * size[1] * size[2]
    count = pairs_of(g.batch, blocks[0] * blocks[1] * blocks[2], contraction)
    # The pass: as many rows as may be held, but none that would push a task out of cache, then groups of all rows likewise.
    window_bytes = 2 * itemsize * samples
    room = np.maximum(TASK_BYTES // window_bytes, 1)
    row_bytes = window_bytes * roles.parts * roles.read * roles.per_row
    rows = np.minimum(HELD_BYTES // row_bytes, np.clip(room // roles.per_row, 4 * roles.read, roles.rows))
    channels = np.where((roles.read == 1) & (rows * roles.per_row == 1), 1, roles.read + rows * roles.per_row)
    groups = np.clip(np.minimum(room // channels, HELD_BYTES // (row_bytes * np.maximum(rows, 1))), 1, g.groups)
    groups = np.where(rows == roles.rows, groups, 1)
    # SciPy's transforms along one axis are vectorised over windows only, four at most with SSE: fours then, up to 4 MiB of them.
    lanes = 4 if g.rank == 1 else 1
    many = np.clip((4 << 20) // (window_bytes * groups * channels), 1, 2 * lanes) if g.rank == 1 else 1
    pairs = np.clip(np.maximum(room // (groups * channels), many), 1, np.maximum(count, 1))
    pairs = -(-count // np.maximum(-(-count // pairs), 1))  # tasks alike
    pairs = np.maximum(np.where(pairs > lanes, pairs // lanes * lanes, pairs), 1)
    seconds = _seconds(g, itemsize, roles, size, count, rows, groups, pairs)
    best = np.unravel_index(np.argmin(seconds), seconds.shape)

    def chosen(a: Any) -> int:
        return int(np.broadcast_to(np.asarray(a), seconds.shape)[best])

    axes: Any = [tuple(map(chosen, a)) for a in (size, step, blocks)]
    return Plan(axes[0], axes[1], axes[2], chosen(groups), chosen(rows), chosen(pairs), float(seconds[best]))


def pairs_of(batch: int, blocks: Any, contraction: Contraction) -> Any:
    """Count pairs of windows. Two images share a pair in contract_w only, whose sums mix them anyway.

    Elsewhere rounding errors of one image would fall on the other, however small its numbers.
    """
    return -(-batch * blocks // 2) if contraction == "contract_w" else batch * -(-blocks // 2)


def taps_of(g: ConvGeometry) -> tuple[Triple, Triple]:
    """Taps of v along each axis, and the m of the first."""
    low = [-pad // s for pad, s in zip(g.pad_lo, g.stride, strict=True)]
    high = [(d * (k - 1) - pad) // s for d, k, pad, s in zip(g.dilation, g.w_size, g.pad_lo, g.stride, strict=True)]
    return tuple(b - a + 1 for a, b in zip(low, high, strict=True)), tuple(low)  # type: ignore[return-value]


class _Roles(NamedTuple):
    """Who is who in a contraction: channels count for one group, with residues."""

    outputs: Triple  # positions that windows must cover
    read: int  # channels transformed in every pass
    rows: int  # channels that are divided among passes
    per_row: int  # transforms per window of each of them
    parts: int  # sums kept of every product of a row and a channel that is read


def _roles(g: ConvGeometry, contraction: Contraction) -> _Roles:
    residues = prod(g.stride)
    if contraction == "contract_x":
        outputs: Any = tuple(-(-n // s) for n, s in zip(g.x_size, g.stride, strict=True))
        return _Roles(outputs, g.c_out, g.c_in, residues, 1)
    return _Roles(g.y_size, g.c_in * residues, g.c_out, 1, PARTS if contraction == "contract_w" else 1)


def _sizes(outputs: int, taps: int) -> Array:
    """Return sizes of windows worth a try along an axis: fast for transforms, and dividing the outputs evenly."""
    counts = sorted({1, 2, 3, *(n << k for n in (4, 5, 6, 7) for k in range(outputs.bit_length()))})
    steps = [-(-max(outputs, 1) // n) for n in counts]
    return np.array(sorted({_fast(s + taps - 1) for s in steps if 4 * s >= taps or s == steps[0]}), np.int64)


def _fast(n: int) -> int:
    """Return the least fast size that is at least n."""
    return _fast_sizes()[bisect_left(_fast_sizes(), n)]


@cache
def _fast_sizes() -> list[int]:
    """Sizes of few factors 3 and 5: a number takes 2.2 ns in lines of 256 or 288, 2.8 in lines of 375, and 5.2 in some of 729."""
    return sorted(odd << k for odd in (1, 3, 5, 9, 15, 25, 27, 45) for k in range(0 if odd < 10 else 3, 41))


def _seconds(
    g: ConvGeometry, itemsize: int, roles: _Roles, size: tuple[Any, ...], count: Any, rows: Any, groups: Any, pairs: Any
) -> Array:
    """Estimate the time on one core, from rates measured on a Zen 3 core with SciPy 1.17; infinite where no row can be held."""
    samples = size[0] * size[1] * size[2]
    passes = -(-roles.rows // np.maximum(rows, 1))
    transforms = g.groups * count * (roles.read * passes + roles.rows * roles.per_row)
    products = g.groups * count * roles.read * roles.rows * roles.per_row
    made = g.groups * roles.read * roles.rows * roles.per_row * roles.parts
    of_point = (0.12e-9 + 0.04e-9 * itemsize) * np.log2(samples + 1)
    if g.rank == 1:  # vectorised over windows, where there are as many as a vector holds
        of_point = of_point * np.where(pairs * groups * np.minimum(roles.read, rows * roles.per_row) < 4, 2.5, 0.9)
    else:  # columns of lines 4096 bytes apart fall on few lines of cache: 5.9 ns beside 3.8 in float64, 256 x 256 and 288 x 288
        of_point = of_point * np.where((size[2] * itemsize % 2048 == 0) & (size[0] * size[1] > 1), 1.25, 1.0)
    alone = (roles.read == 1) & (rows * roles.per_row == 1) & (roles.parts == 1)  # a product in place, of NumPy's
    copies, of_product = itemsize * 0.12e-9, itemsize * np.where(alone, 0.08e-9, 0.24e-9)
    tasks = np.maximum(-(-count // pairs) * -(-g.groups // groups) * passes, 1)
    seconds = (transforms + made) * samples * (of_point + copies) + products * samples * of_product + 80e-6 * tasks
    # The last tasks leave cores idle: few large ones are worse than many.
    return np.where(rows > 0, seconds * (1 + 1 / tasks), inf)
