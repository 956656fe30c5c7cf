"""The sections of a report that show numbers: each takes the material and returns HTML, or nothing where it does not apply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..evaluate import psnr
from . import charts
from .charts import Line
from .material import Material
from .page import figure, number, paragraph, percent, section, table, words
from .words import thing, value


def headline(m: Material) -> str:
    """Show the numbers, with PCA of equal dimension and the raw pixels beside."""
    protocol = m.embedding.get("protocol") or m.metrics.get("protocol") or ""
    sentence = paragraph(protocol.rstrip(".") + ".") if protocol else ""
    note = f'<div class="note">{sentence}</div>' if sentence else ""
    return section("In numbers", _beside_floors(m), note, _further(m))


def _beside_floors(m: Material) -> str:
    """Show a row for the model, one for PCA and one for the pixels; a column for each measure that there is."""
    test, found = m.test, m.embedding
    columns: list[tuple[str, Callable[[float], str], tuple[float | None, ...]]] = [
        ("mean square error", number, (test.get("mse"), test.get("mse_pca"), None)),
        ("PSNR, dB", number, (test.get("psnr_db"), psnr(test["mse_pca"]) if test.get("mse_pca") else None, None)),
        ("kNN accuracy", percent, tuple(found.get(f"knn_accuracy{of}") for of in ("", "_pca", "_pixels"))),
    ]
    columns = [column for column in columns if column[2][0] is not None]
    if not columns:
        return ""
    names = (("this model", m.z.shape[1]), ("PCA", m.z.shape[1]), (f"raw {value(m)}s", prod(m.x.shape[1:])))
    rows = [
        [name, number(size), *("" if (one := values[i]) is None else shown(one) for _, shown, values in columns)]
        for i, (name, size) in enumerate(names)
        if any(values[i] is not None for _, _, values in columns)
    ]
    return table(["", f"numbers per {thing(m, 1)}", *(name for name, _, _ in columns)], rows, own=True)


def _further(m: Material) -> str:
    rows = list(_further_rows({**m.metrics, **m.embedding, **m.test}))
    return table(["", f"{m.part} {thing(m)}", ""], rows) if rows else ""


def _further_rows(values: Mapping[str, Any]) -> Iterator[list[str]]:
    for key, name, shown, meaning in (
        ("accuracy", "accuracy", percent, "share of images given their own class"),
        ("loss", "loss", number, "nats; how hard it is to tell an image's other view from the rest of the batch"),
        ("chance", "chance", number, "that loss if all embeddings were alike"),
        (
            "elbo_nats",
            "negative ELBO",
            number,
            "nats that describing an image costs, the sum of the next two; less is better",
        ),
        ("reconstruction_nats", "reconstruction", number, "nats for the rest, given the code"),
        ("kl_nats", "KL divergence", number, "nats for the code: how much it says beyond the prior"),
        (
            "bernoulli_floor_nats",
            "floor of the reconstruction",
            number,
            "nats that greys between 0 and 1 cost even when they come back exactly",
        ),
        ("active_units", "active latents", number, "latents whose mean varies with the image, by more than 0.01 in variance"),
        ("collapse_level", "spread of directions", number, "0: all embeddings point one way; 1: evenly in all directions"),
        ("parameters", "parameters", number, "numbers that were learned"),
    ):
        if values.get(key) is not None:
            yield [name, shown(values[key]), words(meaning)]


class _Term(NamedTuple):
    """A curve of the history: its key, what it is, and the level that it is to be compared with."""

    key: str
    name: str
    level: Callable[[Material], tuple[str, float] | None] = lambda m: None


def _level(key: str, label: str) -> Callable[[Material], tuple[str, float] | None]:
    return lambda m: (label, m.test[key]) if m.test.get(key) is not None else None


def _chance(m: Material) -> tuple[str, float] | None:
    # The chance of the training batches: test batches may be smaller.
    known = [row["chance"] for row in m.metrics.get("history") or () if "chance" in row]
    return ("chance", known[-1]) if known else _level("chance", "chance")(m)


_TERMS = {
    "autoencoder": (_Term("loss", "mean square error", _level("mse_pca", "PCA on test images")),),
    "vae": (
        _Term("reconstruction", "reconstruction, nats", _level("bernoulli_floor_nats", "floor: exact pixels")),
        _Term("kl", "KL divergence, nats"),
        _Term("loss", "loss, nats"),
    ),
    "contrastive": (_Term("loss", "loss, nats", _chance),),
    "classifier": (
        _Term("loss", "cross entropy, nats"),
        _Term("accuracy", "accuracy", _level("accuracy", "test images, at the end")),
    ),
}


def loss_curves(m: Material) -> str:
    """Draw each term of the loss over the epochs."""
    history = [row for row in m.metrics.get("history") or () if "epoch" in row]
    drawn = []
    for key, name, level in _TERMS.get(m.kind, ()):
        keys = {key: "training", **({"test_loss": "test"} if key == "loss" else {})}
        lines = []
        for k, label in keys.items():
            rows = [row for row in history if row.get(k) is not None]
            lines += [Line(label, [row["epoch"] for row in rows], [row[k] for row in rows])] if rows else []
        if not lines:
            continue
        floor = level(m)
        ends = " and ".join(f"{number(line.y[-1])} in {line.label}" for line in lines)
        alt = f"{name[:1].upper()}{name[1:]}: {ends} after {number(lines[0].x[-1])} epochs"
        alt += f". The dotted line ({floor[0]}) is at {number(floor[1])}." if floor else "."
        drawn.append(figure(charts.curves(f"curve-{key}", alt, lines, ylabel=name, floor=floor), alt))
    return section("Over the epochs", *drawn)


def latent_nats(m: Material) -> str:
    """Draw how much each latent carries."""
    nats = m.metrics.get("kl_per_latent")
    if not nats:
        return ""
    order = np.argsort(-np.asarray(nats), kind="stable")
    caption = (
        f"KL divergence of each of the {len(nats)} latents from the prior, averaged over the {m.part} {thing(m)}, largest first: "
        f"from {number(max(nats))} down to {number(min(nats))} nats. Near 0, a latent says nothing about the {thing(m, 1)}."
    )
    body = charts.bars("nats", caption, [nats[i] for i in order], [str(i) for i in order], xlabel="latent", ylabel="nats")
    return section("What each latent carries", figure(body, caption))


def against_dense(m: Material) -> str:
    """Show convolution beside dense layers of equal size."""
    test = m.test
    if test.get("accuracy") is None or test.get("accuracy_dense") is None:
        return ""
    rows = []
    for name, key in (("convolution", ""), ("dense layers", "_dense")):
        parameters = test.get(f"parameters{key}", None if key else m.metrics.get("parameters"))
        rows.append([name, "" if parameters is None else number(parameters), percent(test[f"accuracy{key}"])])
    told = (
        "Both were trained alike on the same images and have about as many parameters; what differs is that a convolution looks "
        "for the same thing everywhere, and a dense layer has to learn each place anew."
    )
    return section("Convolution against dense layers", table(["", "parameters", "accuracy"], rows, own=True), paragraph(told))


def confusion(m: Material) -> str:
    """Show which classes are taken for which."""
    if not m.test.get("confusion"):
        return ""
    counts = np.asarray(m.test["confusion"], dtype=np.int64)
    names = (*(m.names or ())[: len(counts)], *map(str, range(len(m.names or ()), len(counts))))
    wrong = counts * (1 - np.eye(len(counts), dtype=np.int64))
    worst = [divmod(int(i), len(counts)) for i in np.argsort(-wrong, axis=None, kind="stable")[:10]]
    worst = [(row, column) for row, column in worst if wrong[row, column]]
    if len(counts) > charts.MATRIX_CLASSES:
        rows = [[names[row], names[column], number(int(wrong[row, column]))] for row, column in worst]
        return section("What is taken for what", table(["is", "taken for", thing(m)], rows) if rows else paragraph("Nothing."))
    caption = f"{int(counts.trace()):,} of {int(counts.sum()):,} {m.part} {thing(m)} are on the diagonal, where they belong."
    if worst:
        row, column = worst[0]
        caption += f" The most frequent mistake: {names[row]} taken for {names[column]}, {number(int(wrong[row, column]))} times."
    return section("What is taken for what", figure(charts.matrix("confusion", caption, counts, names), caption))


def training(m: Material) -> str:
    """Show the settings, the machine and the versions: what is needed to do it again."""
    settings = [[key, _plain(value)] for key, value in m.config.items() if value is not None and key != "augmentation"]
    settings += [[f"augmentation: {key}", _plain(value)] for key, value in (m.config.get("augmentation") or {}).items()]
    machine, versions = m.metrics.get("machine") or {}, m.metrics.get("versions") or {}
    ran = [
        [f"training {thing(m)}", number(len(m.train))],
        *([name, number(m.metrics[key])] for key, name in _RAN if m.metrics.get(key) is not None),
        *([key, _plain(value)] for key, value in (*machine.items(), *versions.items()) if value is not None),
    ]
    return section("How it was trained", table([], settings)) + "\n" + section("On what machine", table([], ran))


_RAN = (("parameters", "parameters"), ("seconds", "seconds, all in all"), ("images_per_second", "images per second in training"))


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, (list, tuple)):
        return " × ".join(map(_plain, value)) if all(isinstance(v, int) for v in value) else " to ".join(map(_plain, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    return str(value)
