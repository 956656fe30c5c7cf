"""What a convolution would do: method, tile, memory and expected error of each of its contractions, from shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import array_api_compat

from .. import _array
from .._array import Array
from .._window import frozen
from . import geometry
from .batches import check_bias, with_batch
from .contractions import Step, drawer
from .geometry import ConvGeometry


class Explanation(NamedTuple):
    """What `explain` returns: a `Step` for the output and for each gradient. Printed, it is a table."""

    forward: Step
    input_grad: Step
    weight_grad: Step

    def __str__(self) -> str:
        """One line per contraction."""
        lines = [f"{'':12s} {'method':9s} {'tile':22s} {'workspace':>11s} {'rms error':>10s}"]
        for name, s in zip(("forward", "input grad", "weight grad"), self, strict=True):
            error = "-" if s.error is None else f"{s.error:.1e}"
            lines.append(f"{name:12s} {s.method:9s} {s.tile:22s} {s.workspace / 1024:8.0f} KiB {error:>10s}")
        return "\n".join(lines)


def explain(f: Callable[..., Any], x: Array, w: Array, b: Array | None = None, **settings: Any) -> Explanation:
    """Say how a convolution and its gradients would be computed, without computing them.

    Parameters
    ----------
    f : function
        `conv`, `conv_transpose`, or one of their neighbours of fixed rank or with `_vjp`.
    x, w, b : array
        Its arguments; only their shapes, dtype and library matter.
    **settings
        Its settings, `method` and `precision` included.

    Returns
    -------
    Explanation
        With fields `forward`, `input_grad` and `weight_grad`. Each has `method` ("direct", "winograd" or "fft", or the name of
        the drawer where there is no choice), `tile` (the shape of the innermost loop), `workspace` (bytes of memory beside
        arguments and result, on the present number of threads) and `error` (the expected root mean square of the rounding error,
        relative to that of the result, for independent numbers; None where nothing is known).

    Raises
    ------
    TypeError
        If `f` is no convolution.
    ValueError
        As `f` would.

    Notes
    -----
    The choice is a pure function of shapes, settings and dtype, but for one thing: a transform is not used for arrays that hold a
    NaN or infinity, unless `method="fft"` asks for it.

    Examples
    --------
    >>> import numpy as np
    >>> import numconv
    >>> x, w = np.ones((1, 1, 1024, 1024), np.float32), np.ones((1, 1, 5, 5), np.float32)
    >>> numconv.explain(numconv.conv2d, x, w, padding="same").forward.method
    'direct'
    """
    full = getattr(f, "__name__", "").removesuffix("_vjp")
    name, rank = (full[:-2], full[-2]) if full.endswith(("1d", "2d", "3d")) else (full, "")
    if name not in ("conv", "conv_transpose") or not getattr(f, "__module__", "").startswith(__package__ or ""):
        raise TypeError(f"f must be numconv.conv, numconv.conv_transpose or one of their neighbours, got {f!r}")
    how = {key: settings.pop(key) for key in ("method", "precision") if key in settings}
    xp, x, w, b = _array.numbers(x=x, w=w, b=b)
    if rank and w.ndim != int(rank) + 2:
        raise ValueError(f"{full}: w has shape {tuple(w.shape)}; needed {int(rank) + 2} axes")
    shape, _ = with_batch(tuple(x.shape), w.ndim)
    arguments = {"stride": 1, "padding": "valid", "dilation": 1, "groups": 1, **settings}
    g = (
        _conv_geometry(shape, tuple(w.shape), arguments)
        if name == "conv"
        else _transpose_geometry(shape, tuple(w.shape), arguments)
    )
    check_bias(b, g.groups * (g.c_out if name == "conv" else g.c_in))
    on = drawer(xp, x.dtype, **how)
    steps = [_step(on, contraction, g, x) for contraction in ("contract_y", "contract_x", "contract_w")]
    return Explanation(*(steps if name == "conv" else (steps[1], steps[0], steps[2])))


def _step(on: Any, contraction: str, g: ConvGeometry, x: Array) -> Step:
    """Ask the drawer; one that has no choice to make answers with its name."""
    if hasattr(on, "explain"):
        return on.explain(contraction, g, x.dtype)  # type: ignore[no-any-return]
    return Step(on.__name__.rpartition(".")[2], array_api_compat.array_namespace(x).__name__.rpartition(".")[2], 0, None)


def _conv_geometry(x_shape: tuple[int, ...], w_shape: tuple[int, ...], a: dict[str, Any]) -> ConvGeometry:
    return geometry.conv(x_shape, w_shape, *(frozen(a.pop(k)) for k in ("stride", "padding", "dilation", "groups")), **a)


def _transpose_geometry(x_shape: tuple[int, ...], w_shape: tuple[int, ...], a: dict[str, Any]) -> ConvGeometry:
    a = {"output_padding": 0, "output_size": None, **a}
    names = ("stride", "padding", "output_padding", "output_size", "dilation", "groups")
    return geometry.conv_transpose(x_shape, w_shape, *(frozen(a.pop(k)) for k in names), **a)
