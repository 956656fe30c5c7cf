"""Where the samples under a window lie: one lattice per axis and output phase, after which strides are gone.

Convolution reads its input at stride * p + dilation * k - pad_lo. Seen from one output phase, that sums, over taps, the
samples `start + step * t`:

    contract_y  one phase:  dst p = t                         src q = stride * t + (dilation * k - pad_lo)
    contract_x  a phase r:  dst q = stride * j + r - pad_lo   src p = j - (dilation * k - r) / stride, for k where it divides

Samples are copied into a strip of memory where those of one residue modulo `step` lie side by side. There every tap is an offset,
and neighbouring outputs read neighbouring samples.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from ..geometry import ConvGeometry, Triple


class Axis(NamedTuple):
    """One axis of one output phase: output `dst_start + dst_step * t` sums taps at `src_start[.] + src_step * t`."""

    dst_start: int
    dst_step: int
    outputs: int
    src_step: int
    taps: tuple[int, ...]
    src_start: tuple[int, ...]

    @property
    def first(self) -> int:
        """First source sample of the strip, for t = 0."""
        return min(self.src_start, default=0)

    @property
    def residues(self) -> tuple[int, ...]:
        """Residues modulo `src_step` that any tap reads: each has its own part of the strip."""
        first = self.first
        return tuple(sorted({(s - first) % self.src_step for s in self.src_start}))

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Part of the strip and offset in it of each tap."""
        first, part = self.first, {residue: i for i, residue in enumerate(self.residues)}
        return tuple((part[(s - first) % self.src_step], (s - first) // self.src_step) for s in self.src_start)

    @property
    def reach(self) -> int:
        """Samples of a part of the strip beyond the first that one output reads."""
        return (max(self.src_start, default=0) - self.first) // self.src_step


Axes = tuple[Axis, Axis, Axis]


def axes_y(g: ConvGeometry) -> Axes:
    """Return the lattice of contract_y, and of x in contract_w."""
    a, b, c = (
        Axis(0, 1, o, s, tuple(range(k)), tuple(d * j - lo for j in range(k)))
        for k, o, s, d, lo in zip(g.w_size, g.y_size, g.stride, g.dilation, g.pad_lo, strict=True)
    )
    return a, b, c


def axes_x(g: ConvGeometry) -> list[Axes]:
    """Return the lattices of contract_x: a dense problem of stride 1 for every phase of the stride, so no zero is multiplied."""
    per_axis = [_phases(*sizes) for sizes in zip(g.x_size, g.w_size, g.y_size, g.stride, g.dilation, g.pad_lo, strict=True)]
    return [(a, b, c) for a, b, c in product(*per_axis)]


def whole(size: Triple) -> Axes:
    """Return the lattice that reads every sample once."""
    a, b, c = (Axis(0, 1, n, 1, (0,), (0,)) for n in size)
    return a, b, c


def merged(g: ConvGeometry) -> ConvGeometry:
    """Return the same problem with trailing axes run together wherever a window is one tap that moves along with its output.

    A 1x1 convolution becomes one long row: a product of matrices, without a case of its own.
    """
    x, w, y, stride, dilation, pad = (list(t) for t in (g.x_size, g.w_size, g.y_size, g.stride, g.dilation, g.pad_lo))

    def plain(axis: int) -> bool:
        return w[axis] == 1 and stride[axis] == 1 and pad[axis] == 0 and x[axis] == y[axis]

    for _ in range(2):
        if plain(1) and plain(2):
            x, y = [1, x[0], x[1] * x[2]], [1, y[0], y[1] * y[2]]
            w, stride, dilation, pad = [1, w[0], 1], [1, stride[0], 1], [1, dilation[0], 1], [0, pad[0], 0]
    sizes = {"x_size": x, "w_size": w, "y_size": y, "stride": stride, "dilation": dilation, "pad_lo": pad}
    return g._replace(**{name: tuple(size) for name, size in sizes.items()})  # type: ignore[arg-type]


def _phases(x: int, k: int, y: int, stride: int, dilation: int, pad_lo: int) -> list[Axis]:
    phases = []
    for r in range(min(stride, x + pad_lo)):
        j0 = max(0, -((r - pad_lo) // stride))  # first j with stride * j + r - pad_lo >= 0
        count = (x - 1 - (r - pad_lo)) // stride - j0 + 1
        if count > 0:
            taps = tuple(t for t in range(k) if (dilation * t - r) % stride == 0)
            starts = tuple(j0 - (dilation * t - r) // stride for t in taps)
            phases.append(Axis(stride * j0 + r - pad_lo, stride, count, 1, taps, starts))
    return phases
