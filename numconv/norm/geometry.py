"""Shapes of normalisation: the only file that computes one, or refuses one.

Everything is seen with four axes, (rows, groups, parts, size). Statistics belong to sets of numbers: all with one row and group,
or, over a batch, all with one group. Scale and shift belong to channels, (groups, parts).
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

Shape = tuple[int, ...]


class NormGeometry(NamedTuple):
    """The integers of a normalisation.

    `axes` are those of `view` that a set runs over: (2, 3), or (0, 3) over a batch, where there is one part.
    """

    x_shape: Shape
    view: tuple[int, int, int, int]
    axes: tuple[int, int]
    channels: Shape

    @property
    def over_batch(self) -> bool:
        """Whether sets run over the first axis."""
        return 0 in self.axes

    @property
    def sets(self) -> int:
        """Number of sets."""
        return self.view[1] if self.over_batch else self.view[0] * self.view[1]

    @property
    def set_size(self) -> int:
        """Numbers in a set."""
        return prod(self.view[axis] for axis in self.axes)


@lru_cache(1024)
def batch(x_shape: Shape) -> NormGeometry:
    """Return the geometry whose sets are channels, over the batch and all positions."""
    n, c, s = _channelled(x_shape, 2)
    return NormGeometry(x_shape, (n, c, 1, s), (0, 3), (c,))


@lru_cache(1024)
def instance(x_shape: Shape) -> NormGeometry:
    """Return the geometry whose sets are the channels of each sample, over its positions."""
    n, c, s = _channelled(x_shape, 3)
    return NormGeometry(x_shape, (n, c, 1, s), (2, 3), (c,))


@lru_cache(1024)
def group(x_shape: Shape, groups: int) -> NormGeometry:
    """Return the geometry whose sets are groups of neighbouring channels of each sample, over its positions."""
    n, c, s = _channelled(x_shape, 2)
    if groups < 1 or c % groups:
        raise ValueError(f"groups={groups}, but x has {c} channels (shape {x_shape}); needed a divisor of them, at least 1")
    return NormGeometry(x_shape, (n, groups, c // groups, s), (2, 3), (c,))


@lru_cache(1024)
def layer(x_shape: Shape, axes: int) -> NormGeometry:
    """Return the geometry whose sets are what lies along the last axes; each number of them is a channel."""
    if not 1 <= axes <= len(x_shape):
        raise ValueError(f"axes={axes}, but x has shape {x_shape}; needed how many trailing axes to normalise over, at least 1")
    lead, trailing = x_shape[: len(x_shape) - axes], x_shape[len(x_shape) - axes :]
    if 0 in trailing:
        raise ValueError(f"x has shape {x_shape}; needed at least one number along the last {axes} axes")
    return NormGeometry(x_shape, (prod(lead), 1, prod(trailing), 1), (2, 3), trailing)


def check_channels(g: NormGeometry, **shapes: Shape) -> None:
    """Refuse scale, shift, mean or var that are not one number per channel."""
    for name, shape in shapes.items():
        if shape != g.channels:
            raise ValueError(f"{name} has shape {shape}; with x {g.x_shape}, needed {g.channels}")


def check_count(g: NormGeometry) -> None:
    """Refuse to take statistics of nothing."""
    if g.set_size == 0:
        raise ValueError(f"x has shape {g.x_shape}; needed at least one sample to take mean and variance of")


def _channelled(x_shape: Shape, least: int) -> tuple[int, int, int]:
    if len(x_shape) < least:
        needed = "(batch, channels, *size)" + (" with at least one spatial axis" if least > 2 else "")
        raise ValueError(f"x has shape {x_shape}; needed {needed}")
    if 0 in x_shape[1:]:
        raise ValueError(f"x has shape {x_shape}; needed at least one channel, and one sample on every axis")
    return x_shape[0], x_shape[1], prod(x_shape[2:])
