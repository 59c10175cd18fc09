"""What `decoder.json` holds: everything about a decoder but its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from neurobrick import StoreError
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.readouts import Readout
from neurobrick_model.data.targets import Targets
from neurobrick_model.data.timeline import MOST_UNITS, Vocabulary
from neurobrick_model.decoding.vocabulary import units_checksum
from neurobrick_model.files import save_weights, write_text
from neurobrick_model.model.perceiver import Perceiver
from neurobrick_model.recipe.recipe import Recipe
from neurobrick_model.recipe.settings import ModelSettings

SPEC = "decoder.json"
WEIGHTS = "weights.safetensors"


class Scale(BaseModel):
    """Mean and deviation of the axes of a readout, SI."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: tuple[float, ...]
    std: tuple[float, ...]


class SessionEntry(BaseModel):
    """One session of the vocabulary."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    units: int = Field(
        ge=1, le=MOST_UNITS, description="rows of its units table, in the vocabulary in that order"
    )
    mean: tuple[float, ...] = Field(description="mean of the target over training samples, SI")
    std: tuple[float, ...] = Field(description="its deviation, SI")
    readouts: dict[str, Scale] = Field({}, description="of further continuous readouts, by name")
    checksum: str | None = Field(
        None, description="of its units (vocabulary.units_checksum); None where it is not known"
    )


class Parent(BaseModel):
    """The decoder that another one was adapted from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    path: str = Field(description="its folder, as it was given; none in an export")
    way: str = Field(description="how it was adapted")
    sha256: str = Field(description="of its weights.safetensors")
    steps: int | None = Field(description="after which it had these weights, where that is known")


class DecoderSpec(BaseModel):
    """What `decoder.json` holds: everything about a decoder but its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[1] = 1
    target: str
    unit: str
    axes: tuple[str, ...] = Field(min_length=1)
    readouts: tuple[Readout, ...] = Field((), description="what it decodes beside the target")
    rate: float = Field(gt=0, description="Hz of the samples that it was trained on")
    step: float = Field(gt=0, description="seconds between stitched windows")
    model: ModelSettings
    sessions: tuple[SessionEntry, ...] = Field(min_length=1)
    parent: Parent | None = Field(None, description="the decoder that it was adapted from")

    @model_validator(mode="after")
    def _scaled(self) -> DecoderSpec:
        others = {readout.name: readout.width for readout in self.readouts if readout.axes}
        widths = {self.target: len(self.axes), **others}
        for session in self.sessions:
            scales = {self.target: session, **session.readouts}
            for moment in ("mean", "std"):
                found = {name: len(getattr(scale, moment)) for name, scale in scales.items()}
                if found != widths:
                    raise ValueError(f"{session.id} has not one {moment} for each axis")
        return self

    @classmethod
    def read(cls, folder: str | Path) -> DecoderSpec:
        """That of the decoder in `folder`.

        Raises StoreError when there is none, or when it is damaged or of another make.
        """
        path = Path(folder) / SPEC
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise StoreError(f"{folder} holds no decoder: no {SPEC} in it") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "all of it"
            fault = f"{where}: {first['msg'].removeprefix('Value error, ')}"
            if where == "format":
                fault = f"it is of format {first['input']!r}, upgrade neurobrick to read it"
            raise StoreError(f"{path} is not a decoder of this version: {fault}") from error

    @classmethod
    def describe(cls, recipe: Recipe, corpus: Corpus) -> DecoderSpec:
        """The spec of a decoder that is trained on `corpus`."""
        vocabulary, targets = corpus.vocabulary, corpus.targets
        rows = zip(
            vocabulary.sessions,
            vocabulary.units,
            targets.mean.tolist(),
            targets.std.tolist(),
            strict=True,
        )
        return cls(
            target=corpus.target,
            unit=corpus.unit,
            axes=corpus.axes,
            readouts=tuple(one.readout for one in targets.readouts),
            rate=corpus.rate,
            step=recipe.evaluation.step or recipe.model.window / 2,
            model=recipe.model,
            sessions=tuple(
                SessionEntry(
                    id=i,
                    units=n,
                    mean=m,
                    std=s,
                    readouts=_scales(targets, row),
                    checksum=_units_checksum(corpus, row),
                )
                for row, (i, n, m, s) in enumerate(rows)
            ),
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """Sessions and units, in the order of the embeddings."""
        return Vocabulary(
            tuple(session.id for session in self.sessions),
            tuple(session.units for session in self.sessions),
        )

    def build(self) -> Perceiver:
        """A model of these sizes, with fresh weights."""
        columns = len(self.axes) + sum(readout.width for readout in self.readouts)
        return Perceiver(self.model, self.vocabulary.n_units, len(self.sessions), columns)

    def misfit(self, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
        """The first of these `shapes` of weights, by name, that is none of this decoder's, in
        words; None if all are its. Nothing of these sizes is allocated."""
        with torch.device("meta"):
            wanted = {name: tuple(w.shape) for name, w in self.build().state_dict().items()}
        for name in sorted({*wanted, *shapes}):
            if wanted.get(name) != shapes.get(name):
                return (
                    f"its {name} is of shape {shapes.get(name, 'none')}, the rest of it asks for "
                    f"{wanted.get(name, 'none')}"
                )
        return None

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the decoder that these weights make into `folder`."""
        write_text(folder / SPEC, self.model_dump_json(indent=2) + "\n")
        save_weights(folder / WEIGHTS, weights)


def _scales(targets: Targets, session: int) -> dict[str, Scale]:
    return {
        one.readout.name: Scale(mean=one.mean[session].tolist(), std=one.std[session].tolist())
        for one in targets.readouts
        if one.readout.axes
    }


def _units_checksum(corpus: Corpus, row: int) -> str:
    _, unit = corpus.spikes.of_session(row)
    return units_checksum(
        torch.bincount(unit, minlength=corpus.vocabulary.units[row]).cpu().numpy()
    )
