"""Whose arrays come in, and that theirs go out: lists become NumPy's arrays, PyTorch's and JAX's are lent, CuPy has its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

import array_api_compat
import numpy as np

from .. import _array, _lend
from .._array import Array

F = TypeVar("F", bound=Callable[..., Any])


def door(f: F) -> F:
    """Let a function of two arrays of NumPy take those of other libraries, and lists."""

    @wraps(f)
    def convolved(in1: Array, in2: Array, *args: Any, **kwargs: Any) -> Any:
        if not any(map(_foreign, (in1, in2))):
            return f(np.asarray(in1), np.asarray(in2), *args, **kwargs)
        xp = _array.namespace(in1=in1, in2=in2)
        library = _array.library(xp)
        if library == "cupy":
            return getattr(import_module("cupyx.scipy.signal"), f.__name__)(in1, in2, *args, **kwargs)
        found = _lend.loan(xp, in1)
        if found is None:
            raise TypeError(
                f"numconv.signal.{f.__name__} is for arrays of NumPy, CuPy, and of PyTorch and JAX on the CPU; "
                f"got {type(in1).__name__}. numconv.conv takes arrays of any library"
            )
        return _lend.Lent(None, found).function(f)(in1, in2, *args, **kwargs)

    return convolved  # type: ignore[return-value]


def _foreign(a: Any) -> bool:
    return array_api_compat.is_array_api_obj(a) and not isinstance(a, (np.ndarray, np.generic))
