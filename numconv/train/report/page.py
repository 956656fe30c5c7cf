"""The page itself: HTML out of plain text, tables and figures. Text is escaped here; what is called `body` is HTML already."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2127; --soft: #59626d; --rule: #d8dde3; --head: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e3e6ea; --soft: #9aa4b0; --rule: #343a42; --head: #1d2127; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 47rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 1rem; text-wrap: balance; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.75rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--rule); }
p { margin: .6rem 0; }
.lead { font-size: 1.1rem; }
figure { margin: 1.25rem 0; }
figcaption, footer, .note { color: var(--soft); font-size: .875rem; line-height: 1.45; }
figcaption { margin-top: .5rem; }
footer { margin-top: 3rem; border-top: 1px solid var(--rule); padding-top: .75rem; }
svg { display: block; width: 100%; height: auto; color: var(--ink); }
svg .halo text { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
img { display: block; max-width: 100%; height: auto; image-rendering: pixelated; }
.strips { display: grid; grid-template-columns: fit-content(30%) minmax(0, 1fr); gap: .5rem .75rem; align-items: center;
  font-size: .875rem; line-height: 1.25; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem; }
th, td { padding: .3rem .75rem .3rem 0; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--rule); }
tbody th { font-weight: 500; }
thead th { color: var(--soft); font-weight: 500; font-size: .875rem; vertical-align: bottom; line-height: 1.25; }
tbody tr.own th, tbody tr.own td { font-weight: 700; }
th.number { text-align: right; }
td.number { text-align: right; white-space: nowrap; }
td.words { color: var(--soft); font-size: .875rem; line-height: 1.4; }
@media (max-width: 30rem) { h1 { font-size: 1.45rem; } .lead { font-size: 1.03rem; } td, th { padding-right: .5rem; }
  table { font-size: .875rem; } }
"""


def document(title: str, lead: Iterable[str], sections: Iterable[str], footer: str) -> str:
    """Return a whole page that needs nothing beside itself."""
    first = "".join(f'<p class="lead">{html.escape(text)}</p>' for text in lead)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{html.escape(title)}</h1>{first}</header>\n<main>\n"
        + "\n".join(filter(None, sections))
        + f"\n</main>\n<footer>{html.escape(footer)}</footer>\n</body>\n</html>\n"
    )


def section(heading: str, *bodies: str) -> str:
    """Return a section under its heading, or nothing if all its bodies are empty."""
    if not any(bodies):
        return ""
    return f"<section>\n<h2>{html.escape(heading)}</h2>\n" + "\n".join(filter(None, bodies)) + "\n</section>"


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def figure(body: str, caption: str) -> str:
    """Return a picture or chart over the sentence that says what is to be seen."""
    return f"<figure>\n{body}\n<figcaption>{html.escape(caption)}</figcaption>\n</figure>"


def strips(rows: Iterable[tuple[str, str]]) -> str:
    """Return pictures one below the other, each beside what it is: pairs of (HTML, HTML)."""
    return '<div class="strips">' + "".join(f"<div>{name}</div><div>{picture}</div>" for name, picture in rows) + "</div>"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], *, own: bool = False) -> str:
    """Return a table; the first cell of a row names it, numbers stand right, and `own` makes the first row stand out."""
    numeric = [all(isinstance(row[i], _Figure) or row[i] == "" for row in rows) for i in range(len(rows[0]))]
    top = "".join(f"<th{_class(numeric[i])}>{html.escape(text)}</th>" for i, text in enumerate(head))
    lines = []
    for k, row in enumerate(rows):
        name, *cells = row
        inner = "".join(
            f"<td{_class(isinstance(cell, _Figure), isinstance(cell, _Words))}>{html.escape(str(cell))}</td>" for cell in cells
        )
        row_class = ' class="own"' if own and k == 0 else ""
        lines.append(f'<tr{row_class}><th scope="row">{html.escape(str(name))}</th>{inner}</tr>')
    header = f"<thead><tr>{top}</tr></thead>" if head else ""
    return f'<div class="scroll"><table>{header}<tbody>{"".join(lines)}</tbody></table></div>'


class _Figure(str):
    """A number as text."""

    __slots__ = ()


class _Words(str):
    """An explanation, which stands back behind the number it explains."""

    __slots__ = ()


def words(text: str) -> str:
    """Return an explanation as a cell of a table."""
    return _Words(text)


def number(value: float, unit: str = "") -> str:
    """Return a number to four figures, whole ones in full, as a cell of a table or part of a sentence."""
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e15 and abs(value) >= 1):
        text = f"{int(value):,}"
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.4g}"
    return _Figure(f"{text} {unit}" if unit else text)


def percent(share: float) -> str:
    """Return a share in per cent, to one place."""
    return _Figure(f"{100 * share:.1f}\N{NO-BREAK SPACE}%")


def _class(is_figure: bool, is_words: bool = False) -> str:
    return ' class="number"' if is_figure else ' class="words"' if is_words else ""
