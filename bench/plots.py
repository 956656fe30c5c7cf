"""The figures of the report: plain, labelled beside the marks, in colours that colour-blind readers tell apart, on white."""

from collections.abc import Callable
from math import log, log10
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

Row = dict[str, Any]
# Okabe and Ito's palette; ours is always the first.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY, INK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8a8a8a", "#333333",
)  # fmt: skip
COLOURS = {
    "numconv": BLUE, "PyTorch": RED, "OpenCV": GREEN, "ndimage.correlate": PURPLE, "oaconvolve": ORANGE,
    "fftconvolve": SKY, "np.convolve": GREEN, "lfilter": PURPLE, "JAX": GREY, "dense": RED, "convolution": BLUE,
}  # fmt: skip
CONTRACTIONS = {
    "y": (BLUE, "o", "convolution (y)"),
    "x": (ORANGE, "s", "input gradient (x)"),
    "w": (GREEN, "D", "weight gradient (w)"),
}
STYLE = {
    "figure.facecolor": "white", "axes.facecolor": "white", "savefig.facecolor": "white",
    "font.size": 9, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": "#b0b0b0", "axes.titlesize": 10,
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#e6e6e6", "grid.linewidth": 0.7, "axes.axisbelow": True, "xtick.color": INK, "ytick.color": INK,
    "xtick.major.size": 0, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
    "lines.linewidth": 1.6, "lines.markersize": 4.5, "svg.hashsalt": "numconv",
}  # fmt: skip


def draw(rows: list[Row], peaks: dict[str, float], folder: Path, suffix: str = "svg") -> list[str]:
    """Draw every figure that the rows have numbers for; return the names of those drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Callable[[list[Row]], Any]] = {
        "nets": ratios,
        "float64": ratios,
        "roofline": lambda chosen: roofline(chosen, peaks),
        "filters": lambda chosen: against_size(chosen, "taps along each side of the filter"),
        "signals": lambda chosen: against_size(chosen, "taps"),
        "sizes": lambda chosen: against_size(chosen, "height and width of the image"),
        "workspace": workspace,
        "training": training,
        "start": start,
        "dense": dense,
    }
    drawn = []
    with mpl.rc_context(STYLE):
        for name, figure in figures.items():
            chosen = [row for row in rows if row["table"] == ("nets" if name == "roofline" else name)]
            if chosen:
                figure(chosen).savefig(folder / f"{name}.{suffix}", metadata={"Date": None} if suffix == "svg" else None, dpi=110)
                plt.close("all")
                drawn.append(name)
    return drawn


def ratios(rows: list[Row]) -> Any:
    """Dots per layer: how many times as fast as the best peer."""
    names = list(dict.fromkeys(row["row"] for row in rows))
    fig, ax = plt.subplots(figsize=(7.6, 1.1 + 0.235 * len(names)), layout="constrained")
    unseen = {row["row"] for row in rows if row.get("unseen")}
    for row in rows:
        if row.get("ratio"):
            colour, marker, _ = CONTRACTIONS[row["contraction"]]
            ax.plot(row["ratio"], names.index(row["row"]), marker, color=colour, markersize=5.5, alpha=0.9)
    ax.axvline(1, color=INK, linewidth=1)
    ax.set_yticks(range(len(names)), [f"{name} *" if name in unseen else name for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    _log(ax, "x", [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100], _times)
    ax.set_xlabel("times as fast as the best peer; the line is equal speed" + ("   (* not used for tuning)" if unseen else ""))
    _words(ax, [(label, colour, marker) for colour, marker, label in CONTRACTIONS.values()])
    return fig


def roofline(rows: list[Row], peaks: dict[str, float]) -> Any:
    """Speed against flops per byte, under what memory and multiply-adds allow."""
    fig, ax = plt.subplots(figsize=(7.6, 4.3), layout="constrained")
    peak, bandwidth = peaks["float32"] / 1e9, peaks["bandwidth"] / 1e9
    points = [(row["work"] / row["bytes"], row["work"] / row["ours"] / 1e9, row) for row in rows]
    low, high = min(p[0] for p in points) / 1.6, max(p[0] for p in points) * 1.6
    ax.plot([low, peak / bandwidth, high], [low * bandwidth, peak, peak], color=INK, linewidth=1.2)
    for intensity, speed, row in points:
        colour, marker, _ = CONTRACTIONS[row["contraction"]]
        hollow = "winograd" in row.get("plan", {}).get("method", "")
        ax.plot(intensity, speed, marker, color=colour, markerfacecolor="white" if hollow else colour, alpha=0.9)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(low, high)
    _log(ax, "x", [1, 2, 5, 10, 20, 50, 100, 200, 500], _plain)
    _log(ax, "y", [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000], _plain)
    beside = {"textcoords": "offset points", "va": "top"}
    ax.annotate(f"multiply-add peak\n{peak:.0f} GFLOP/s", (peak / bandwidth, peak), (-8, 4), **beside, ha="right")
    turn = (low * peak / bandwidth) ** 0.5
    ax.annotate(f"memory {bandwidth:.0f} GB/s", (turn, turn * bandwidth), (8, -6), **beside)
    ax.set_xlabel("flops of the direct method per byte of x, w and y")
    ax.set_ylabel("GFLOP/s")
    hollow = any("winograd" in row.get("plan", {}).get("method", "") for row in rows)
    words: list[tuple[str, ...]] = [(label, colour, marker) for colour, marker, label in CONTRACTIONS.values()]
    _words(ax, [*words, ("hollow: Winograd", INK, "$\\circ$")] if hollow else words)
    return fig


def against_size(rows: list[Row], label: str) -> Any:
    """Time against size, a line per library, a panel per dtype."""
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows))
    size = (4.1 * len(dtypes) + 0.6, 3.6)
    fig, axes = plt.subplots(1, len(dtypes), figsize=size, layout="constrained", sharey=True, squeeze=False)
    for ax, dtype in zip(axes[0], dtypes, strict=True):
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in sorted((row for row in rows if row["dtype"] == dtype), key=lambda row: row["size"]):
            for name, t in {"numconv": row["ours"], **row["peers"]}.items():
                lines.setdefault(name, []).append((row["size"], t))
        _lines(ax, lines)
        ax.set_title(dtype)
        ax.set_xlabel(label)
        _sizes(ax, sorted({row["size"] for row in rows}))
    _log(axes[0][0], "y", [10.0**e for e in range(-6, 2)], _duration)
    return fig


def workspace(rows: list[Row]) -> Any:
    """Memory of one call beyond arguments and result, on a log axis."""
    fig, ax = plt.subplots(figsize=(7.6, 0.9 + 0.5 * len(rows)), layout="constrained")
    for i, row in enumerate(rows):
        marks = {**row["bytes"], "all windows laid out": row["windows"]}
        for name, value in marks.items():
            colour = COLOURS.get(name, GREY)
            ax.plot(max(value, 2**14) / 2**20, i, "o", color=colour, markersize=7)
    ax.set_yticks(range(len(rows)), [row["row"] for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.6)
    _log(ax, "x", [0.01, 0.1, 1, 10, 100, 1024, 10240], lambda v: f"{v:g} MiB" if v < 1024 else f"{v / 1024:g} GiB")
    ax.set_xlabel("memory asked for beyond arguments and result (16 KiB and less drawn as 16 KiB)")
    _words(ax, [("numconv", BLUE), ("PyTorch", RED), ("all windows laid out (im2col)", GREY)])
    return fig


def training(rows: list[Row]) -> Any:
    """Images a second, a pair of bars per network."""
    fig, ax = plt.subplots(figsize=(7.6, 0.8 + 0.62 * len(rows)), layout="constrained")
    for i, row in enumerate(rows):
        for offset, (name, t) in zip((-0.19, 0.19), {"numconv": row["ours"], **row["peers"]}.items(), strict=False):
            speed = row["images"] / t
            ax.barh(i + offset, speed, 0.36, color=COLOURS[name])
            beside = {"textcoords": "offset points", "va": "center", "color": COLOURS[name]}
            ax.annotate(f"{name} {speed:,.0f}", (speed, i + offset), (4, 0), **beside)
    ax.set_yticks(range(len(rows)), [row["row"] for row in rows])
    ax.invert_yaxis()
    ax.margins(x=0.22)
    ax.grid(axis="y", visible=False)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
    ax.set_xlabel("images a second in training, batches of 128")
    return fig


def start(rows: list[Row]) -> Any:
    """What a first program waits for, part after part."""
    parts = {
        "numpy": ("import NumPy", GREY),
        "import": ("import numconv", SKY),
        "first": ("first call", BLUE),
        "gradients": ("first gradients", ORANGE),
    }
    fig, ax = plt.subplots(figsize=(7.6, 1.9), layout="constrained")
    for i, (when, label) in enumerate((("warm", "from a warm cache"), ("cold", "nothing compiled"))):
        left, spans = 0.0, {**rows[0][when], "import": rows[0][when]["import"] - rows[0][when]["numpy"]}
        for name, (_, colour) in parts.items():
            ax.barh(i, spans[name], 0.55, left=left, color=colour)
            left += spans[name]
        ax.annotate(f"{left:.2f} s", (left, i), (4, 0), textcoords="offset points", va="center")
        ax.text(-0.01, i, label, transform=ax.get_yaxis_transform(), ha="right", va="center")
    ax.set_yticks([])
    ax.margins(x=0.1)
    ax.set_xlabel("seconds since the interpreter started the program")
    _words(ax, list(parts.values()))
    return fig


def dense(rows: list[Row]) -> Any:
    """The same linear map twice: time, and parameters."""
    rows = sorted(rows, key=lambda row: row["size"])
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.6), layout="constrained")
    times = {
        "convolution": [(row["size"] ** 2, row["ours"]) for row in rows],
        "dense": [(row["size"] ** 2, row["peers"]["dense"]) for row in rows if row["peers"]],
    }
    counts = {
        "convolution": [(row["size"] ** 2, row["conv_parameters"]) for row in rows],
        "dense": [(row["size"] ** 2, row["dense_parameters"]) for row in rows],
    }
    for ax, lines, title in ((left, times, "time for 16 images"), (right, counts, "parameters")):
        _lines(ax, lines)
        ax.set_title(title)
        ax.set_xlabel("pixels of the image")
        _log(ax, "x", [100, 1000, 10_000, 100_000], lambda v: f"{v:,.0f}")
    _log(left, "y", [10.0**e for e in range(-6, 2)], _duration)
    _log(right, "y", [10.0**e for e in range(1, 12, 2)], lambda v: f"$10^{{{log10(v):.0f}}}$")
    return fig


def _lines(ax: Any, lines: dict[str, list[tuple[float, float]]]) -> None:
    """Draw lines on two log axes, each named at its end, names moved apart where they would touch."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    for name, points in lines.items():
        ours = name in ("numconv", "convolution")
        ax.plot(*zip(*points, strict=True), "o-", color=COLOURS[name], linewidth=2.4 if ours else 1.4, zorder=3 if ours else 2)
    last = max(x for points in lines.values() for x, _ in points)
    ending = {name: points for name, points in lines.items() if points[-1][0] == last}
    ends = sorted((points[-1][1], name) for name, points in ending.items())
    low, high = (f(y for points in lines.values() for _, y in points) for f in (min, max))
    apart, previous = (high / low) ** 0.065, 0.0
    for y, name in ends:
        previous = max(y, previous * apart)
        beside = {"textcoords": "offset points", "va": "center", "annotation_clip": False}
        ax.annotate(name, (last, previous), (7, 0), color=COLOURS[name], **beside)
    for name, points in lines.items():
        if name not in ending:  # left out where it is slow: named where it stops
            ax.annotate(name, points[-1], (0, 6), textcoords="offset points", ha="center", color=COLOURS[name])


def _log(ax: Any, axis: str, ticks: list[float], write: Callable[[float], str]) -> None:
    """Put a few round ticks on a log axis."""
    getattr(ax, f"set_{axis}scale")("log")
    low, high = getattr(ax, f"get_{axis}lim")()
    line = getattr(ax, f"{axis}axis")
    inside = [t for t in ticks if low <= t <= high]
    line.set_ticks(inside, [write(t) for t in inside])
    line.set_minor_formatter(NullFormatter())
    getattr(ax, f"set_{axis}lim")(low, high)


def _sizes(ax: Any, sizes: list[float]) -> None:
    """Name as many sizes as have room."""
    shown: list[float] = []
    for size in reversed(sizes):
        if not shown or log(shown[-1] / size) > 0.12 * log(sizes[-1] / sizes[0]):
            shown.append(size)
    _log(ax, "x", shown[::-1], _plain)


def _words(ax: Any, words: list[tuple[str, ...]]) -> None:
    """Name colours, and markers where they differ, in one line above the axes."""
    handles = [Line2D([], [], linestyle="", marker=(*m, "o")[0], color=colour, label=text) for text, colour, *m in words]
    above = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": len(words), "borderaxespad": 0.1}
    ax.legend(handles=handles, **above, frameon=False, labelcolor="linecolor", handletextpad=0, columnspacing=1.2)


def _duration(t: float) -> str:
    return f"{t:g} s" if t >= 1 else f"{t * 1e3:g} ms" if t >= 1e-3 else f"{t * 1e6:g} µs"


def _times(v: float) -> str:
    return f"{v:g}x"


def _plain(v: float) -> str:
    return f"{v:g}"
