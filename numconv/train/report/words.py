"""What a report says in words: what was trained on what, and how it did beside what is had without training it."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from .material import Material
from .page import number, percent

NAMES = {
    "autoencoder": "autoencoder",
    "vae": "variational autoencoder",
    "contrastive": "contrastive encoder",
    "classifier": "classifier",
}


def title(m: Material) -> str:
    """Say what was trained on what."""
    network = {"conv": "Convolutional ", "dense": "Dense "}.get(str(m.config.get("network")), "")
    name = f"{network}{NAMES.get(m.kind, m.kind)}"
    return f"{name[:1].upper()}{name[1:]} trained on {m.config.get('data') or m.metrics.get('data') or 'unnamed data'}"


def lead(m: Material) -> list[str]:
    """Say what the model is, and how it did against its floor."""
    sentences = {
        "autoencoder": _autoencoder,
        "vae": _vae,
        "contrastive": _contrastive,
        "classifier": _classifier,
    }.get(m.kind)
    own = [] if sentences is None else list(sentences(m))
    return [" ".join([*own, *_neighbours(m)])] if own else []


def thing(m: Material, count: int = 2) -> str:
    """Name what the samples are: image, signal or volume."""
    name = {3: "signal", 4: "image", 5: "volume"}.get(m.x.ndim, "sample")
    return name if count == 1 else f"{name}s"


def value(m: Material) -> str:
    """Name one of the numbers that a sample is made of."""
    return "pixel" if m.x.ndim == 4 else "value"


def size(m: Material) -> str:
    """Say how large a sample is, such as 28×28, or 33×21 in 3 channels."""
    channels, *axes = m.x.shape[1:]
    text = "×".join(map(str, axes))
    return text if channels == 1 else f"{text} in {channels} channels"


def beside(value: float, floor: float) -> str:
    """Say how much less or more an error is than another."""
    if floor <= 0:
        return f"against {number(floor)}"
    change = value / floor - 1
    amount = f"{abs(change):.0%}".replace("%", "\N{NO-BREAK SPACE}%")
    return "as much as" if abs(change) < 0.005 else f"{amount} {'less' if change < 0 else 'more'} than"


def _autoencoder(m: Material) -> Iterator[str]:
    yield (
        f"This model squeezes each {thing(m, 1)} ({size(m)}, {number(prod(m.x.shape[1:]))} numbers) into {m.z.shape[1]} numbers "
        "and rebuilds it from them; it learned both ways without labels."
    )
    yield from _rebuilds(m)


def _vae(m: Material) -> Iterator[str]:
    yield (
        f"This model codes each {thing(m, 1)} ({size(m)}) as a small cloud in a space of {m.z.shape[1]} numbers, kept close to a "
        f"standard normal distribution, so that points drawn from that distribution decode to new {thing(m)}."
    )
    test = m.test
    if {"elbo_nats", "reconstruction_nats", "kl_nats"} <= test.keys():
        floor = ""
        if "bernoulli_floor_nats" in test:
            floor = f", of which {number(test['bernoulli_floor_nats'])} would remain even if every {value(m)} came back exactly"
        yield (
            f"A {m.part} {thing(m, 1)} costs {number(test['elbo_nats'])} nats: {number(test['kl_nats'])} for the code and "
            f"{number(test['reconstruction_nats'])} for the {value(m)}s given the code{floor}."
        )
    yield from _rebuilds(m)


def _rebuilds(m: Material) -> Iterator[str]:
    if "mse" not in m.test:
        return
    text = f"On {m.part} {thing(m)} its mean square error is {number(m.test['mse'])} per {value(m)}"
    if "mse_pca" in m.test:
        text += (
            f", {beside(m.test['mse'], m.test['mse_pca'])} PCA with {m.z.shape[1]} components ({number(m.test['mse_pca'])}), "
            f"which is the best that a linear map can learn from the training {thing(m)}"
        )
    yield text + "."


def _contrastive(m: Material) -> Iterator[str]:
    same = f"{thing(m)} of one class" if m.config.get("positives") == "labels" else f"two random views of one {thing(m, 1)}"
    unseen = "" if m.config.get("positives") == "labels" else "; it has never seen a label"
    yield (
        f"This encoder turns each {thing(m, 1)} ({size(m)}) into {m.z.shape[1]} numbers such that {same} come to lie close "
        f"together and all others apart{unseen}."
    )
    if "loss" in m.test:
        chance = f", where {number(m.test['chance'])} is what guessing would give" if "chance" in m.test else ""
        yield f"Its loss on {m.part} {thing(m)} is {number(m.test['loss'])}{chance}."


def _classifier(m: Material) -> Iterator[str]:
    classes = m.config.get("classes")
    among = f" among {classes}" if classes else ""
    yield f"This network says of each {thing(m, 1)} ({size(m)}) which class{among} it belongs to."
    test = m.test
    if "accuracy" not in test:
        return
    text = f"It is right on {percent(test['accuracy'])} of the {m.part} {thing(m)}"
    if "accuracy_dense" in test:
        text += f"; dense layers with about as many parameters, trained alike, on {percent(test['accuracy_dense'])}"
    elif classes:
        text += f"; guessing would be on about {percent(1 / classes)}"
    yield text + "."


def _neighbours(m: Material) -> Iterator[str]:
    found = m.embedding
    if "knn_accuracy" not in found:
        return
    others = [
        f"{percent(found[key])} {name}"
        for key, name in (
            ("knn_accuracy_pca", "on as many principal components"),
            ("knn_accuracy_pixels", f"on the raw {value(m)}s"),
        )
        if key in found
    ]
    share = percent(found["knn_accuracy"])
    text = f"Nearest neighbours in its embedding name the class right for {share} of the {m.part} {thing(m)}"
    yield f"{text} ({', '.join(others)})." if others else f"{text}."
