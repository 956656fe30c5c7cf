"""The folder of one training run: config.json, model.safetensors, metrics.json, report.html. Whole files or none."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple


class Run(NamedTuple):
    """A run folder; every file in it is replaced as a whole, so that a reader or a crash never meets half of one."""

    folder: Path

    @property
    def model(self) -> Path:
        """Weights, optimiser state and step."""
        return self.folder / "model.safetensors"

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.folder / "report.html"

    def config(self) -> dict[str, Any]:
        """Read everything that is needed to build the model again."""
        return _read(self.folder / "config.json")

    def metrics(self) -> dict[str, Any]:
        """Read the numbers of the run; ValueError if it has not been evaluated yet."""
        return _read(self.folder / "metrics.json")

    def write_config(self, config: dict[str, Any]) -> None:
        """Replace config.json."""
        write_json(self.folder / "config.json", config)

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Replace metrics.json."""
        write_json(self.folder / "metrics.json", metrics)


def create(folder: str | os.PathLike[str], config: dict[str, Any]) -> Run:
    """Start a run in a new or empty folder.

    Raises
    ------
    ValueError
        If the folder holds anything already: no run is ever overwritten.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; needed a folder for the run")
    if path.exists() and (count := len(list(path.iterdir()))):
        raise ValueError(f"{path} already holds {count} file(s); resume that run with --resume, or choose another folder")
    path.mkdir(parents=True, exist_ok=True)
    run = Run(path)
    run.write_config(config)
    return run


def reopen(folder: str | os.PathLike[str]) -> Run:
    """Open the run in an existing folder.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or no run in it.
    """
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such run folder")
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{path} holds no config.json, so it is no run folder")
    return Run(path)


def fresh(root: str | os.PathLike[str], stem: str) -> Path:
    """Return the first of root/stem-1, root/stem-2, … that does not exist."""
    number = 1
    while (path := Path(root) / f"{stem}-{number}").exists():
        number += 1
    return path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary file beside `path` that takes its place when the block ends well, and vanishes when it does not."""
    path = Path(path)
    # The suffix stays, since np.save and others add their own to a name without one.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        # Some writers make files that only their owner can read; what is in a run is no more secret than any new file.
        temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], value: dict[str, Any]) -> None:
    """Write strict JSON; ValueError for NaN and infinity, which JSON has no word for."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; the run was stopped before it was written")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}; needed an object")
    return value
