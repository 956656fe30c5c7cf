"""Arrays continued beyond their borders along trailing axes, and the adjoint: what reaches a padded position goes to its sample.

Along an axis, what a mode of `_border` continues with is a few runs: samples in order, samples in reverse, one sample again and
again, or none. Each run is one slice, so nothing is gathered number by number.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import device

from ._array import Array
from ._border import sources
from ._window import Pads, filled


class Run(NamedTuple):
    """Positions `first` to `end` of a padded axis: samples `low` to `high`, by step 1, -1 or 0 (one sample); none below 0."""

    first: int
    end: int
    low: int
    high: int
    step: int

    @property
    def samples(self) -> slice:
        """What NumPy takes from x: as many samples as positions, or one for all of them."""
        return slice(self.high - 1, self.low - 1 if self.low else None, -1) if self.step < 0 else slice(self.low, self.high)


@lru_cache(512)
def runs(mode: str, size: int, lo: int, hi: int) -> tuple[Run, ...]:
    """Return the runs that `sources(mode, size, lo, hi)` is made of: x itself, whatever is left of it, is one of them."""
    total = lo + size + hi
    start, end = min(max(lo, 0), total), min(max(lo + size, 0), total)
    index = sources(mode, size, lo, hi)
    before, after = (_runs(index[a:b].tolist(), a) for a, b in ((0, start), (end, total)))
    inner = (Run(start, end, start - lo, end - lo, 1),) if end > start else ()
    return (*before, *inner, *after)


def extended(xp: ModuleType, x: Array, pads: Pads, modes: Sequence[str], value: complex = 0) -> Array:
    """Return a new array: x continued by (lo, hi) samples along its trailing axes; negative numbers crop, "zeros" are `value`."""
    if xp is np:
        return _placed(x, pads, modes, value)
    y = xp.asarray(x, copy=True)
    for axis, (mode, (lo, hi)) in enumerate(zip(modes, pads, strict=True), x.ndim - len(pads)):
        if (lo, hi) != (0, 0):
            y = xp.concat([_piece(xp, y, axis, run, value) for run in runs(mode, y.shape[axis], lo, hi)], axis=axis)
    return y


def extended_adjoint(xp: ModuleType, y: Array, size: Sequence[int], pads: Pads, modes: Sequence[str]) -> Array:
    """Return a new array of `size` in its trailing axes: at each sample, the sum of y over the positions that repeat it."""
    if xp is np:
        x = np.zeros((*y.shape[: y.ndim - len(pads)], *size), y.dtype)
        collect(y, x, pads, modes)
        return x
    x, lead = xp.asarray(y, copy=True), y.ndim - len(pads)
    for a, (n, mode, pad) in enumerate(zip(size, modes, pads, strict=True)):
        if pad != (0, 0):
            parts = [_back(xp, x, lead + a, run, n) for run in runs(mode, n, *pad) if run.low >= 0]
            x = sum(parts[1:], parts[0]) if parts else xp.zeros_like(_back(xp, x, lead + a, Run(0, 1, 0, 1, 1), n))
    return x


def collect(y: Any, x: Any, pads: Pads, modes: Sequence[str]) -> None:
    """Add y to NumPy's x, each combination of runs along the axes to its samples: what `extended_adjoint` returns, in place."""
    lead = y.ndim - len(pads)
    for combined in _combinations(x.shape[lead:], pads, modes):
        if min(run.low for run in combined) >= 0:
            alone = tuple(axis for axis, run in enumerate(combined, lead) if not run.step)
            piece = y[_positions(combined)]
            x[(..., *(run.samples for run in combined))] += piece.sum(alone, y.dtype, keepdims=True) if alone else piece


def _runs(index: list[int], first: int) -> list[Run]:
    """Cut a list of samples, of positions from `first` on, where the step from one to the next changes."""
    found, i = [], 0
    while i < len(index):
        j, step = i + 1, index[i + 1] - index[i] if i + 1 < len(index) else 1
        while j < len(index) and index[j] - index[j - 1] == step in (-1, 0, 1) and (index[j] < 0) == (index[i] < 0):
            j += 1
        step = step if j > i + 1 else 1
        found.append(Run(first + i, first + j, min(index[i], index[j - 1]), max(index[i], index[j - 1]) + 1, step))
        i = j
    return found


def _placed(x: Any, pads: Pads, modes: Sequence[str], value: complex) -> Any:
    """Write each combination of runs along the axes as one slice: every number is copied once."""
    size = x.shape[x.ndim - len(pads) :]
    y = np.empty((*x.shape[: x.ndim - len(pads)], *(n + lo + hi for n, (lo, hi) in zip(size, pads, strict=True))), x.dtype)
    for combined in _combinations(size, pads, modes):
        inside = min(run.low for run in combined) >= 0
        y[_positions(combined)] = x[(..., *(run.samples for run in combined))] if inside else value
    return y


def _combinations(size: Sequence[int], pads: Pads, modes: Sequence[str]) -> Any:
    return product(*(runs(mode, n, *pad) for mode, n, pad in zip(modes, size, pads, strict=True)))


def _positions(combined: Sequence[Run]) -> Any:
    return (..., *(slice(run.first, run.end) for run in combined))


def _piece(xp: ModuleType, x: Array, axis: int, run: Run, value: complex) -> Array:
    shape = (*x.shape[:axis], run.end - run.first, *x.shape[axis + 1 :])
    if run.low < 0:
        return xp.full(shape, value, dtype=x.dtype, device=device(x))
    piece = x[(slice(None),) * axis + (slice(run.low, run.high), ...)]
    return xp.flip(piece, axis=axis) if run.step < 0 else piece if run.step else xp.broadcast_to(piece, shape)


def _back(xp: ModuleType, y: Array, axis: int, run: Run, size: int) -> Array:
    """Put what lies at the positions of a run where its samples are, along an axis of `size`, zeros elsewhere."""
    piece = y[(slice(None),) * axis + (slice(run.first, run.end), ...)]
    if run.step < 0:
        piece = xp.flip(piece, axis=axis)
    elif not run.step:
        piece = xp.sum(piece, axis=axis, keepdims=True, dtype=y.dtype)
    later = y.shape[axis + 1 :]
    return filled(xp, piece, (run.low, *(0,) * len(later)), (size, *later))
