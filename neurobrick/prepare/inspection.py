"""What a file holds, what would be kept of it, why not the rest, and the spec that says the same.

Nothing is written. Of a remote file, only the descriptions of its arrays are read. Facts that only
the values show, such as a clock that restarts, are then not known yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import yaml

from neurobrick.errors import NeurobrickError
from neurobrick.harmonize import harmonize, spikes_of, usual_target
from neurobrick.harmonize.choice import choose
from neurobrick.harmonize.columns import TIMES_OF_TABLES
from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.names import distinct_names
from neurobrick.readers.raw import RawColumn, RawSeries, Recording
from neurobrick.registry import BehaviorSpec, DatasetSpec
from neurobrick.schema import Left, Provenance


@dataclass(frozen=True)
class Kept:
    """An object of the file that a store would hold."""

    path: str  # in the file
    kind: Literal["units", "behavior", "intervals"]
    name: str  # in the store
    text: str  # its size, unit, rate or columns, in words


@dataclass(frozen=True)
class Inspection:
    """What a file holds."""

    file: str
    about: Mapping[str, str]  # the subject, and attributes of the file
    kept: tuple[Kept, ...]
    left: tuple[Left, ...]
    notes: tuple[str, ...]
    refused: str | None  # why it could not be prepared; None if it could
    target: str | None  # behavior that decoders would predict
    trials: str | None  # interval table from which splits would be drawn


def inspect(
    recording: Recording, spec: DatasetSpec, file: str, provenance: Provenance | None = None
) -> Inspection:
    """What an open recording holds, under `spec`.

    With a provenance it is harmonized, as `prepare` would do. Without one, only descriptions are
    read.
    """
    ledger = Ledger(left=list(recording.left))
    chosen: list[tuple[RawSeries, BehaviorSpec, str]] = []
    refused, session = None, None
    try:
        chosen = choose(recording.series, spec.behavior, ledger)
        spikes_of(recording)
        if provenance is not None:
            session = harmonize(
                recording, spec, session_id=file, dataset=spec.id, provenance=provenance
            )
    except NeurobrickError as error:
        refused = str(error)
    kept = [*_units(recording), *(Kept(s.path, "behavior", n, _series(s)) for s, _, n in chosen)]
    kept += _tables(recording)
    left = list(session.metadata.left if session else ledger.left)
    left_paths = {each.path for each in left}
    names = [
        name for series, _, name in chosen if series.path not in left_paths and not series.beside
    ]
    return Inspection(
        file=file,
        about={**recording.subject, **recording.attributes},
        kept=tuple(each for each in kept if each.path not in left_paths),
        left=tuple(left),
        notes=tuple(session.metadata.notes if session else ()),
        refused=refused,
        target=session.metadata.target if session else spec.target or usual_target(names),
        trials=_trials(kept),
    )


def as_yaml(inspection: Inspection, spec: DatasetSpec, n_files: int) -> str:
    """The registry entry that says what discovery chose under `spec`, to paste and edit."""
    entry = spec.model_dump(mode="json", exclude_defaults=True)
    if spec.target is None and inspection.target is not None:
        entry["target"] = inspection.target
    has_splits = spec.splits.trials is not None or spec.splits.blocks is not None
    if not has_splits and inspection.trials is not None:
        entry["splits"] = {**entry.get("splits", {}), "trials": {"table": inspection.trials}}
    blocks = [_block({name: value}) for name, value in entry.items()]
    series = [{"path": k.path, "name": k.name} for k in inspection.kept if k.kind == "behavior"]
    if series and not spec.behavior:
        # A list holds for every file of the dataset, and a file that lacks a series is refused.
        sign = "# " if n_files > 1 else ""
        blocks.append("# Drop what you do not want; without this list, all is kept.")
        blocks += [f"{sign}{line}" for line in _block({"behavior": series}).splitlines()]
    lines = [line for block in blocks for line in block.splitlines()]
    body = "\n".join(f"{'    ' if k else '  - '}{line}" for k, line in enumerate(lines))
    return f"datasets:\n{body}\n"


class _Dumper(yaml.SafeDumper):
    """Writes text that looks like a number, such as a dandiset's, always in quotes."""

    def represent_str_quoted(self, text: str) -> yaml.Node:
        style = '"' if re.fullmatch(r"[\d.]+", text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_str_quoted)


def _block(entry: Mapping[str, object]) -> str:
    """One key of an entry as YAML; a short list or mapping stands on one line."""
    nested = any(isinstance(value, list | dict) for value in entry.values())
    return yaml.dump(
        entry,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=96,
        default_flow_style=None if nested else False,
    )


def entry_id(name: str) -> str:
    """`name` as the id of a registry entry."""
    return re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_") or "mine"


def _units(recording: Recording) -> list[Kept]:
    units = recording.units
    if units is None:
        return []
    columns = ", ".join(units.table.columns) or "no columns"
    text = f"{len(units.ends):,} units, {units.n_spikes:,} spikes; {columns}"
    return [Kept(path, "units", "units", text) for path in units.table.path.split(", ")]


def _series(series: RawSeries) -> str:
    clock = f"{series.rate:g} Hz" if series.rate is not None else "with timestamps"
    scale = "" if series.conversion == 1 else f" × {series.conversion:g}"
    return f"{series.shape} {series.unit or 'no unit'}{scale}, {clock}"


def _tables(recording: Recording) -> list[Kept]:
    tables = [t for t in recording.tables if TIMES_OF_TABLES.keys() <= t.columns.keys()]
    names = distinct_names([table.path for table in tables])
    return [
        Kept(table.path, "intervals", name, f"{table.n_rows:,} rows; {_columns(table.columns)}")
        for table, name in zip(tables, names, strict=True)
    ]


def _columns(columns: Mapping[str, RawColumn]) -> str:
    names = [name for name in columns if name not in ("id", *TIMES_OF_TABLES)]
    return ", ".join(names) or "no other columns"


def _trials(kept: list[Kept]) -> str | None:
    return next((each.name for each in kept if each.name == "trials"), None)
