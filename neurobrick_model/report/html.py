"""A page that needs nothing but itself: its style, its tables and its figures are in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

CSS = """
:root { color-scheme: light; --ink: #1f2430; --soft: #5b6475; --line: #e3e7ee; --blue: #2463eb; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f9; color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 30px; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 19px; margin: 44px 0 10px; }
h3 { font-size: 15px; margin: 26px 0 4px; font-weight: 600; }
p { margin: 6px 0; } .soft { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 14px;
  margin: 24px 0; }
.card, figure, details, .table { background: #fff; border: 1px solid var(--line);
  border-radius: 10px; }
.card { padding: 14px 18px; } .card b { display: block; font-size: 28px; line-height: 1.25; }
.card span { color: var(--soft); font-size: 14px; }
.card.first b { color: var(--blue); }
figure { margin: 8px 0; padding: 14px; overflow-x: auto; }
figure svg { display: block; width: 100%; height: auto; min-width: 560px; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 7px 11px; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--line); }
tr + tr td { border-top: 1px solid var(--line); } td { font-variant-numeric: tabular-nums; }
details { padding: 10px 18px; margin: 10px 0; } summary { cursor: pointer; font-weight: 600; }
.ci { color: var(--soft); font-size: 12px; font-weight: 400; display: block; }
.warning { color: #b42318; font-weight: 600; }
pre { overflow-x: auto; font-size: 13px; line-height: 1.45; }
"""


def page(title: str, parts: Iterable[str]) -> str:
    """The page called `title`, of `parts` that are HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells are HTML."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="table"><table><tr>{head}</tr>{body}</table></div>'


def figure(svg: str) -> str:
    """An SVG in its frame."""
    return f"<figure>{svg}</figure>"


def r2(value: float) -> str:
    """Three digits, and a dash for NaN."""
    return f"{value:.3f}" if value == value else "–"


def duration(seconds: float) -> str:
    """`42 s`, `1:05 min`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{seconds:.0f} s"
