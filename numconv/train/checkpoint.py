"""Parameters, optimiser state and step in one safetensors file, by name. Whole files or none, and no pickle."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .._tree import Tree, from_named_leaves, named_leaves
from .batch import like, to_host
from .loop import Step
from .run import replacing

_FORMAT = "numconv 1"  # the one key of the metadata: safetensors writes several in an order that changes from file to file
_STATE = "optimizer"


def save_checkpoint(path: str | os.PathLike[str], step: Step) -> None:
    """Write a step to a safetensors file, replacing it as a whole: a crash leaves the old file or the new one.

    Parameters are named by their path, such as `encoder.0.w`; the optimiser's state likewise, under `optimizer.`.
    """
    tensors = {**_named(step.params), **_named({_STATE: step.state})}
    progress = {"number": step.number, "epoch": step.epoch, "terms": dict(step.terms), "ends_epoch": step.ends_epoch}
    with replacing(path) as temporary:
        _safetensors().save_file(tensors, temporary, metadata={_FORMAT: json.dumps(progress)})


def load_checkpoint(path: str | os.PathLike[str], params: Tree, state: Tree) -> Step:
    """Read a step back.

    Parameters
    ----------
    path : path
        A file written by `save_checkpoint`.
    params, state : tree of arrays
        Of the structure, shapes and dtypes that the file must have, as made by `model.init` and `optimizer.init`; what is read
        comes in the library and on the device of their arrays.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, or its names, shapes or dtypes are not those of `params` and `state`.
    """
    named, metadata = _read(path)
    if _FORMAT not in metadata:
        raise ValueError(
            f"{path} has metadata {sorted(metadata)}; needed {_FORMAT!r}, as written by numconv.train.save_checkpoint"
        )
    params = _fitted(path, params, {name: a for name, a in named.items() if not _is_state(name)})
    state = _fitted(path, {_STATE: state}, {name: a for name, a in named.items() if _is_state(name)})[_STATE]
    return Step(params=params, state=state, **json.loads(metadata[_FORMAT]))


def load_params(path: str | os.PathLike[str], params: Tree) -> Tree:
    """Read the parameters only, for a model that will not be trained further. Errors are those of `load_checkpoint`."""
    named, _ = _read(path)
    return _fitted(path, params, {name: a for name, a in named.items() if not _is_state(name)})


def _named(tree: Tree) -> dict[str, Any]:
    # Scalars and strided views are not what the format holds: everything becomes a dense array.
    return {name: np.require(to_host(a), requirements="C") for name, a in named_leaves(tree)}


def _is_state(name: str) -> bool:
    return name.partition(".")[0] == _STATE


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, str]]:
    safetensors = _safetensors()
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        return safetensors.load_file(path), metadata
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None


def _fitted(path: str | os.PathLike[str], expected: Tree, named: dict[str, Any]) -> Tree:
    wanted = dict(named_leaves(expected))
    missing, unknown = [n for n in wanted if n not in named], sorted(named.keys() - wanted.keys())
    if missing or unknown:
        found = (("lacks", missing), ("holds unknown", unknown))
        parts = [f"{word} {', '.join(names[:5])}{', …' * (len(names) > 5)}" for word, names in found if names]
        raise ValueError(f"{path} is of another model: it {' and '.join(parts)}")
    for name, a in wanted.items():
        if tuple(a.shape) != named[name].shape:
            raise ValueError(f"{path} holds {name} of shape {named[name].shape}; the model has {tuple(a.shape)}")
        if str(a.dtype).rpartition(".")[2] != str(named[name].dtype):
            raise ValueError(f"{path} holds {name} of dtype {named[name].dtype}; the model has {a.dtype}")
    return from_named_leaves(expected, {name: like(named[name], a) for name, a in wanted.items()})


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError("checkpoints need safetensors: pip install 'numconv[train]'") from None
    return safetensors.numpy  # type: ignore[no-any-return]
