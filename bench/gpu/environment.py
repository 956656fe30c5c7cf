"""What the machine has, as words for the report; and what it lacks, found elsewhere or named."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "numpy", "torch", "scipy", "numba", "array-api-compat", "ml-dtypes")
VENDORED = ("scipy/_lib", "scipy/_external", "sklearn/externals")  # where copies of array-api-compat are


def lend_array_api_compat() -> None:
    """Let `import array_api_compat` find the copy that SciPy or scikit-learn carries, here and in processes started from here."""
    if importlib.util.find_spec("array_api_compat") is not None:
        return
    for place in VENDORED:
        package, _, inside = place.partition("/")
        spec = importlib.util.find_spec(package)
        for root in spec.submodule_search_locations or () if spec else ():
            copy = Path(root) / inside / "array_api_compat"
            if copy.is_dir():
                folder = tempfile.mkdtemp()
                (Path(folder) / "array_api_compat").symlink_to(copy)
                sys.path.append(folder)
                os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), folder)))
                return
    raise SystemExit("array-api-compat is missing, and neither SciPy nor scikit-learn has a copy: pip install array-api-compat")


def no_gpu() -> str | None:
    """Say why there is no GPU to use; nothing if there is one."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    import cupy

    return None if cupy.cuda.is_available() else f"CuPy {cupy.__version__} finds no GPU that it can use"


def facts(emulated: bool) -> dict[str, str]:
    """Return names and values of all that a figure depends on."""
    from numconv import _nvrtc

    return {
        "GPU": "none: emulated on the CPU" if emulated else _gpu(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {v}" for name in PACKAGES if (v := _version(name))),
        "NVRTC": _nvrtc.missing() or ".".join(map(str, _nvrtc.version())),
        "cuDNN": _cudnn(),
        "code": f"commit {_commit()}",
        "date": date.today().isoformat(),
    }


def _gpu() -> str:
    import cupy

    p = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    driver = cupy.cuda.runtime.driverGetVersion()
    return (
        f"{p['name'].decode()}, compute capability {p['major']}.{p['minor']}, {p['multiProcessorCount']} multiprocessors, "
        f"{p['totalGlobalMem'] / 2**30:.0f} GiB; driver for CUDA {driver // 1000}.{driver % 1000 // 10}"
    )


def _cudnn() -> str:
    if (torch := torch_on_gpu()) is None:
        return "no PyTorch with CUDA"
    return f"{torch.backends.cudnn.version()}, through PyTorch {torch.__version__}"


def torch_on_gpu() -> Any:
    """Return PyTorch if it can use a GPU."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch if torch.cuda.is_available() else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str:
    asked = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
