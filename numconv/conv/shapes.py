"""Shapes of outputs, known without computing them."""

from __future__ import annotations

from .._window import Ints, Padding, frozen
from . import geometry
from .batches import with_batch


def conv_output_shape(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
) -> tuple[int, ...]:
    """Return the shape of `conv(x, w)` without computing it.

    Examples
    --------
    >>> from numconv import conv_output_shape
    >>> conv_output_shape((8, 3, 32, 32), (16, 3, 3, 3), stride=2, padding="same")
    (8, 16, 16, 16)
    """
    shape, batched = with_batch(tuple(x_shape), len(w_shape))
    y_shape = geometry.conv(shape, tuple(w_shape), frozen(stride), frozen(padding), frozen(dilation), groups).y_shape
    return y_shape if batched else y_shape[1:]


def conv_transpose_output_shape(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    output_padding: Ints = 0,
    output_size: Ints | None = None,
    dilation: Ints = 1,
    groups: int = 1,
) -> tuple[int, ...]:
    """Return the shape of `conv_transpose(x, w)` without computing it.

    Examples
    --------
    >>> from numconv import conv_transpose_output_shape
    >>> conv_transpose_output_shape((8, 64, 7, 7), (64, 32, 4, 4), stride=2, padding=1)
    (8, 32, 14, 14)
    """
    shape, batched = with_batch(tuple(x_shape), len(w_shape))
    g = geometry.conv_transpose(
        shape,
        tuple(w_shape),
        frozen(stride),
        frozen(padding),
        frozen(output_padding),
        frozen(output_size),
        frozen(dilation),
        groups,
    )
    return g.x_shape if batched else g.x_shape[1:]
