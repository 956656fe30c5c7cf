"""What the kernels read of a geometry: its integers as fields of a job, and tables of offsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._jit import njit_inner
from ..geometry import PoolGeometry

Array = np.ndarray[Any, Any]

# Fields of every job of this drawer, and how many integers stand under each.
WINDOW = {"planes": 1, "x_size": 3, "y_size": 3, "window": 3, "stride": 3, "dilation": 3, "pad_lo": 3}


def window(g: PoolGeometry) -> dict[str, Any]:
    """Return the values of the fields of `WINDOW`."""
    return {"planes": g.planes, **{name: getattr(g, name) for name in WINDOW if name != "planes"}}


def table(numbers: Sequence[int] | Array, dtype: Any = np.int64) -> Array:
    """Return numbers as a kernel reads them; at least one, as empty arrays may have no address."""
    return np.asarray(numbers if len(numbers) else [0], dtype)


def addresses(tables: dict[str, Array]) -> dict[str, int]:
    """Return where the tables lie; whoever keeps the addresses keeps the tables."""
    return {name: array.ctypes.data for name, array in tables.items()}


def padded_row(g: PoolGeometry) -> int:
    """Length of a row of x with its padding, as far as any window reaches."""
    reach = g.stride[2] * (g.y_size[2] - 1) + g.dilation[2] * (g.window[2] - 1) + 1
    return max(g.pad_lo[2] + g.x_size[2], reach)


def tap_steps(g: PoolGeometry) -> Array:
    """How far in a plane each tap lies from the first of its window."""
    k0, k1, k2 = np.indices(g.window).reshape(3, -1)
    return table((g.dilation[0] * k0 * g.x_size[1] + g.dilation[1] * k1) * g.x_size[2] + g.dilation[2] * k2)


@njit_inner
def row_start(job: Any, p0: int, p1: int) -> int:
    """Where in a plane the first tap of the first window of row (p0, p1) of y lies, were there samples on the padding."""
    q0, q1 = job.stride[0] * p0 - job.pad_lo[0], job.stride[1] * p1 - job.pad_lo[1]
    start: int = (q0 * job.x_size[1] + q1) * job.x_size[2] - job.pad_lo[2]
    return start


def line(size: int) -> int:
    """Round bytes up to a whole number of cache lines."""
    return -(-size // 64) * 64
