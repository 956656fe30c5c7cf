"""One training run from config to metrics: what `numconv train` does between reading its arguments and writing its report.

A session is a run folder with its model and data opened. Its steps go by through a generator, with a checkpoint at the end of
each epoch and one where it is stopped, from which it can go on bit for bit.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from .. import __version__
from .._array import Array
from .._tree import Tree
from ..nn import count_parameters
from .batch import Model, place
from .checkpoint import load_checkpoint, load_params, save_checkpoint
from .config import build, complete, dense_counterpart, training
from .data import NAMES, Dataset, load
from .loop import Step, fit, mean_terms, steps_per_epoch
from .measures import measure
from .run import Run

# Keys of config.json that say where the run's data and arrays are, beside those that describe its model.
_PLACE = ("source", "device", "numconv")

IMAGES_SEEN = 240_000  # what training on large data stops at, unless told otherwise: a few minutes on two cores


class Session(NamedTuple):
    """A run folder with all that it names: config, data on its device, model, fresh parameters."""

    run: Run
    config: dict[str, Any]
    data: Dataset
    x: Array
    y: Array | None
    model: Model
    params: Tree


def describe(kind: str, options: Mapping[str, Any], source: Mapping[str, Any], data: Dataset, device: str) -> dict[str, Any]:
    """Return the whole config of a new run, checked before anything is written.

    Parameters
    ----------
    kind : str
        autoencoder, vae, contrastive or classifier.
    options : mapping
        Settings of the model and its training; what is left out has its default.
    source : mapping
        `data`, `limit` and options of `data.load`, from which `read_data` reads the data again.
    data : Dataset
        The data, for the shape of its images and the number of its classes.
    device : str
        "cpu" or "cuda".
    """
    classes = None
    if kind == "classifier" or options.get("positives") == "labels":
        train_y, test_y = data.require_labels("a classifier" if kind == "classifier" else "--positives labels")
        classes = int(max(train_y.max(), test_y.max(initial=0))) + 1
    shape = [int(n) for n in data.train_x.shape[1:]]
    own = {"kind": kind, "shape": shape, "classes": classes if kind == "classifier" else None, "data": data.name}
    given = {"epochs": default_epochs(kind, len(data.train_x)), **options, **own}
    config = complete(given)
    if kind == "contrastive" and config["batch_size"] < 2:
        raise ValueError(
            f"batch_size={config['batch_size']}; contrastive learning compares images of a batch, and needs at least 2"
        )
    training(config, len(data.train_x))  # refuses a batch larger than the data
    return {**config, "source": dict(source), "device": device, "numconv": __version__}


def default_epochs(kind: str, samples: int) -> int:
    """Return how long to train if nobody says: the kind's own number of epochs, fewer for large data."""
    usual: int = complete({"kind": kind, "shape": [1, 1, 1], "classes": 2 if kind == "classifier" else None})["epochs"]
    return min(usual, max(2, round(IMAGES_SEEN / max(samples, 1))))


def read_data(source: Mapping[str, Any], seed: int, *, test_fraction: float = 0.2) -> Dataset:
    """Load the data a run names: by the same source and seed, the same images in the same order."""
    # JSON has lists where the options are pairs.
    options: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in source.items()}
    name, limit = options.pop("data"), options.pop("limit")
    data = load(name, seed=seed, test_fraction=test_fraction, **options)
    if limit is None:
        return data
    if limit < 1:
        raise ValueError(f"limit={limit}; needed at least 1 image")
    # Some data sets are sorted by class: every (n / limit)-th image, not the first ones.
    chosen = np.arange(min(limit, len(data.train_x))) * len(data.train_x) // min(limit, len(data.train_x))
    labels = None if data.train_y is None else data.train_y[chosen]
    return data._replace(train_x=data.train_x[chosen], train_y=labels)


def is_path(name: str) -> bool:
    """Say whether data comes from a file or folder of the user's, rather than by name."""
    return name not in NAMES


def model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a run's config that describes its model and training."""
    return {key: value for key, value in config.items() if key not in _PLACE}


def open_session(run: Run, config: Mapping[str, Any], data: Dataset) -> Session:
    """Build the model of a run and put its data and fresh parameters on the device."""
    model, shape = build(model_config(config)), tuple(config["shape"])
    if data.train_x.shape[1:] != shape:
        raise ValueError(f"the run was trained on images of shape {shape}, but {data.name} has {data.train_x.shape[1:]}")
    x = on_device(config["device"], data.train_x)
    y = None if data.train_y is None else on_device(config["device"], data.train_y)
    params = place(model.init(np.random.default_rng(config["seed"]), shape), x)
    return Session(run, dict(config), data, x, y, model, params)


def trained(run: Run, config: Mapping[str, Any]) -> tuple[Model, Tree]:
    """Open the model of a run with its trained parameters, as NumPy arrays."""
    model = build(model_config(config))
    return model, load_params(run.model, model.init(np.random.default_rng(config["seed"]), tuple(config["shape"])))


def on_device(device: str, a: np.ndarray[Any, Any]) -> Array:
    """Return a NumPy array on the device asked for.

    Raises
    ------
    RuntimeError
        If the device is "cuda" and there is no CuPy, or no GPU that it can use.
    """
    if device == "cpu":
        return a
    try:
        import cupy
    except ImportError:
        raise RuntimeError("--device cuda needs CuPy: pip install 'numconv[cuda13]' or 'numconv[cuda12]'") from None
    try:
        return cupy.asarray(a)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(f"--device cuda: CuPy finds no GPU that it can use ({error})") from None


def total_steps(session: Session) -> int:
    """Return how many steps the whole run takes."""
    epochs: int = session.config["epochs"]
    return epochs * steps_per_epoch(len(session.x), session.config["batch_size"])


def resume_from(session: Session) -> Step | None:
    """Read the last checkpoint of a run; None if it was stopped before the first."""
    if not session.run.model.is_file():
        return None
    state = training(model_config(session.config), len(session.x))["optimizer"].init(session.params)
    return load_checkpoint(session.run.model, session.params, state)


def steps(session: Session, start: Step | None, log: Log) -> Iterator[Step]:
    """Train, from the beginning or after `start`; log every step, and save the log with a checkpoint at the end of every epoch.

    When the caller or an interrupt ends it early, the last whole step is saved: the run can be resumed from there.
    """
    last = start
    try:
        for step in fit(
            session.model,
            session.params,
            session.x,
            session.y,
            start=start,
            **training(model_config(session.config), len(session.x)),
        ):
            last = step
            log.add(step)
            if step.ends_epoch:
                log.save(step)
            yield step
    finally:
        if last is not None and last is not start and not last.ends_epoch:
            log.save(last)


class Log:
    """The history of a run: means of the terms over each epoch, test loss, and what is needed to go on in mid-epoch."""

    def __init__(self, session: Session, start: Step | None) -> None:
        self.session = session
        past = session.run.metrics() if start is not None else {}
        # Numbers are written before weights: after a crash between the two, what lies beyond the weights is forgotten.
        reached = start.number if start is not None else 0
        self.history: list[dict[str, Any]] = [row for row in past.get("history", []) if row["step"] <= reached]
        begun = past.get("unfinished", {}) if past.get("unfinished_at") == reached else {}
        self.sums: dict[str, float] = begun
        self.count: int = past["unfinished_steps"] if begun else 0
        self.seconds: float = past.get("training_seconds", 0.0)
        self.timed_steps: int = past.get("timed_steps", 0)
        self.unread: list[Mapping[str, float]] = []
        self.mark: float | None = None  # the first step of a process compiles, and is not timed

    def add(self, step: Step) -> None:
        """Count one step."""
        now = time.perf_counter()
        if self.mark is not None:
            self.seconds += now - self.mark
            self.timed_steps += 1
        self.count += 1
        self.unread.append(step.terms)
        if step.ends_epoch:
            self._read()
            means = {name: total / self.count for name, total in self.sums.items()}
            self.history.append({"epoch": step.epoch + 1, "step": step.number, **means, **self._tested(step)})
            self.sums, self.count = {}, 0
        self.mark = time.perf_counter()

    def _read(self) -> None:
        """Add up the terms of the steps since, which waits for them where they are on a GPU."""
        for terms in self.unread:
            for name, value in terms.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
        self.unread.clear()

    def save(self, step: Step) -> None:
        """Write the history, then the checkpoint."""
        self._read()
        self.session.run.write_metrics(
            {
                "model": self.session.config["kind"],
                "data": self.session.data.name,
                "history": self.history,
                "unfinished": self.sums,
                "unfinished_at": step.number,
                "unfinished_steps": self.count,
                "training_seconds": self.seconds,
                "timed_steps": self.timed_steps,
            }
        )
        save_checkpoint(self.session.run.model, step)
        self.mark = time.perf_counter()

    def _tested(self, step: Step) -> dict[str, float]:
        """Return the loss on about a thousand test images: enough for a curve, and cheap beside an epoch."""
        data, config = self.session.data, self.session.config
        size = min(config["batch_size"], len(data.test_x))
        if size < 2:
            return {}
        # Whole batches of images from all over a set that may be sorted by class.
        count = max(size, min(1000, len(data.test_x)) // size * size)
        chosen = np.arange(count) * len(data.test_x) // count
        x = on_device(config["device"], data.test_x[chosen])
        y = None if data.test_y is None else on_device(config["device"], data.test_y[chosen])
        terms = mean_terms(self.session.model, step.params, x, y, batch_size=size, seed=config["seed"])
        return {"test_loss": terms["loss"]}


def finish(session: Session, step: Step, log: Log, started: float, compare: Mapping[str, Any]) -> dict[str, Any]:
    """Measure a trained model on the test images, and write metrics.json as it stays.

    Parameters
    ----------
    session : Session
        The run.
    step : Step
        Its last step.
    log : Log
        Its history.
    started : float
        `time.perf_counter()` when the process took the run up.
    compare : mapping
        More numbers for "test", such as those of the dense counterpart of a classifier.
    """
    config = session.config
    measured = measure(session.model, step.params, session.data, config, lambda a: on_device(config["device"], a))
    measured["test"].update(compare)
    metrics = {
        "model": config["kind"],
        "data": session.data.name,
        "parameters": count_parameters(step.params),
        **measured,
        "images_per_second": round(log.timed_steps * config["batch_size"] / max(log.seconds, 1e-9), 1),
        "seconds": round(time.perf_counter() - started, 2),
        "epochs": config["epochs"],
        "history": log.history,
        "training_seconds": log.seconds,
        "timed_steps": log.timed_steps,
        "versions": {
            "numconv": __version__,
            "numpy": np.__version__,
            "numba": version("numba"),
            "python": platform.python_version(),
        },
        "machine": machine(config["device"]),
    }
    session.run.write_metrics(metrics)
    return metrics


def dense_figures(session: Session) -> Iterator[dict[str, Any]]:
    """Train a classifier of dense layers with as many parameters in the same way; its figures come last.

    An empty dict goes by after each step, so that a caller can show progress, and stop it.
    """
    config = dense_counterpart(model_config(session.config))
    model = build(config)
    params = place(model.init(np.random.default_rng(config["seed"]), tuple(config["shape"])), session.x)
    for step in fit(model, params, session.x, session.y, **training(config, len(session.x))):
        params = step.params
        yield {}
    _, labels = session.data.require_labels("a classifier")
    test_x, test_y = (on_device(session.config["device"], a) for a in (session.data.test_x, labels))
    terms = mean_terms(model, params, test_x, test_y)
    yield {"accuracy_dense": terms["accuracy"], "parameters_dense": count_parameters(params)}


def machine(device: str) -> dict[str, Any]:
    """Say what a run ran on."""
    import numba

    from .._simd import CPU_NAME

    return {"cpu": CPU_NAME, "threads": numba.get_num_threads(), "device": device}
