"""More than three spatial axes, for kernels of three: a sum over the taps of the first axis, its positions being images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from array_api_compat import array_namespace, device

from .._array import Array
from .contractions import Contractions, Step
from .finish import finished
from .geometry import ConvGeometry


class Leading:
    """The three contractions of arrays that can be written to, with any number of spatial axes."""

    def __init__(self, within: Contractions) -> None:
        self._within = within

    def contract_y(self, x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i,q], plus b[o]."""
        if g.rank <= 3:
            return self._within.contract_y(x, w, g, b, rectify)
        y = _zeros(g.y_shape, x)
        for k, p, q, rest in _taps(g):
            term = self.contract_y(_images(x[:, :, q]), w[:, :, k], rest)
            y[:, :, p] += _axis(term, g.batch)
        return finished(y, b, rectify)

    def contract_x(self, y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """x[n,i,q] = sum over o,p,k of w[o,i,k] * y[n,o,p], plus b[i]."""
        if g.rank <= 3:
            return self._within.contract_x(y, w, g, b, rectify)
        x = _zeros(g.x_shape, y)
        for k, p, q, rest in _taps(g):
            term = self.contract_x(_images(y[:, :, p]), w[:, :, k], rest)
            x[:, :, q] += _axis(term, g.batch)
        return finished(x, b, rectify)

    def contract_w(self, x: Array, y: Array, g: ConvGeometry) -> Array:
        """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i,q]."""
        if g.rank <= 3:
            return self._within.contract_w(x, y, g)
        w = _zeros(g.w_shape, x)
        for k, p, q, rest in _taps(g):
            w[:, :, k] = self.contract_w(_images(x[:, :, q]), _images(y[:, :, p]), rest)
        return w

    def explain(self, contraction: Any, g: ConvGeometry, dtype: Any) -> Step:
        """Say what a call would do for the tap with most outputs."""
        while g.rank > 3:
            g = max((rest for _, _, _, rest in _taps(g)), key=lambda rest: rest.batch, default=_rest(g, 0))
        step: Step = self._within.explain(contraction, g, dtype)  # type: ignore[attr-defined]
        return step


def _taps(g: ConvGeometry) -> Iterator[tuple[int, slice, slice, ConvGeometry]]:
    """Yield each tap of the first axis that meets x, the outputs and samples it joins, and the geometry of the other axes."""
    size, count, stride, lo = g.x_size[0], g.y_size[0], g.stride[0], g.pad_lo[0]
    for k in range(g.w_size[0]):
        start = g.dilation[0] * k - lo  # sample under this tap at output 0
        begin, end = max(0, -(start // stride)), min(count, (size - 1 - start) // stride + 1)
        if begin < end:
            first = stride * begin + start
            samples = slice(first, first + stride * (end - begin - 1) + 1, stride)
            yield k, slice(begin, end), samples, _rest(g, g.batch * (end - begin))


def _rest(g: ConvGeometry, batch: int) -> ConvGeometry:
    axes: Any = (sizes[1:] for sizes in g[5:])
    return ConvGeometry(g.rank - 1, batch, g.groups, g.c_in, g.c_out, *axes)


def _images(a: Array) -> Array:
    """Return (batch, channels, first, *rest) as (batch * first, channels, *rest)."""
    xp = array_namespace(a)
    a = xp.moveaxis(a, 2, 1)
    return xp.reshape(a, (-1, *a.shape[2:]))


def _axis(a: Array, batch: int) -> Array:
    """Return (batch * first, channels, *rest) as (batch, channels, first, *rest)."""
    xp = array_namespace(a)
    return xp.moveaxis(xp.reshape(a, (batch, -1, *a.shape[1:])), 1, 2)


def _zeros(shape: tuple[int, ...], like: Array) -> Array:
    return array_namespace(like).zeros(shape, dtype=like.dtype, device=device(like))
