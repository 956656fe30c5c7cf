"""The words and tables of docs/benchmarks.md and docs/why-convolution.md, made of the results of a run."""

from typing import Any

from goals import describe, geometric_mean, goals, under_floors
from notes import BOUNDS

Results = dict[str, Any]
Row = dict[str, Any]

HOW = """\
**How.** Each row is one call of numconv beside the same work of every peer, checked to agree with it, in one process, on
equally many threads. Sides take turns: a block of calls each, after a pause in which the other's threads stop spinning, and a
call that is not timed. A time is the median of its blocks' medians; a ratio is the median over pairs of blocks of the fastest
peer's time over ours, so more than 1 means that numconv was faster. Compilation and first calls are timed apart, under
[start](#start). numconv is taken as it plans by itself: no method or tile is picked after measuring. Peers run as they come,
but for the number of threads. A peer that needs more than a second a call, or more than 4 GiB, is left out and named.

**Memory.** Freed memory is kept for both sides (glibc's `mallopt`), because fresh memory costs page faults that can exceed
the arithmetic. One row of [training](#training) is measured on fresh memory, which is what users have."""


def benchmarks(results: Results) -> str:
    """Return the page of all tables."""
    about, rows = results["about"], results["rows"]
    missing = f"\n\nNot installed, and so not compared: {', '.join(about['missing'])}." if about["missing"] else ""
    quick = "\n\n**A quick run: a few rows of every table, fewer blocks each.**" if about["quick"] else ""
    parts = [
        "# Benchmarks",
        "How fast the CPU kernels are, beside the libraries one would use instead. `nox -s bench` writes this page.",
        _table(["", "this run"], [[name, value] for name, value in about["facts"].items()]) + missing + quick,
        HOW,
        _goals(rows, about["peaks"]),
        *(section for section in (make(rows) for make in SECTIONS) if section),
        _peaks(about["peaks"]),
    ]
    return "\n\n".join(parts) + "\n"


def complaints(results: Results) -> list[str]:
    """Say which ratios are under their floor, and which benchmarks did not run."""
    low, failed = under_floors(results["rows"]), results["about"]["failed"]
    lines = [f"under its floor: {line}" for line in low] or ["no ratio is under its floor"]
    return [*lines, *(f"did not run: {name}" for name in failed)]


def _goals(rows: list[Row], peaks: dict[str, float]) -> str:
    found = goals(rows, peaks)
    said = {True: "yes", False: "**no**", None: ""}
    table = _table(["goal", "needed", "measured", "met"], [[g.what, g.needed, g.measured, said[g.met]] for g in found])
    unmet = [f"- {g.what}: {BOUNDS.get(g.key, 'what bounds it is not known yet.')}" for g in found if g.met is False]
    bounds = "\n\n".join(["### What bounds those not met", "\n".join(unmet)]) if unmet else ""
    return "\n\n".join(
        part
        for part in (
            "## Goals",
            "How many times as fast as the best peer, unless a time or a share is named; means are geometric.",
            table,
            bounds,
        )
        if part
    )


def _nets(rows: list[Row]) -> str:
    mine = _of(rows, "nets")
    if not mine:
        return ""
    text = (
        "Layers of networks in float32: the convolution and both of its gradients. Rows marked * were not used while "
        "kernels were tuned. GFLOP/s count the multiplications of the direct method, whatever the method."
    )
    return _section("Layers of networks", text, "nets", "Speed beside the best peer, layer by layer", _contractions(mine))


def _roofline(rows: list[Row]) -> str:
    if not _of(rows, "nets"):
        return ""
    text = (
        "The same layers against what this machine can do, both measured in the same run: multiply-adds in registers, and "
        "streaming from memory. Winograd's method needs fewer multiplications than it is credited with, and so can pass "
        "the roof."
    )
    return _section("Roofline", text, "roofline", "GFLOP/s against flops per byte")


def _filters(rows: list[Row]) -> str:
    text = 'One image of 1024 x 1024, one channel, zeros outside; `conv2d(..., padding="same")`. Milliseconds.'
    return _one_channel(rows, "filters", "Filters", text, "Time of a filter against its taps")


def _signals(rows: list[Row]) -> str:
    text = "A signal of a million samples; `conv1d`, where taps and signal overlap fully. Milliseconds."
    return _one_channel(rows, "signals", "Signals", text, "Time of a filter against its taps")


def _sizes(rows: list[Row]) -> str:
    text = "One image with 64 channels to 64 channels under 3 x 3 taps, as the image grows. Milliseconds."
    return _one_channel(rows, "sizes", "Time against size", text, "Time against the side of the image")


def _transposed(rows: list[Row]) -> str:
    mine = _of(rows, "transposed")
    if not mine:
        return ""
    names = list(dict.fromkeys(row["row"] for row in mine))
    lines = []
    for name in names:
        by = {row["contraction"]: row for row in mine if row["row"] == name}
        lines.append([name, *(_cell(by.get(which)) for which in ("forward", "dx", "dw"))])
    table = _table(["layer", "forward", "dx", "dw"], lines)
    return "\n\n".join(["## Transposed convolution", "Milliseconds, and in brackets times as fast as the best peer.", table])


def _float64(rows: list[Row]) -> str:
    mine = _of(rows, "float64")
    if not mine:
        return ""
    text = "The layers of networks again, in double precision."
    return _section("Float64", text, "float64", "Speed in float64 beside the best peer", _contractions(mine))


def _training(rows: list[Row]) -> str:
    mine = _of(rows, "training")
    if not mine:
        return ""
    text = (
        "One step of `train.fit` beside the same network, first weights and optimiser (Adam) in PyTorch, eager: batches "
        "of 128 images of 28 x 28, the next batch cut out of the data included, and for SimCLR both random views. "
        "Milliseconds a step."
    )
    lines = [[row["row"], _ms(row["ours"]), *_theirs(row)] for row in mine]
    table = _table(["network", "numconv", "PyTorch", "times as fast"], lines)
    return _section("Training", text, "training", "Images a second in training", table)


def _start(rows: list[Row]) -> str:
    mine, tiny = _of(rows, "start"), _of(rows, "tiny")
    if not mine:
        return ""
    text = "A new process imports NumPy and numconv, convolves a tiny image, then takes a convolution and its gradients."
    names = {
        "numpy": "import NumPy",
        "import": "import numconv, NumPy included",
        "first": "first call",
        "gradients": "first gradients",
    }
    lines = [[word, *(f"{mine[0][when][name]:.2f} s" for when in ("cold", "warm"))] for name, word in names.items()]
    table = _table(["", "nothing compiled", "warm cache"], lines)
    for row in tiny:
        peers = ", ".join(f"{name} {t * 1e6:.0f} µs" for name, t in row["peers"].items())
        table += f"\n\nA call on one image of 8 x 8 takes {row['ours'] * 1e6:.0f} µs ({peers})."
    return _section("Start", text, "start", "Seconds until the first results", table)


def _workspace(rows: list[Row]) -> str:
    mine = _of(rows, "workspace")
    if not mine:
        return ""
    text = (
        "Memory that one convolution asks for beyond its arguments and its result: the growth of the peak of a process of its "
        "own during a second call. Laying out all windows (im2col) is what both avoid. MiB."
    )
    libraries = list(mine[0]["bytes"])
    lines = []
    for row in mine:
        numbers = (*row["bytes"].values(), row["plan"]["workspace"], row["windows"], row["data"])
        lines.append([row["row"], *map(_mib, numbers)])
    table = _table(["layer", *libraries, "all windows", "x, w and y"], lines)
    return _section("Workspace", text, "workspace", "Memory of one call", table)


def _rooms(rows: list[Row]) -> str:
    mine = _of(rows, "rooms")
    if not mine:
        return ""
    lines = [[row["row"], _ms(row["ours"]), *_theirs(row)] for row in mine]
    table = _table(["forward and backward", "numconv", "PyTorch", "times as fast"], lines)
    return "\n\n".join(
        [
            "## Other rooms",
            "A function and its gradient together, on maps of 64 x 32 x 28 x 28 or rows of 784. Milliseconds.",
            table,
        ]
    )


def _accuracy(rows: list[Row]) -> str:
    mine = _of(rows, "accuracy")
    if not mine:
        return ""
    lines = [
        [
            row["row"],
            row["method"],
            _ms(row["ours"]),
            f"{row['work'] / row['ours'] / 1e9:.0f}",
            f"{row['error']:.1e}",
            f"{row['rms']:.1e}",
            f"{row['plan']['error']:.1e}" if isinstance(row["plan"].get("error"), float) else "",
        ]
        for row in mine
    ]
    text = (
        "Each method against the definition in float64, in float32: the largest error beside the largest number, the root "
        "mean square error beside that of the numbers, and what `explain` announces for it."
    )
    table = _table(["layer", "method", "ms", "GFLOP/s", "largest error", "rms error", "announced"], lines)
    return "\n\n".join(["## Accuracy", text, table])


def _peaks(peaks: dict[str, float]) -> str:
    return (
        "## Measure it again\n\n"
        f"Peaks of this run: {peaks['float32'] / 1e9:.0f} GFLOP/s in float32, {peaks['float64'] / 1e9:.0f} in float64, "
        f"{peaks['bandwidth'] / 1e9:.0f} GB/s.\n\n"
        "    nox -s bench                    # everything; writes this page\n"
        "    nox -s bench -- --quick         # a few rows of every table, printed\n"
        "    nox -s bench -- -k filter       # a part, printed\n\n"
        "All numbers of this page are in [results.json](benchmarks/results.json)."
    )


SECTIONS = (
    _nets, _roofline, _filters, _signals, _sizes, _transposed, _float64, _training, _start, _workspace, _rooms, _accuracy,
)  # fmt: skip


def why_convolution(results: Results) -> str:
    """Return the page that measures what convolution saves."""
    rows = sorted(_of(results["rows"], "dense"), key=lambda row: row["size"])
    both = [row for row in rows if row["peers"]]
    last = both[-1]
    taps = last["conv_parameters"]
    lines = [
        [
            row["row"],
            f"{row['dense_parameters']:,}",
            f"{row['conv_parameters']}",
            _ms(row["peers"]["dense"]) if row["peers"] else f"({4 * row['dense_parameters'] / 2**30:,.0f} GiB of weights)",
            _ms(row["ours"]),
        ]
        for row in rows
    ]
    table = _table(["image", "parameters, dense", "convolution", "ms, dense", "convolution"], lines)
    facts = results["about"]["facts"]
    return f"""\
# Why convolution

A dense layer from an image of d pixels to one of d′ pixels has a weight for every pair: Θ(d d′) parameters, and as many
multiplications per image. Convolution assumes two things: what a pixel means depends on its neighbours, and on them in the same
way everywhere. Then all that remains of the matrix is one small filter of w taps: Θ(w) parameters, however large the image, and
Θ(d′ w) multiplications.

| | dense | convolution |
| --- | --- | --- |
| parameters | Θ(d d′) | Θ(w) |
| multiplications per image | Θ(d d′) | Θ(d′ w) |

Here both compute **the same linear map**: `linear(x, matrix)` with the matrix of the filter, and `conv2d(x, filter,
padding="same")` with a filter of {taps} taps; the run checks that they agree. Time is for 16 images, on {facts["CPU"]}.

![Time and parameters of a dense layer and of a convolution against the number of pixels](benchmarks/dense.svg)

{table}

At {last["row"]} the dense layer has {last["dense_parameters"] // taps:,} times as many parameters and takes
{last["ratio"]:,.0f} times as long. Twice the side is four times the pixels: four times the work for the convolution, sixteen
times for the dense layer, until its weights do not fit in memory. Small images show the other end: there the dense layer is
one small matrix product, and costs about as much. What so many parameters cost beyond time, examples to learn them from, no
timing shows.

[Benchmarks](benchmarks.md) says how times are measured. `nox -s bench -- -k dense` prints them for another machine.
"""


def _section(title: str, text: str, figure: str, alt: str, table: str = "") -> str:
    return "\n\n".join(part for part in (f"## {title}", text, f"![{alt}](benchmarks/{figure}.svg)", table) if part)


def _contractions(rows: list[Row]) -> str:
    """A line per layer: for each contraction how many times as fast, and the speed with the method planned."""
    lines = []
    for name in dict.fromkeys(row["row"] for row in rows):
        by = {row["contraction"]: row for row in rows if row["row"] == name}
        mine = [by.get(which) for which in "yxw"]
        marked = f"{name} \\*" if any(row and row.get("unseen") for row in mine) else name
        lines.append([marked, *(f"{row['ratio']:.2f}" if row and row["ratio"] else "" for row in mine), *map(_speed, mine)])
    means = [[row["ratio"] for row in rows if row["contraction"] == which and row["ratio"]] for which in "yxw"]
    lines.append(["**geometric mean**", *(f"**{geometric_mean(m):.2f}**" if m else "" for m in means), "", "", ""])
    table = _table(["layer", "y", "x", "w", "GFLOP/s: y", "x", "w"], lines)
    text = "How many times as fast as the best peer, then GFLOP/s. W: by Winograd's method, F: by Fourier transforms."
    return f"{text}\n\n{table}{_left_out(rows)}"


def _one_channel(rows: list[Row], table: str, title: str, text: str, alt: str) -> str:
    mine = _of(rows, table)
    if not mine:
        return ""
    libraries = list(dict.fromkeys(name for row in mine for name in [*row["peers"], *row["skipped"]]))
    lines = [
        [
            row["row"],
            row["dtype"],
            f"{row['ratio']:.2f}" if row["ratio"] else "",
            _ms(row["ours"]),
            *(_ms(row["peers"][name]) if name in row["peers"] else "" for name in libraries),
        ]
        for row in sorted(mine, key=lambda row: (row["dtype"], row["size"]))
    ]
    shown = _table(["size", "dtype", "times as fast", "numconv", *libraries], lines)
    return _section(title, text, table, alt, shown + _left_out(mine))


def _left_out(rows: list[Row]) -> str:
    words = [f"{describe(row).partition(', ')[2]}: {name}, {why}" for row in rows for name, why in row["skipped"].items()]
    return "\n\nLeft out: " + "; ".join(words) + "." if words else ""


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    return f"{_ms(row['ours'])} ({row['ratio']:.2f})" if row["ratio"] else _ms(row["ours"])


def _speed(row: Row | None) -> str:
    if row is None:
        return ""
    method = {"winograd": "\u00a0W", "fft": "\u00a0F"}.get(row["plan"].get("method", ""), "")  # a space that does not break
    return f"{row['work'] / row['ours'] / 1e9:.0f}{method}"


def _theirs(row: Row) -> list[str]:
    theirs = row["peers"].get("PyTorch")
    return [_ms(theirs), f"{row['ratio']:.2f}"] if theirs else ["", ""]


def _ms(t: float) -> str:
    return f"{t * 1e3:.3g}" if t < 1 else f"{t * 1e3:,.0f}"


def _mib(n: int) -> str:
    return f"{n / 2**20:,.1f}"


def _table(head: list[str], lines: list[list[str]]) -> str:
    ruler = ["---", *(["--:"] * (len(head) - 1))] if len(head) > 2 else ["---"] * len(head)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ruler, *lines))


def _of(rows: list[Row], table: str) -> list[Row]:
    return [row for row in rows if row["table"] == table]
