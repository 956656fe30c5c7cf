"""The project's own tests that run on CuPy arrays, in a process of their own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SECONDS = 150  # most of them are compiled before; what takes longer is stopped and said so


def run(root: Path, *, quick: bool) -> dict[str, Any]:
    """Run them, `quick` only some: of the capabilities, which are CuPy's where there is a GPU."""
    needed = ("pytest", "hypothesis", "numba")  # the CPU's kernels are what results are compared with
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        return {"said": f"{' and '.join(missing)} not installed: not run"}
    which = "cupy and (conv1d or relu)" if quick else "cupy or torch_cuda"
    files = [str(root / "tests" / name) for name in ("test_capabilities.py", "test_torch_cuda.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:warnings", "-k", which, *files]
    try:
        environment = os.environ | {"COLUMNS": "400"}  # messages are cut to the width of the terminal
        ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment)
    except subprocess.TimeoutExpired:
        return {"said": "stopped", "wrong": {"tests": f"not done after {SECONDS} s"}}
    lines = ended.stdout.strip().splitlines() or ended.stderr.strip().splitlines()[-1:]
    failed = {f"test {line.split()[1]}": line.partition(" - ")[2] for line in lines if line.startswith(("FAILED", "ERROR"))}
    if ended.returncode and not failed:
        failed["tests"] = lines[-1]
    return {"said": lines[-1], "wrong": failed}
