"""One row of a table: our call beside the same work of the peers, checked to agree, then timed in turns."""

from collections.abc import Callable
from statistics import median
from typing import Any

import numba
import numpy as np
import peers
from tables import Layer
from timing import Pace, Race, ratios, seconds

import numconv

LIMIT = 1.0  # seconds a call: slower peers are left out, by an estimate where there is one


class Measurement:
    """`race(ours, sides, table=..., row=...)` times both and keeps the result in the benchmark's `extra_info`."""

    def __init__(self, benchmark: Any, costs: dict, pace: Pace) -> None:
        self.benchmark, self.costs, self.pace = benchmark, costs, pace

    def __call__(
        self,
        ours: Callable[[], Any],
        sides: dict[str, peers.Side],
        *,
        table: str,
        row: str,
        dtype: str = "float32",
        work: int = 0,
        tolerance: float | None = 1e-3,
        **details: Any,
    ) -> dict[str, Any]:
        """Compare, time, record; `work` counts operations, `tolerance` is of the largest number (None: results are not alike)."""
        with peers.scipy_threads(numba.get_num_threads()):
            first, result = seconds(ours), ours()
            taking_part, skipped = self._choose(sides, (table, dtype), work, result, tolerance)
            turns = Race({"numconv": ours, **taking_part}, self.pace)
            blocks = self._run(turns)
        mine = blocks.pop("numconv")
        found = {
            "table": table,
            "row": row,
            "dtype": dtype,
            "work": work,
            "ours": median(mine),
            "first": first,
            "peers": {name: median(times) for name, times in blocks.items()},
            "skipped": skipped,
            **best(mine, blocks),
            **details,
        }
        self.benchmark.group = table
        self.benchmark.extra_info.update(found)
        for name, times in blocks.items():
            if sides[name].direct and work:
                self.costs[table, dtype, name] = median(times) / work
        return found

    def _choose(self, sides, key, work, result, tolerance):
        taking_part, skipped = {}, {}
        for name, side in sides.items():
            estimate = self.costs.get((*key, name), 0) * work if side.direct else 0
            if side.memory > peers.MEMORY:
                skipped[name] = f"would ask for {side.memory / 2**30:.0f} GiB"
            elif estimate > LIMIT:
                skipped[name] = f"about {estimate:.1f} s a call, by its rate at the row before"
            else:
                if tolerance is not None:
                    agree(name, result, side.call(), tolerance)
                else:
                    side.call()  # whatever a first call prepares
                if (once := seconds(side.call)) > LIMIT:
                    skipped[name] = f"{once:.1f} s a call"
                else:
                    taking_part[name] = side.call
        return taking_part, skipped

    def _run(self, turns: Race) -> dict[str, list[float]]:
        """Let pytest-benchmark time our calls; before the first of each of our blocks it is the others' turn."""
        ours, calls, rounds = turns.sides["numconv"], turns.calls["numconv"], 0

        def before_call():
            nonlocal rounds
            if rounds % calls == 0:
                for name in turns.sides:
                    if name != "numconv":
                        turns.turn(name)
                turns.ready("numconv")
            rounds += 1

        self.benchmark.pedantic(ours, setup=before_call, rounds=turns.turns["numconv"] * calls)
        times = self.benchmark.stats.stats.data
        turns.blocks["numconv"] = [median(times[i : i + calls]) for i in range(0, len(times), calls)]
        return turns.blocks


def best(ours: list[float], blocks: dict[str, list[float]]) -> dict[str, Any]:
    """Name the fastest peer; how many times as long it took as we: the median of pairs, and the middle half of them."""
    if not blocks:
        return {"best": None, "ratio": None}
    name = min(blocks, key=lambda peer: median(blocks[peer]))
    pairs = ratios(ours, blocks[name])
    return {"best": name, "ratio": median(pairs), "spread": [pairs[len(pairs) // 4], pairs[-1 - len(pairs) // 4]]}


def agree(name: str, ours: Any, theirs: Any, tolerance: float) -> None:
    """Refuse a time whose result is wrong."""
    for mine, other in zip(*(r if isinstance(r, (tuple, list)) else (r,) for r in (ours, theirs)), strict=True):
        other = np.asarray(other).reshape(np.shape(mine))
        error = np.max(np.abs(mine - other)) / max(np.max(np.abs(other)), 1e-30)
        assert error <= tolerance, f"numconv and {name} differ by {error:.1e} of the largest number"


def normals(*shapes: tuple[int, ...], dtype: Any = np.float32) -> list[np.ndarray]:
    """Return one array of standard normal numbers per shape, the same every time."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, np.dtype(dtype)) for shape in shapes]


def layer_arrays(layer: Layer, dtype: Any = "float32") -> list[np.ndarray]:
    """Return x, w and y of a layer."""
    x = layer.batch, layer.c_in, layer.height, layer.width
    w = layer.c_out, layer.c_in // layer.groups, layer.taps, layer.taps
    return normals(x, w, (layer.batch, layer.c_out, *layer.out), dtype=np.dtype(dtype))


def plan_of(f: Callable[..., Any], x: Any, w: Any, contraction: str = "forward", **settings: Any) -> dict[str, Any]:
    """Return what numconv plans for `forward`, `input_grad` or `weight_grad`: method, workspace, tile, expected error."""
    plan = getattr(numconv.explain(f, x, w, **settings), contraction)
    return {name: getattr(plan, name) for name in ("method", "workspace", "tile", "error")}
