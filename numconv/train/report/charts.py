"""Charts for the report: matplotlib figures as inline SVG that takes the colours and the type of the page around it."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..evaluate import Floats, Labels

# Petroff's ten colours (arXiv:2107.02270): apart for colour-blind readers, of middling lightness for white and black pages.
COLOURS = ("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd")
MARKERS = "os^Dv<>phX"

MATRIX_CLASSES = 20
"""More classes than these make no matrix that can be read."""
_NAMED_POINTS = 40

# Inches: narrow, so that on a phone, where a chart is as wide as the page, its type is not much smaller than the text's.
_WIDTH = 5.6

# A colour that no chart uses: it stands for the text colour of the page until the SVG is inlined.
_INK = "#010203"

_styled = matplotlib.rc_context(
    {
        "axes.edgecolor": _INK,
        "axes.labelcolor": _INK,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.size": 10.5,
        "savefig.transparent": True,
        "svg.fonttype": "none",
        "text.color": _INK,
        "text.parse_math": False,  # a class may be called $1
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
)


class Line(NamedTuple):
    """One curve of a chart."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@_styled
def curves(name: str, alt: str, lines: Sequence[Line], *, ylabel: str, floor: tuple[str, float] | None = None) -> str:
    """Draw curves over the epochs, and a dotted line for a level that means something."""
    figure, axes = _axes(_WIDTH, 2.7)
    for i, line in enumerate(lines):
        style = ("-", "--", "-.", ":")[i % 4]
        axes.plot(line.x, line.y, style, color=COLOURS[i], linewidth=2, marker="o" if len(line.x) < 3 else None, label=line.label)
    if floor:
        axes.axhline(floor[1], color=_INK, linewidth=1, linestyle=":")
        # At the end where the curve is farther away.
        left = abs(lines[0].y[0] - floor[1]) >= abs(lines[0].y[-1] - floor[1])
        axes.annotate(
            floor[0],
            (0 if left else 1, floor[1]),
            (3 if left else -3, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="left" if left else "right",
            fontsize=9.5,
            gid="halo",
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color=_INK, alpha=0.15, linewidth=0.8)
    if len(lines) > 1:
        axes.legend(frameon=False, loc="best")
    return _svg(figure, name, alt)


@_styled
def panels(name: str, alt: str, signals: Sequence[Sequence[Line]]) -> str:
    """Draw a small chart for each group of curves, all on the same axes; of several, the first is the one to compare with."""
    across = min(2, len(signals))
    rows = -(-len(signals) // across)
    figure = Figure(figsize=(_WIDTH, 0.5 + 1.25 * rows), layout="constrained", dpi=144)
    grid = figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False)
    for axes, group in zip(grid.flat, signals, strict=False):
        for i, line in enumerate(group):
            if i == 0 and len(group) > 1:
                look = {"color": _INK, "linewidth": 3, "alpha": 0.35}  # broad and pale, behind the others
            else:
                look = {"color": COLOURS[max(0, i - 1)], "linewidth": 1.5, "linestyle": "--" if i > 1 else "-"}
            axes.plot(line.x, line.y, label=line.label, **look)
        axes.spines[["left", "bottom"]].set_alpha(0.4)
    for axes in grid.flat[len(signals) :]:
        axes.set_axis_off()
    if len(signals[0]) > 1:
        figure.legend(*grid[0, 0].get_legend_handles_labels(), frameon=False, loc="outside upper left", ncols=len(signals[0]))
    return _svg(figure, name, alt)


@_styled
def bars(name: str, alt: str, heights: Sequence[float], labels: Sequence[str], *, xlabel: str, ylabel: str) -> str:
    """Draw one bar for each height."""
    figure, axes = _axes(_WIDTH, 2.5)
    axes.bar(range(len(heights)), heights, color=COLOURS[0], width=0.8)
    # Every label where they fit, else about sixteen of them.
    step = max(1, -(-len(labels) // 16))
    axes.set_xticks(range(0, len(labels), step), labels[::step])
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(axis="y", color=_INK, alpha=0.15, linewidth=0.8)
    return _svg(figure, name, alt)


@_styled
def scatter(
    name: str, alt: str, points: Floats, labels: Labels | None, class_names: Sequence[str], *, xlabel: str, ylabel: str
) -> str:
    """Draw points in two dimensions, coloured and shaped by class, each class named at its median."""
    figure, axes = _axes(_WIDTH, 5)
    classes = [0] if labels is None else np.unique(labels).tolist()
    for c in classes:
        of_class = points if labels is None else points[labels == c]
        axes.scatter(
            of_class[:, 0],
            of_class[:, 1],
            s=13,
            color=COLOURS[c % len(COLOURS)],
            # One step aside with every round of the colours, so that no two of ninety classes look alike.
            marker=MARKERS[(c + c // len(COLOURS)) % len(MARKERS)],
            alpha=0.75,
            linewidths=0,
            rasterized=True,  # two thousand vector markers would weigh more than the rest of the page
        )
        if labels is not None and len(classes) <= _NAMED_POINTS:
            x, y = np.median(of_class, axis=0)
            axes.annotate(class_names[c], (x, y), ha="center", va="center", fontsize=12, fontweight="bold", gid="halo")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_aspect("equal", adjustable="datalim")
    return _svg(figure, name, alt)


@_styled
def matrix(name: str, alt: str, counts: Labels, class_names: Sequence[str]) -> str:
    """Draw a confusion matrix: rows are true classes, columns what they were taken for, numbers are images."""
    classes = len(class_names)
    size = 1.6 + 0.42 * classes
    figure, axes = _axes(size, size)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, column in np.ndindex(classes, classes):
        if counts[row, column] == 0:
            continue
        colour = COLOURS[0] if row == column else COLOURS[6]
        # Small shares of mistakes must still be seen, so the tint grows with the square root.
        tint = 0.1 + 0.6 * float(np.sqrt(share[row, column]))
        axes.add_patch(Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, color=colour, alpha=tint, linewidth=0))
        axes.annotate(str(counts[row, column]), (column, row), ha="center", va="center", fontsize=9)
    axes.set_xlim(-0.5, classes - 0.5)
    axes.set_ylim(classes - 0.5, -0.5)
    axes.set_aspect("equal")
    short = max(map(len, class_names)) <= 2
    axes.set_xticks(range(classes), class_names, rotation=0 if short else 45, ha="center" if short else "right")
    axes.set_yticks(range(classes), class_names)
    axes.tick_params(length=0)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    return _svg(figure, name, alt)


def _axes(width: float, height: float) -> tuple[Any, Any]:
    # A figure of its own, without pyplot: no window system, no global state, nothing to close.
    figure = Figure(figsize=(width, height), layout="constrained", dpi=144)
    axes = figure.add_subplot()
    axes.spines[["left", "bottom"]].set_alpha(0.4)
    return figure, axes


def _svg(figure: Any, name: str, alt: str) -> str:
    text = io.StringIO()
    # Ids are hashes of content and salt: the name keeps two charts of one page apart, and one chart the same from run to run.
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        # Letters that matplotlib's own font lacks are drawn by the reader's.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    view = re.search(r'viewBox="[^"]*"', svg)
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    # Inside HTML, metadata, styles of its own and names of groups are not needed; without them the page names no address.
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="(halo)?[^"]*"', lambda g: '<g class="halo"' if g[1] else "<g", body).replace("xlink:href", "href")
    body = re.sub(r"font-family: [^;\"]*;? ?", "", body)
    body = re.sub(r"font: ([^;\"]*?)([\d.]+px)[^;\"]*", _font, body)
    body = body.replace(_INK, "currentColor")
    width = round(figure.get_size_inches()[0] * 100)
    return f'<svg role="img" aria-label="{html.escape(alt)}" style="max-width:{width}px" {view[0] if view else ""}>{body}'


def _font(match: re.Match[str]) -> str:
    weight = "font-weight: bold; " if "bold" in match[1] or "700" in match[1] else ""
    return f"{weight}font-size: {match[2]}"
