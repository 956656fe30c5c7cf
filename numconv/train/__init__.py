"""Training: data, augmentation, models, loop, optimisers, evaluation, checkpoints, report."""

from .augment import Augmentation, augment, two_views
from .autoencoder import Autoencoder
from .batch import Batch, Model, place, take, to_host
from .checkpoint import load_checkpoint, load_params, save_checkpoint
from .classifier import Classifier
from .config import build, complete, dense_counterpart, training
from .contrastive import Contrastive
from .data import Dataset, batches
from .data import load as load_dataset
from .loop import Step, embed, fit, mean_terms, steps_per_epoch
from .optim import Optimizer, adam, adamw, clip_by_global_norm, global_norm, sgd
from .schedule import constant, cosine, step_decay, warmup_cosine
from .vae import VAE

__all__ = [
    "VAE",
    "Augmentation",
    "Autoencoder",
    "Batch",
    "Classifier",
    "Contrastive",
    "Dataset",
    "Model",
    "Optimizer",
    "Step",
    "adam",
    "adamw",
    "augment",
    "batches",
    "build",
    "clip_by_global_norm",
    "complete",
    "constant",
    "cosine",
    "dense_counterpart",
    "embed",
    "fit",
    "global_norm",
    "load_checkpoint",
    "load_dataset",
    "load_params",
    "mean_terms",
    "place",
    "save_checkpoint",
    "sgd",
    "step_decay",
    "steps_per_epoch",
    "take",
    "to_host",
    "training",
    "two_views",
    "warmup_cosine",
]
