"""Losses, each beside its vector-Jacobian product: the door of the room.

Formulas are plain array API, on the caller's own device; on the CPU those of single places become fused kernels (`_pointwise`),
and cross entropy has its own. Half precision is computed in float32 and returned in half. Gradients are written by hand, and stay
finite wherever the value does.
"""

from .classification import bce_with_logits_loss, bce_with_logits_loss_vjp, cross_entropy_loss, cross_entropy_loss_vjp
from .contrastive import info_nce_loss, info_nce_loss_vjp, nt_xent_loss, nt_xent_loss_vjp, supcon_loss, supcon_loss_vjp
from .pairs import contrastive_loss, contrastive_loss_vjp, triplet_loss, triplet_loss_vjp
from .regression import huber_loss, huber_loss_vjp, l1_loss, l1_loss_vjp, mse_loss, mse_loss_vjp
from .variational import (
    gaussian_kl_loss,
    gaussian_kl_loss_vjp,
    gaussian_nll_loss,
    gaussian_nll_loss_vjp,
    reparameterize,
    reparameterize_vjp,
)

__all__ = [
    "bce_with_logits_loss",
    "bce_with_logits_loss_vjp",
    "contrastive_loss",
    "contrastive_loss_vjp",
    "cross_entropy_loss",
    "cross_entropy_loss_vjp",
    "gaussian_kl_loss",
    "gaussian_kl_loss_vjp",
    "gaussian_nll_loss",
    "gaussian_nll_loss_vjp",
    "huber_loss",
    "huber_loss_vjp",
    "info_nce_loss",
    "info_nce_loss_vjp",
    "l1_loss",
    "l1_loss_vjp",
    "mse_loss",
    "mse_loss_vjp",
    "nt_xent_loss",
    "nt_xent_loss_vjp",
    "reparameterize",
    "reparameterize_vjp",
    "supcon_loss",
    "supcon_loss_vjp",
    "triplet_loss",
    "triplet_loss_vjp",
]
