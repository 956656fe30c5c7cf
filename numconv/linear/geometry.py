"""Shapes of a linear map: the only file that refuses one."""

from __future__ import annotations

Shape = tuple[int, ...]


def check(x_shape: Shape, w_shape: Shape, b_shape: Shape | None) -> None:
    """Refuse shapes that are not x (..., in), w (out, in) and b (out,)."""
    if len(w_shape) != 2:
        raise ValueError(f"w has shape {w_shape}; needed 2 axes: (out, in)")
    if not x_shape or x_shape[-1] != w_shape[1]:
        raise ValueError(f"x has shape {x_shape}; with w {w_shape}, needed a last axis of {w_shape[1]}")
    if b_shape is not None and b_shape != w_shape[:1]:
        raise ValueError(f"b has shape {b_shape}; needed {w_shape[:1]}, one number per row of w")
