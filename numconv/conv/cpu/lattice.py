"""Where the samples under a window lie: per axis one lattice with its output phases, after which strides are gone.

Convolution reads its input at stride * p + dilation * k - pad_lo. Outputs `step * t + f` of one phase f sum samples
`start + src_step * t` over their taps:

    contract_y  one phase          y p = t                      x q = stride * t + (dilation * k - pad_lo)
    contract_x  `stride` phases    x q = q0 + stride * t + f    y p = t + (q0 + f + pad_lo - dilation * k) / stride, if whole

and any axis can be split into more phases, where they fill the rows of a tile. Samples are copied into a strip of memory where
those of one residue modulo `src_step` lie side by side. There every tap is an offset, and neighbouring t read neighbours.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from ..geometry import ConvGeometry, Triple

Place = tuple[int, int]  # part of the strip, and offset in it


class Phase(NamedTuple):
    """One output phase of an axis: output t sums `taps`, which read samples `starts[.] + src_step * t`."""

    taps: tuple[int, ...]
    starts: tuple[int, ...]


class Axis(NamedTuple):
    """One axis: outputs are `dst_start + dst_step * t + f` for t < outputs and each phase f, those inside the destination."""

    dst_start: int
    dst_step: int
    outputs: int
    src_step: int
    phases: tuple[Phase, ...]  # neighbours; as many as `dst_step`, unless the axis is cut

    @property
    def starts(self) -> tuple[int, ...]:
        """Samples that output t = 0 of any phase reads."""
        return tuple(sorted({s for phase in self.phases for s in phase.starts}))

    @property
    def first(self) -> int:
        """First source sample of the strip, for t = 0."""
        return min(self.starts, default=0)

    @property
    def residues(self) -> tuple[int, ...]:
        """Residues modulo `src_step` that any tap reads: each has its own part of the strip."""
        first = self.first
        return tuple(sorted({(s - first) % self.src_step for s in self.starts}))

    @property
    def places(self) -> tuple[tuple[Place, ...], ...]:
        """Part of the strip and offset in it of each tap of each phase."""
        first, part = self.first, {residue: i for i, residue in enumerate(self.residues)}
        return tuple(
            tuple((part[(s - first) % self.src_step], (s - first) // self.src_step) for s in phase.starts)
            for phase in self.phases
        )

    @property
    def reach(self) -> int:
        """Samples of a part of the strip beyond the first that one output reads."""
        return (max(self.starts, default=0) - self.first) // self.src_step

    def split(self, parts: int) -> Axis:
        """Return the same axis with `parts` times as many phases: neighbouring t become phases of their own."""
        phases = tuple(
            Phase(phase.taps, tuple(s + self.src_step * u for s in phase.starts)) for u in range(parts) for phase in self.phases
        )
        return Axis(self.dst_start, self.dst_step * parts, -(-self.outputs // parts), self.src_step * parts, phases)

    def cut(self, most: int) -> list[Axis]:
        """Return axes of at most so many phases each that make this one."""
        starts = range(0, len(self.phases), most)
        return [self._replace(dst_start=self.dst_start + f, phases=self.phases[f : f + most]) for f in starts]


Axes = tuple[Axis, Axis, Axis]


def axes_y(g: ConvGeometry) -> Axes:
    """Return the lattice of contract_y, and of x in contract_w."""
    a, b, c = (
        Axis(0, 1, o, s, (Phase(tuple(range(k)), tuple(d * j - lo for j in range(k))),))
        for k, o, s, d, lo in zip(g.w_size, g.y_size, g.stride, g.dilation, g.pad_lo, strict=True)
    )
    return a, b, c


def axes_x(g: ConvGeometry, shared: bool = False) -> Axes:
    """Return the lattice of contract_x: a phase for every residue of the stride, so that no zero is multiplied.

    Outputs start at 0, or, for phases that share as many samples as they can, up to a stride before.
    """
    sizes = zip(g.x_size, g.w_size, g.stride, g.dilation, g.pad_lo, strict=True)
    a, b, c = (_adjoint(*s, shared) for s in sizes)
    return a, b, c


def whole(size: Triple) -> Axes:
    """Return the lattice that reads every sample once."""
    a, b, c = (Axis(0, 1, n, 1, (Phase((0,), (0,)),)) for n in size)
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


def joined(g: ConvGeometry) -> ConvGeometry:
    """Return the same problem with the taps of each channel as channels, where the only window is all of x.

    So every x is a sum of its own, as generators begin from maps of 1x1: a product of matrices once more.
    """
    if g.y_size != (1, 1, 1) or g.w_size != g.x_size or any(g.pad_lo) or g.dilation != (1, 1, 1):
        return g
    return g._replace(c_in=g.c_in * prod(g.w_size), x_size=(1, 1, 1), w_size=(1, 1, 1))


def _adjoint(x: int, k: int, stride: int, dilation: int, pad_lo: int, shared: bool) -> Axis:
    start = -(pad_lo % stride) if shared else 0
    taps: list[list[int]] = [[] for _ in range(stride)]
    for t in range(k):
        taps[(dilation * t - start - pad_lo) % stride].append(t)
    phases = [
        Phase(tuple(of_f), tuple((start + f + pad_lo - dilation * t) // stride for t in of_f)) for f, of_f in enumerate(taps)
    ]
    return Axis(start, stride, -(-(x - start) // stride), 1, tuple(phases))
