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

from neurobrick_model import Recipe
from neurobrick_model.baselines.fit_all import Baseline
from neurobrick_model.evaluation.bootstrap import assess
from neurobrick_model.evaluation.decoded import Decoded
from neurobrick_model.report import comparison, run_report
from neurobrick_model.report.embedding_maps import Map
from neurobrick_model.report.label_efficiency import FinishedRun
from tests.model.report.test_compare import write_run
from tests.support.model.reaches import reaches

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


@pytest.mark.parametrize("name", HOSTILE)
def test_a_report_shows_any_name_and_runs_none(name: str) -> None:
    truth, guess, trial = reaches(np.random.default_rng(0), 20)
    scores = assess(truth, guess, trial).record()
    decoded = {name: Decoded(np.arange(len(truth)) / 100, truth, guess)}
    scored = {"decoder": scores, "baselines": {"ridge": scores}}
    session = {"id": name, "units": 3, "samples": 200, "trials": 20, **scored}
    metrics = {
        "run": name, "target": name, "unit": name, "axes": [name, name], "split": name,
        "mean": {"decoder": 0.5, "baselines": {"ridge": 0.4}},
        "baselines_left_out": {"gru": name}, "summary": scored, "sessions": [session],
        "parts": [{"split": name, "during": name, "summary": scored, "sessions": [session]}],
        "readouts": [{"name": name, "unit": "", "classes": [name], "axes": [],
                      "sessions": {name: {"accuracy": 0.5, "guessing": 0.5,
                                          "ci95": {"accuracy": [0.4, 0.6]}}}}],
        "training": {
            "spikes": 10, "seconds": 10.0, "device": name, "ranks": 2, "steps": 5, "best_step": 5,
            "precision": name, "windows_per_second": 1.0, "tokens_per_second": None,
            "utilization": None, "parameters": 5, "seed": 0, "warnings": [name],
        },
        "versions": {name: name},
    }  # fmt: skip
    maps = [Map("units", truth[:4], (0.5, 0.4), {"area": (name, name, "M1", "M1")})]
    baselines = {"ridge": Baseline(decoded, {name: {}})}
    recipe = Recipe.model_validate({"name": "x", "data": {"sessions": [name]}})
    page = run_report.render(recipe, metrics, [], decoded, baselines, maps)
    is_harmless(page, name)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_comparison_shows_any_name_and_runs_none(name: str, tmp_path: Path) -> None:
    run = FinishedRun.read(write_run(tmp_path, "identify", 60.0, {name: 0.5}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = comparison.render([replace(run, name=name, target=name, unit=name, parent=name)])
    is_harmless(page, name)
