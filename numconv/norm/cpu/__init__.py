"""Normalisation in Numba, float32 and float64: sets, or chunks of rows, are shared out over threads.

Which numbers are added up in which order depends on the shapes alone, so the bits do not depend on the number of threads.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..._array import flat
from ..._jit import workers
from ..geometry import NormGeometry
from . import columns, kernels

Array = np.ndarray[Any, Any]


class Moments(NamedTuple):
    """Mean, its rest, variance and r = 1 / sqrt(var + eps) of each set, in float64; `fixed` ones do not depend on x."""

    of: Array
    fixed: bool


def moments(x: Array, g: NormGeometry) -> tuple[Array, Array]:
    """Mean and variance of each set."""
    found = np.empty((4, g.sets))
    if _down(g):
        columns.moments(x, found, g, 0.0)
    else:
        kernels.normal_y(workers(g.sets, x.size), x.dtype, _job(g, 0.0, False)[0], x=flat(x), moments=found)
    return (found[0] + found[1]).astype(x.dtype), found[2].astype(x.dtype)


def normal_y(
    x: Array, scale: Array | None, shift: Array | None, given: tuple[Array, Array] | None, g: NormGeometry, eps: float
) -> tuple[Array, Moments]:
    """Return y = d r scale + shift with the moments of x, or `given` mean and variance of each set."""
    kept = Moments(np.empty((4, g.sets)), given is not None)
    if given is not None:
        mean, var = given
        with np.errstate(divide="ignore", invalid="ignore"):
            kept.of[0], kept.of[1], kept.of[3] = mean, 0, 1 / np.sqrt(var + np.float64(eps))
    if _down(g):
        if given is None:
            columns.moments(x, kept.of, g, float(eps))
        return columns.normal_y(x, scale, shift, kept.of, g), kept
    y = np.empty(x.size, x.dtype)
    kernels.normal_y(
        workers(g.sets, x.size), x.dtype, _job(g, float(eps), kept.fixed)[0],
        x=flat(x), y=y, scale=_channels(scale, 1, x, g), shift=_channels(shift, 0, x, g), moments=kept.of,
    )  # fmt: skip
    return y.reshape(g.x_shape), kept


def gradients(
    dy: Array, x: Array, scale: Array | None, kept: Moments, g: NormGeometry, need_x: bool
) -> tuple[Array | None, Array, Array]:
    """Return dx = r (h - mean(h) - d r^2 mean(h d)) with h = dy scale, r h if moments are fixed; sums of dy d r; sums of dy."""
    if _down(g):
        found = columns.sums(dy, x, kept.of, g)
        dshift, dscale = found.astype(x.dtype)
        return columns.input_gradient(dy, x, scale, kept.of, found, g, kept.fixed) if need_x else None, dscale, dshift
    along, chunks = _along(g), _chunks(g)
    dx = np.empty(x.size, x.dtype) if need_x else None
    sums = (
        np.empty((2, chunks, g.view[1] * g.view[2]), x.dtype)
        if along
        else np.empty((2, g.sets, g.view[0] if g.over_batch else g.view[2]))
    )
    kernel = kernels.row_gradients if along else kernels.block_gradients
    kernel(
        workers(chunks if along else g.sets, x.size), x.dtype, _job(g, 0.0, kept.fixed)[0],
        x=flat(x), dy=flat(dy), dx=dx, scale=_channels(scale, 1, x, g), moments=kept.of,
        shift_sums=sums[0], scale_sums=sums[1],
    )  # fmt: skip
    # Blocks of one channel follow one another over a batch; elsewhere each row has one of each channel.
    totals = (a.sum(axis=1) if g.over_batch else a.reshape(-1, g.view[1] * g.view[2]).sum(axis=0, dtype=np.float64) for a in sums)
    dshift, dscale = (total.astype(x.dtype).reshape(g.channels) for total in totals)
    return None if dx is None else dx.reshape(g.x_shape), dscale, dshift


@lru_cache(1024)
def _job(g: NormGeometry, eps: float, fixed: bool) -> tuple[Array, Array]:
    """Return the job of a geometry, and the array whose address is in it."""
    rows, groups, parts, size = g.view
    if g.over_batch:
        steps = {"step_row": 0, "step_group": size, "step_part": groups * size, "channel_group": 1, "channel_part": 0}
        layout = {"rows": 1, "groups": groups, "parts": rows, "size": size, "runs": rows, "run": size, **steps}
    else:
        whole = parts * size
        steps = {"step_row": groups * whole, "step_group": whole, "step_part": size, "channel_group": parts, "channel_part": 1}
        layout = {"rows": rows, "groups": groups, "parts": parts, "size": size, "runs": 1, "run": whole, **steps}
    number = np.asarray([eps])
    return kernels.JOB.fill(**layout, eps=number.ctypes.data, fixed=fixed, along=_along(g), chunks=_chunks(g)), number


def _down(g: NormGeometry) -> bool:
    """Whether sets are columns: over a batch without positions."""
    return g.over_batch and g.view[3] == 1


def _along(g: NormGeometry) -> bool:
    """Whether channels are neighbouring numbers of a set."""
    return g.view[3] == 1 and not g.over_batch


def _chunks(g: NormGeometry) -> int:
    """In how many chunks rows are taken where channels lie along them: 16 for the threads, or more, that none be over 64 rows."""
    rows = g.view[0]
    return min(rows, max(16, -(-rows // 64)))


def _channels(a: Array | None, value: float, x: Array, g: NormGeometry) -> Array:
    line: Array = np.full(g.view[1] * g.view[2], value, x.dtype) if a is None else flat(a)
    return line
