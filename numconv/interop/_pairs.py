"""What both libraries need to know of numconv's functions: the pairs `f`, `f_vjp`, and their arguments by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numconv

from ._maps import linear_map, stem_of
from ._rules import Rules, rules


class Pair(NamedTuple):
    """A function, its vector-Jacobian product, and the rules of its gradients, where it is differentiable more than once.

    Where rules stand alone there may be no vector-Jacobian product.
    """

    f: Callable[..., Any]
    f_vjp: Any
    rules: Rules | None = None


def names() -> list[str]:
    """Return the names of all functions that have a gradient."""
    return [name for name in numconv.__all__ if f"{name}_vjp" in numconv.__all__]


@cache
def pair(name: str) -> Pair:
    """Return a public function of numconv with its gradient, or a map of `_maps`.

    Raises
    ------
    AttributeError
        If there is no such function, or it has no gradient.
    """
    if stem_of(name) != name:
        return Pair(linear_map(name), None, rules(name))
    if name not in names():
        raise AttributeError(f"numconv has no function {name!r} that has a gradient")
    return Pair(getattr(numconv, name), getattr(numconv, f"{name}_vjp"), rules(name))


@cache
def reader(f: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Return a function from the arguments of a call of `f` to the same by name."""
    signature = inspect.signature(f)
    parameters = signature.parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    needed = {p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)

    def read(*args: Any, **kwargs: Any) -> dict[str, Any]:
        arguments = {**dict(zip(positional, args, strict=False)), **kwargs}
        known = anything or arguments.keys() <= signature.parameters.keys()
        if not known or len(arguments) != len(args) + len(kwargs) or not needed <= arguments.keys():
            signature.bind(*args, **kwargs)  # says what is wrong; it takes 30 us, as long as a small convolution
        if arguments.pop("out", None) is not None:
            raise TypeError(f"{f.__name__}: out cannot be given where gradients are recorded; needed out=None")
        return arguments

    return read
