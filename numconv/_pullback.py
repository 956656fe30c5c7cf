"""The one shape of a backward pass: gradients by argument name, asked for with a cotangent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _array
from ._array import Array


class Pullback:
    """Map the cotangent of a value to the gradients of the arguments it was computed from.

    `pullback(dy)` returns the gradients of all array arguments in order: bare if there is one, as a tuple if there are
    several. `pullback(dy, wrt="w")` computes and returns one gradient, `pullback(dy, wrt=("w", "b"))` a tuple of some.

    Parameters
    ----------
    y : array
        The value. Only its shape, dtype, library and device are kept, to check cotangents against.
    **gradients : callable
        One function per array argument, from the checked cotangent to the gradient.
    """

    __slots__ = ("_dtype", "_gradients", "_place", "_shape", "_xp")

    def __init__(self, y: Array, **gradients: Callable[[Any], Array]) -> None:
        self._xp, self._shape, self._dtype = _array.namespace(y=y), tuple(y.shape), y.dtype
        self._gradients, self._place = gradients, _array.place(y)

    def __call__(self, cotangent: Array = None, *, wrt: str | tuple[str, ...] | None = None) -> Any:
        """Return the gradients asked for.

        Parameters
        ----------
        cotangent : array or float
            Gradient of something in the value, of the value's shape. For scalar values a number will do, and 1 is the default.
        wrt : str or tuple of str, optional
            Names of the arguments whose gradients are wanted; all of them if left out.

        Raises
        ------
        TypeError
            If the cotangent is no array of the value's library, or on another device.
        ValueError
            If the cotangent's shape is not the value's, or `wrt` names no array argument.
        """
        dy = self._checked(cotangent)
        if isinstance(wrt, str):
            return self._gradient(wrt)(dy)
        if wrt is not None:
            chosen = [self._gradient(name) for name in wrt]  # every name is checked before any work
            return tuple(gradient(dy) for gradient in chosen)
        if len(self._gradients) == 1:
            return next(iter(self._gradients.values()))(dy)
        return tuple(gradient(dy) for gradient in self._gradients.values())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arguments that have a gradient."""
        return tuple(self._gradients)

    def _gradient(self, name: str) -> Callable[[Any], Array]:
        if name not in self._gradients:
            raise ValueError(f"wrt names {name!r}; there are gradients for {', '.join(map(repr, self._gradients))}")
        return self._gradients[name]

    def _checked(self, cotangent: Array) -> Array:
        if self._shape == () and (cotangent is None or isinstance(cotangent, (int, float))):
            cotangent = self._xp.asarray(1.0 if cotangent is None else cotangent, dtype=self._dtype)
        if cotangent is None:
            raise TypeError(f"the cotangent is missing: the value has shape {self._shape}, only scalar values have a default")
        xp = _array.namespace(cotangent=cotangent)
        if xp is not self._xp:
            raise TypeError(f"the cotangent is from {xp.__name__}, the value from {self._xp.__name__}")
        place = _array.place(cotangent)
        if not (place is None or self._place is None or place == self._place or str(place) == str(self._place)):
            raise TypeError(f"the cotangent is on {place}, the value on {self._place}")
        if tuple(cotangent.shape) != self._shape:
            raise ValueError(f"the cotangent has shape {tuple(cotangent.shape)}; needed the value's, {self._shape}")
        dy = xp.asarray(cotangent)
        return dy if dy.dtype == self._dtype else xp.astype(dy, self._dtype)
