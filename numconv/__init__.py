"""Convolution, pooling, activations and losses, forward and backward, on the arrays you already hold.

Every function `f` has a neighbour `f_vjp` that returns `(value, pullback)`; `pullback(cotangent)` gives the gradients.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._running import precompile, threads
    from .activation import (
        elu,
        elu_vjp,
        gelu,
        gelu_vjp,
        leaky_relu,
        leaky_relu_vjp,
        log_softmax,
        log_softmax_vjp,
        relu,
        relu_vjp,
        sigmoid,
        sigmoid_vjp,
        silu,
        silu_vjp,
        softmax,
        softmax_vjp,
        softplus,
        softplus_vjp,
        tanh,
        tanh_vjp,
    )
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
    from .conv.cuda.tuning import autotune
    from .conv.explain import explain
    from .conv.gradients import (
        conv_bias_grad,
        conv_input_grad,
        conv_transpose_bias_grad,
        conv_transpose_input_grad,
        conv_transpose_weight_grad,
        conv_weight_grad,
    )
    from .conv.local import conv_local, conv_local_vjp
    from .conv.masked import conv_coverage, masked_conv, masked_conv_vjp
    from .conv.per_sample import (
        conv_per_sample_weight_grad,
        conv_per_sample_weight_grad_vjp,
        conv_transpose_per_sample_weight_grad,
        conv_transpose_per_sample_weight_grad_vjp,
    )
    from .conv.second import (
        conv_bias_grad_vjp,
        conv_input_grad_vjp,
        conv_transpose_bias_grad_vjp,
        conv_transpose_input_grad_vjp,
        conv_transpose_weight_grad_vjp,
        conv_weight_grad_vjp,
    )
    from .linear import linear, linear_vjp
    from .loss import (
        bce_with_logits_loss,
        bce_with_logits_loss_vjp,
        contrastive_loss,
        contrastive_loss_vjp,
        cross_entropy_loss,
        cross_entropy_loss_vjp,
        gaussian_kl_loss,
        gaussian_kl_loss_vjp,
        gaussian_nll_loss,
        gaussian_nll_loss_vjp,
        huber_loss,
        huber_loss_vjp,
        info_nce_loss,
        info_nce_loss_vjp,
        l1_loss,
        l1_loss_vjp,
        mse_loss,
        mse_loss_vjp,
        nt_xent_loss,
        nt_xent_loss_vjp,
        reparameterize,
        reparameterize_vjp,
        supcon_loss,
        supcon_loss_vjp,
        triplet_loss,
        triplet_loss_vjp,
    )
    from .norm import (
        batch_norm,
        batch_norm_statistics,
        batch_norm_vjp,
        group_norm,
        group_norm_vjp,
        instance_norm,
        instance_norm_vjp,
        layer_norm,
        layer_norm_vjp,
    )
    from .pad import pad, pad_vjp
    from .pool import (
        adaptive_avg_pool,
        adaptive_avg_pool_vjp,
        avg_pool,
        avg_pool_vjp,
        global_avg_pool,
        global_avg_pool_vjp,
        max_pool,
        max_pool_vjp,
        max_pool_with_indices,
        max_pool_with_indices_vjp,
        max_unpool,
        max_unpool_vjp,
        pool_output_shape,
    )
    from .resize import resize, resize_vjp
    from .unfold import fold, fold_vjp, unfold, unfold_vjp

__version__ = "0.1.0"

__all__ = [
    "adaptive_avg_pool",
    "adaptive_avg_pool_vjp",
    "autotune",
    "avg_pool",
    "avg_pool_vjp",
    "batch_norm",
    "batch_norm_statistics",
    "batch_norm_vjp",
    "bce_with_logits_loss",
    "bce_with_logits_loss_vjp",
    "contrastive_loss",
    "contrastive_loss_vjp",
    "conv",
    "conv1d",
    "conv1d_vjp",
    "conv2d",
    "conv2d_vjp",
    "conv3d",
    "conv3d_vjp",
    "conv_bias_grad",
    "conv_bias_grad_vjp",
    "conv_coverage",
    "conv_input_grad",
    "conv_input_grad_vjp",
    "conv_local",
    "conv_local_vjp",
    "conv_output_shape",
    "conv_per_sample_weight_grad",
    "conv_per_sample_weight_grad_vjp",
    "conv_transpose",
    "conv_transpose1d",
    "conv_transpose1d_vjp",
    "conv_transpose2d",
    "conv_transpose2d_vjp",
    "conv_transpose3d",
    "conv_transpose3d_vjp",
    "conv_transpose_bias_grad",
    "conv_transpose_bias_grad_vjp",
    "conv_transpose_input_grad",
    "conv_transpose_input_grad_vjp",
    "conv_transpose_output_shape",
    "conv_transpose_per_sample_weight_grad",
    "conv_transpose_per_sample_weight_grad_vjp",
    "conv_transpose_vjp",
    "conv_transpose_weight_grad",
    "conv_transpose_weight_grad_vjp",
    "conv_vjp",
    "conv_weight_grad",
    "conv_weight_grad_vjp",
    "cross_entropy_loss",
    "cross_entropy_loss_vjp",
    "elu",
    "elu_vjp",
    "explain",
    "fold",
    "fold_vjp",
    "gaussian_kl_loss",
    "gaussian_kl_loss_vjp",
    "gaussian_nll_loss",
    "gaussian_nll_loss_vjp",
    "gelu",
    "gelu_vjp",
    "global_avg_pool",
    "global_avg_pool_vjp",
    "group_norm",
    "group_norm_vjp",
    "huber_loss",
    "huber_loss_vjp",
    "info_nce_loss",
    "info_nce_loss_vjp",
    "instance_norm",
    "instance_norm_vjp",
    "l1_loss",
    "l1_loss_vjp",
    "layer_norm",
    "layer_norm_vjp",
    "leaky_relu",
    "leaky_relu_vjp",
    "linear",
    "linear_vjp",
    "log_softmax",
    "log_softmax_vjp",
    "masked_conv",
    "masked_conv_vjp",
    "max_pool",
    "max_pool_vjp",
    "max_pool_with_indices",
    "max_pool_with_indices_vjp",
    "max_unpool",
    "max_unpool_vjp",
    "mse_loss",
    "mse_loss_vjp",
    "nt_xent_loss",
    "nt_xent_loss_vjp",
    "pad",
    "pad_vjp",
    "pool_output_shape",
    "precompile",
    "relu",
    "relu_vjp",
    "reparameterize",
    "reparameterize_vjp",
    "resize",
    "resize_vjp",
    "sigmoid",
    "sigmoid_vjp",
    "silu",
    "silu_vjp",
    "softmax",
    "softmax_vjp",
    "softplus",
    "softplus_vjp",
    "supcon_loss",
    "supcon_loss_vjp",
    "tanh",
    "tanh_vjp",
    "threads",
    "triplet_loss",
    "triplet_loss_vjp",
    "unfold",
    "unfold_vjp",
]

# Rooms are imported at the first use of one of their names: `import numconv` takes 2 ms beside NumPy's own, not 60.
_NAMES = {
    "._running": "precompile threads",
    ".activation": (
        "elu elu_vjp gelu gelu_vjp leaky_relu leaky_relu_vjp log_softmax log_softmax_vjp relu relu_vjp sigmoid "
        "sigmoid_vjp silu silu_vjp softmax softmax_vjp softplus softplus_vjp tanh tanh_vjp"
    ),
    ".conv": (
        "conv conv1d conv1d_vjp conv2d conv2d_vjp conv3d conv3d_vjp conv_output_shape conv_transpose conv_transpose1d "
        "conv_transpose1d_vjp conv_transpose2d conv_transpose2d_vjp conv_transpose3d conv_transpose3d_vjp "
        "conv_transpose_output_shape conv_transpose_vjp conv_vjp"
    ),
    ".conv.cuda.tuning": "autotune",
    ".conv.explain": "explain",
    ".conv.masked": "conv_coverage masked_conv masked_conv_vjp",
    ".conv.gradients": (
        "conv_bias_grad conv_input_grad conv_transpose_bias_grad conv_transpose_input_grad conv_transpose_weight_grad "
        "conv_weight_grad"
    ),
    ".conv.per_sample": (
        "conv_per_sample_weight_grad conv_per_sample_weight_grad_vjp conv_transpose_per_sample_weight_grad "
        "conv_transpose_per_sample_weight_grad_vjp"
    ),
    ".conv.second": (
        "conv_bias_grad_vjp conv_input_grad_vjp conv_transpose_bias_grad_vjp conv_transpose_input_grad_vjp "
        "conv_transpose_weight_grad_vjp conv_weight_grad_vjp"
    ),
    ".conv.local": "conv_local conv_local_vjp",
    ".linear": "linear linear_vjp",
    ".loss": (
        "bce_with_logits_loss bce_with_logits_loss_vjp contrastive_loss contrastive_loss_vjp cross_entropy_loss "
        "cross_entropy_loss_vjp gaussian_kl_loss gaussian_kl_loss_vjp gaussian_nll_loss gaussian_nll_loss_vjp huber_loss "
        "huber_loss_vjp info_nce_loss info_nce_loss_vjp l1_loss l1_loss_vjp mse_loss mse_loss_vjp nt_xent_loss "
        "nt_xent_loss_vjp reparameterize reparameterize_vjp supcon_loss supcon_loss_vjp triplet_loss triplet_loss_vjp"
    ),
    ".norm": (
        "batch_norm batch_norm_statistics batch_norm_vjp group_norm group_norm_vjp instance_norm instance_norm_vjp "
        "layer_norm layer_norm_vjp"
    ),
    ".pad": "pad pad_vjp",
    ".pool": (
        "adaptive_avg_pool adaptive_avg_pool_vjp avg_pool avg_pool_vjp global_avg_pool global_avg_pool_vjp max_pool "
        "max_pool_vjp max_pool_with_indices max_pool_with_indices_vjp max_unpool max_unpool_vjp pool_output_shape"
    ),
    ".resize": "resize resize_vjp",
    ".unfold": "fold fold_vjp unfold unfold_vjp",
}
_ROOMS = {name: room for room, names in _NAMES.items() for name in names.split()}


_PACKAGES = ("interop", "nn", "signal", "train")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f".{name}", __name__)
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_ROOMS[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PACKAGES})


class _Package(ModuleType):
    """A package whose functions go before rooms of their name: importing numconv.conv leaves `numconv.conv` the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _ROOMS):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
