"""The model card of a decoder: a README.md with the front matter that model hubs read.

After Mitchell et al. 2019, *Model Cards for Model Reporting*, and the front matter of Hugging Face.

The page is `templates/model_card.md.j2`. Markdown has an escaping rule of its own: everything that
the template prints is escaped by `escaped`, but for what a filter marks as written already, such as
`code` and `python`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from neurobrick_model.decoding.spec import DecoderSpec

TAGS = ["neuroscience", "electrophysiology", "neural-decoding", "spikes", "poyo"]
CITATION = """\
@inproceedings{azabou2023unified,
  title = {A Unified, Scalable Framework for Neural Population Decoding},
  author = {Azabou, Mehdi and Arora, Vinam and Ganesh, Venkataramana and Mao, Ximeng and
            Nachimuthu, Santosh and Mendelson, Michael J. and Richards, Blake and
            Perich, Matthew G. and Lajoie, Guillaume and Dyer, Eva L.},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023}
}"""


class Markdown(str):
    """Text that is Markdown already, and not escaped."""


def card(
    name: str,
    spec: DecoderSpec,
    parameters: int,
    notes: Mapping[str, Any],
    metrics: Mapping[str, Any] | None,
    program: str | None,
) -> str:
    """The card of the decoder `name` with that number of `parameters`.

    `notes` and `metrics` are the contents of a run's `run.json` and `metrics.json`. `program` is
    the name of the file that needs no neurobrick, if there is one.
    """
    scores = {s["id"]: s["decoder"]["r2"] for s in metrics["sessions"]} if metrics else {}
    front = yaml.safe_dump(_front(name, spec, metrics), sort_keys=False)
    return _ENVIRONMENT.get_template("model_card.md.j2").render(
        front=Markdown(front),
        name=name,
        spec=spec,
        parameters=parameters,
        imported=notes.get("imported"),
        program=program,
        metrics=metrics,
        r2=lambda id: _number(scores.get(id)),
        versions=notes.get("versions", {}),
        citation=Markdown(CITATION),
    )


def escaped(value: object) -> str:
    """Text as Markdown that shows it as it is: no markup, no HTML, no new line, no table cell."""
    if isinstance(value, Markdown):
        return value
    text = _one_line(value)
    text = re.sub(r"([\\`*\[\]<>|#~&$!])", r"\\\1", text)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)  # inside a word it is no emphasis


def code(value: object) -> Markdown:
    """Text as inline code. Its fence is longer than any run of backticks in it (CommonMark 6.1)."""
    text = _one_line(value)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return Markdown(f"{fence}{space}{text}{space}{fence}")


def python(value: str) -> Markdown:
    """Text as a Python string literal. Backticks cannot end the block of code: it is one line."""
    return Markdown(json.dumps(value, ensure_ascii=False))


def _front(name: str, spec: DecoderSpec, metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    front: dict[str, Any] = {"library_name": "neurobrick", "tags": TAGS}
    if metrics:
        ids = [session["id"] for session in metrics["sessions"]]  # those that were scored
        datasets = ", ".join(sorted({id.partition("/")[0] for id in ids}))
        result = {
            "task": {"type": "neural-decoding", "name": f"{spec.target} from spikes"},
            "dataset": {"type": "neurobrick", "name": datasets, "split": metrics["split"]},
            "metrics": [
                {
                    "type": "r2",
                    "name": "R², mean over sessions",
                    "value": metrics["mean"]["decoder"],
                }
            ],
        }
        front["model-index"] = [{"name": name, "results": [result]}]
    return front


def _one_line(value: object) -> str:
    return " ".join(str(value).splitlines())


def _number(score: float | None) -> str:
    return "–" if score is None or math.isnan(score) else f"{score:.4f}"


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=False,  # this is no HTML
    finalize=escaped,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters.update(code=code, python=python)
