"""The three contractions on a GPU, by several methods."""

from __future__ import annotations

from collections.abc import Iterator

from ... import _cuda
from . import layout, parts
from .drawer import Drawer, by
from .plan import METHODS

__all__ = ["Drawer", "by", "programs"]


def programs() -> Iterator[tuple[_cuda.Program, str]]:
    """Yield every instantiation there is, and the least architecture it is for."""
    for module in (layout, parts, *METHODS):
        yield from module.programs()
