"""Borders that repeat samples of x, beside kernels that know zeros only: what lies outside is a few thin slabs more.

T is linear in x. With a padding mode it sees x surrounded by zeros, and a halo: samples that repeat others. The halo falls into
slabs, two for each axis (inside along the axes before, all along those after), and each adds the same contraction of few samples
and the outputs that see them. So no padded copy of x is made, and every kernel and method serves every mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

from array_api_compat import array_namespace, device

from .. import _border
from .._array import Array
from .._window import extent
from .contractions import Contractions, Step
from .finish import finished
from .geometry import ConvGeometry


class Halo:
    """The three contractions of arrays that can be written to, with one mode per spatial axis for what is beyond x."""

    def __init__(self, within: Contractions, modes: tuple[str, ...]) -> None:
        self._within, self._modes = within, modes

    def contract_y(self, x: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """y[n,o,p] = sum over i,k of w[o,i,k] * x[n,i,q], plus b[o]."""
        slabs = slabs_of(g, self._modes)
        y = self._within.contract_y(x, w, g, b, rectify and not slabs)
        for slab in slabs:
            y = _added(y, slab.outputs, self._within.contract_y(slab.take(x), w, slab.g))
        return finished(y, None, rectify and bool(slabs))

    def contract_x(self, y: Array, w: Array, g: ConvGeometry, b: Array | None = None, rectify: bool = False) -> Array:
        """x[n,i,q] = sum over o,p,k of w[o,i,k] * y[n,o,p], plus b[i]; what falls beyond x falls on the sample repeated there."""
        slabs = slabs_of(g, self._modes)
        x = self._within.contract_x(y, w, g, b, rectify and not slabs)
        for slab in slabs:
            x = slab.add(self._within.contract_x(y[slab.outputs], w, slab.g), x)
        return finished(x, None, rectify and bool(slabs))

    def contract_w(self, x: Array, y: Array, g: ConvGeometry) -> Array:
        """w[o,i,k] = sum over n,p of y[n,o,p] * x[n,i,q]."""
        w = self._within.contract_w(x, y, g)
        for slab in slabs_of(g, self._modes):
            w = _added(w, ..., self._within.contract_w(slab.take(x), y[slab.outputs], slab.g))
        return w

    def explain(self, contraction: Any, g: ConvGeometry, dtype: Any) -> Step:
        """Say what a call would do; slabs come one after the other."""
        step: Step = self._within.explain(contraction, g, dtype)  # type: ignore[attr-defined]
        most = max((slab.numbers for slab in slabs_of(g, self._modes)), default=0)
        return step._replace(workspace=step.workspace + most * dtype.itemsize)


class Slab(NamedTuple):
    """Samples beyond one side of x and the outputs that see them, as a convolution of their own."""

    g: ConvGeometry
    outputs: tuple[Any, ...]  # slices of y
    sources: tuple[Any, ...]  # of each spatial axis: which samples of x, or None for all

    @property
    def numbers(self) -> int:
        """How many numbers the slab and its share of the result have."""
        return prod(self.g.x_shape) + prod(self.g.y_shape)

    def take(self, x: Array) -> Array:
        """Return the samples of the slab; x has the spatial axes last."""
        xp = array_namespace(x)
        for axis, index in enumerate(self.sources, 2):
            x = x if index is None else xp.take(x, xp.asarray(index, device=device(x)), axis=axis)
        return x

    def add(self, dx: Array, x: Array) -> Array:
        """Add what came upon the slab's samples to those of x that they repeat: the adjoint of taking them."""
        xp, axes = array_namespace(x), [axis for axis, index in enumerate(self.sources) if index is not None]
        for axis in reversed(axes):
            before = (slice(None),) * (axis + 2)
            shape = (*dx.shape[: axis + 2], x.shape[axis + 2], *dx.shape[axis + 3 :])
            folded = x if axis == axes[0] else xp.zeros(shape, dtype=x.dtype, device=device(x))
            for place, run in _runs(self.sources[axis]):
                folded = _added(folded, (*before, run, ...), dx[(*before, place, ...)])
            dx = folded
        return dx


def slabs_of(g: ConvGeometry, modes: tuple[str, ...]) -> list[Slab]:
    """Return the slabs of the halo that outputs see."""
    return [slab for axis in range(g.rank) if modes[axis] != "zeros" for slab in _beside(g, modes, axis)]


def _beside(g: ConvGeometry, modes: tuple[str, ...], axis: int) -> Iterator[Slab]:
    """Yield the slabs before and after x along one axis."""
    first = len(g.x_size) - g.rank
    reach = extent(g.w_size, g.y_size, g.stride, g.dilation)[first:]
    size, lo = g.x_size[first:], g.pad_lo[first:]
    # Padded positions, from 0 where the first window starts to `reach` where the last one ends.
    padded = [_border.sources(m, n, a, max(e - a - n, 0))[:e] for m, n, a, e in zip(modes, size, lo, reach, strict=True)]
    stride, span = g.stride[first + axis], g.dilation[first + axis] * (g.w_size[first + axis] - 1)
    for begin, end in ((0, min(lo[axis], reach[axis])), (lo[axis] + size[axis], reach[axis])):
        p_begin, p_end = max(0, -(-(begin - span) // stride)), min(g.y_size[first + axis], (end - 1) // stride + 1)
        begin = max(begin, stride * p_begin)
        if begin >= end or p_begin >= p_end:
            continue
        sources: list[Any] = [None] * g.rank
        sizes, los, outs = list(g.x_size), list(g.pad_lo), list(g.y_size)
        for other in range(axis + 1, g.rank):
            if modes[other] != "zeros":
                sources[other], sizes[first + other], los[first + other] = padded[other], reach[other], 0
        sources[axis] = padded[axis][begin:end]
        sizes[first + axis], outs[first + axis], los[first + axis] = end - begin, p_end - p_begin, begin - stride * p_begin
        changed: dict[str, Any] = {"x_size": tuple(sizes), "pad_lo": tuple(los), "y_size": tuple(outs)}
        yield Slab(g._replace(**changed), (slice(None),) * (axis + 2) + (slice(p_begin, p_end), ...), tuple(sources))


def _runs(index: Any) -> Iterator[tuple[slice, slice]]:
    """Yield runs of an index that go up or down by one, or hold one sample: where in the index, and which samples."""
    first, values = 0, index.tolist()
    while first < len(values):
        start, end = values[first], first + 1
        step = values[end] - start if end < len(values) and abs(values[end] - start) == 1 else 1
        while end < len(values) and values[end] - values[end - 1] == step:
            end += 1
        stop = start + step * (end - first)
        yield slice(first, end), slice(start, stop if stop >= 0 else None, step)
        first = end


def _added(a: Array, where: Any, more: Array) -> Array:
    """Return a with more added to a part of it: in place, but for JAX's arrays, which cannot be written to."""
    if hasattr(a, "at"):
        return a.at[where].add(more)
    a[where] += more
    return a
