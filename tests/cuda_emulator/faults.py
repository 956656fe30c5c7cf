"""Faults planted into a kernel's text, to see that the cases which the true text passes catch each of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def plant(
    folder: Path,
    run: Callable[..., None],
    text: str,
    fault: tuple[str, str] | None,
    *more: object,
    crashes: tuple[int, ...] = (signal.SIGSEGV,),
) -> None:
    """Fail unless a fault is caught, or, for no fault, nothing is found.

    Parameters
    ----------
    folder : Path
        Where to write the text.
    run : function
        Of the path of a text, and of `more`: it holds the text against cases, and prints "nothing found" or exits with
        "caught: ...". It may crash, so it runs in a process of its own.
    text : str
        The kernel's.
    fault : tuple of str, optional
        What to replace in it, and by what; None for no fault.
    *more
        Further arguments of `run`, with a `repr` that says all.
    crashes : tuple of int
        Signals that are an end as good as an exit: a read past guarded memory, an abort of the emulator.
    """
    old, new = fault or ("", "")
    assert old in text, "the source has changed: plant this fault anew"
    (path := folder / "planted.cu").write_text(text.replace(old, new))
    code = f"from {run.__module__} import {run.__name__} as run; run{(str(path), *more)!r}"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    if fault is None:
        assert ended.stdout == "nothing found\n", ended.stderr
    else:
        assert -ended.returncode in crashes or ended.stderr.startswith("caught:"), ended.stdout + ended.stderr
