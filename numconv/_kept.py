"""What is kept between processes, and may be lost: machine code of kernels, and which of them was the fastest."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path


@cache
def folder() -> Path:
    """Return where it is kept: a folder of this user's, or of this process where there is no home to write to."""
    chosen = os.environ.get("NUMCONV_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    found = Path(chosen) / "numconv" / "cuda"
    try:
        found.mkdir(parents=True, exist_ok=True)
        if os.access(found, os.W_OK):
            return found
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="numconv-cuda-"))


def keep(path: Path, content: bytes) -> None:
    """Write a file, all of it or nothing: another process may be reading the same name."""
    handle, beside = tempfile.mkstemp(dir=path.parent)
    try:
        with open(handle, "wb") as file:
            file.write(content)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
