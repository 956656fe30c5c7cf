"""The report of a training run: one page of HTML that needs nothing beside itself. The door of the room."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._tree import Tree
from ..batch import Model
from ..data import Dataset
from ..run import Run, replacing

__all__ = ["write_report"]


def write_report(
    run: Run, model: Model, params: Tree, data: Dataset, config: Mapping[str, Any], metrics: Mapping[str, Any]
) -> Path:
    """Write the report of a trained model into its run folder; an older one is replaced when the new one is whole.

    Parameters
    ----------
    run : Run
        Where to.
    model : Model
        What was trained.
    params : tree of arrays
        Its parameters, on any device.
    data : Dataset
        What it was trained and tested on.
    config : mapping
        Its config, completed, with the name of the data.
    metrics : mapping
        Its numbers, as in metrics.json. What is missing is left out of the report.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ImportError
        If matplotlib or Pillow is missing.
    """
    try:
        # Here rather than above: they take a second to load, and `numconv --help` must not.
        from . import material, measured, page, shown, words
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("matplotlib", "PIL"):
            raise
        raise ImportError(f"a report needs {error.name}: pip install 'numconv[train]'", name=error.name) from error
    m = material.gather(model, params, data, config, metrics)
    sections = (
        measured.headline,
        measured.against_dense,
        shown.reconstructions,
        shown.samples,
        shown.traversal,
        measured.loss_curves,
        shown.latent_map,
        shown.neighbours,
        shown.first_layer,
        measured.latent_nats,
        measured.confusion,
        measured.training,
    )
    version = (metrics.get("versions") or {}).get("numconv")
    footer = f"Written by numconv {version}." if version else "Written by numconv."
    text = page.document(words.title(m), words.lead(m), [one(m) for one in sections], footer)
    with replacing(run.report) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return run.report
