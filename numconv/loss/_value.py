"""What comes out of a loss: terms reduced to a value, and a pullback, both in the dtype that went in."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from .._array import Array
from .._pointwise import Pointwise
from .._pullback import Pullback

_WORDS = ("mean", "sum", "none", "batchmean")


class Reduction(NamedTuple):
    """How terms become a value: their sum divided by `divisor`, or themselves."""

    word: str
    divisor: int

    @classmethod
    def read(cls, word: Any, shape: tuple[int, ...]) -> Reduction:
        """Read a reduction argument for terms of `shape`, or refuse it."""
        if word not in _WORDS:
            raise ValueError(f"reduction={word!r}; needed one of {', '.join(map(repr, _WORDS))}")
        if word == "batchmean" and not shape:
            raise ValueError("reduction='batchmean' of terms of shape (); needed a batch axis")
        divisor = math.prod(shape) if word == "mean" else shape[0] if word == "batchmean" else 1
        if not divisor:
            raise ValueError(f"reduction={word!r} of terms of shape {shape}; needed at least 1 to take the mean over")
        return cls(word, divisor)

    def __call__(self, xp: ModuleType, terms: Array) -> Array:
        """Reduce the terms."""
        return terms if self.word == "none" else self._divided(xp.sum(terms))

    def of(self, xp: ModuleType, formula: Pointwise, *arguments: Any) -> Array:
        """Reduce what a formula says of each place, without keeping the terms if only their sum is wanted."""
        return formula(xp, *arguments) if self.word == "none" else self._divided(formula.sum(xp, *arguments))

    def share(self, dy: Array) -> Array:
        """Return what of the cotangent each term gets: a scalar for all, or one number per term."""
        return self._divided(dy)

    def _divided(self, total: Array) -> Array:
        return total if self.divisor == 1 else total / self.divisor


def answer(xp: ModuleType, dtype: Any, value: Array, **gradients: Callable[[Any], Array]) -> tuple[Array, Pullback]:
    """Return the value and its pullback as the caller's dtype, whatever wider dtype they were computed in."""
    wide = value.dtype
    y = xp.astype(value, dtype, copy=False)
    if wide == dtype:
        return y, Pullback(y, **gradients)

    def narrowed(gradient: Callable[[Any], Array]) -> Callable[[Any], Array]:
        return lambda dy: xp.astype(gradient(xp.astype(dy, wide)), dtype)

    return y, Pullback(y, **{name: narrowed(gradient) for name, gradient in gradients.items()})
