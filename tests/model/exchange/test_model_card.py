"""The model card against names that are Markdown, HTML or code."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
import yaml

from neurobrick_model.decoding.spec import DecoderSpec, SessionEntry
from neurobrick_model.exchange.model_card import card, code, escaped
from neurobrick_model.recipe.settings import ModelSettings

HOSTILE = [
    "<script>alert(1)</script>",
    "a | b | c",
    "`code` and ``more``",
    "**bold** _slanted_ [link](x) ![image](x) # head",
    "{{ 7 * 7 }} {% raw %} {# no #}",
    'quo"te\\',
    "two\nlines\r\n# head",
    "$x^2$ &lt; ~~gone~~",
]


def spec_of(session: str, target: str) -> DecoderSpec:
    return DecoderSpec(
        target=target,
        axes=("x", "y"),
        unit="m/s",
        rate=20.0,
        step=0.5,
        model=ModelSettings(),
        sessions=(SessionEntry(id=session, units=3, mean=(0.0, 0.0), std=(1.0, 1.0)),),
    )


@pytest.fixture
def metrics() -> dict[str, Any]:
    return {"split": "test", "mean": {"decoder": 0.5}, "sessions": []}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_shown_and_is_no_markup(name: str, metrics: dict[str, Any]) -> None:
    metrics["sessions"] = [{"id": name, "decoder": {"r2": 0.25}}]
    notes = {"imported": {"project": name, "file": name, "sha256": name}, "versions": {name: name}}
    page = card(name, spec_of(name, name), 10, notes, metrics, "program.pt2")
    front, body = page.split("---\n", 2)[1:]
    assert yaml.safe_load(front)["model-index"][0]["name"] == name
    prose = re.sub(r"```.*?```", "", body, flags=re.DOTALL)
    prose = re.sub(r"(`+)[^`].*?(?<!`)\1(?!`)", "", prose)
    assert not re.search(r"(?<!\\)(<script|\*\*|\[link|~~|\$x)", prose)
    headings = [line for line in prose.splitlines() if line.startswith("#")]
    assert headings[1:] == [
        "## Use", "## Without neurobrick", "## Sessions", "## Made with", "## Citation",
    ]  # fmt: skip
    rows = [line for line in prose.splitlines() if line.startswith("| ") and "0.2500" in line]
    assert len(rows) == 1
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 4
    (program,) = re.findall(r"```python\n(from.*?)```", body, flags=re.DOTALL)
    strings = [
        node.value for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Constant)
    ]
    assert name in strings


def test_plain_names_stay_as_they_are() -> None:
    for name in ("000128/sub-Jenkins_ses-full", "hand_vel", "m/s", "torch 2.13.0+cpu", "1,234"):
        assert escaped(name) == name
    assert code("hand_vel") == "`hand_vel`"
    assert code("a`b") == "`` a`b ``"
