"""What a method is asked, and what it answers: plain tuples, known before anything is launched."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ... import _cuda
from ..geometry import ConvGeometry

LAUNCH = 4e-6  # seconds from one kernel's start to the next, at least; a prediction
BANDWIDTH = 3e12  # bytes a second of an H200's memory that kernels can count on; a prediction
CLOCK = 1.7e9


class Problem(NamedTuple):
    """One contraction to compute. The arrays given are x and w, y and w, or x and y, as the contraction says."""

    contraction: str
    g: ConvGeometry
    dtype: str
    precision: str
    device: _cuda.Device
    last: tuple[bool, bool] = (False, False)  # whether the arrays given lie channels last, and are no others'
    aligned: tuple[int, int] = (16, 16)  # to how many bytes: a power of two, at most 16

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return {"float64": 8, "float32": 4}.get(self.dtype, 2)


class Plan(NamedTuple):
    """How a method would compute a contraction."""

    method: str
    tile: str  # what a block computes at a time, for `explain`
    workspace: int  # bytes beside arguments and answer
    error: float  # expected root mean square of the rounding error, relative to that of the answer
    seconds: float  # predicted, the launches included; the least wins
    how: Any = None  # what the method's `run` wants to know: hashable

    @property
    def name(self) -> str:
        """What tells it from the other plans for the same problem."""
        return f"{self.method} {self.tile}"

    @property
    def kind(self) -> str:
        """What it has in common with plans for other problems: its name without the numbers that depend on the shapes."""
        return re.split("[/,]", self.name)[0].strip()
