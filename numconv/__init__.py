"""Convolution, pooling, activations and losses, forward and backward, on the arrays you already hold.

Every function `f` has a neighbour `f_vjp` that returns `(value, pullback)`; `pullback(cotangent)` gives the gradients.
"""

from .conv import (
    conv,
    conv1d,
    conv1d_vjp,
    conv2d,
    conv2d_vjp,
    conv3d,
    conv3d_vjp,
    conv_output_shape,
    conv_transpose,
    conv_transpose1d,
    conv_transpose1d_vjp,
    conv_transpose2d,
    conv_transpose2d_vjp,
    conv_transpose3d,
    conv_transpose3d_vjp,
    conv_transpose_output_shape,
    conv_transpose_vjp,
    conv_vjp,
)
from .conv.gradients import (
    conv_bias_grad,
    conv_input_grad,
    conv_transpose_bias_grad,
    conv_transpose_input_grad,
    conv_transpose_weight_grad,
    conv_weight_grad,
)

__version__ = "0.1.0"

__all__ = [
    "conv",
    "conv1d",
    "conv1d_vjp",
    "conv2d",
    "conv2d_vjp",
    "conv3d",
    "conv3d_vjp",
    "conv_bias_grad",
    "conv_input_grad",
    "conv_output_shape",
    "conv_transpose",
    "conv_transpose1d",
    "conv_transpose1d_vjp",
    "conv_transpose2d",
    "conv_transpose2d_vjp",
    "conv_transpose3d",
    "conv_transpose3d_vjp",
    "conv_transpose_bias_grad",
    "conv_transpose_input_grad",
    "conv_transpose_output_shape",
    "conv_transpose_vjp",
    "conv_transpose_weight_grad",
    "conv_vjp",
    "conv_weight_grad",
]
