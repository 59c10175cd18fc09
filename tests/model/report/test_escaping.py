"""Pages of runs whose names are HTML, template code or formulas."""

from __future__ import annotations

import warnings
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from neurobrick_model.report import comparison
from neurobrick_model.report.label_efficiency import FinishedRun
from tests.model.report.test_compare import write_run
from tests.support.model.reaches import reaches
from tests.support.model.reports import report

HOSTILE = [
    "<script>alert(1)</script>",
    "</svg></style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "{{ 7 * 7 }} {% raw %} {# no #}",
    "$\\frac{$ & &lt;",
    "_hidden",
]
TAGS = {"script", "img", "iframe", "link", "object"}


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data: str) -> None:
        self.text += data


def is_harmless(html: str, name: str) -> None:
    page = Page(html)
    assert page.tags.isdisjoint(TAGS)
    assert not {name for name in page.attributes if name.startswith("on")}
    assert name in page.text
    for svg in html.split("<svg")[1:]:
        figure = f'<svg xmlns:xlink="x"{svg[: svg.index("</svg>")]}</svg>'
        ElementTree.fromstring(figure)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_report_shows_any_name_and_runs_none(name: str) -> None:
    is_harmless(report(*reaches(np.random.default_rng(0), 20), name=name), name)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_comparison_shows_any_name_and_runs_none(name: str, tmp_path: Path) -> None:
    run = FinishedRun.read(write_run(tmp_path, "identify", 60.0, {name: 0.5}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = comparison.render([replace(run, name=name, target=name, unit=name, parent=name)])
    is_harmless(page, name)
