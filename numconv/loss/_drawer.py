"""Which kernels a loss runs on."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, Protocol

from .. import _lend
from .._array import Array
from . import generic


class Losses(Protocol):
    """What a device provides, for float32 and float64."""

    def cross_entropy(
        self, xp: ModuleType, logits: Array, labels: Array, smoothing: float
    ) -> tuple[Array, Callable[[Array], Array]]:
        """Return log sum exp(x) - sum of q x over axis 1, q being 1 - s at the label plus s / classes; and the pullback to x.

        There is at least one class.
        """

    def matmul(self, xp: ModuleType, a: Array, b: Array) -> Array:
        """Return the product of two matrices."""


def drawer(xp: Any, x: Array) -> Losses:
    """Choose the kernels by where the arrays live. Imported on first use, so that `import numconv` stays cheap."""
    return _lend.kernels(xp, x, f"{__package__}.cpu", generic, f"{__package__}.cuda")  # type: ignore[no-any-return]


def streaming(xp: Any, x: Array) -> Any:
    """Return the kernels that make no matrix of logits, for arrays on a GPU; None elsewhere."""
    return _lend.kernels(xp, x, f"{__package__}.cpu", None, f"{__package__}.streamed") if _lend.is_on_gpu(xp, x) else None
