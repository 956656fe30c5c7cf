"""The command line: `numconv train`, `embed`, `report`, `info`, `precompile`: it reads arguments and says what went wrong."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KINDS = {
    "autoencoder": "squeeze images through a short code and rebuild them; the pixel-wise error is the loss",
    "vae": "the same with codes that are Gaussians near the standard normal, so that new images can be drawn",
    "contrastive": "put views of one image (or images of one class) together and all others apart",
    "classifier": "tell classes apart, by convolutions and, beside them, by as many weights in dense layers",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 for a failed training, 2 for bad input, 130 for Ctrl-C."""
    arguments = parser().parse_args(argv)
    try:
        return arguments.run(arguments)  # type: ignore[no-any-return]
    except FloatingPointError as error:
        return _complain(error, 1)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        return _complain(error, 2)
    except KeyboardInterrupt:
        print("numconv: interrupted", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    from . import __version__

    top = argparse.ArgumentParser(
        prog="numconv", description="Convolutions with gradients on plain arrays; images to embeddings."
    )
    top.add_argument("--version", action="version", version=f"numconv {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    embed = commands.add_parser("embed", help="turn images into vectors with a trained model")
    embed.add_argument("folder", type=Path, metavar="RUN", help="folder of the run")
    embed.add_argument(
        "data", metavar="DATA", help="what to embed: a name or a path, as for train --data; all its images, in order"
    )
    embed.add_argument("--out", type=Path, required=True, metavar="FILE.npy", help="where to write the float32 array (n, latent)")
    _add_reading(embed)
    embed.add_argument("--force", action="store_true", help="replace the file if it exists")
    embed.set_defaults(run=_embed)
    report = commands.add_parser("report", help="write the report of a run again")
    report.add_argument("folder", type=Path, metavar="RUN", help="folder of the run")
    report.set_defaults(run=_report)
    info = commands.add_parser("info", help="say what this machine and this installation have")
    info.set_defaults(run=_info)
    ahead = commands.add_parser("precompile", help="compile all CPU kernels now, so that no first call waits")
    ahead.set_defaults(run=_precompile)
    return top


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a model on images and write a report",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train a model on images, measure it and write a report to look at.\n\n"
        + "\n".join(f"  {kind:12s} {text}" for kind, text in KINDS.items()),
    )
    train.add_argument("kind", choices=list(KINDS), metavar="MODEL", help="autoencoder, vae, contrastive or classifier")
    train.add_argument(
        "--data",
        metavar="DATA",
        help="digits (default), mnist-5k, fashion-mnist, or the path of a .npy, .npz or IDX file or of a folder of images",
    )
    _add_reading(train)
    train.add_argument("--limit", type=int, metavar="N", help="use only N of the training images, evenly spread")
    train.add_argument("--latent", type=int, metavar="N", help="numbers in the code of an image")
    train.add_argument("--epochs", type=int, metavar="N", help="passes over the data")
    train.add_argument("--batch", type=int, metavar="N", dest="batch_size", help="images per step")
    train.add_argument("--rate", type=float, metavar="R", dest="learning_rate", help="learning rate at its highest")
    train.add_argument("--beta", type=float, metavar="B", help="weight of the KL term (vae)")
    train.add_argument("--temperature", type=float, metavar="T", help="temperature of the softmax (contrastive)")
    train.add_argument(
        "--positives", choices=["crops", "labels"], help="what belongs together (contrastive): two crops, or a class"
    )
    train.add_argument("--network", choices=["conv", "dense"], help="convolutions (default) or dense layers")
    train.add_argument(
        "--channels", type=int, nargs="+", metavar="N", help="channels of the convolutions, each halving the image"
    )
    train.add_argument("--seed", type=int, metavar="N", help="selects the initial weights, the order and all noise (default 0)")
    train.add_argument("--device", choices=["cpu", "cuda"], help="where to compute (default cpu)")
    train.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the run (default: a new one below runs/)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out, with its own settings")
    train.set_defaults(run=_train)


def _add_reading(command: argparse.ArgumentParser) -> None:
    """Add the options that say how data is read."""
    command.add_argument("--files", type=Path, metavar="FOLDER", help="where the files of fashion-mnist are")
    command.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="bring the images of a folder to one size"
    )
    command.add_argument("--scale", type=float, nargs=2, metavar=("BLACK", "WHITE"), help="values in a file that become 0 and 1")
    command.add_argument("--layout", metavar="AXES", help="axes of an array in a file, such as nhwc or nl")


_READING = ("size", "scale", "layout")

_OPTIONS = (
    "latent", "epochs", "batch_size", "learning_rate", "beta", "temperature", "positives", "network", "channels", "seed",
)  # fmt: skip


def _train(arguments: argparse.Namespace) -> int:
    import time

    _require_train()
    from .train import pipeline, run

    started = time.perf_counter()
    if arguments.resume:
        where, config = _resumed(arguments)
        data = pipeline.read_data(config["source"], config["seed"])
    else:
        reading = {name: getattr(arguments, name) for name in _READING}
        source = {
            "data": _located(arguments.data or "digits"),
            "folder": _text(arguments.files),
            "limit": arguments.limit,
            **reading,
        }
        data = pipeline.read_data(source, arguments.seed or 0)
        options = {name: getattr(arguments, name) for name in _OPTIONS if getattr(arguments, name) is not None}
        config = pipeline.describe(arguments.kind, options, source, data, arguments.device or "cpu")
        pipeline.on_device(config["device"], data.train_x[:1])  # refuses a missing GPU before the folder is made
        where = run.create(arguments.out or run.fresh("runs", f"{arguments.kind}-{_stem(data.name)}"), config)
    opened = pipeline.open_session(where, config, data)
    start = pipeline.resume_from(opened) if arguments.resume else None
    return _run_session(opened, start, started)


def _run_session(opened: Any, start: Any, started: float) -> int:
    from .train import pipeline
    from .train.report import write_report

    total = pipeline.total_steps(opened)
    print(
        f"{opened.config['kind']} on {opened.data.name}: {len(opened.x)} images of {_by(opened.config['shape'])}, {total} steps"
    )
    step, compare, log = start, {}, pipeline.Log(opened, start)
    try:
        for latest in _shown(pipeline.steps(opened, start, log), log, total, start.number if start else 0):
            step = latest
        if opened.config["kind"] == "classifier" and opened.config["network"] == "conv" and len(opened.data.test_x):
            for figures in _bar(pipeline.dense_figures(opened), total + 1, 0, "dense layers, to compare"):
                compare = figures
    except KeyboardInterrupt:
        done = step.number if step is not None else 0
        print(f"\nstopped after step {done} of {total}; go on with: ", file=sys.stderr, end="")
        print(f"numconv train {opened.config['kind']} --resume --out {opened.run.folder}", file=sys.stderr)
        return 130
    metrics = pipeline.finish(opened, step, log, started, compare)
    page = write_report(opened.run, opened.model, step.params, opened.data, pipeline.model_config(opened.config), metrics)
    _summary(metrics)
    print(f"\nlook at {page}")
    return 0


def _resumed(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Open the run to go on with; options that contradict its own settings are refused."""
    from .train import run

    if arguments.out is None:
        raise ValueError("--resume needs --out, the folder of the run to go on with")
    where = run.reopen(arguments.out)
    config = where.config()
    if config.get("kind") != arguments.kind:
        raise ValueError(f"{where.folder} is a run of kind {config.get('kind')}; {arguments.kind} was asked for")
    source = config["source"]
    if arguments.data is not None:
        arguments.data = _located(arguments.data)
    past = {**config, **source, "files": source["folder"]}
    for name in (*_OPTIONS, *_READING, "data", "files", "limit", "device"):
        value = getattr(arguments, name)
        if value is not None and (_text(value) if name == "files" else value) != past.get(name):
            raise ValueError(f"--resume goes on with the run's own settings: {name} is {past.get(name)!r} there, not {value!r}")
    return where, config


def _shown(steps: Any, log: Any, total: int, done: int) -> Any:
    """Pass steps on, with a progress bar on a terminal and a line per epoch elsewhere."""
    if sys.stderr.isatty():
        yield from _bar(steps, total, done, "training")
        return
    epochs = log.session.config["epochs"]
    for step in steps:
        if step.ends_epoch:
            means = {name: value for name, value in log.history[-1].items() if name not in ("epoch", "step")}
            terms = ", ".join(f"{name} {value:.4g}" for name, value in means.items())
            print(f"epoch {step.epoch + 1}/{epochs}: {terms}", file=sys.stderr, flush=True)
        yield step


def _bar(steps: Any, total: int, done: int, title: str) -> Any:
    from tqdm import tqdm

    with tqdm(total=total, initial=done, desc=title, unit="step", leave=False, disable=not sys.stderr.isatty()) as bar:
        for step in steps:
            bar.update()
            terms = getattr(step, "terms", None)
            if terms and bar.n % 10 == 0:
                bar.set_postfix({name: f"{value:.4g}" for name, value in terms.items()}, refresh=False)
            yield step


def _summary(metrics: dict[str, Any]) -> None:
    test, embedding = metrics["test"], metrics["embedding"]
    names = {
        "mse": "test MSE", "mse_pca": "  of PCA, equal dimension", "psnr_db": "test PSNR (dB)",
        "elbo_nats": "test -ELBO (nats/image)", "reconstruction_nats": "  reconstruction", "kl_nats": "  KL",
        "active_units": "active latents", "accuracy": "test accuracy", "accuracy_dense": "  of dense layers",
        "loss": "test loss", "chance": "  of chance",
    }  # fmt: skip
    neighbours = {
        "knn_accuracy": "kNN accuracy of the embedding", "knn_accuracy_pca": "  of PCA, equal dimension",
        "knn_accuracy_pixels": "  of raw pixels",
    }  # fmt: skip
    for table, values in ((names, test), (neighbours, embedding)):
        for key, name in table.items():
            if key in values:
                print(f"{name:32s}{values[key]:.4g}")
    print(f"{'training images per second':32s}{metrics['images_per_second']:.0f}")
    print(f"{'seconds in all':32s}{metrics['seconds']:.1f}")


def _embed(arguments: argparse.Namespace) -> int:
    import numpy as np

    _require_train()
    from .train import embed, pipeline, run

    where = run.reopen(arguments.folder)
    if arguments.out.suffix != ".npy":
        raise ValueError(f"--out {arguments.out}: needed a name that ends in .npy")
    if arguments.out.exists() and not arguments.force:
        raise ValueError(f"{arguments.out} exists; choose another name, or replace it with --force")
    config = where.config()
    named = not pipeline.is_path(arguments.data)
    reading = {name: getattr(arguments, name) for name in _READING}
    source = {"data": arguments.data, "folder": _text(arguments.files), "limit": None, **reading}
    data = pipeline.read_data(source, 0, test_fraction=0)  # names keep their own split
    x = np.concatenate([data.train_x, data.test_x]) if named else data.train_x
    if x.shape[1:] != tuple(config["shape"]):
        taken = _by(config["shape"])
        raise ValueError(f"{arguments.data} has images of {_by(x.shape[1:])}; the model of {where.folder} takes {taken}")
    model, params = pipeline.trained(where, config)
    z = embed(model, params, x)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with run.replacing(arguments.out) as temporary:
        np.save(temporary, z)
    order = f"{len(data.train_x)} training images, then {len(data.test_x)} test images" if named else "in the order of the files"
    print(f"{arguments.out}: {z.shape[0]} vectors of {z.shape[1]} numbers, {z.dtype}; {order}")
    return 0


def _report(arguments: argparse.Namespace) -> int:
    _require_train()
    from .train import pipeline, run
    from .train.report import write_report

    where = run.reopen(arguments.folder)
    config, metrics = where.config(), where.metrics()
    if "test" not in metrics:
        kind = config["kind"]
        raise ValueError(f"{where.folder} is not finished; go on with: numconv train {kind} --resume --out {where.folder}")
    model, params = pipeline.trained(where, config)
    data = pipeline.read_data(config["source"], config["seed"])
    print(f"look at {write_report(where, model, params, data, pipeline.model_config(config), metrics)}")
    return 0


def _info(arguments: argparse.Namespace) -> int:
    from .about import facts

    for name, value in facts():
        print(f"{name:18s}{value}")
    return 0


def _precompile(arguments: argparse.Namespace) -> int:
    from time import perf_counter

    from ._running import precompile

    begin = perf_counter()
    ready = precompile(progress=lambda name: print(f"\r{name:40s}", end="", file=sys.stderr, flush=True))
    print(f"\r{'':40s}\r", end="", file=sys.stderr)
    print(f"{ready} kernels ready after {perf_counter() - begin:.1f} s")
    return 0


def _require_train() -> None:
    """Refuse to start without the packages of the extra, before any work is lost."""
    from importlib.util import find_spec

    missing = [name for name in ("matplotlib", "PIL", "safetensors", "sklearn", "tqdm") if find_spec(name) is None]
    if missing:
        raise ImportError(f"this needs {', '.join(missing)}: pip install 'numconv[train]'")


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _stem(name: str) -> str:
    return Path(name).stem or "data"


def _text(path: Path | None) -> str | None:
    return None if path is None else os.path.abspath(path)


def _located(data: str) -> str:
    """Return a name as it is, and a path from the root on, so that a run can be taken up from another folder."""
    from .train import pipeline

    return os.path.abspath(os.path.expanduser(data)) if pipeline.is_path(data) and os.path.exists(data) else data


def _complain(error: BaseException, code: int) -> int:
    print(f"numconv: error: {error}", file=sys.stderr)
    return code
