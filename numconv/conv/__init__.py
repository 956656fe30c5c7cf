"""Convolution and transposed convolution, each beside its vector-Jacobian product: the door of the room.

One trilinear form says it all, with q = stride*p + dilation*k - pad_lo:

    T(x, w, y) = sum over n,o,p,i,k of y[n,o,p] * w[o,i,k] * x[n,i,q]

Leave one argument open and there are exactly three contractions, closed under differentiation:

    contract_y(x, w)    convolution; the gradient of transposed convolution in its input
    contract_x(y, w)    transposed convolution; the gradient of convolution in its input
    contract_w(x, y)    the gradient of both in their weights
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from .forward import conv, conv_vjp
from .shapes import conv_output_shape, conv_transpose_output_shape
from .transpose import conv_transpose, conv_transpose_vjp

__all__ = ["conv", "conv_output_shape", "conv_transpose", "conv_transpose_output_shape", "conv_transpose_vjp", "conv_vjp"]

P = ParamSpec("P")
R = TypeVar("R")


def _of_rank(f: Callable[P, R], rank: int) -> Callable[P, R]:
    """Return `f` for `rank` spatial axes only: weights of another rank are refused by name."""
    name = f.__name__.removesuffix("_vjp") + f"{rank}d" + "_vjp" * f.__name__.endswith("_vjp")
    sizes = ("length", "height, width", "depth, height, width")[rank - 1]

    def ranked(*args: P.args, **kwargs: P.kwargs) -> R:
        w = args[1] if len(args) > 1 else kwargs.get("w")
        if getattr(w, "ndim", rank + 2) != rank + 2:
            raise ValueError(f"{name}: w has shape {tuple(w.shape)}; needed {rank + 2} axes: (channels, channels, {sizes})")  # type: ignore[attr-defined]
        return f(*args, **kwargs)

    ranked.__name__ = ranked.__qualname__ = name
    ranked.__module__ = f.__module__
    ranked.__wrapped__ = f  # type: ignore[attr-defined]  # inspect.signature follows it
    ranked.__annotations__ = f.__annotations__
    ranked.__doc__ = f"`{f.__name__}` over {rank} spatial {'axis' if rank == 1 else 'axes'} ({sizes}), with the same arguments."
    return ranked


conv1d, conv2d, conv3d = (_of_rank(conv, rank) for rank in (1, 2, 3))
conv1d_vjp, conv2d_vjp, conv3d_vjp = (_of_rank(conv_vjp, rank) for rank in (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = (_of_rank(conv_transpose, rank) for rank in (1, 2, 3))
conv_transpose1d_vjp, conv_transpose2d_vjp, conv_transpose3d_vjp = (_of_rank(conv_transpose_vjp, rank) for rank in (1, 2, 3))
