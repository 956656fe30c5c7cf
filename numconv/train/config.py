"""What a run is, in plain values: checked, completed with defaults, and turned into a model and its training.

A config is a dict that JSON can hold. `build` is a pure function of it, so a run folder's config.json is enough to open
its model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite, prod
from typing import Any

import numpy as np

from .. import nn
from ..nn import Chain, count_parameters
from .augment import Augmentation
from .autoencoder import Autoencoder
from .batch import Model
from .classifier import Classifier
from .contrastive import Contrastive
from .loop import steps_per_epoch
from .networks import ACTIVATIONS, conv_decoder, conv_encoder, default_channels, dense_decoder, dense_encoder
from .optim import Optimizer, adamw
from .schedule import warmup_cosine
from .vae import VAE

Config = dict[str, Any]

_COMMON: Config = {
    "kind": None,
    "shape": None,
    "classes": None,
    "data": None,
    "latent": 32,
    "network": "conv",
    "channels": None,
    "activation": "silu",
    "epochs": 30,
    "batch_size": 64,
    "learning_rate": 4e-3,
    "weight_decay": 0.0,
    "warmup_steps": 0,
    "clip": None,
    "seed": 0,
}

# Mild crops and strong jitter. On Fashion-MNIST, where shape names the class and brightness does not, kNN accuracy after two
# epochs of 20000 images was 82.8 %, against 78.7 % with the views of Augmentation(), and 80.5 % for raw pixels.
_VIEWS: Config = {"scale": [0.85, 1.0], "aspect": [0.95, 1.05], "brightness": 0.6, "contrast": 0.6, "noise": 0.1}

_KINDS: dict[str, Config] = {
    "autoencoder": {},
    "vae": {
        "latent": 20,
        "beta": 1.0,
        "free_bits": 0.0,
        "beta_warmup": 0,
        "likelihood": "bernoulli",
        "sigma": 0.1,
    },
    "contrastive": {
        "latent": 64,
        "epochs": 10,
        "batch_size": 128,
        "learning_rate": 1e-3,
        "warmup_steps": 50,  # without, at a rate of 4e-3, the first steps undo what random convolutions already know: 78.8 %
        "temperature": 0.1,
        "positives": "crops",
        "projection": 64,
        "augmentation": _VIEWS,
    },
    "classifier": {"latent": 64},
}


def complete(config: Mapping[str, Any]) -> Config:
    """Return a config with all defaults of its kind filled in, after checking every value.

    Parameters
    ----------
    config : mapping
        `kind` (autoencoder, vae, contrastive, classifier), `shape` of one image, `classes` for a classifier, and any of what the
        result shows. A value of None stands for the default.

    Raises
    ------
    ValueError
        If a key is unknown for the kind, or a value is out of range.

    Examples
    --------
    >>> from numconv.train import complete
    >>> config = complete({"kind": "autoencoder", "shape": [1, 28, 28], "latent": 8})
    >>> config["latent"], config["channels"], config["batch_size"]
    (8, [16, 32], 64)
    """
    given = {key: value for key, value in config.items() if value is not None}
    kind = given.get("kind")
    if kind not in _KINDS:
        raise ValueError(f"kind={kind!r}; needed one of {', '.join(map(repr, _KINDS))}")
    defaults = {**_COMMON, **_KINDS[kind]}
    if unknown := sorted(given.keys() - defaults.keys()):
        raise ValueError(f"{kind} has no {', '.join(unknown)}; there are {', '.join(defaults)}")
    full = {**defaults, **given}
    _check_shape(full["shape"])
    full["shape"] = [int(n) for n in full["shape"]]
    if given.get("positives") == "labels" and "learning_rate" not in given:
        full["learning_rate"] = 4e-3  # labels guide better than crops: 87.2 % after four epochs of Fashion-MNIST, 85.6 % at 1e-3
    if kind in ("autoencoder", "vae") and "latent" not in given:
        full["latent"] = max(1, min(full["latent"], prod(full["shape"]) // 4))  # longer, and it is hardly a code
    if full["channels"] is None:
        full["channels"] = default_channels(tuple(full["shape"]))
    for key, check in _CHECKS.items():
        if key in full and (needed := check(full[key])):
            raise ValueError(f"{key}={full[key]!r}; needed {needed}")
    full["channels"] = [int(n) for n in full["channels"]]
    if kind == "classifier" and not (isinstance(full["classes"], int) and full["classes"] >= 2):
        raise ValueError(f"classes={full['classes']!r}; a classifier needs at least 2")
    if kind == "contrastive":
        fields = _augmentation(full["augmentation"])._asdict()
        full["augmentation"] = {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}
    return full


def build(config: Mapping[str, Any]) -> Model:
    """Build the model that a config describes: the same config gives the same model.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import nn, train
    >>> model = train.build({"kind": "vae", "shape": [1, 28, 28], "latent": 2})
    >>> params = model.init(np.random.default_rng(0), (1, 28, 28))
    >>> model.embed(params, np.zeros((5, 1, 28, 28), np.float32)).shape
    (5, 2)
    """
    c = complete(config)
    return _BUILDERS[c["kind"]](c)


def training(config: Mapping[str, Any], samples: int) -> dict[str, Any]:
    """Return the keyword arguments of `fit` that a config describes, for a training set of `samples` images.

    The rate climbs for `warmup_steps` steps, of short runs a fifth at most, and falls to 0 along half a cosine.
    """
    c = complete(config)
    return {
        "optimizer": _optimizer(c, samples),
        "epochs": c["epochs"],
        "batch_size": c["batch_size"],
        "seed": c["seed"],
        "clip": c["clip"],
    }


def dense_counterpart(config: Mapping[str, Any]) -> Config:
    """Return the config of a model with dense layers in place of convolutions, with the nearest number of parameters.

    Both have a code of the same length and the same training; what differs is whether weights are shared between places.
    """
    c = complete(config)
    shape = tuple(c["shape"])
    wanted = _size({**c, "network": "conv"}, shape)
    one, two = (_size({**c, "network": "dense", "channels": [hidden]}, shape) for hidden in (1, 2))
    hidden = max(1, round(1 + (wanted - one) / (two - one)))  # the number of parameters is linear in it
    return {**c, "network": "dense", "channels": [hidden]}


def _size(config: Config, shape: tuple[int, ...]) -> int:
    return count_parameters(build(config).init(np.random.default_rng(0), shape))


def _optimizer(c: Config, samples: int) -> Optimizer:
    if samples < c["batch_size"]:
        raise ValueError(f"batch_size={c['batch_size']}, but there are only {samples} samples; needed at least one full batch")
    steps = c["epochs"] * steps_per_epoch(samples, c["batch_size"])
    # One step more than there are: the last one still moves.
    rate = warmup_cosine(c["learning_rate"], steps + 1, warmup=min(c["warmup_steps"], steps // 5))
    return adamw(rate, decay=c["weight_decay"])


def _autoencoder(c: Config) -> Model:
    return Autoencoder(_encoder(c, c["latent"]), _decoder(c))


def _vae(c: Config) -> Model:
    return VAE(
        _encoder(c, 2 * c["latent"]), _decoder(c), c["beta"], c["free_bits"], c["beta_warmup"], c["likelihood"], c["sigma"]
    )


def _contrastive(c: Config) -> Model:
    hidden = ACTIVATIONS[c["activation"]]()
    head = Chain((hidden, nn.Linear(c["latent"]), hidden, nn.Linear(c["projection"], start="glorot")))
    return Contrastive(_encoder(c, c["latent"]), head, c["temperature"], c["positives"], _augmentation(c["augmentation"]))


def _classifier(c: Config) -> Model:
    hidden = ACTIVATIONS[c["activation"]]()
    return Classifier(_encoder(c, c["latent"]), Chain((hidden, nn.Linear(c["classes"], start="glorot"))))


_BUILDERS: dict[str, Callable[[Config], Model]] = {
    "autoencoder": _autoencoder,
    "vae": _vae,
    "contrastive": _contrastive,
    "classifier": _classifier,
}


def _encoder(c: Config, outputs: int) -> Chain:
    if c["network"] == "dense":
        return dense_encoder(outputs, c["channels"][0], c["activation"])
    return conv_encoder(tuple(c["shape"]), outputs, c["channels"], c["activation"])


def _decoder(c: Config) -> Chain:
    if c["network"] == "dense":
        return dense_decoder(tuple(c["shape"]), c["channels"][0], c["activation"])
    return conv_decoder(tuple(c["shape"]), c["channels"], c["activation"])


def _augmentation(fields: Mapping[str, Any]) -> Augmentation:
    if unknown := sorted(fields.keys() - set(Augmentation._fields)):
        raise ValueError(f"augmentation has no {', '.join(unknown)}; there are {', '.join(Augmentation._fields)}")
    # JSON has lists where the fields are pairs.
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return Augmentation(**values)


def _check_shape(shape: Any) -> None:
    ok = isinstance(shape, (list, tuple)) and 2 <= len(shape) <= 4 and all(_is_int(n) and n >= 1 for n in shape)
    if not ok:
        raise ValueError(f"shape={shape!r}; needed that of one image, (channels, *size), with one to three spatial axes")


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _whole(least: int) -> Callable[[Any], str]:
    return lambda value: "" if _is_int(value) and value >= least else f"a whole number of at least {least}"


def _number(least: float, *, above: bool = False) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        real = isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and isfinite(value)
        ok = real and (value > least if above else value >= least)
        return "" if ok else f"a number {'above' if above else 'of at least'} {least:g}"

    return check


def _one_of(*words: str) -> Callable[[Any], str]:
    return lambda value: "" if value in words else f"one of {', '.join(map(repr, words))}"


_CHECKS: dict[str, Callable[[Any], str]] = {
    "latent": _whole(1),
    "epochs": _whole(1),
    "batch_size": _whole(1),
    "seed": _whole(0),
    "warmup_steps": _whole(0),
    "beta_warmup": _whole(0),
    "projection": _whole(1),
    "network": _one_of("conv", "dense"),
    "activation": _one_of(*ACTIVATIONS),
    "likelihood": _one_of("bernoulli", "gaussian"),
    "positives": _one_of("crops", "labels"),
    "learning_rate": _number(0, above=True),
    "weight_decay": _number(0),
    "beta": _number(0),
    "free_bits": _number(0),
    "sigma": _number(0, above=True),
    "temperature": _number(0, above=True),
    "clip": lambda value: "" if value is None else _number(0, above=True)(value),
    "channels": lambda value: "" if value and all(_is_int(n) and n >= 1 for n in value) else "whole numbers of at least 1",
}
