"""What was measured on a model of GPU, and goes before what is predicted: data files, of numconv and of the user's own.

A file is JSON: `factors`, by kind of plan, are measured over predicted seconds; `choices`, by problem, are the names of the
fastest plans. Those of numconv lie in `tables/`, as `python -m bench.gpu` writes them; those that `autotune` finds are kept with
the kernels' machine code, and may be lost.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ... import __version__, _kept
from .problem import Plan, Problem

SHIPPED = Path(__file__).with_name("tables")
_FOUND: dict[str, dict[str, str]] = {}  # by this process, by GPU


class Table(NamedTuple):
    """What is known of a model of GPU."""

    factors: Mapping[str, float] = MappingProxyType({})
    choices: Mapping[str, str] = MappingProxyType({})

    @property
    def text(self) -> str:
        """The table as a file holds it."""
        return json.dumps({"factors": dict(self.factors), "choices": dict(self.choices)}, indent=1, sort_keys=True) + "\n"


@cache
def of(gpu: str) -> Table:
    """Return what is known of GPUs of a name: the user's own measurements before those of numconv."""
    shipped, own = read(SHIPPED / f"{slug(gpu)}.json"), read(_own(gpu))
    return Table({**shipped.factors, **own.factors}, {**shipped.choices, **own.choices, **_FOUND.get(gpu, {})})


def key(problem: Problem) -> str:
    """Name a problem: what it is asked, without the device."""
    g = problem.g
    sizes = (g.batch, g.groups, g.c_in, g.c_out, *(n for axes in g[5:] for n in axes))
    how = (*map(int, problem.last), *problem.aligned)
    return f"{problem.contraction} {problem.dtype} {problem.precision} {' '.join(map(str, sizes))} / {' '.join(map(str, how))}"


def factor_key(problem: Problem, found: Plan) -> str:
    """Name what a factor is for: plans of a kind, of one contraction and dtype."""
    return f"{problem.contraction} {problem.dtype} {found.kind}"


def expected(problem: Problem, found: Plan, table: Table) -> float:
    """Return the seconds that a plan should take."""
    return found.seconds * table.factors.get(factor_key(problem, found), 1.0)


def keep(gpu: str, problem: Problem, found: Plan) -> None:
    """Remember a plan as a problem's fastest, in this process and in the user's file."""
    _FOUND.setdefault(gpu, {})[key(problem)] = found.name
    of.cache_clear()
    path = _own(gpu)
    there = read(path)  # another process may have added to it
    try:
        _kept.keep(path, there._replace(choices={**there.choices, **_FOUND[gpu]}).text.encode())
    except OSError as error:
        warnings.warn(f"what autotune found cannot be kept in {path}, and is lost with this process: {error}", stacklevel=2)


def read(path: Path) -> Table:
    """Return a file's table; an empty one for a file that is not there, or is no table: it can be measured again."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        factors, choices = found.get("factors", {}), found.get("choices", {})
        return Table({str(k): float(v) for k, v in factors.items()}, {str(k): str(v) for k, v in choices.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return Table()


def slug(gpu: str) -> str:
    """Return a GPU's name as that of a file."""
    return re.sub("[^a-z0-9]+", "-", gpu.lower()).strip("-")


def _own(gpu: str) -> Path:
    return _kept.folder() / f"measured-{slug(gpu)}-{__version__}.json"
