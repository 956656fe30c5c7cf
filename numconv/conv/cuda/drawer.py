"""The three contractions on a GPU: ask the plan, run its method."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

from ... import _cuda
from ..._array import Array
from ..contractions import Step
from ..geometry import ConvGeometry
from . import layout, tuning
from .plan import METHODS, plan
from .problem import Problem


class Drawer:
    """The contractions at one precision.

    Parameters
    ----------
    precision : str
        "default", "highest", "tf32" or "ieee".
    methods : tuple of module
        Those to choose from.
    """

    def __init__(self, precision: str, methods: tuple[ModuleType, ...] = METHODS) -> None:
        self.precision, self.methods = precision, methods

    def contract_y(self, x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i, stride*p + dilation*k - pad_lo], plus b[o]."""
        return self._answer("contract_y", (x, w), g, b, rectify)

    def contract_x(self, y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """x[n,i,q] = sum over the o,p,k with stride*p + dilation*k - pad_lo = q of w[o,i,k] * y[n,o,p], plus b[i]."""
        return self._answer("contract_x", (y, w), g, b, rectify)

    def contract_w(self, x: Array, y: Array, g: ConvGeometry) -> Array:
        """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i, stride*p + dilation*k - pad_lo]."""
        return self._answer("contract_w", (x, y), g, None, False)

    def explain(self, contraction: str, g: ConvGeometry, dtype: Any) -> Step:
        """Say what a call would do on the present device, for arrays with channels first."""
        _, found = plan(Problem(contraction, g, str(dtype), self.precision, _cuda.present()), self.methods)
        return Step(found.method, found.tile, found.workspace, found.error)

    def problem(self, contraction: str, given: tuple[Array, Array], g: ConvGeometry) -> Problem:
        """Say what is to be computed."""
        first = given[0]
        last, aligned = tuple(map(layout.is_last, given)), tuple(map(layout.alignment, given))
        return Problem(contraction, g, str(first.dtype), self.precision, _cuda.device(first), last, aligned)  # type: ignore[arg-type]

    def _answer(self, contraction: str, given: Any, g: ConvGeometry, b: Array | None, rectify: bool) -> Array:
        with _cuda.on(given[0]):
            problem = self.problem(contraction, given, g)
            if tuning.is_asked():
                tuning.tune(problem, self.methods, given)
            method, found = plan(problem, self.methods)
            return method.run(problem, found, given, b, rectify)


@cache
def by(precision: str) -> Drawer:
    """Return the contractions at a precision."""
    return Drawer(precision)
