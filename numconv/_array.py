"""Whose arrays are these, on which device, of which dtype: the only file that asks, and refuses."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache
from types import ModuleType
from typing import Any, Literal

import array_api_compat
import numpy as np

Array = Any
Device = Literal["cpu", "cuda", "generic"]
Library = Literal["numpy", "cupy", "torch", "jax", "dask", "other"]

_NATIVE = (np.dtype("float32"), np.dtype("float64"))
_NUMPY = (np.ndarray, np.generic)


def namespace(**arrays: Array) -> ModuleType:
    """Return the one array-API namespace that all `arrays` share (None is skipped), or refuse by argument name.

    NumPy's is NumPy: array-api-compat's has all of it in it, tests and f2py too, and takes 0.12 s to import.

    Raises
    ------
    TypeError
        If an argument is no array, or the arrays come from different libraries or devices, or CuPy's are not on its current
        device. Only NumPy's may stand beside dask's.
    ValueError
        If a dask array has chunks of unknown size.
    """
    if _plain_dtypes(arrays.values()):
        return np
    if (alike := _on_one_gpu(arrays.values())) is not None:
        return alike[0]
    given = {name: a for name, a in arrays.items() if a is not None}
    for name, a in given.items():
        odd = isinstance(a, (np.matrix, np.ma.MaskedArray))
        if odd or not (array_api_compat.is_array_api_obj(a) or isinstance(a, np.generic)):
            raise TypeError(f"{name} must be an array (NumPy, CuPy or any array-API library), got {_named(a)}")
        if getattr(a, "requires_grad", False) is True and sys.modules["torch"].is_grad_enabled():
            raise TypeError(
                f"{name} records gradients (requires_grad=True), which plain functions do not; "
                f"needed a function of numconv.interop.torch, or {name}.detach()"
            )
        if getattr(a, "is_sparse", False) is True:
            raise TypeError(f"{name} is a sparse tensor; needed a dense one, such as {name}.to_dense()")
        if any(n != n for n in a.shape):
            raise ValueError(f"{name} has shape {a.shape}: chunks of unknown size; needed {name}.compute_chunk_sizes()")
    spaces = {name: _namespace_of(a) for name, a in given.items()}
    found = set(spaces.values())
    if any(library(xp) == "dask" for xp in found):
        found.discard(np)  # beside dask's arrays, NumPy's are small ones, such as weights: dask arrays of few chunks
    if len(found) > 1:
        raise TypeError(f"arrays must come from one library, got {', '.join(f'{n}: {_named(a)}' for n, a in given.items())}")
    devices = {name: place(a) for name, a in given.items()}
    if len({str(d) for d in devices.values() if d is not None}) > 1:
        raise TypeError(f"arrays must be on one device, got {', '.join(f'{n}: {d}' for n, d in devices.items())}")
    xp = found.pop()
    if library(xp) == "cupy":
        _on_current_device(devices)
    return xp


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
    """Say whose kernels fit: NumPy's float32 and float64 have their own, CuPy's those and 16 bits; all else is `generic`."""
    if xp is np or xp.__name__ == "array_api_compat.numpy":
        return "cpu" if dtype in _NATIVE else "generic"
    if xp.__name__.partition(".")[2].partition(".")[0] == "cupy" and (dtype in _NATIVE or narrow(dtype)):
        return "cuda"
    return "generic"


def place(a: Array) -> Any:
    """Return the device that holds an array, to be printed and compared; None if it is not known yet, under jax.jit."""
    return "cpu" if isinstance(a, _NUMPY) else array_api_compat.device(a)


def narrow(dtype: Any) -> bool:
    """Say whether a dtype is float16 or bfloat16, of any library: NumPy's `finfo` does not know the latter."""
    if isinstance(dtype, np.dtype) and dtype.itemsize != 2:  # the common case: a name takes longer to make
        return False
    return str(dtype).rpartition(".")[2] in ("float16", "bfloat16")


def is_of(xp: ModuleType, dtype: Any, kinds: tuple[str, ...]) -> bool:
    """Say of which kind a dtype is; NumPy does not know that bfloat16, which other libraries give it, is a float."""
    return "real floating" in kinds if narrow(dtype) else bool(xp.isdtype(dtype, kinds))


@lru_cache(32)
def library(xp: ModuleType) -> Library:
    """Name the library of a namespace."""
    words = xp.__name__.replace("array_api_compat.", "").split(".")
    return words[0] if words[0] in ("numpy", "cupy", "torch", "jax", "dask") else "other"  # type: ignore[return-value]


def flat(a: Array) -> Array:
    """Return the numbers of a NumPy array in order, aligned, of native byte order: as kernels read them, copied if need be."""
    flags = a.flags
    if not (flags.c_contiguous and flags.aligned and a.dtype.isnative):
        a = np.require(a, a.dtype.newbyteorder("="), ["C", "A"])
    return a.reshape(-1)


def _of_kind(kinds: tuple[str, ...], needed: str, arrays: dict[str, Array]) -> tuple[Any, ...]:
    if (dtypes := _plain_dtypes(arrays.values())) and dtypes[0] in _NATIVE and dtypes.count(dtypes[0]) == len(dtypes):
        return np, *arrays.values()
    if (alike := _on_one_gpu(arrays.values())) and alike[1] and "real floating" in kinds and device(alike[0], alike[1]) == "cuda":
        return alike[0], *arrays.values()
    xp = namespace(**arrays)
    given = {name: a for name, a in arrays.items() if a is not None}
    dtypes = [a.dtype for a in given.values()]
    for name, a in given.items():
        if not is_of(xp, a.dtype, kinds):
            raise TypeError(f"{name} has dtype {a.dtype}; needed {needed}")
    if len({is_of(xp, d, ("integral",)) for d in dtypes}) > 1:
        raise TypeError(f"integers and floats do not mix: {', '.join(f'{n} is {a.dtype}' for n, a in given.items())}")
    try:
        common = xp.result_type(*given.values())
    except TypeError as error:  # NumPy's and CuPy's, of float16 and bfloat16
        raise TypeError(f"dtypes without a common one: {', '.join(f'{n} is {a.dtype}' for n, a in given.items())}") from error
    of_xp = (xp.asarray(a) if isinstance(a, _NUMPY) else a for a in arrays.values())
    return xp, *(a if a is None else xp.astype(a, common, copy=False) for a in of_xp)


def _plain_dtypes(arrays: Iterable[Array]) -> list[Any]:
    """Return the dtypes of arrays that are all NumPy's own (None is skipped), else none: the common case, in one go."""
    dtypes = []
    for a in arrays:
        if type(a) is np.ndarray:
            dtypes.append(a.dtype)
        elif a is not None:
            return []
    return dtypes


def _on_one_gpu(arrays: Iterable[Array]) -> tuple[ModuleType, Any] | None:
    """Return the namespace of arrays that are all CuPy's own, on the current GPU (None is skipped), and their dtype, if one.

    The common case there: with their common dtype, three arrays of the tests' stand-in take 7 us so, and 190 one check at a time.
    """
    if (cupy := sys.modules.get("cupy")) is None:
        return None
    given = [a for a in arrays if a is not None]
    if not given or any(type(a) is not cupy.ndarray for a in given):
        return None
    first, *rest = given
    current = cupy.cuda.Device().id
    if any(a.device.id != current for a in given):
        return None
    return _namespace_of_type(type(first), first), first.dtype if all(a.dtype == first.dtype for a in rest) else None


def _on_current_device(devices: dict[str, Any]) -> None:
    """Refuse arrays on another GPU than the one where CuPy computes and puts its results, which CuPy itself half does."""
    current = sys.modules["cupy"].cuda.Device()
    for name, device in devices.items():
        if device.id != current.id:
            raise TypeError(
                f"{name} is on {device}; needed CuPy's current device, {current}, or `with {name}.device:` around the call"
            )


_SPACES: dict[type, ModuleType] = {}


def _namespace_of_type(kind: type, a: Array) -> ModuleType:
    """Return the namespace of an array, asked for once for each type: for types whose namespace depends on nothing else."""
    if kind not in _SPACES:
        _SPACES[kind] = array_api_compat.array_namespace(a)
    return _SPACES[kind]


def _namespace_of(a: Array) -> ModuleType:
    return np if isinstance(a, _NUMPY) else array_api_compat.array_namespace(a)


def _named(a: Any) -> str:
    cls = type(a)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__.partition('.')[0]}.{cls.__name__}"
