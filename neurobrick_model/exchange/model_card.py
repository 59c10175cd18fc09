"""The model card of a decoder: a README.md as model hubs read it, YAML first, then a page.

After Mitchell et al. 2019, *Model Cards for Model Reporting*, and the front matter of Hugging Face.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

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


def card(
    name: str,
    spec: DecoderSpec,
    parameters: int,
    notes: Mapping[str, Any],
    metrics: Mapping[str, Any] | None,
    program: str | None,
) -> str:
    """The card of the decoder `name` with so many `parameters`. `notes` and `metrics` are what a
    run's `run.json` and `metrics.json` say; `program` is the name of the file that needs no
    neurobrick, if there is one."""
    parts = [
        f"---\n{yaml.safe_dump(_front(name, spec, metrics), sort_keys=False)}---",
        f"# {name}",
        _what(spec, parameters),
        *_origin(spec, notes),
        _loading(spec),
        *([_program(spec, program)] if program else []),
        _sessions(spec, metrics),
        f"## Made with\n\n{', '.join(f'{k} {v}' for k, v in notes.get('versions', {}).items())}",
        f"## Citation\n\nThe architecture:\n\n```bibtex\n{CITATION}\n```",
    ]
    return "\n\n".join(parts) + "\n"


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


def _what(spec: DecoderSpec, parameters: int) -> str:
    return (
        f"Decodes `{spec.target}` ({', '.join(spec.axes)}; {spec.unit}) from the spikes of "
        f"{spec.vocabulary.n_units:,} units in {len(spec.sessions)} sessions. A Perceiver that "
        f"reads individual spikes, one token a spike, after POYO: {parameters:,} parameters, "
        f"windows of {spec.model.window:g} s, {spec.rate:g} values a second.{_beside(spec)}\n\n"
        "It knows these units and no others. A recording that is not in the list below has to be "
        "learned first, by adaptation; so has one of these that was sorted anew."
    )


def _beside(spec: DecoderSpec) -> str:
    """The readouts that are not the target, in a sentence, if there are any."""
    names = [f"`{r.name}` ({r.unit or f'{r.width} classes'})" for r in spec.readouts]
    return f" Beside it, it decodes {', '.join(names)}." if names else ""


def _origin(spec: DecoderSpec, notes: Mapping[str, Any]) -> Iterator[str]:
    if spec.parent:
        yield (
            f"Adapted, by way of {spec.parent.way}, from the decoder `{spec.parent.name}`, whose "
            f"weights are of sha256 {spec.parent.sha256}."
        )
    if "imported" in notes:
        source = notes["imported"]
        trained = "All later training was" if spec.parent else "It was not trained"
        yield (
            f"Imported from a checkpoint of {source['project']}, `{source['file']}` (sha256 "
            f"{source['sha256']}). {trained} by neurobrick."
        )


def _loading(spec: DecoderSpec) -> str:
    return f"""## Use

```python
from neurobrick import Dataset
from neurobrick_model import Decoder

decoder = Decoder.load(".")  # this folder
seconds, values = decoder.predict(Dataset("data"), "{spec.sessions[0].id}", 12.0, 20.0)
```

`seconds` (n,) are on the session's clock, `values` (n, {len(spec.axes)}) in {spec.unit}.
The session has to be prepared by `neurobrick prepare`."""


def _program(spec: DecoderSpec, file: str) -> str:
    return f"""## Without neurobrick

`{file}` is the same decoder as a program for torch alone, one window at a time:

```python
import torch

decode = torch.export.load("{file}").module()
values = decode(times, units, queries, session)["{spec.target}"]
```

- `times` (n,) float64: spike times in seconds from the start of a window of {spec.model.window:g} s
- `units` (n,) int64: of each spike, its unit's row in the session's units table
- `queries` (q,) float64: when to decode, in seconds from the start of the window
- `session` () int64: the session's row in the list below, the first is 0
- `values` (q, {len(spec.axes)}) float64: {spec.target} in {spec.unit}; other readouts likewise, \
discrete ones as probabilities

All units of the session count as recorded, those without a spike as silent."""


def _sessions(spec: DecoderSpec, metrics: Mapping[str, Any] | None) -> str:
    scores = {s["id"]: s["decoder"]["r2"] for s in metrics["sessions"]} if metrics else {}
    head = ["session", "units", *([f"{metrics['split']} R²"] if metrics else [])]
    rows = [
        [session.id, f"{session.units:,}", *([_number(scores.get(session.id))] if metrics else [])]
        for session in spec.sessions
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "## Sessions\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(score: float | None) -> str:
    return "–" if score is None else f"{score:.4f}"
