"""`python -m bench.gpu`: prove the wrappers, check every kernel, run the tests on CuPy arrays, replay a step, time; one report.

It needs this checkout and CuPy; what else is there (PyTorch, pytest, SciPy) is used, what is not is named. On a GPU each part is
a process of its own. `--emulate` rehearses all of it without one: then no time in the report is a GPU's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PARTS = ("wrappers", "checks", "lending", "tests", "graph", "times", "tune")
MODULES = {"tests": "suite"}  # where a part is not called by its name


def main(arguments: list[str] | None = None) -> int:
    """Run the parts asked for and write the report; 1 if anything was wrong."""
    asked = _parser().parse_args(arguments)
    sys.path[:0] = [str(ROOT), str(ROOT / "bench"), str(ROOT / "tests")]
    from . import environment

    environment.lend_array_api_compat()
    if not asked.emulate and (why := environment.no_gpu()):
        print(f"{why}; --emulate rehearses without one", file=sys.stderr)
        return 2
    from tests.cuda_emulator.stand_in import stand_in

    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.emulate or len(asked.parts) == 1:
        with stand_in() if asked.emulate else nullcontext():
            results = _results(asked)
        said = _save(asked.out, results)
    else:
        from . import apart

        results = apart.run(asked.parts, asked.out, asked.minutes, lambda found: _save(asked.out, found))
        said = _save(asked.out, results)
    print(said)
    return 1 if results["wrong"] else 0


def _save(out: Path, results: dict[str, Any]) -> str:
    """Write the results and the report, and return it."""
    from .report import page

    (out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
    if (tuned := results.get("tune", {})).get("rows"):
        (out / tuned["file"]).write_text(tuned["table"])
    (out / "benchmarks-gpu.md").write_text(text := page(results))
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--emulate", action="store_true", help="rehearse on the emulator: everything but the times is real")
    parser.add_argument("--out", type=Path, default=Path("bench-gpu"), metavar="FOLDER", help="where to write the report")
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=f"some of {', '.join(PARTS)}"
    )
    parser.add_argument("--first", type=int, default=0, metavar="N", help="which of the checks to begin with (default 0)")
    parser.add_argument("--minutes", type=float, default=8.0, help="when to stop timing further rows (default 8)")
    return parser


def _results(asked: argparse.Namespace) -> dict[str, Any]:
    """Run the parts in order. A part that fails as a whole is reported as wrong, and the next one runs."""
    import cupy

    from . import environment

    begin, wrong = time.monotonic(), {}
    results: dict[str, Any] = {"about": environment.facts(asked.emulate), "emulated": asked.emulate, "wrong": wrong}
    for part in asked.parts:
        print(f"{part} ...", flush=True)
        since = time.monotonic()
        try:
            results[part] = _part(part, cupy, asked, begin + 60 * asked.minutes)
        except Exception as error:  # whatever it is, the parts after it are worth their minutes
            wrong[part] = f"{type(error).__name__}: {error}"
        else:
            wrong.update(results[part].get("wrong", {}))
        results.setdefault("seconds", {})[part] = round(time.monotonic() - since, 1)
    return results


def _part(part: str, cupy: Any, asked: argparse.Namespace, until: float) -> dict[str, Any]:
    run = import_module(f"bench.gpu.{MODULES.get(part, part)}").run  # one by one: what one part lacks, stops no other
    if part == "wrappers":
        return run(cupy, None if asked.emulate else asked.out / "golden.npz")
    if part == "tests":
        return run(ROOT, quick=asked.emulate)
    if part in ("times", "tune"):
        return run(cupy, until, small=asked.emulate)
    if part == "checks":
        return run(cupy, small=asked.emulate, first=asked.first)
    return run(cupy, small=asked.emulate)


if __name__ == "__main__":
    sys.exit(main())
