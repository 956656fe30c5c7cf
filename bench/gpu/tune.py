"""What each plan takes on this GPU: the table by which numconv chooses, to be put into `numconv/conv/cuda/tables/`."""

from __future__ import annotations

import time
from collections import defaultdict
from itertools import product
from statistics import median
from typing import Any

from numconv.conv.cuda import by, measured, tuning

from .checks import GIVEN
from .times import KINDS, arrays, geometry_of, layers


def run(cupy: Any, until: float, *, small: bool) -> dict[str, Any]:
    """Time the plans of every layer, kind, memory order and contraction until the clock says `until`; make the table."""
    rows, left_out, gpu, wrong = [], [], "", {}
    for kind, (name, layer), last in product(("fp32",) if small else KINDS, layers(small).items(), (False, True)):
        if time.monotonic() > until:
            left_out.append(f"{name}, {kind}, {'channels_last' if last else 'NCHW'}")
            continue
        dtype, precision, _ = KINDS[kind]
        g = geometry_of(layer)
        a, drawer = arrays(cupy, g, dtype, last), by(precision)
        for contraction, letters in GIVEN.items():
            given = (a[letters[0]], a[letters[1]])
            problem = drawer.problem(contraction, given, g)
            gpu = problem.device.name
            able = tuning.promising(problem, drawer.methods, measured.Table())  # by the predictions, which are put to the test
            try:
                rows += [_row(problem, found, seconds) for seconds, (_, found) in tuning.timed(problem, able, given)]
            except Exception as error:  # one problem's trouble is that problem's
                wrong[f"tuning {measured.key(problem)}"] = f"{type(error).__name__}: {error}"
    return {
        "rows": rows,
        "left_out": left_out,
        "file": f"{measured.slug(gpu)}.json",
        "table": table(rows).text,
        "wrong": wrong,
    }


def table(rows: list[dict[str, Any]]) -> measured.Table:
    """Return the fastest plan of each problem, and for each kind of plan the median of measured over predicted seconds."""
    ratios: dict[str, list[float]] = defaultdict(list)
    fastest: dict[str, tuple[float, str]] = {}
    for row in rows:
        ratios[row["factor"]].append(row["seconds"] / row["predicted"])
        fastest[row["problem"]] = min(fastest.get(row["problem"], (float("inf"), "")), (row["seconds"], row["plan"]))
    return measured.Table(
        {name: float(f"{median(each):.3g}") for name, each in ratios.items()},
        {name: plan for name, (_, plan) in fastest.items()},
    )


def _row(problem: Any, found: Any, seconds: float) -> dict[str, Any]:
    key, factor = measured.key(problem), measured.factor_key(problem, found)
    return {"problem": key, "factor": factor, "plan": found.name, "seconds": seconds, "predicted": found.seconds}
