"""HTML pages from the templates in `templates/`.

A page needs nothing but itself: its style, tables and figures are in it. Everything that a template
prints is escaped, but for figures, which are `Markup`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **context: Any) -> str:
    """The page of a template, such as `comparison.html.j2`, with the variables of `context`."""
    return _ENVIRONMENT.get_template(template).render(context)


def r2(value: float) -> str:
    """Three digits, and a dash for NaN."""
    return f"{value:.3f}" if value == value else "–"


def duration(seconds: float) -> str:
    """`42 s`, `1:05 min`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{seconds:.0f} s"


def count(n: int, noun: str, plural: str = "") -> str:
    """`1 session`, `1,200 sessions`."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters.update(r2=r2, duration=duration, count=count)
