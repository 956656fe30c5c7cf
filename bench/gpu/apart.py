"""Each part in a process of its own: an error that spoils CUDA for a process, a crash or a hang costs no other part anything."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GRACE = 90.0  # seconds that a part may take beyond the minutes it is given
RESTARTS = 12  # of a part that ends early, which says where to go on


def run(parts: list[str], out: Path, minutes: float, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Run the parts one after another and return all results; what is known is saved after each process."""
    begin, merged = time.monotonic(), {"about": {}, "emulated": False, "wrong": {}, "seconds": {}}
    for part in parts:
        first: int | None = 0
        for _ in range(RESTARTS):
            left = max(0.0, minutes - (time.monotonic() - begin) / 60)
            merge(merged, part, _process(part, out, left, first or 0))
            save(merged)
            first = merged.get(part, {}).pop("next", None)
            if first is None:
                break
    return merged


def merge(merged: dict[str, Any], part: str, found: dict[str, Any]) -> None:
    """Add what a process found to what is known: rows to rows, the rest is the latest."""
    merged["about"] = found.get("about") or merged["about"]
    merged["wrong"].update(found["wrong"])
    merged["seconds"][part] = round(merged["seconds"].get(part, 0) + found.get("seconds", {}).get(part, 0), 1)
    if part in found:
        rows = merged.get(part, {}).get("rows", [])
        merged[part] = found[part]
        if "rows" in found[part]:
            merged[part]["rows"] = rows + found[part]["rows"]


def _process(part: str, out: Path, minutes: float, first: int) -> dict[str, Any]:
    """Run one part; what it was ended by, if it left no results."""
    (results := out / "gpu.json").unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.gpu", "--parts", part, "--out", str(out), "--minutes", f"{minutes:.3f}"]
    print(f"{part} ...", flush=True)
    try:
        ended = subprocess.run(
            [*command, "--first", str(first)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60 * minutes + GRACE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"wrong": {part: f"stopped after {60 * minutes + GRACE:.0f} s"}}
    if results.is_file():
        return json.loads(results.read_text())  # type: ignore[no-any-return]
    said = ended.stderr.strip().splitlines()[-1:] or ["nothing said"]
    return {"wrong": {part: f"the process ended with {ended.returncode}: {said[0]}"}}
