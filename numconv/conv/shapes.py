"""Shapes of outputs, known without computing them."""

from __future__ import annotations

from .._window import Ints, Padding, frozen
from . import geometry
from .batches import form_of


def conv_output_shape(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    *,
    stride: Ints = 1,
    padding: Padding = "valid",
    dilation: Ints = 1,
    groups: int = 1,
    layout: str = "channels_first",
) -> tuple[int, ...]:
    """Return the shape of `conv(x, w)` without computing it.

    Examples
    --------
    >>> from numconv import conv_output_shape
    >>> conv_output_shape((8, 3, 32, 32), (16, 3, 3, 3), stride=2, padding="same")
    (8, 16, 16, 16)
    """
    form = form_of(len(x_shape), len(w_shape), layout)
    shape = form.inward_shape(tuple(x_shape))
    y_shape = geometry.conv(shape, tuple(w_shape), frozen(stride), frozen(padding), frozen(dilation), groups).y_shape
    return form.outward_shape(y_shape)


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
    layout: str = "channels_first",
) -> tuple[int, ...]:
    """Return the shape of `conv_transpose(x, w)` without computing it.

    Examples
    --------
    >>> from numconv import conv_transpose_output_shape
    >>> conv_transpose_output_shape((8, 64, 7, 7), (64, 32, 4, 4), stride=2, padding=1)
    (8, 32, 14, 14)
    """
    form = form_of(len(x_shape), len(w_shape), layout)
    shape = form.inward_shape(tuple(x_shape))
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
    return form.outward_shape(g.x_shape)
