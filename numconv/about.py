"""What this machine and this installation have, for `numconv info` and for reports of problems."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from . import __version__


def facts() -> Iterator[tuple[str, str]]:
    """Yield names and values, one line each."""
    import numba

    from ._simd import CPU_NAME, VECTOR_BYTES

    yield "numconv", __version__
    yield "Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "packages", ", ".join(f"{name} {_version(name)}" for name in ("numpy", "numba", "array-api-compat"))
    yield "training", ", ".join(f"{name} {_version(name)}" for name in ("safetensors", "scikit-learn", "matplotlib", "tqdm"))
    yield "CPU", f"{CPU_NAME}, {8 * VECTOR_BYTES}-bit vectors, {numba.get_num_threads()} of {os.cpu_count()} cores"
    yield "kernels kept in", numba.config.CACHE_DIR or "__pycache__ beside the sources (NUMBA_CACHE_DIR to change)"
    yield "GPU", _gpu()
    yield "data sets", ", ".join(f"{name} ({'here' if here else 'not here'})" for name, here in _data_sets())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def _gpu() -> str:
    if find_spec("cupy") is None:
        return "no CuPy (pip install 'numconv[cuda13]')"
    import cupy

    if not cupy.cuda.is_available():
        return f"CuPy {cupy.__version__}, but no GPU that it can use"
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    return f"{properties['name'].decode()}, CuPy {cupy.__version__}"


def _data_sets() -> Iterator[tuple[str, bool]]:
    if find_spec("sklearn") is None:
        yield "digits", False
        return
    from .train.data import NAMES, load

    for name in NAMES:
        try:
            load(name)
        except (OSError, ImportError, ValueError):
            yield name, False
        else:
            yield name, True
