"""Which algorithm computes a contraction: a pure function of the geometry and the dtype, unless the caller says."""

from __future__ import annotations

from functools import lru_cache
from math import inf, log2, prod, sqrt
from typing import Any, Literal, get_args

import numba
import numpy as np

from ..contractions import Step
from ..geometry import ConvGeometry
from . import direct, fourier, gradient, winograd

Array = np.ndarray[Any, Any]
Contraction = Literal["contract_y", "contract_x", "contract_w"]


class Definition:
    """The direct method as one place: sums by their definition, on the register tile."""

    contract_y = staticmethod(direct.contract_y)
    contract_x = staticmethod(direct.contract_x)
    contract_w = staticmethod(gradient.contract_w)


_BY_NAME: dict[str, Any] = {"direct": Definition, "winograd": winograd, "fft": fourier}


class By:
    """The three contractions by a method of this name, or by the best for each."""

    def __init__(self, name: str) -> None:
        self.name = name

    def contract_y(self, x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i, stride*p + dilation*k - pad_lo], plus b[o]."""
        return self._module("contract_y", g, x, w).contract_y(x, w, g, b, rectify)  # type: ignore[no-any-return]

    def contract_x(self, y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """x[n,i,q] = sum over the o,p,k with stride*p + dilation*k - pad_lo = q of w[o,i,k] * y[n,o,p], plus b[i]."""
        return self._module("contract_x", g, y, w).contract_x(y, w, g, b, rectify)  # type: ignore[no-any-return]

    def contract_w(self, x: Array, y: Array, g: ConvGeometry) -> Array:
        """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i, stride*p + dilation*k - pad_lo]."""
        return self._module("contract_w", g, x, y).contract_w(x, y, g)  # type: ignore[no-any-return]

    def explain(self, contraction: Contraction, g: ConvGeometry, dtype: Any) -> Step:
        """Say what a call would do."""
        name, size, threads = self._name(contraction, g, dtype.itemsize), dtype.itemsize, numba.get_num_threads()
        if self.name != "auto":
            refuse_misfit(name, g)
        error = _ulps(name, contraction, g, size) * float(np.finfo(dtype).eps) / 2
        if name == "winograd":
            return Step(name, winograd.tile(g, contraction), winograd.workspace(g, size, contraction, threads), error)
        if name == "fft":
            window = "x".join(map(str, fourier.plan(g, size, contraction).size[3 - g.rank :]))
            return Step(name, f"window {window}", fourier.workspace(g, size, contraction), error)
        if contraction == "contract_w":
            return Step(name, gradient.tile(g, size), gradient.workspace(g, size, threads), error)
        adjoint = contraction == "contract_x"
        return Step(name, direct.tile(g, size, threads, adjoint), direct.workspace(g, size, threads, adjoint), error)

    def _name(self, contraction: Contraction, g: ConvGeometry, itemsize: int) -> str:
        return best(contraction, g, itemsize) if self.name == "auto" else self.name

    def _module(self, contraction: Contraction, g: ConvGeometry, *arrays: Array) -> Any:
        name = self._name(contraction, g, arrays[0].itemsize)
        if name == "fft" and self.name == "auto" and not all(fourier.finite(a) for a in arrays):
            name = "direct"
        if self.name != "auto":
            refuse_misfit(name, g)
        return _BY_NAME[name]


def by(name: str) -> By:
    """Return the contractions by the method of this name."""
    return _METHODS[name]


_METHODS = {name: By(name) for name in ("auto", *_BY_NAME)}


@lru_cache(512)
def best(contraction: Contraction, g: ConvGeometry, itemsize: int) -> str:
    """Name the method that should take the least time."""
    if g.batch == 0:
        return "direct"
    if g.flops > 2e5 and winograd.fits(g) and winograd.speedup(g, contraction) > 1.1:  # it rounds more, so only for a gain
        return "winograd"
    # Below some 50 taps no transform pays, and planning one takes 0.6 ms.
    if prod(g.w_size) > 48 and fourier.cost(g, itemsize, contraction) * FEWER_THREADS < _direct_seconds(g, itemsize, contraction):
        return "fft"
    return "direct"


# Multiply-adds a second of direct sums on one core, in float32; half as many in float64. Seen: 33e9 to 37e9 in images of one
# channel from 15 x 15 taps, 40e9 to 48e9 with 8 channels or more, 22e9 to 28e9 in weight gradients of one channel.
DIRECT_RATE = 40e9
DIRECT_RATE_OF_THIN_GRADIENTS = 25e9
# Two threads make direct sums 2.0 times as fast and transforms 1.6 times (10.0 to 6.2 ms at 31 x 31 taps), but the choice
# must not depend on their number: 1.2 is between. One thread took 6.4 ms direct, 8.4 by transforms at 15 x 15 taps; 12.7, 8.4 at
# 21 x 21.
FEWER_THREADS = 1.2


def _direct_seconds(g: ConvGeometry, itemsize: int, contraction: Contraction) -> float:
    """Estimate the time of the direct method on one core."""
    rate = DIRECT_RATE_OF_THIN_GRADIENTS if contraction == "contract_w" and g.c_out < 4 else DIRECT_RATE
    return g.flops / 2 / rate * itemsize / 4


def refuse_misfit(name: str, g: ConvGeometry) -> None:
    """Refuse a method that cannot compute such a convolution."""
    if name == "winograd" and not winograd.fits(g):
        taps, stride, dilation = (t[3 - g.rank :] for t in (g.w_size, g.stride, g.dilation))
        raise ValueError(
            "method='winograd' needs 2 to 5 taps along rows or columns for every step of the stride, and either stride or "
            f"dilation 1; got taps {taps}, stride {stride}, dilation {dilation}"
        )
    if name == "fft" and not all(fourier.cost(g, 8, c) < inf for c in get_args(Contraction)):
        raise ValueError(
            f"method='fft' would need more memory than it may take for taps {g.w_size[3 - g.rank :]}; needed 'direct'"
        )


def _ulps(name: str, contraction: Contraction, g: ConvGeometry, itemsize: int) -> float:
    """Root mean square of the error over that of the result, in units of rounding, fitted to errors against float64.

    Sums are made in blocks of some 300 terms, so their errors stop growing there.
    """
    if name == "fft":
        return 0.3 * log2(prod(fourier.plan(g, itemsize, contraction).size))
    channels = 1 if contraction == "contract_w" else g.c_in if contraction == "contract_y" else g.c_out
    terms = g.batch * prod(g.y_size) // 8 if contraction == "contract_w" else channels * prod(g.w_size)
    direct_ulps = 0.3 * sqrt(min(max(terms, 3), 300))
    if name == "winograd":
        return direct_ulps * winograd.ulps(g, contraction)
    return direct_ulps
