"""Convolution of complex numbers as real convolutions: products without conjugation, as the trilinear form has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from .._array import Array
from .contractions import Contractions, Step
from .finish import finished
from .geometry import ConvGeometry


class Complex:
    """The three contractions of complex arrays of NumPy or CuPy: real and imaginary parts are images of one batch."""

    def __init__(self, real: Contractions) -> None:
        self._real = real

    def contract_y(self, x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i,q], plus b[o]."""
        twice = _parts(x), g._replace(batch=2 * g.batch)
        return finished(_joined(*(self._real.contract_y(twice[0], part, twice[1]) for part in (w.real, w.imag))), b, rectify)

    def contract_x(self, y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """x[n,i,q] = sum over o,p,k of w[o,i,k] * y[n,o,p], plus b[i]."""
        twice = _parts(y), g._replace(batch=2 * g.batch)
        return finished(_joined(*(self._real.contract_x(twice[0], part, twice[1]) for part in (w.real, w.imag))), b, rectify)

    def contract_w(self, x: Array, y: Array, g: ConvGeometry) -> Array:
        """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i,q]."""
        xp, twice = array_namespace(x), g._replace(batch=2 * g.batch)
        w = xp.empty(g.w_shape, dtype=x.dtype)
        w.real = self._real.contract_w(_parts(x), xp.concat([y.real, -y.imag]), twice)
        w.imag = self._real.contract_w(_parts(x), xp.concat([y.imag, y.real]), twice)
        return w

    def explain(self, contraction: Any, g: ConvGeometry, dtype: Any) -> Step:
        """Say what a call would do: all of it twice, with the parts beside the arrays."""
        real = np.empty(0, dtype).real.dtype
        step: Step = self._real.explain(contraction, g._replace(batch=2 * g.batch), real)  # type: ignore[attr-defined]
        numbers = sum(2 * int(np.prod(shape)) for shape in (g.x_shape, g.w_shape, g.y_shape))
        return step._replace(workspace=step.workspace + 2 * numbers * real.itemsize)


def _parts(a: Array) -> Array:
    return array_namespace(a).concat([a.real, a.imag])


def _joined(by_real: Array, by_imag: Array) -> Array:
    """Return (a + bi)(c + di), given both parts of it times c and times d."""
    n, xp = by_real.shape[0] // 2, array_namespace(by_real)
    joined = xp.empty(by_real[:n].shape, dtype=xp.result_type(by_real.dtype, xp.complex64))
    joined.real, joined.imag = by_real[:n] - by_imag[n:], by_real[n:] + by_imag[:n]
    return joined
