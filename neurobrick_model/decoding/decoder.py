"""Decoder: a trained model with everything needed to use it: vocabulary, normalization, window.

On disk it is two files of a run's folder, `decoder.json` and `weights.safetensors`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick import Dataset, RecipeError, StoreError
from neurobrick_model.data.timeline import TICKS, PackedSpikes, ticks
from neurobrick_model.decoding.sliding_window import SlidingWindow
from neurobrick_model.decoding.spec import SPEC, WEIGHTS, DecoderSpec, Scale, SessionEntry
from neurobrick_model.decoding.stitching import stitch
from neurobrick_model.decoding.stream import Stream
from neurobrick_model.decoding.trailing_windows import decode_causally
from neurobrick_model.decoding.vocabulary import keep, listed, matching, units_checksum
from neurobrick_model.errors import StreamError, UnknownSession
from neurobrick_model.files import load_weights, weight_shapes
from neurobrick_model.model.perceiver import Perceiver


class Decoder:
    """A trained decoder. `spec` says what it decodes and for which sessions; `folder` is where it
    was read from, if it was."""

    def __init__(self, spec: DecoderSpec, model: Perceiver, folder: Path | None = None) -> None:
        self.spec = spec
        self.model = model.eval()
        self.folder = folder
        self._device = model.latent_time.device

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> Decoder:
        """Read the decoder that a run left in `folder`.

        Raises StoreError when there is none, or when it is damaged or of another make.
        """
        spec, weights = DecoderSpec.read(folder), Path(folder) / WEIGHTS
        if fault := spec.misfit(weight_shapes(weights)):
            raise StoreError(f"the weights in {folder} do not fit its {SPEC}: {fault}")
        model = spec.build()
        model.load_state_dict(load_weights(weights))
        return cls(spec, model.to(device), Path(folder))

    def prune(self, globs: Sequence[str]) -> Decoder:
        """This decoder without the sessions that match any of `globs`, and without their units.
        What it decodes of the others stays as it is.

        Raises RecipeError for a glob that matches no session, and when none would be left.
        """
        known = [session.id for session in self.spec.sessions]
        dropped = matching(known, globs)
        kept = [row for row, id in enumerate(known) if id not in dropped]
        if not kept:
            raise RecipeError(f"nothing would be left of a decoder without {listed(known)}")
        spec = self.spec.model_copy(
            update={"sessions": tuple(self.spec.sessions[row] for row in kept)}
        )
        model = spec.build()
        model.load_state_dict(keep(self.model.state_dict(), self.spec.vocabulary, kept))
        return Decoder(spec, model.to(self._device))

    def save(self, folder: str | Path) -> None:
        """Write `decoder.json` and `weights.safetensors` into `folder`, which is made if need be.

        Raises StoreError when they cannot be written.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.spec.save(Path(folder), self.model.state_dict())

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
        row = self._row(session_id, dataset.root)
        restore, session = self._restoring(readout, row), dataset[session_id]
        spikes = session.slice(*session.span).spikes
        self._check_units(row, session.n_units, spikes.units)
        n = max(0, int(np.ceil((t1 - t0) * self.spec.rate - 1e-9)))
        times = t0 + np.arange(n) / self.spec.rate
        times = times[session.domain.contains(times)]
        recording = PackedSpikes.gather(
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
        row = self._row(session_id)
        restore = self._restoring(readout, row)
        sliding = SlidingWindow(self.model, self.spec.vocabulary, row, round(lag * TICKS))
        units = self.spec.sessions[row].units
        return Stream(sliding, self.spec.model.window, units, start, restore)

    def _check_lag(self, lag: float) -> None:
        if not 0 <= lag <= self.spec.model.window:
            raise StreamError(
                f"a lag of {lag} s is not within the window of {self.spec.model.window} s"
            )

    def _restoring(self, readout: str | None, row: int) -> Callable[[Tensor], NDArray[np.float64]]:
        """What makes a session's values (n, d) of a readout of the model's output (n, columns)."""
        columns, scale = self._readout(readout, self.spec.sessions[row])

        def restore(output: Tensor) -> NDArray[np.float64]:
            said = output[:, columns].cpu().double()
            if scale is None:
                return said.softmax(-1).numpy()
            return said.numpy() * np.array(scale.std) + np.array(scale.mean)

        return restore

    def _readout(self, name: str | None, entry: SessionEntry) -> tuple[slice, Scale | None]:
        """The columns of a readout, and the scale of its values, None for a discrete one."""
        first = len(self.spec.axes)
        if name is None or name == self.spec.target:
            return slice(0, first), Scale(mean=entry.mean, std=entry.std)
        for readout in self.spec.readouts:
            if readout.name == name:
                return slice(first, first + readout.width), entry.readouts.get(name)
            first += readout.width
        there = ", ".join((self.spec.target, *(readout.name for readout in self.spec.readouts)))
        raise KeyError(f"the decoder has no readout {name!r}; it decodes: {there}")

    def _row(self, session_id: str, root: str | Path | None = None) -> int:
        known = [session.id for session in self.spec.sessions]
        if session_id not in known:
            command = f"neurobrick-train adapt {quote(str(self.folder or 'RUN'))}"
            command += f" --sessions {quote(session_id)}"
            command += "" if root is None else f" --root {quote(str(root))}"
            raise UnknownSession(
                f"the decoder does not know session {session_id!r}; it was trained on: "
                f"{listed(known)}. To teach it: {command}"
            )
        return known.index(session_id)

    def _check_units(self, row: int, n_units: int, unit: NDArray[np.integer]) -> None:
        entry = self.spec.sessions[row]
        if n_units != entry.units:
            found = f"{n_units} units, the decoder was trained on {entry.units}"
        elif entry.checksum not in (None, units_checksum(unit, n_units)):
            found = f"{n_units} units, but not those that the decoder was trained on"
        else:
            return
        raise StoreError(
            f"{entry.id} has {found}: it was prepared anew; train anew, or drop it from the "
            "decoder (neurobrick-train prune) and adapt to it"
        )
