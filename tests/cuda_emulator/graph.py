"""Work that a stream of the stand-in has recorded instead of doing it: all of it, on the same memory, is done at each launch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np


class Graph:
    """What a capture recorded, in order."""

    def __init__(self) -> None:
        self.work: list[Callable[[], Any]] = []

    def launch(self, stream: Any = None) -> None:
        """Do it."""
        for each in self.work:
            each()

    def later(self, function: Callable[..., Any], *args: Any) -> None:
        """Record something that writes to memory."""
        self.work.append(partial(function, *args))

    def result(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Record a function of NumPy's arrays, and return the memory where its result will be.

        What memory holds by now means nothing, so neither does what is computed of it, but its shape and dtype.
        """
        if (out := kwargs.get("out")) is not None:
            self.work.append(partial(function, *args, **kwargs))
            return out[0] if isinstance(out, tuple) else out
        with np.errstate(all="ignore"):
            made = _lasting(function(*args, **kwargs))
        self.work.append(lambda: _fill(made, function(*args, **kwargs)))
        return made


def forbidden(graph: Graph | None, what: str) -> None:
    """Refuse what CUDA refuses while it captures."""
    if graph is not None:
        raise RuntimeError(f"the current stream is capturing, so {what} are disallowed")


def _lasting(made: Any) -> Any:
    """Return scalars, at any depth, as arrays, which can be filled."""
    if isinstance(made, np.generic):
        return np.asarray(made)
    return type(made)(map(_lasting, made)) if type(made) in (tuple, list) else made


def _fill(made: Any, again: Any) -> None:
    if isinstance(made, np.ndarray):
        if made.flags.writeable:  # one that is not is a view that repeats memory
            made[...] = again
    elif type(made) in (tuple, list):
        for each, one in zip(made, again, strict=True):
            _fill(each, one)
