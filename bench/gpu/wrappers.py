"""The PTX wrappers and the struct of a launch: what this GPU makes of known numbers, held to the definition and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.cuda_emulator import conformance


def run(cupy: Any, golden: Path | None) -> dict[str, Any]:
    """Run every wrapper's kernel; write `golden`, which the emulator's tests replay once it lies beside them."""
    found = conformance.outputs(cupy, cupy.asarray(np.zeros(1)))
    wrong = {f"wrapper {name}": how for name, how in conformance.disagreements(found, conformance.expected()).items()}
    if golden is not None:
        np.savez_compressed(golden, **found)
    return {"kernels": len(found), "wrong": wrong}
