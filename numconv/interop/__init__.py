"""numconv inside other libraries' automatic differentiation: `numconv.interop.torch` and `numconv.interop.jax`.

Each module has every function of numconv that has a gradient, under its own name and with its own arguments.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    if name in ("jax", "torch"):  # each imports its library, so only at first use
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
