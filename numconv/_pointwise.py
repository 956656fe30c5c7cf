"""Formulas that look at one place of their arrays at a time: plain array API anywhere, one fused kernel on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import update_wrapper
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from . import _lend
from ._array import Array


class Pointwise:
    """A formula `f(xp, *arrays, *parameters)` of up to three arrays, the first of them in the shape of the value, and a float.

    Called, it is that formula. NumPy arrays of float32 and float64, and CuPy's of 16 bits too, take a kernel made of it, in which
    no array but the result is written; all else evaluates it in array API, where `formula` is found by itself.
    """

    def __init__(self, formula: Callable[..., Array]) -> None:
        update_wrapper(self, formula)
        self.formula = formula

    def __call__(self, xp: ModuleType, *arguments: Any) -> Array:
        """Return the value of the formula at each place."""
        if (kernel := _lend.native(xp, arguments[0], self._scaled, self._scaled_on_gpu)) is None:
            return self.formula(xp, *arguments)
        return kernel(1.0, *arguments)

    def times(self, xp: ModuleType, scale: Array, *arguments: Any) -> Array:
        """Return scale * formula, where the scale is a scalar array or has the arrays' shape."""
        if (kernel := _lend.native(xp, arguments[0], self._scaled, self._scaled_on_gpu)) is None:
            return scale * self.formula(xp, *arguments)
        return kernel(scale, *arguments)

    def sum(self, xp: ModuleType, *arguments: Any) -> Array:
        """Return the sum of the formula over all places."""
        if (kernel := _lend.native(xp, arguments[0], self._summed, self._summed_on_gpu)) is None:
            return xp.sum(self.formula(xp, *arguments))
        return kernel(*arguments)

    def _scaled(self, scale: Any, *arguments: Any) -> Array:
        from . import _traced

        arrays, parameter = _arrays(arguments)
        each = getattr(scale, "shape", ()) == arrays[0].shape != ()
        return _traced.scaled(self.formula, _plain(scale) if each else float(scale), arrays, parameter)

    def _summed(self, *arguments: Any) -> Array:
        from . import _traced

        return _traced.summed(self.formula, *_arrays(arguments))

    def _scaled_on_gpu(self, scale: Any, *arguments: Any) -> Array:
        from . import _cuda_formula

        return _cuda_formula.scaled(self.formula, scale, arguments)

    def _summed_on_gpu(self, *arguments: Any) -> Array:
        from . import _cuda_formula

        return _cuda_formula.summed(self.formula, arguments)


def programs() -> Iterator[Any]:
    """Yield every CUDA kernel of all formulas, and the least architecture it is for."""
    for room in ("activation.generic", "loss.classification", "loss.regression", "loss.variational", "train.optim"):
        import_module(f".{room}", __package__)  # each makes its formulas as it is imported
    from . import _cuda_formula

    own = [each.formula for each in FORMULAS if each.formula.__module__.startswith(f"{__package__}.")]
    yield from _cuda_formula.programs(own)


FORMULAS: list[Pointwise] = []


def pointwise(formula: Callable[..., Array]) -> Pointwise:
    """Make a formula `Pointwise`, and remember it for those who compile ahead."""
    FORMULAS.append(Pointwise(formula))
    return FORMULAS[-1]


def _arrays(arguments: tuple[Any, ...]) -> tuple[list[Array], float | None]:
    """Return the arrays as they lie in order in memory, and the parameter."""
    first, last = np.asarray(arguments[0]), arguments[-1]
    one_for_all = isinstance(last, float) or (type(last) is np.ndarray and last.ndim == 0 < first.ndim)
    parameter, arrays = (float(last), arguments[:-1]) if one_for_all else (None, arguments)
    return [_plain(a if a.shape == first.shape else np.broadcast_to(a, first.shape)) for a in arrays], parameter


def _plain(a: Array) -> Array:
    return a if a.flags.carray else np.require(a, None, ["C", "A"])
