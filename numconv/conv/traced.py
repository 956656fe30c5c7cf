"""Convolution of JAX's arrays that are not known yet, as under `jax.jit`: the kernels are called when they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._array import Array
from .contractions import Contractions, _for_numpy
from .geometry import ConvGeometry


class Traced:
    """The three contractions as callbacks from compiled code to the kernels."""

    def __init__(self, method: str, modes: tuple[str, ...]) -> None:
        self._how = method, modes

    def contract_y(self, x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i,q], plus b[o]."""
        return self._call(g.y_shape, lambda on, x, w, *b: on.contract_y(x, w, g, *(b or (None,)), rectify), x, w, b)

    def contract_x(self, y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """x[n,i,q] = sum over o,p,k of w[o,i,k] * y[n,o,p], plus b[i]."""
        return self._call(g.x_shape, lambda on, y, w, *b: on.contract_x(y, w, g, *(b or (None,)), rectify), y, w, b)

    def contract_w(self, x: Array, y: Array, g: ConvGeometry) -> Array:
        """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i,q]."""
        return self._call(g.w_shape, lambda on, x, y: on.contract_w(x, y, g), x, y)

    def _call(self, shape: tuple[int, ...], f: Any, *arrays: Array | None) -> Array:
        import jax

        given = [a for a in arrays if a is not None]
        if any(type(a).__name__ in ("JVPTracer", "LinearizeTracer") for a in given):
            raise TypeError("JAX is differentiating here, which plain functions do not know; needed one of numconv.interop.jax")

        def host(*known: Array) -> Array:
            on: Contractions = _for_numpy(np.dtype(given[0].dtype), *self._how)
            return f(on, *map(np.asarray, known))

        result = jax.ShapeDtypeStruct(shape, given[0].dtype)
        return jax.pure_callback(host, result, *given, vmap_method="sequential")
