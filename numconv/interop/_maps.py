"""Functions that are linear in their input, or linear on each side of a kink, as pairs of maps that are each other's gradient.

With J(x) the matrix of derivatives of f at x, which is the same almost everywhere around x:

    f_tangent(v, x)   J v, the derivative along v; f(v) itself where f is linear
    f_adjoint(v, x)   J' v, the gradient in x for the cotangent v
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numconv

from .. import _array
from .._window import spatial

TANGENT, ADJOINT = "_tangent", "_adjoint"

# The argument they are linear in.
INPUT = dict.fromkeys(
    (
        "adaptive_avg_pool",
        "avg_pool",
        "global_avg_pool",
        "leaky_relu",
        "max_pool",
        "max_unpool",
        "pad",
        "relu",
        "resize",
        "unfold",
    ),
    "x",
) | {"fold": "columns"}


def stem_of(name: str) -> str:
    """Return the name of the function that a map belongs to; other names stay what they are."""
    stem = name.removesuffix(TANGENT).removesuffix(ADJOINT)
    return stem if stem in INPUT else name


def linear_map(name: str) -> Callable[..., Any]:
    """Return the map of this name: a function of `v` and the arguments of the function it belongs to."""
    stem = stem_of(name)

    def adjoint(v: Any, **arguments: Any) -> Any:
        return getattr(numconv, f"{stem}_vjp")(**arguments)[1](v)

    def tangent(v: Any, **arguments: Any) -> Any:
        return getattr(numconv, stem)(**{**arguments, INPUT[stem]: v})

    special: dict[str, Callable[..., Any]] = {"max_pool": _at_maxima, "pad": _padded}
    special |= dict.fromkeys(("relu", "leaky_relu"), adjoint)  # J is diagonal
    chosen = adjoint if name.endswith(ADJOINT) else special.get(stem, tangent)

    def mapped(v: Any, **arguments: Any) -> Any:
        return chosen(v, **arguments)

    mapped.__name__ = name
    return mapped


def _at_maxima(v: Any, x: Any, window: Any, **settings: Any) -> Any:
    """Return what v holds where the maxima of x are."""
    _, indices = numconv.max_pool_with_indices(x, window, **settings)
    xp, lead = _array.namespace(v=v), x.ndim - spatial("window", window, tuple(x.shape))
    planes, places = (xp.reshape(a, (*a.shape[:lead], -1)) for a in (v, indices))
    return xp.reshape(xp.take_along_axis(planes, places, axis=-1), indices.shape)


def _padded(v: Any, x: Any, padding: Any, mode: Any = "zeros", value: Any = 0) -> Any:
    return numconv.pad(v, padding, mode)
