"""What a convolution would do: method, tile, memory and expected error of each of its contractions, from shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import array_api_compat

from .. import _array
from .._array import Array
from .._window import frozen
from . import geometry
from .batches import Settings, check_bias, form_of
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
        With fields `forward`, `input_grad` and `weight_grad`. Each has `method` ("direct", "winograd" or "fft"; on a GPU the
        name of a method of docs/cuda.md; the name of the drawer where there is no choice), `tile` (the shape of the innermost
        loop, or of what a block of a GPU makes), `workspace` (bytes of memory beside
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
    xp, x, w, b = _array.numbers(x=x, w=w, b=b)
    if rank and w.ndim != int(rank) + 2:
        raise ValueError(f"{full}: w has shape {tuple(w.shape)}; needed {int(rank) + 2} axes")
    sizes = [settings.pop(key, default) for key, default in (("output_padding", 0), ("output_size", None))] * (name != "conv")
    s = Settings(**settings)
    shape = form_of(x.ndim, w.ndim, s.layout).inward_shape(tuple(x.shape))
    g = (geometry.conv if name == "conv" else geometry.conv_transpose)(
        shape, tuple(w.shape), frozen(s.stride), frozen(s.padding), *map(frozen, sizes), frozen(s.dilation), s.groups
    )
    check_bias(b, g.groups * (g.c_out if name == "conv" else g.c_in))
    on = drawer(xp, x, s.method, s.precision, s.padding_mode, g.rank)
    steps = [_step(on, contraction, g, x) for contraction in ("contract_y", "contract_x", "contract_w")]
    return Explanation(*(steps if name == "conv" else (steps[1], steps[0], steps[2])))


def _step(on: Any, contraction: str, g: ConvGeometry, x: Array) -> Step:
    """Ask the drawer; one that has no choice to make answers with its name."""
    if hasattr(on, "explain"):
        return on.explain(contraction, g, x.dtype)  # type: ignore[no-any-return]
    return Step(
        getattr(on, "__name__", type(on).__name__).rpartition(".")[2],
        array_api_compat.array_namespace(x).__name__.rpartition(".")[2],
        0,
        None,
    )
