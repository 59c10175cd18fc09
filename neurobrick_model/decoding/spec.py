"""The content of `decoder.json`: everything about a decoder but its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from neurobrick import StoreError
from neurobrick.errors import first_fault
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
    """The normalization of a continuous readout in one session."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: tuple[float, ...] = Field(description="of each axis, SI")
    std: tuple[float, ...] = Field(description="deviation of each axis, SI")


class SessionEntry(BaseModel):
    """One session of the vocabulary."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    units: int = Field(
        ge=1, le=MOST_UNITS, description="number of its units, in the order of its units table"
    )
    mean: tuple[float, ...] = Field(description="mean of the target over training samples, SI")
    std: tuple[float, ...] = Field(description="its deviation, SI")
    readouts: dict[str, Scale] = Field({}, description="of the continuous readouts, by name")
    checksum: str | None = Field(
        None, description="of its units, by `vocabulary.units_checksum`; None where it is not known"
    )


class Parent(BaseModel):
    """The decoder that another one was adapted from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    path: str = Field(description="its folder, as the recipe named it; empty in an export")
    way: str = Field(description="how it was adapted: identify, unfreeze or finetune")
    sha256: str = Field(description="of its weights.safetensors")
    steps: int | None = Field(description="steps that its weights were trained for, where known")


class DecoderSpec(BaseModel):
    """Everything about a decoder but its weights, as `decoder.json` holds it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[1] = 1
    target: str
    unit: str
    axes: tuple[str, ...] = Field(min_length=1)
    readouts: tuple[Readout, ...] = Field((), description="decoded beside the target")
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
                lengths = {name: len(getattr(scale, moment)) for name, scale in scales.items()}
                if lengths != widths:
                    raise ValueError(f"{session.id} has not one {moment} for each axis")
        return self

    @classmethod
    def read(cls, folder: str | Path) -> DecoderSpec:
        """Read the spec of the decoder in `folder`.

        Raises StoreError when there is none, and when it is damaged or of another format.
        """
        path = Path(folder) / SPEC
        try:
            return cls.model_validate_json(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(f"{folder} holds no decoder: no {SPEC} in it") from error
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from error
        except ValidationError as error:
            key, fault = first_fault(error)
            if key == "format":
                found = error.errors(include_url=False)[0]["input"]
                fault = f"it is of format {found!r}, upgrade neurobrick to read it"
            raise StoreError(
                f"{path} is not a decoder of this version: {key or 'all of it'}: {fault}"
            ) from error

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
            readouts=tuple(readout.readout for readout in targets.readouts),
            rate=corpus.rate,
            step=recipe.evaluation.step or recipe.model.window / 2,
            model=recipe.model,
            sessions=tuple(
                SessionEntry(
                    id=id,
                    units=n_units,
                    mean=mean,
                    std=std,
                    readouts=_scales(targets, row),
                    checksum=_units_checksum(corpus, row),
                )
                for row, (id, n_units, mean, std) in enumerate(rows)
            ),
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """Its sessions and units, in the order of the embeddings."""
        return Vocabulary(
            tuple(session.id for session in self.sessions),
            tuple(session.units for session in self.sessions),
        )

    def build(self) -> Perceiver:
        """A model of these sizes, with fresh weights."""
        columns = len(self.axes) + sum(readout.width for readout in self.readouts)
        return Perceiver(self.model, self.vocabulary.n_units, len(self.sessions), columns)

    def misfit(self, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
        """Whether weights of these `shapes`, by name, fit: None, or the first that does not, in
        words. Allocates no memory of these sizes."""
        with torch.device("meta"):
            expected = {name: tuple(w.shape) for name, w in self.build().state_dict().items()}
        for name in sorted({*expected, *shapes}):
            if expected.get(name) != shapes.get(name):
                return (
                    f"its {name} is of shape {shapes.get(name, 'none')}, expected is "
                    f"{expected.get(name, 'none')}"
                )
        return None

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the decoder with these weights into `folder`. Raises StoreError."""
        write_text(folder / SPEC, self.model_dump_json(indent=2) + "\n")
        save_weights(folder / WEIGHTS, weights)


def _scales(targets: Targets, session: int) -> dict[str, Scale]:
    """The normalization of a session's continuous readouts, by name."""
    return {
        each.readout.name: Scale(mean=each.mean[session].tolist(), std=each.std[session].tolist())
        for each in targets.readouts
        if each.readout.axes
    }


def _units_checksum(corpus: Corpus, row: int) -> str:
    """The checksum of the units of the session in a row of the vocabulary."""
    _, unit = corpus.spikes.of_session(row)
    counts = torch.bincount(unit, minlength=corpus.vocabulary.units[row])
    return units_checksum(counts.cpu().numpy())
