"""From the results of a run to a page: `python -m bench.gpu.report RESULTS.json docs/benchmarks-gpu.md`."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HOW = """**How.** Seconds are medians over rounds of calls between two events on the GPU's own clock; sides take turns and rotate
through more arrays than the cache holds. A ratio is cuDNN's time over ours: more than 1 means that numconv was faster. cuDNN is
PyTorch's, with `cudnn.benchmark` on and its TF32 setting matched to the row, called as by default (NCHW) and with channels_last;
numconv is given arrays of the same memory order. Inputs are random.
"""


def page(results: dict[str, Any]) -> str:
    """Return the report in Markdown."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: dict[str, Any]) -> Iterator[str]:
    yield "# Benchmarks on a GPU\n"
    if results["emulated"]:
        yield "**A rehearsal on an emulator: no figure here is a GPU's.**\n"
    yield from _table(("", "this run"), results["about"].items(), "ll")
    wrong = results["wrong"]
    yield f"\n## What was wrong\n\n{'Nothing.' if not wrong else ''}"
    yield from (f"- {name}: {how}" for name, how in wrong.items())
    yield "\n## What was run\n"
    if "wrappers" in results:
        yield f"- {results['wrappers']['kernels']} outputs of the PTX wrappers, held to their definition"
    if "checks" in results:
        yield f"- {len(results['checks']['rows'])} contractions held to float64, each twice for the same bits"
    if "lending" in results:
        yield f"- PyTorch's tensors lent to the kernels: {results['lending']['said']}"
    if "tests" in results:
        yield f"- the test tree on CuPy arrays: {results['tests']['said']}"
    if "graph" in results:
        yield _graph(results["graph"])
    if "tune" in results:
        rows, left_out = results["tune"]["rows"], results["tune"]["left_out"]
        yield f"- {len(rows)} plans of {len({row['problem'] for row in rows})} problems timed, {len(left_out)} layers left out"
    yield "- seconds: " + ", ".join(f"{part} {seconds}" for part, seconds in results["seconds"].items())
    if "checks" in results:
        yield from _errors(results["checks"]["rows"])
    if "times" in results:
        yield from _times(results["times"])


def _graph(graph: dict[str, Any]) -> str:
    ours, replayed = (f"{1e3 * graph['seconds'][side]:.2f}" for side in ("eager", "graph"))
    return (
        f"- a training step of the autoencoder (batch {graph['batch']}) as a CUDA graph, {graph['steps']} replays held to eager "
        f"steps: {ours} ms eager, {replayed} ms replayed"
    )


def _errors(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the largest error of each dtype and precision."""
    worst: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        of = worst.setdefault((row["dtype"], row["precision"]), {})
        of[row["contraction"]] = max(of.get(row["contraction"], 0.0), row["error"])
    yield "\n## Errors\n\nNorm of the error over norm of the result, the largest of all shapes.\n"
    head = ("dtype", "precision", "contract_y", "contract_x", "contract_w")
    yield from _table(head, ((*key, *(f"{of[name]:.1e}" for name in head[2:])) for key, of in worst.items()), "llrrr")


def _times(times: dict[str, Any]) -> Iterator[str]:
    yield f"\n## Layers\n\n{HOW}"
    for name, value in times["ceilings"].items():
        yield f"- {name}: {value:.3g}"
    for kind in dict.fromkeys(row["kind"] for row in times["rows"]):
        rows = [row for row in times["rows"] if row["kind"] == kind]
        yield f"\n### {kind}\n"
        head = ("layer", "contraction", "numconv, µs", "TFLOP/s", "NCHW, µs", "ratio, channels_last", "ratio, NCHW", "with bias")
        yield from _table(head, map(_cells, rows), "llrrrrrr")
        for of in ("channels_last", "NCHW"):
            found = [r for row in rows if (r := _ratio(row["seconds"], of)) is not None]
            if found:
                yield f"\nGeometric mean of the ratios, {of}: {math.exp(sum(map(math.log, found)) / len(found)):.2f}."
    if times.get("training"):
        yield "\n## Training steps\n"
        rows = ((row["row"], row["batch"], *_step_cells(row["seconds"])) for row in times["training"])
        yield from _table(("network", "batch", "numconv, ms", "PyTorch, ms", "ratio"), rows, "lrrrr")
    if times["left_out"]:
        yield f"\n{len(times['left_out'])} rows were left out for want of time."


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    seconds = row["seconds"]
    ours = seconds["numconv channels_last"]
    ratios = (_ratio(seconds, of) for of in ("channels_last", "NCHW", "channels_last bias"))
    rate = f"{row['flops'] / ours / 1e12:.1f}"
    return (
        row["row"],
        row["contraction"],
        _us(ours),
        rate,
        _us(seconds["numconv NCHW"]),
        *("" if r is None else f"{r:.2f}" for r in ratios),
    )


def _step_cells(seconds: dict[str, float]) -> tuple[str, str, str]:
    ours, theirs = seconds["numconv"], seconds.get("PyTorch")
    return f"{1e3 * ours:.2f}", "" if theirs is None else f"{1e3 * theirs:.2f}", "" if theirs is None else f"{theirs / ours:.2f}"


def _ratio(seconds: dict[str, float], of: str) -> float | None:
    theirs = seconds.get(f"cuDNN {of}")
    return None if theirs is None else theirs / seconds[f"numconv {of}"]


def _us(seconds: float) -> str:
    return f"{1e6 * seconds:.1f}"


def _table(head: tuple[str, ...], rows: Any, align: str) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("--:" if side == "r" else "---" for side in align) + " |"
    for row in rows:
        yield "| " + " | ".join(map(str, row)) + " |"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(json.loads(Path(sys.argv[1]).read_text())))
