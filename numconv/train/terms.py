"""The terms of a step, which on a GPU are numbers that nobody has waited for: they are read when somebody asks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from .. import _array
from .._array import Array
from .batch import to_host


class Terms(Mapping[str, float]):
    """The loss and other scalars by name, read from the device in one transfer at the first look."""

    def __init__(self, terms: Mapping[str, Any]) -> None:
        arrays = {name: value for name, value in terms.items() if not isinstance(value, (int, float))}
        xp = _array.namespace(**arrays)
        self._names, self._known = tuple(arrays), {n: float(v) for n, v in terms.items() if n not in arrays}
        self.waiting: Array | None = xp.stack([xp.astype(xp.reshape(a, ()), xp.float64) for a in arrays.values()])
        self._order = tuple(terms)

    def fill(self, read: list[float]) -> None:
        """Take the numbers that were waited for."""
        self._known |= dict(zip(self._names, read, strict=True))
        self.waiting = None

    def __getitem__(self, name: str) -> float:
        if self.waiting is not None and name in self._names:
            self.fill(to_host(self.waiting).tolist())
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)

    def __repr__(self) -> str:
        return "Terms(not read yet)" if self.waiting is not None else f"Terms({dict(self)})"


def watched(terms: Mapping[str, Any]) -> Mapping[str, float]:
    """Return scalars by name: numbers of the host as a dict, in one transfer at most; those of CuPy's arrays as `Terms`."""
    arrays = {name: value for name, value in terms.items() if not isinstance(value, (int, float))}
    if not arrays:
        return dict(terms)
    xp = _array.namespace(**arrays)
    if _array.library(xp) == "cupy":
        return Terms(terms)
    together = to_host(xp.stack([xp.reshape(a, ()) for a in arrays.values()])).tolist()
    return {**terms, **dict(zip(arrays, together, strict=True))}


def settle(pending: list[tuple[int, int, Mapping[str, float]]]) -> None:
    """Read the terms of steps, given as (number, epoch, terms), in one transfer, and refuse those that are not finite.

    Raises
    ------
    FloatingPointError
        If a number is not finite: it names the first such step, its epoch and the term.
    """
    unread = [terms for _, _, terms in pending if isinstance(terms, Terms) and terms.waiting is not None]
    if unread:
        xp = _array.namespace(terms=unread[0].waiting)
        for each, read in zip(unread, to_host(xp.stack([each.waiting for each in unread])).tolist(), strict=True):
            each.fill(read)
    for number, epoch, terms in pending:
        for name, value in terms.items():
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"step {number} (epoch {epoch}): {name} is {value}; seen at step {pending[-1][0]}, as steps on a GPU are not "
                    "waited for. The parameters since are of no use: a smaller learning rate or clipping may help"
                )
