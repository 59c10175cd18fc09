"""Decoder: a trained model with everything needed to use it: vocabulary, normalization, window.

On disk it is two files of a run's folder, `decoder.json` and `weights.safetensors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from neurobrick import Dataset, NeurobrickError, StoreError
from neurobrick_model.causal import decode_causally
from neurobrick_model.corpus import Corpus
from neurobrick_model.evaluate import stitch
from neurobrick_model.files import load_weights, save_weights, write_text
from neurobrick_model.perceiver import Perceiver
from neurobrick_model.readouts import Readout
from neurobrick_model.recipe import Recipe
from neurobrick_model.settings import ModelSettings
from neurobrick_model.sliding import SlidingWindow
from neurobrick_model.stream import Stream, StreamError
from neurobrick_model.targets import Targets
from neurobrick_model.timeline import TICKS, Spikes, Vocabulary, ticks

SPEC = "decoder.json"
WEIGHTS = "weights.safetensors"


class UnknownSession(NeurobrickError):
    """A session that the decoder was not trained on."""


class Scale(BaseModel):
    """Mean and deviation of the axes of a readout, SI."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: tuple[float, ...]
    std: tuple[float, ...]


class SessionEntry(BaseModel):
    """One session of the vocabulary."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    units: int = Field(description="rows of its units table, in the vocabulary in that order")
    mean: tuple[float, ...] = Field(description="mean of the target over training samples, SI")
    std: tuple[float, ...] = Field(description="its deviation, SI")
    readouts: dict[str, Scale] = Field({}, description="of further continuous readouts, by name")


class DecoderSpec(BaseModel):
    """What `decoder.json` holds: everything about a decoder but its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = 1
    target: str
    unit: str
    axes: tuple[str, ...]
    readouts: tuple[Readout, ...] = Field((), description="what it decodes beside the target")
    rate: float = Field(description="Hz of the samples that it was trained on")
    step: float = Field(description="seconds between stitched windows")
    model: ModelSettings
    sessions: tuple[SessionEntry, ...]

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
                SessionEntry(id=i, units=n, mean=m, std=s, readouts=_scales(targets, row))
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


class Decoder:
    """A trained decoder. `spec` says what it decodes and for which sessions."""

    def __init__(self, spec: DecoderSpec, model: Perceiver) -> None:
        self.spec = spec
        self.model = model.eval()
        self._device = model.latent_time.device

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> Decoder:
        """Read the decoder that a run left in `folder`.

        Raises StoreError when there is none, or when it is damaged or of another make.
        """
        path = Path(folder) / SPEC
        try:
            spec = DecoderSpec.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise StoreError(f"{folder} holds no decoder: no {SPEC} in it") from error
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise StoreError(f"{path} is not a decoder of this version: {where}") from error
        model = spec.build()
        try:
            model.load_state_dict(load_weights(Path(folder) / WEIGHTS))
        except RuntimeError as error:
            raise StoreError(f"the weights in {folder} do not fit its {SPEC}") from error
        return cls(spec, model.to(device))

    def predict(
        self,
        dataset: Dataset,
        session_id: str,
        t0: float,
        t1: float,
        readout: str | None = None,
        lag: float | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Decode `[t0, t1)` seconds of a session that the decoder was trained on: its target, or
        the `readout` of that name.

        Returns timestamps (n,) in seconds, `spec.rate` a second from t0 where the session was
        recorded, and values (n, d) in SI, in the readout's unit; of a discrete readout, the
        probabilities (n, classes) of its classes.

        Each sample is told by all windows that hold it. With a `lag` in seconds it is decoded as by
        `stream` while the session is recorded, from the one window that ends that much later: a
        window a sample, which takes accordingly longer.

        Raises UnknownSession for a session that is not in the vocabulary, StoreError when its units
        are not those of training, KeyError for a readout that the decoder does not have, and
        StreamError for a lag that is longer than a window.
        """
        restore = self._restoring(readout, session_id)
        session, row = dataset[session_id], self._row(session_id)
        if session.n_units != self.spec.sessions[row].units:
            raise StoreError(
                f"{session_id} has {session.n_units} units, the decoder was trained on "
                f"{self.spec.sessions[row].units}: it was prepared anew, so train anew"
            )
        n = max(0, int(np.ceil((t1 - t0) * self.spec.rate - 1e-9)))
        times = t0 + np.arange(n) / self.spec.rate
        times = times[session.domain.contains(times)]
        spikes = session.slice(*session.span).spikes
        recording = Spikes.gather(
            [(row, spikes.times, spikes.units, session.domain)],
            len(self.spec.sessions),
            self._device,
        )
        at = torch.from_numpy(ticks(times)).to(self._device) + recording.base[row]
        vocabulary, window = self.spec.vocabulary, self.spec.model.window
        if lag is None:
            output = stitch(self.model, vocabulary, recording, at, window, self.spec.step)
        else:
            self._check_lag(lag)
            output = decode_causally(self.model, vocabulary, recording, at, window, lag)
        return times, restore(output)

    def stream(
        self,
        session_id: str,
        *,
        start: float = 0.0,
        lag: float = 0.0,
        readout: str | None = None,
    ) -> Stream:
        """A Stream that decodes this session while it is recorded: its target, or the `readout` of
        that name.

        `start`, when the recording begins, or goes on after a gap, s on its clock: windows do not
        reach back beyond it. `lag`, how long before the end of its window the behavior is asked
        for, s: a little later it is decoded better.

        Raises UnknownSession for a session that is not in the vocabulary, KeyError for a readout
        that the decoder does not have, and StreamError for a lag that is longer than a window.
        """
        self._check_lag(lag)
        row, restore = self._row(session_id), self._restoring(readout, session_id)
        sliding = SlidingWindow(self.model, self.spec.vocabulary, row, round(lag * TICKS))
        units = self.spec.sessions[row].units
        return Stream(sliding, self.spec.model.window, units, start, restore)

    def _check_lag(self, lag: float) -> None:
        if not 0 <= lag <= self.spec.model.window:
            raise StreamError(
                f"a lag of {lag} s is not within the window of {self.spec.model.window} s"
            )

    def _restoring(
        self, readout: str | None, session_id: str
    ) -> Callable[[Tensor], NDArray[np.float64]]:
        """What makes values (n, d) of a readout of the model's output (n, columns)."""
        columns, scale = self._readout(readout, session_id)

        def restore(output: Tensor) -> NDArray[np.float64]:
            said = output[:, columns].cpu().double()
            if scale is None:
                return said.softmax(-1).numpy()
            return said.numpy() * np.array(scale.std) + np.array(scale.mean)

        return restore

    def _readout(self, name: str | None, session_id: str) -> tuple[slice, Scale | None]:
        """The columns of a readout, and the scale of its values, None for a discrete one."""
        entry = self.spec.sessions[self._row(session_id)]
        first = len(self.spec.axes)
        if name is None or name == self.spec.target:
            return slice(0, first), Scale(mean=entry.mean, std=entry.std)
        for readout in self.spec.readouts:
            if readout.name == name:
                return slice(first, first + readout.width), entry.readouts.get(name)
            first += readout.width
        there = ", ".join((self.spec.target, *(readout.name for readout in self.spec.readouts)))
        raise KeyError(f"the decoder has no readout {name!r}; it decodes: {there}")

    def _row(self, session_id: str) -> int:
        known = [session.id for session in self.spec.sessions]
        if session_id not in known:
            raise UnknownSession(
                f"the decoder does not know session {session_id!r}; it was trained on: "
                f"{', '.join(known[:5])}{', …' if len(known) > 5 else ''}"
            )
        return known.index(session_id)
