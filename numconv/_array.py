"""Whose arrays are these, on which device, of which dtype: the only file that asks, and refuses."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any, Literal

import array_api_compat
import numpy as np

Array = Any
Device = Literal["cpu", "cuda", "generic"]

_NATIVE = (np.dtype("float32"), np.dtype("float64"))


@cache
def numpy_namespace() -> ModuleType:
    """Return array-api-compat's NumPy, imported at first use: it takes all of NumPy with it, 0.1 s of modules seldom needed."""
    import array_api_compat.numpy as xp

    return xp  # type: ignore[no-any-return]


def namespace(**arrays: Array) -> ModuleType:
    """Return the one array-API namespace that all `arrays` share (None is skipped), or refuse by argument name.

    Raises
    ------
    TypeError
        If an argument is no array, or the arrays come from different libraries or devices.
    """
    given = {name: a for name, a in arrays.items() if a is not None}
    if all(type(a) is np.ndarray for a in given.values()):
        return numpy_namespace()
    for name, a in given.items():
        odd = isinstance(a, (np.matrix, np.ma.MaskedArray))
        if odd or not (array_api_compat.is_array_api_obj(a) or isinstance(a, np.generic)):
            raise TypeError(f"{name} must be an array (NumPy, CuPy or any array-API library), got {_named(a)}")
    spaces = {name: array_api_compat.array_namespace(a) for name, a in given.items()}
    if len(set(spaces.values())) > 1:
        raise TypeError(f"arrays must come from one library, got {', '.join(f'{n}: {_named(a)}' for n, a in given.items())}")
    devices = {name: array_api_compat.device(a) for name, a in given.items()}
    if any(d != next(iter(devices.values())) for d in devices.values()):
        raise TypeError(f"arrays must be on one device, got {', '.join(f'{n}: {d}' for n, d in devices.items())}")
    return next(iter(spaces.values()))  # type: ignore[no-any-return]


def floats(**arrays: Array) -> tuple[Any, ...]:
    """Return `(xp, *arrays)`: the shared namespace, and the arrays promoted to their common floating dtype.

    Raises
    ------
    TypeError
        As `namespace`, or if an array is not of a floating dtype (real or complex).
    """
    return _of_kind(("real floating", "complex floating"), "a floating dtype; convert it, for example to float32", arrays)


def reals(**arrays: Array) -> tuple[Any, ...]:
    """As `floats`, but complex numbers are refused too: for functions that order or round their input."""
    return _of_kind(("real floating",), "a real floating dtype; convert it, for example to float32", arrays)


def numbers(**arrays: Array) -> tuple[Any, ...]:
    """As `floats`, but integers are welcome too: for linear functions, whose integer answers are exact."""
    return _of_kind(("real floating", "complex floating", "integral"), "a numeric dtype", arrays)


def integers(xp: ModuleType, **arrays: Array) -> None:
    """Refuse arrays that do not hold integers, such as class labels given as floats."""
    for name, a in arrays.items():
        if not xp.isdtype(a.dtype, "integral"):
            raise TypeError(f"{name} has dtype {a.dtype}; needed an integer dtype")


def device(xp: ModuleType, dtype: Any) -> Device:
    """Say whose kernels fit: NumPy and CuPy arrays of float32 or float64 have their own, all else is `generic`."""
    if xp is numpy_namespace():
        return "cpu" if dtype in _NATIVE else "generic"
    if xp.__name__.partition(".")[2].partition(".")[0] == "cupy" and dtype in _NATIVE:
        return "cuda"
    return "generic"


def flat(a: Array) -> Array:
    """Return the numbers of a NumPy array in order, aligned, of native byte order: as kernels read them, copied if need be."""
    flags = a.flags
    if not (flags.c_contiguous and flags.aligned and a.dtype.isnative):
        a = np.require(a, a.dtype.newbyteorder("="), ["C", "A"])
    return a.reshape(-1)


def _of_kind(kinds: tuple[str, ...], needed: str, arrays: dict[str, Array]) -> tuple[Any, ...]:
    xp = namespace(**arrays)
    given = {name: a for name, a in arrays.items() if a is not None}
    dtypes = {a.dtype for a in given.values()}
    if xp is numpy_namespace() and len(dtypes) == 1 and next(iter(dtypes)) in _NATIVE:
        return xp, *(a if a is None or type(a) is np.ndarray else np.asarray(a) for a in arrays.values())
    for name, a in given.items():
        if not xp.isdtype(a.dtype, kinds):
            raise TypeError(f"{name} has dtype {a.dtype}; needed {needed}")
    if len({xp.isdtype(d, "integral") for d in dtypes}) > 1:
        raise TypeError(f"integers and floats do not mix: {', '.join(f'{n} is {a.dtype}' for n, a in given.items())}")
    common = xp.result_type(*given.values())
    return xp, *(a if a is None else xp.astype(xp.asarray(a), common, copy=False) for a in arrays.values())


def _named(a: Any) -> str:
    cls = type(a)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__.partition('.')[0]}.{cls.__name__}"
