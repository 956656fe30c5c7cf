"""The numbers of a trained model that metrics.json holds, each with its floor beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._array import Array
from .._tree import Tree
from . import evaluate
from .batch import Model, to_host
from .data import Dataset
from .loop import mean_terms

ToDevice = Callable[[np.ndarray[Any, Any]], Array]


def measure(model: Any, params: Tree, data: Dataset, config: Mapping[str, Any], to_device: ToDevice) -> dict[str, Any]:
    """Measure a model on the test images: "test" by its own task, "embedding" by its neighbours, "kl_per_latent" of a VAE."""
    if len(data.test_x) == 0:
        return {"test": {}, "embedding": {"dimension": config["latent"]}}
    kind = config["kind"]
    pca = evaluate.fit_pca(data.train_x, config["latent"])
    test: dict[str, Any] = {}
    more: dict[str, Any] = {}
    if kind in ("autoencoder", "vae"):
        test.update(_reconstruction(model, params, data, pca, to_device))
    if kind == "vae":
        bound, more["kl_per_latent"] = _evidence(model, params, data, config, to_device)
        test.update(bound)
    if kind == "classifier":
        test.update(_classification(model, params, data, config, to_device))
    if kind == "contrastive":
        test.update(_comparison(model, params, data, config, to_device))
    return {"test": test, "embedding": _neighbours(model, params, data, pca, to_device), **more}


def _in_batches(f: Callable[[Array], Array], x: np.ndarray[Any, Any], to_device: ToDevice) -> np.ndarray[Any, Any]:
    return np.concatenate([to_host(f(to_device(x[i : i + 256]))) for i in range(0, len(x), 256)])


def _reconstruction(model: Any, params: Tree, data: Dataset, pca: evaluate.Pca, to_device: ToDevice) -> dict[str, Any]:
    back = _in_batches(lambda x: model.reconstruct(params, x), data.test_x, to_device)
    error = evaluate.mse(data.test_x, back)
    return {"mse": error, "psnr_db": evaluate.psnr(error), "mse_pca": evaluate.mse(data.test_x, pca.reconstruct(data.test_x))}


def _evidence(
    model: Any, params: Tree, data: Dataset, config: Mapping[str, Any], to_device: ToDevice
) -> tuple[dict[str, Any], list[float]]:
    terms = mean_terms(model, params, to_device(data.test_x), seed=config["seed"])
    posterior = [model.posterior(params, to_device(data.test_x[i : i + 256])) for i in range(0, len(data.test_x), 256)]
    mean, logvar = (np.concatenate([to_host(pair[k]) for pair in posterior]) for k in (0, 1))
    bound = {
        "elbo_nats": terms["reconstruction"] + terms["kl"],
        "reconstruction_nats": terms["reconstruction"],
        "kl_nats": terms["kl"],
        "active_units": evaluate.active_units(mean),
    }
    if config["likelihood"] == "bernoulli":
        bound["bernoulli_floor_nats"] = evaluate.bernoulli_floor(data.test_x)
    return bound, [float(nats) for nats in evaluate.kl_per_latent(mean, logvar)]


def _classification(model: Any, params: Tree, data: Dataset, config: Mapping[str, Any], to_device: ToDevice) -> dict[str, Any]:
    _, labels = data.require_labels("a classifier")
    predicted = _in_batches(lambda x: model.predict(params, x), data.test_x, to_device)
    counts = evaluate.confusion(labels, predicted, config["classes"])
    return {"accuracy": float(np.mean(predicted == labels)), "confusion": counts.tolist()}


def _comparison(model: Any, params: Tree, data: Dataset, config: Mapping[str, Any], to_device: ToDevice) -> dict[str, Any]:
    size = min(config["batch_size"], len(data.test_x))
    if size < 2:
        return {}
    whole = len(data.test_x) // size * size  # chance depends on the size of the batch: whole ones only
    labels = None if data.test_y is None else to_device(data.test_y[:whole])
    terms = mean_terms(model, params, to_device(data.test_x[:whole]), labels, batch_size=size, seed=config["seed"])
    return {"loss": terms["loss"], "chance": evaluate.chance_level(size)}


def _neighbours(model: Model, params: Tree, data: Dataset, pca: evaluate.Pca, to_device: ToDevice) -> dict[str, Any]:
    """Apply one kNN protocol to the embedding, to PCA of equal dimension and to the pixels."""
    bank = evaluate.leading(evaluate.PROTOCOL.bank, len(data.train_x), data.train_y)
    queries = evaluate.leading(evaluate.PROTOCOL.queries, len(data.test_x), data.test_y)
    train_x, test_x = data.train_x[bank], data.test_x[queries]
    z = _in_batches(lambda x: model.embed(params, x), test_x, to_device)
    found: dict[str, Any] = {"dimension": int(z.shape[1]), "collapse_level": evaluate.collapse_level(z)}
    if data.train_y is None or data.test_y is None:
        return found
    pairs = {
        "knn_accuracy": (_in_batches(lambda x: model.embed(params, x), train_x, to_device), z),
        "knn_accuracy_pca": (pca.embed(train_x), pca.embed(test_x)),
        "knn_accuracy_pixels": (train_x, test_x),
    }
    for name, (known, asked) in pairs.items():
        found[name] = evaluate.knn_accuracy(known, data.train_y[bank], asked, data.test_y[queries])
    found["protocol"] = evaluate.PROTOCOL.sentence(data.train_y, data.test_y)
    return found
