"""What the CPU engine is to reach, each goal beside the value measured, met or not; and floors under which a run complains.

All but the start-up times are ratios within one run: how many times as long the fastest peer took.
"""

from collections.abc import Callable
from math import exp, log
from typing import Any, NamedTuple

FLOORS = {"nets": 1.0, "float64": 1.0, "filters": 1.0, "signals": 1.0, "transposed": 1.0, "training": 1.0}
Row = dict[str, Any]


class Goal(NamedTuple):
    """A line of the table; `key` finds the words on what bounds it in `notes.py`, `met` is None where nothing was measured."""

    key: str
    what: str
    needed: str
    measured: str
    met: bool | None


def geometric_mean(values: list[float]) -> float:
    """Return the mean that suits ratios: twice as fast and half as fast make 1."""
    return exp(sum(map(log, values)) / len(values))


def under_floors(rows: list[Row]) -> list[str]:
    """Say in words which rows ran under the floor of their table."""
    return [
        f"{describe(row)} ran at {row['ratio']:.2f} of the speed of {row['best']}; the floor is {FLOORS[row['table']]:.2f}"
        for row in rows
        if row.get("ratio") and row["ratio"] < FLOORS.get(row["table"], 0)
    ]


def describe(row: Row) -> str:
    """Name a row in words."""
    dtype = row["dtype"] if row["table"] in ("filters", "signals") else None
    return ", ".join(part for part in (row["table"], row["row"], row.get("contraction"), dtype) if part)


def goals(rows: list[Row], peaks: dict[str, float]) -> list[Goal]:
    """Return all goals in order."""
    return [*_nets(rows), *_one_channel(rows), *_others(rows), *_training(rows), *_roofline(rows, peaks), *_start(rows)]


def _nets(rows: list[Row]) -> list[Goal]:
    found = []
    for name, word, needed in (("y", "forward", 2.0), ("x", "input gradient", 2.0), ("w", "weight gradient", 1.7)):
        mine = [row for row in _of(rows, "nets") if row["contraction"] == name]
        found.append(_mean(f"nets {name}", f"layers of networks, {word}", mine, needed))
    nets = _of(rows, "nets")
    below = sorted((row["ratio"], f"{row['row']} {row['contraction']}") for row in nets if row["ratio"] < 1)
    if not nets:
        measured = ""
    elif below:
        measured = f"{len(below)} of {len(nets)} below; the least: " + ", ".join(f"{name} {r:.2f}" for r, name in below[:3])
    else:
        measured = f"none below; the least {min(row['ratio'] for row in nets):.2f}"
    return [*found, _goal("nets each", "layers of networks, forward and gradients", "1.0 each", measured, not below)]


def _one_channel(rows: list[Row]) -> list[Goal]:
    filters, signals = _of(rows, "filters"), _of(rows, "signals")
    return [
        _least("filters small", "filters below 31 x 31", [row for row in filters if row["size"] < 31], 1.5),
        _least("filters large", "filters of 31 x 31 and above", [row for row in filters if row["size"] >= 31], 1.0),
        _least("signals short", "signals below 200 taps", [row for row in signals if row["size"] < 200], 3.0),
        _least("signals long", "signals of 200 taps and above", [row for row in signals if row["size"] >= 200], 1.0),
    ]


def _others(rows: list[Row]) -> list[Goal]:
    return [
        _mean("transposed", "transposed convolution, forward and gradients", _of(rows, "transposed"), 1.5),
        _mean("float64", "layers of networks in float64", _of(rows, "float64"), 5.0),
    ]


def _training(rows: list[Row]) -> list[Goal]:
    steps = {row["row"]: row for row in _of(rows, "training")}
    needed = {"autoencoder": 1.7, "VAE": 1.7, "SimCLR": 1.7, "autoencoder, fresh memory": 2.0}
    return [
        _least(f"training {name}", f"training step, {name}", [steps[name]] if name in steps else [], goal)
        for name, goal in needed.items()
    ]


def _roofline(rows: list[Row], peaks: dict[str, float]) -> list[Goal]:
    """Layers that memory cannot slow down: those with more flops per byte than the machine's own balance."""
    ours = [row for row in rows if row["table"] == "nets" and row["work"] / row["bytes"] > peaks["float32"] / peaks["bandwidth"]]
    told = [row for row in ours if row["plan"].get("method")]
    winograd = [row for row in told if "winograd" in row["plan"]["method"]]
    direct = [row for row in (told or ours) if "direct" in row["plan"].get("method", "direct")]

    def share(chosen: list[Row], needed: float, key: str, what: str) -> Goal:
        shares = [row["work"] / row["ours"] / peaks["float32"] for row in chosen]
        measured = f"{geometric_mean(shares):.0%} ({min(shares):.0%} to {max(shares):.0%})" if shares else ""
        return _goal(key, what, f"{needed:.0%} of the peak", measured, bool(shares) and geometric_mean(shares) >= needed)

    return [
        share(direct, 0.85, "roofline direct", "direct layers that memory does not bound"),
        share(winograd, 1.0, "roofline winograd", "Winograd layers, in flops of the direct method"),
    ]


def _start(rows: list[Row]) -> list[Goal]:
    found = next((row for row in rows if row["table"] == "start"), None)
    limits: list[tuple[str, str, str, str, float]] = [
        ("import", "import numconv, NumPy included", "warm", "import", 0.15),
        ("first warm", "first call, from a warm cache", "warm", "first", 0.6),
        ("first cold", "first call, nothing compiled", "cold", "first", 8.0),
        ("tiny", "a call on tiny arrays", "warm", "tiny", 20e-6),
    ]
    write: Callable[[float], str] = lambda t: f"{t * 1e6:.0f} us" if t < 1e-3 else f"{t:.2f} s"  # noqa: E731
    return [
        _goal(key, what, write(limit), write(found[when][name]) if found else "", bool(found) and found[when][name] <= limit)
        for key, what, when, name, limit in limits
    ]


def _mean(key: str, what: str, rows: list[Row], needed: float) -> Goal:
    values = [row["ratio"] for row in rows]
    measured = f"{geometric_mean(values):.2f} ({min(values):.2f} to {max(values):.2f})" if values else ""
    return _goal(key, what, f"{needed:.1f} mean", measured, bool(values) and geometric_mean(values) >= needed)


def _least(key: str, what: str, rows: list[Row], needed: float) -> Goal:
    least = min(rows, key=lambda row: row["ratio"], default=None)
    if not least:
        return _goal(key, what, f"{needed:.1f}", "", met=False)
    where = f" ({least['row']}, {least['dtype']})" if len(rows) > 1 else ""
    each = " each" if len(rows) > 1 else ""
    return _goal(key, what, f"{needed:.1f}{each}", f"{least['ratio']:.2f}{where}", least["ratio"] >= needed)


def _goal(key: str, what: str, needed: str, measured: str, met: bool) -> Goal:
    return Goal(key, what, needed, measured or "not measured", met if measured else None)


def _of(rows: list[Row], table: str) -> list[Row]:
    return [row for row in rows if row["table"] == table and row.get("ratio")]
