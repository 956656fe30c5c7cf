"""Gradients of numconv's functions in terms of numconv's functions, so that they can be differentiated in their turn.

A rule takes `ops`, which finds differentiable functions by name, the cotangent `v` of the value, and the arguments by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..conv.second import spatial_size
from ._maps import ADJOINT, INPUT, TANGENT, stem_of

Rule = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class Rules:
    """The rule of each array argument; None where a gradient is known to be zero.

    Where a pullback would keep nothing worth keeping, rules stand `alone`; else they are for gradients of gradients.
    """

    gradients: dict[str, Rule | None]
    alone: bool


def rules(name: str) -> Rules | None:
    """Return the rules of a function, or None if it is differentiable only once."""
    if (stem := stem_of(name)) != name:
        return Rules({"v": _back(name, stem), INPUT[stem]: None}, alone=True)
    if name in INPUT:
        return Rules({INPUT[name]: lambda ops, v, **a: ops(name + ADJOINT)(v, **a)}, alone=False)
    if name == "max_pool_with_indices":
        return Rules({"x": lambda ops, v, **a: ops("max_pool" + ADJOINT)(v, **a)}, alone=False)
    stem = re.sub("[123]d$", "", name)
    return Rules(_GRADIENTS[stem], alone=True) if stem in _GRADIENTS else None


def _back(name: str, stem: str) -> Rule:
    """Return the gradient of one map in v, which is the other."""
    other = stem + (TANGENT if name.endswith(ADJOINT) else ADJOINT)

    def gradient(ops: Any, u: Any, v: Any, **arguments: Any) -> Any:
        return ops(other)(u, **arguments)

    return gradient


def _shape(a: Any) -> tuple[int, ...]:
    return tuple(map(int, a.shape))


def _conv_x(ops: Any, v: Any, x: Any, w: Any, b: Any = None, **settings: Any) -> Any:
    return ops("conv_input_grad")(v, w, _shape(x), **settings)


def _conv_w(ops: Any, v: Any, x: Any, w: Any, b: Any = None, **settings: Any) -> Any:
    return ops("conv_weight_grad")(x, v, _shape(w), **settings)


def _conv_b(ops: Any, v: Any, x: Any, w: Any, b: Any, layout: str = "channels_first", **_: Any) -> Any:
    channel = v.ndim - 1 if layout == "channels_last" else v.ndim - (w.ndim - 1)
    return v.sum(tuple(axis for axis in range(v.ndim) if axis != channel))


def _conv_transpose_x(
    ops: Any, v: Any, x: Any, w: Any, b: Any = None, output_padding: Any = 0, output_size: Any = None, **settings: Any
) -> Any:
    return ops("conv_transpose_input_grad")(v, w, _shape(x), **settings)


def _conv_transpose_w(
    ops: Any, v: Any, x: Any, w: Any, b: Any = None, output_padding: Any = 0, output_size: Any = None, **settings: Any
) -> Any:
    return ops("conv_transpose_weight_grad")(x, v, _shape(w), **settings)


def _input_grad_dy(ops: Any, v: Any, dy: Any, w: Any, x_shape: Any, **settings: Any) -> Any:
    return ops("conv")(v, w, **settings)


def _input_grad_w(ops: Any, v: Any, dy: Any, w: Any, x_shape: Any, **settings: Any) -> Any:
    return ops("conv_weight_grad")(v, dy, _shape(w), **settings)


def _weight_grad_x(ops: Any, v: Any, x: Any, dy: Any, w_shape: Any, **settings: Any) -> Any:
    return ops("conv_input_grad")(dy, v, _shape(x), **settings)


def _weight_grad_dy(ops: Any, v: Any, x: Any, dy: Any, w_shape: Any, **settings: Any) -> Any:
    return ops("conv")(x, v, **settings)


def _transpose_input_grad_dy(ops: Any, v: Any, dy: Any, w: Any, x_shape: Any, **settings: Any) -> Any:
    return ops("conv_transpose")(v, w, output_size=spatial_size(dy, w.ndim, **settings), **settings)


def _transpose_input_grad_w(ops: Any, v: Any, dy: Any, w: Any, x_shape: Any, **settings: Any) -> Any:
    return ops("conv_transpose_weight_grad")(v, dy, _shape(w), **settings)


def _transpose_weight_grad_x(ops: Any, v: Any, x: Any, dy: Any, w_shape: Any, **settings: Any) -> Any:
    return ops("conv_transpose_input_grad")(dy, v, _shape(x), **settings)


def _transpose_weight_grad_dy(ops: Any, v: Any, x: Any, dy: Any, w_shape: Any, **settings: Any) -> Any:
    return ops("conv_transpose")(x, v, output_size=spatial_size(dy, len(w_shape), **settings), **settings)


def _linear_x(ops: Any, v: Any, x: Any, w: Any, b: Any = None) -> Any:
    return ops("linear")(v, w.T)


def _linear_w(ops: Any, v: Any, x: Any, w: Any, b: Any = None) -> Any:
    return ops("linear")(v.reshape(-1, w.shape[0]).T, x.reshape(-1, w.shape[1]).T)


def _linear_b(ops: Any, v: Any, x: Any, w: Any, b: Any) -> Any:
    return v.reshape(-1, w.shape[0]).sum(0)


_GRADIENTS: dict[str, dict[str, Rule | None]] = {
    "conv": {"x": _conv_x, "w": _conv_w, "b": _conv_b},
    "conv_input_grad": {"dy": _input_grad_dy, "w": _input_grad_w},
    "conv_weight_grad": {"x": _weight_grad_x, "dy": _weight_grad_dy},
    "conv_transpose": {"x": _conv_transpose_x, "w": _conv_transpose_w, "b": _conv_b},
    "conv_transpose_input_grad": {"dy": _transpose_input_grad_dy, "w": _transpose_input_grad_w},
    "conv_transpose_weight_grad": {"x": _transpose_weight_grad_x, "dy": _transpose_weight_grad_dy},
    "linear": {"x": _linear_x, "w": _linear_w, "b": _linear_b},
}
