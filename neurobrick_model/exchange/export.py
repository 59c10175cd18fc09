"""A decoder as one folder to give away: safetensors, JSON, a model card, and optionally a program
that needs no neurobrick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurobrick_model.decoding.decoder import Decoder
from neurobrick_model.decoding.spec import SPEC, WEIGHTS
from neurobrick_model.exchange.model_card import card
from neurobrick_model.exchange.torch_program import save_program
from neurobrick_model.files import read_json, replacing_folder, to_json, write_text
from neurobrick_model.training.output.run_folder import METRICS, RUN

CARD = "README.md"
PROGRAM = "decoder.pt2"
FILES = (SPEC, WEIGHTS, RUN, METRICS, CARD, PROGRAM)


def export(run: Path, folder: Path, *, program: bool = False, force: bool = False) -> Decoder:
    """Write the decoder of a `run` to `folder`, whole or not at all, and return it.

    With `program`, the folder also holds the decoder as a program. `force` replaces an earlier
    export.

    Raises StoreError when there is no decoder in `run`, when `folder` is not empty and is not an
    earlier export that `force` replaces, and when it cannot be written.
    """
    decoder = Decoder.load(run)
    notes, metrics = read_json(run / RUN) or {}, read_json(run / METRICS)
    if parent := decoder.spec.parent:
        parent = parent.model_copy(update={"path": ""})  # it is of this machine
        decoder.spec = decoder.spec.model_copy(update={"parent": parent})
        notes["parent"] = parent.model_dump()
    write(decoder, folder, run.resolve().name, notes, metrics, program=program, force=force)
    return decoder


def write(
    decoder: Decoder,
    folder: Path,
    name: str,
    notes: dict[str, Any],
    metrics: dict[str, Any] | None = None,
    *,
    program: bool = False,
    force: bool = False,
) -> None:
    """Write `decoder`, called `name`, to `folder`.

    `notes` is the content of its run.json, `metrics` that of its metrics.json. `program` and
    `force` are as in `export`. Raises StoreError as `export` does.
    """
    weights = decoder.model.state_dict()
    parameters = sum(parameter.numel() for parameter in decoder.model.parameters())
    page = card(name, decoder.spec, parameters, notes, metrics, PROGRAM if program else None)
    with replacing_folder(folder, FILES, force=force) as aside:
        decoder.spec.save(aside, weights)
        write_text(aside / CARD, page)
        write_text(aside / RUN, to_json(notes) + "\n")
        if metrics is not None:
            write_text(aside / METRICS, to_json(metrics) + "\n")
        if program:
            save_program(decoder, aside / PROGRAM)
