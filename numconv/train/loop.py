"""The training loop: a generator of steps. It draws nothing, prints nothing and saves nothing; the caller does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

import numpy as np

from .. import _array
from .._array import Array
from .._memory import Pool
from .._tree import Tree, named_leaves
from .batch import Batch, Model, on_device_of, take
from .data import batches
from .optim import Optimizer, clip_by_global_norm, global_norm
from .terms import Terms, settle, watched

UNREAD = 256  # steps on a GPU after which their terms are read at the latest, and looked at


class Step(NamedTuple):
    """The state of a run after one update of the parameters. Nothing in it is overwritten by later steps.

    Attributes
    ----------
    number : int
        Updates done so far: 1 after the first.
    epoch : int
        Passes over the data that were complete before this step, so 0 throughout the first.
    terms : mapping of str to float
        The loss, the model's other terms, and the norm of the gradients before clipping. On a GPU they are read, which waits for
        it, at the first look, and by `fit` at the end of an epoch.
    params, state : tree
        Parameters and the optimiser's state.
    ends_epoch : bool
        Whether this was the last step of its epoch.
    """

    number: int
    epoch: int
    terms: Mapping[str, float]
    params: Tree
    state: Tree
    ends_epoch: bool = False


def fit(
    model: Model,
    params: Tree,
    x: Array,
    y: Array | None = None,
    *,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int,
    seed: int = 0,
    clip: float | None = None,
    start: Step | None = None,
) -> Iterator[Step]:
    """Train a model: yield a `Step` after every update, from the first to the last.

    Each epoch visits the samples in a new order, in batches of one size; samples that do not fill a batch wait for another epoch.
    Order, noise and crops are functions of (seed, epoch, sample): the same arguments give the same bytes, and a run that goes on
    from any of its steps ends as if it had never stopped.

    Parameters
    ----------
    model : Model
        What to train.
    params : tree of arrays
        Where to begin, as made by `model.init`; in the library and on the device of x.
    x : array, shape (n, channels, *size)
        Training images.
    y : array of int, shape (n,), optional
        Labels, for models that want them.
    optimizer : Optimizer
        Such as `adam(1e-3)`.
    epochs : int
        Passes over the data, those before `start` included.
    batch_size : int
        Samples per step.
    seed : int, default 0
        Selects the order of samples and all noise.
    clip : float, optional
        Largest norm of the gradients, all parameters together; larger ones are shrunk to it.
    start : Step, optional
        Go on after this step, with its parameters and state in place of `params`.

    Raises
    ------
    ValueError
        If there are fewer samples than a batch takes, or a number is out of range.
    FloatingPointError
        During the iteration, if a term of the loss or a gradient is not finite: it names the step, the epoch and the term. On a
        GPU up to 256 steps later, at the end of the epoch at the latest: steps there are not waited for.

    Examples
    --------
    >>> import numpy as np
    >>> from numconv import nn, train
    >>> x = np.random.default_rng(0).random((64, 1, 8, 8), dtype=np.float32)
    >>> model = train.build({"kind": "autoencoder", "shape": (1, 8, 8), "latent": 4})
    >>> params = model.init(np.random.default_rng(0), (1, 8, 8))
    >>> for step in train.fit(model, params, x, optimizer=train.adam(1e-3), epochs=2, batch_size=16):
    ...     pass
    >>> step.number, step.epoch, sorted(step.terms)
    (8, 1, ['gradient_norm', 'loss', 'mse'])
    """
    _array.namespace(x=x, y=y)
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name}={value}; needed at least 1")
    if x.shape[0] < batch_size:
        raise ValueError(f"batch_size={batch_size}, but there are only {x.shape[0]} samples; needed at least one full batch")
    if y is not None and tuple(y.shape) != (x.shape[0],):
        raise ValueError(f"y has shape {tuple(y.shape)}; needed ({x.shape[0]},), one label per sample of x")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip={clip}; needed above 0")
    begin = start or Step(0, 0, {}, params, optimizer.init(params))
    return _steps(model, begin, x, y, optimizer, epochs, batch_size, seed, clip)


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Return how many full batches there are: the steps that `fit` takes per epoch."""
    return samples // batch_size


def mean_terms(
    model: Model, params: Tree, x: Array, y: Array | None = None, *, batch_size: int = 256, seed: int = 0
) -> dict[str, float]:
    """Return the loss and its terms over a whole data set, averaged over samples: for test data. Nothing is trained.

    Noise is drawn as in epoch 0 of `seed`.
    """
    count = x.shape[0]
    totals: dict[str, float] = {}
    for begin in range(0, count, batch_size):
        index = np.arange(begin, min(begin + batch_size, count))
        loss, terms, _ = model.loss(params, take(x, y, index, epoch=0, seed=seed))
        for name, value in watched({"loss": loss, **terms}).items():
            totals[name] = totals.get(name, 0.0) + value * len(index) / count
    return totals


def embed(model: Model, params: Tree, x: Array, *, batch_size: int = 256) -> Array:
    """Return `model.embed` of a whole data set, computed in batches to bound memory."""
    xp = _array.namespace(x=x)
    parts = [model.embed(params, x[i : i + batch_size, ...]) for i in range(0, x.shape[0], batch_size)]
    return xp.concat(parts, axis=0)


def _steps(
    model: Model,
    step: Step,
    x: Array,
    y: Array | None,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int,
    seed: int,
    clip: float | None,
) -> Iterator[Step]:
    per_epoch, pool = steps_per_epoch(x.shape[0], batch_size), Pool()
    pending: list[tuple[int, int, Mapping[str, float]]] = []
    for epoch in range(step.number // per_epoch, epochs):
        done = step.number % per_epoch
        order = list(batches(x.shape[0], batch_size, seed=seed, epoch=epoch, drop_last=True))
        where = on_device_of(np.stack(order), x)  # in one transfer
        for i, index in islice(enumerate(order), done, None):
            batch = take(x, y, index, epoch=epoch, seed=seed, where=where[i, :])
            # Numbers that are not finite are refused by name, not warned of.
            with pool, np.errstate(over="ignore", invalid="ignore"):
                step = _advanced(model, step, batch, optimizer, clip, per_epoch)
            if isinstance(step.terms, Terms):
                pending.append((step.number, step.epoch, step.terms))
                if step.ends_epoch or len(pending) == UNREAD:
                    settle(pending)
                    pending.clear()
            yield step


def _advanced(model: Model, step: Step, batch: Batch, optimizer: Optimizer, clip: float | None, per_epoch: int) -> Step:
    loss, terms, pullback = model.loss(step.params, batch)
    grads = pullback()
    if clip is None:
        norm = global_norm(grads)
    else:
        grads, norm = clip_by_global_norm(grads, clip)
    fetched = watched({"loss": loss, **terms, "gradient_norm": norm})
    if not isinstance(fetched, Terms) and not all(map(math.isfinite, fetched.values())):
        raise FloatingPointError(_diagnosis(step, batch, fetched, model))
    params, state = optimizer.update(grads, step.state, step.params, step.number)
    number = step.number + 1
    return Step(number, batch.epoch, fetched, params, state, ends_epoch=number % per_epoch == 0)


def _diagnosis(step: Step, batch: Batch, terms: Mapping[str, float], model: Model) -> str:
    """Say which number is not finite, and where it first was not: in the samples, the parameters or the gradients."""
    name = next(n for n, value in terms.items() if not math.isfinite(value))
    text = f"step {step.number + 1} (epoch {batch.epoch}): {name} is {terms[name]}"
    if not _finite(batch.x):
        return f"{text}; the batch's images hold numbers that are not finite"
    for leaf, a in named_leaves(step.params):
        if not _finite(a):
            return f"{text}; the parameter {leaf} holds numbers that are not finite"
    if name != "gradient_norm":
        return f"{text}; images and parameters are finite: a smaller learning rate or clipping may help"
    grads = model.loss(step.params, batch)[2]()
    bad = [leaf for leaf, a in named_leaves(grads) if not _finite(a)]
    where = f"the gradient of {bad[0]} is not finite" if bad else "the squares of the gradients overflow"
    return f"{text}; {where}: a smaller learning rate or clipping may help"


def _finite(a: Array) -> bool:
    xp = _array.namespace(a=a)
    return bool(xp.all(xp.isfinite(a)))
