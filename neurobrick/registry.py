"""The dataset registry: `data_manifest.yaml`, read as one DatasetSpec for each entry.

A DatasetSpec holds, as data and never as code, what discovery cannot know of a dataset: the
behavior that is the decoding target, the trials that count, when decoding is scored, how to split.
A dandiset without an entry is prepared with `DatasetSpec.discovered`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from neurobrick.errors import RecipeError, first_fault, listed
from neurobrick.interval_rule import IntervalRule, Where
from neurobrick.sources.registered import AnySpec


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Repair = Literal["clock_restarts", "sort_spikes"]
SeriesRepair = Literal["first_row_of_timestamps", "transpose"]


class UnitsSpec(_Model):
    """What discovery cannot know of the units."""

    tables: tuple[str, ...] = Field(
        (), description="paths of the units tables, stacked; discovery's choice by default"
    )
    keep: tuple[str, ...] = Field(
        (), description="columns that are left out by default: waveforms, one value a spike"
    )
    time_unit: Literal["s", "ms", "samples"] | None = Field(
        None, description="unit of the spike times, where it is not seconds, or does not look so"
    )
    rate: float | None = Field(None, gt=0, description="samples a second, for time_unit samples")

    @model_validator(mode="after")
    def _rate_of_samples(self) -> UnitsSpec:
        if (self.time_unit == "samples") != (self.rate is not None):
            raise ValueError("time_unit samples needs rate, and only it does")
        return self


class BehaviorSpec(_Model):
    """A behavior to keep, and how to read it."""

    path: str = Field(description="path of the series in the file")
    name: str | None = Field(None, description="name in the store; the file's own by default")
    unit: str | None = Field(
        None, description="true unit of the values, where the file's is wrong or missing"
    )
    conversion: float | None = Field(
        None, description="factor to that unit, where the file's is wrong or missing"
    )
    repairs: tuple[SeriesRepair, ...] = Field((), description="named repairs; see docs/policies.md")


class Fractions(_Model):
    """Shares of the recording, from 0 to 1 each. They add up to 1."""

    train: float = Field(0.7, ge=0, le=1)
    valid: float = Field(0.1, ge=0, le=1)
    test: float = Field(0.2, ge=0, le=1)

    @model_validator(mode="after")
    def _complete(self) -> Fractions:
        if abs(self.train + self.valid + self.test - 1) > 1e-9:
            raise ValueError("train, valid and test must add up to 1")
        return self


class SplitSpec(_Model):
    """How a recording is divided into train, valid and test.

    By default, whole trials are drawn for valid and test, and all other time is train. With
    `blocks`, the recording is cut into that many stretches of equal length instead, and each
    stretch into train, valid and test, in that order. A recording without trials is cut into five
    blocks.
    """

    trials: IntervalRule | None = Field(None, description="the rows that are drawn from")
    test: Where | None = Field(
        None, description="column → values of the trials that are test, instead of a drawn share"
    )
    blocks: int | None = Field(None, ge=1, description="cut into this many stretches instead")
    within: IntervalRule | None = Field(None, description="nothing outside it is in any split")
    fractions: Fractions = Fractions()
    seed: int = 0


class Expected(_Model):
    """Counts of the whole dataset when it is prepared, for `neurobrick verify`."""

    sessions: int | None = None
    units: int | None = None
    spikes: int | None = None
    bytes: int | None = Field(None, description="bytes of the source files")


class DatasetSpec(_Model):
    """One entry of the registry."""

    id: str = Field(pattern=r"^[a-z0-9_]+$", description="short name, as in prepare manifest NAME")
    title: str
    citation: str | None = None
    licence: str | None = None
    source: AnySpec | None = None
    include: tuple[str, ...] = Field((), description="globs of asset paths; none means all")
    exclude: tuple[str, ...] = Field((), description="globs of asset paths to leave out")
    areas: tuple[str, ...] = Field((), description="brain areas recorded")
    recording: str | None = Field(None, description="probe and sorting, in a few words")
    units: UnitsSpec = UnitsSpec()
    behavior: tuple[BehaviorSpec, ...] = Field((), description="series to keep; none means all")
    target: str | None = Field(None, description="name of the behavior that decoders read")
    evaluation: IntervalRule | None = Field(None, description="when decoding is scored")
    splits: SplitSpec = SplitSpec()
    repairs: tuple[Repair, ...] = Field((), description="named repairs; see docs/policies.md")
    expect: Expected = Expected()

    @classmethod
    def discovered(cls, dataset: str) -> DatasetSpec:
        """The spec of a dataset that the registry does not list: everything by discovery."""
        return cls(id="discovered", title=f"{dataset}, by discovery")

    def fingerprint(self) -> str:
        """sha256 over the fields that change what a store holds."""
        fields = {"id", "units", "behavior", "target", "evaluation", "splits", "repairs"}
        kept = self.model_dump(mode="json", include=fields)
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


class Manifest(_Model):
    """The registry: specs with unique ids."""

    datasets: tuple[DatasetSpec, ...]

    @model_validator(mode="after")
    def _unique(self) -> Manifest:
        ids = [spec.id for spec in self.datasets]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"more than one entry is called {listed(twice)}")
        return self

    @classmethod
    def load(cls, path: str | Path | None = None) -> Manifest:
        """The registry in the YAML file `path`, or the registry that neurobrick ships.

        Raises RecipeError, in one line that names the entry and the key.
        """
        path = _shipped() if path is None else Path(path)
        try:
            content = yaml.safe_load(path.read_bytes().decode("utf-8-sig"))
            return cls.model_validate(content)
        except OSError as error:
            raise RecipeError(f"cannot read the registry {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"{path} is not UTF-8 text (at byte {error.start})") from error
        except ValidationError as error:
            raise RecipeError(f"{path}: {_entry_fault(error, content)}") from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2024-99-99
            reason = " ".join(str(error).split())
            raise RecipeError(f"{path} is not YAML: {reason}") from error

    def for_dataset(self, dataset: str) -> list[DatasetSpec]:
        """The entries for a dandiset, a Zenodo record, or an entry's own id; several entries may
        share a dandiset, each with its own globs. Without an entry, the spec of discovery."""
        entries = [
            spec
            for spec in self.datasets
            if dataset == spec.id or (spec.source is not None and dataset == spec.source.dataset)
        ]
        return entries or [DatasetSpec.discovered(dataset)]

    def named(self, names: Sequence[str]) -> list[DatasetSpec]:
        """The entries with these ids, in this order; every entry for no ids.

        Raises RecipeError for an id that is not in the registry.
        """
        by_id = {spec.id: spec for spec in self.datasets}
        unknown = [name for name in names if name not in by_id]
        if unknown:
            raise RecipeError(
                f"the registry has no {listed(map(repr, unknown))}; there is: {listed(by_id)}"
            )
        return [by_id[name] for name in names] or list(self.datasets)


def _entry_fault(error: ValidationError, content: Any) -> str:
    """The first fault of a registry in one line: entry, key, fault."""
    if not isinstance(content, dict):
        return "a registry is a mapping with the key datasets, a list of entries"
    key, fault = first_fault(error)
    top, *rest = key.split(".")
    if top == "datasets" and rest and rest[0].isdecimal():
        entry = content["datasets"][int(rest[0])]
        name = entry.get("id") if isinstance(entry, dict) else None
        key = ": ".join([f"entry {name or int(rest[0]) + 1}", *rest[1:]])
    return f"{key}: {fault}" if key else fault


def _shipped() -> Path:
    """The registry inside the wheel, or at the top of a source checkout."""
    packaged = Path(str(resources.files("neurobrick"))) / "data_manifest.yaml"
    return packaged if packaged.exists() else packaged.parents[1] / "data_manifest.yaml"
