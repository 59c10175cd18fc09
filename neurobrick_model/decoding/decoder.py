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

from neurobrick import Dataset, FilterError, RecipeError, Session, StoreError, matching
from neurobrick.errors import listed
from neurobrick_model.data.timeline import TICKS, ticks
from neurobrick_model.decoding.recorded_windows import domain_of, has_units, pack_around
from neurobrick_model.decoding.sliding_window import SlidingWindow
from neurobrick_model.decoding.spec import SPEC, WEIGHTS, DecoderSpec, Scale, SessionEntry
from neurobrick_model.decoding.stitching import decode_windows, windows_around
from neurobrick_model.decoding.stream import Stream
from neurobrick_model.decoding.trailing_windows import decode_each, windows_before
from neurobrick_model.decoding.vocabulary import keep
from neurobrick_model.errors import StreamError, UnknownSession
from neurobrick_model.files import load_weights, weight_shapes
from neurobrick_model.model.perceiver import Perceiver

MOST_SHOWN = 5  # session ids in a message


class Decoder:
    """A trained decoder.

    `spec` says what it decodes, and for which sessions. `folder` is where it was read from; None
    for a decoder that was not read from a folder.
    """

    def __init__(self, spec: DecoderSpec, model: Perceiver, folder: Path | None = None) -> None:
        self.spec = spec
        self.model = model.eval()
        self.folder = folder
        self._device = model.latent_time.device

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu") -> Decoder:
        """Read the decoder that a run left in `folder`.

        Raises StoreError when there is none, and when it is damaged or of another format.
        """
        spec, weights = DecoderSpec.read(folder), Path(folder) / WEIGHTS
        if fault := spec.misfit(weight_shapes(weights)):
            raise StoreError(f"the weights in {folder} do not fit its {SPEC}: {fault}")
        model = spec.build()
        model.load_state_dict(load_weights(weights))
        return cls(spec, model.to(device), Path(folder))

    def prune(self, globs: Sequence[str]) -> Decoder:
        """This decoder without the sessions that match any of `globs`, and without their units.

        The other sessions are decoded as before. Raises RecipeError for a glob that matches no
        session, and when no session would be left.
        """
        ids = [session.id for session in self.spec.sessions]
        try:
            dropped = matching(ids, globs)
        except FilterError as error:
            raise RecipeError(f"the decoder's sessions: {error}") from error
        kept = [row for row, id in enumerate(ids) if id not in dropped]
        if not kept:
            raise RecipeError(
                f"nothing would be left of a decoder without {listed(ids, most=MOST_SHOWN)}"
            )
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
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the folder {folder}: {error.strerror}") from error
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
        """Decode `[t0, t1)` seconds of a session that the decoder was trained on.

        Decodes the target, or the `readout` of that name. Reads only the spikes of the windows
        around `[t0, t1)`.

        Returns timestamps (n,) in seconds and values (n, d) in SI. Timestamps are `spec.rate` a
        second from t0, where the session was recorded. Values of a discrete readout are the
        probabilities (n, classes) of its classes.

        Each sample is the average over all windows that hold it. With a `lag` in seconds it is
        decoded as by `stream`, from the one window that ends `lag` after it. That is one window a
        sample, which takes longer.

        Raises UnknownSession for a session that is not in the vocabulary, StoreError when its units
        are not those of training, KeyError for a readout that the decoder does not have,
        StreamError for a lag that is longer than a window, and ValueError unless t0 and t1 are
        finite.
        """
        if not np.isfinite([t0, t1]).all():
            raise ValueError(f"decoding needs a first and a last second, not [{t0}, {t1})")
        if lag is not None:
            self._check_lag(lag)
        row = self._row(session_id, dataset.root)
        restore, session = self._restoring(readout, row), dataset[session_id]
        self._check_units(row, session)
        times = self._moments(session, t0, t1)
        if not len(times):
            return times, restore(torch.zeros(0, self.model.readout.out_features))
        return times, restore(self._decode(session, row, times, lag))

    def stream(
        self,
        session_id: str,
        *,
        start: float = 0.0,
        lag: float = 0.0,
        readout: str | None = None,
    ) -> Stream:
        """A Stream that decodes this session while it is recorded.

        It decodes the target, or the `readout` of that name. `start`, s on the recording's clock,
        is when the recording begins, or goes on after a gap; windows do not reach back beyond it.
        `lag`, s, is how long before the end of its window the behavior is decoded. With a little
        lag it is decoded better.

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

    def _moments(self, session: Session, t0: float, t1: float) -> NDArray[np.float64]:
        """The times (n,), s, `spec.rate` a second from t0 until t1, at which `session` was
        recorded."""
        rate, (first, last) = self.spec.rate, session.span
        count = np.ceil((t1 - t0) * rate - 1e-9)
        # Only those within the session's span are made, however long [t0, t1) is.
        low, high = np.clip([(first - t0) * rate - 1, (last - t0) * rate + 1], 0, max(0, count))
        times = t0 + np.arange(int(low), int(np.ceil(high))) / rate
        return times[session.domain.contains(times)]

    def _decode(
        self, session: Session, row: int, times: NDArray[np.float64], lag: float | None
    ) -> Tensor:
        """The model's output (n, columns) at `times` (n,), at least one."""
        vocabulary, window = self.spec.vocabulary, self.spec.model.window
        n_sessions, domain = len(self.spec.sessions), domain_of(session, row, self._device)
        time = torch.from_numpy(ticks(times)).to(self._device)
        if lag is None:
            windows = windows_around(domain, time, window, self.spec.step)
            spikes, windows, time = pack_around(session, windows, time, n_sessions)
            return decode_windows(self.model, vocabulary, spikes, windows, time)
        windows = windows_before(domain, time, window, lag)
        spikes, windows, time = pack_around(session, windows, time, n_sessions)
        return decode_each(self.model, vocabulary, spikes, windows, time)

    def _restoring(self, readout: str | None, row: int) -> Callable[[Tensor], NDArray[np.float64]]:
        """A function from the model's output (n, columns) to a readout's values (n, d), in SI or as
        probabilities, for the session in this row of the vocabulary."""
        columns, scale = self._readout(readout, self.spec.sessions[row])

        def restore(output: Tensor) -> NDArray[np.float64]:
            scores = output[:, columns].cpu().double()
            if scale is None:
                return scores.softmax(-1).numpy()
            return scores.numpy() * np.array(scale.std) + np.array(scale.mean)

        return restore

    def _readout(self, name: str | None, entry: SessionEntry) -> tuple[slice, Scale | None]:
        """The columns of a readout, and the scale of its values: None for a discrete readout."""
        first = len(self.spec.axes)
        if name is None or name == self.spec.target:
            return slice(0, first), Scale(mean=entry.mean, std=entry.std)
        for readout in self.spec.readouts:
            if readout.name == name:
                return slice(first, first + readout.width), entry.readouts.get(name)
            first += readout.width
        names = listed([self.spec.target, *(readout.name for readout in self.spec.readouts)])
        raise KeyError(f"the decoder has no readout {name!r}; it decodes: {names}")

    def _row(self, session_id: str, root: str | Path | None = None) -> int:
        ids = [session.id for session in self.spec.sessions]
        if session_id not in ids:
            command = f"neurobrick-train adapt {quote(str(self.folder or 'RUN'))}"
            command += f" --sessions {quote(session_id)}"
            command += "" if root is None else f" --root {quote(str(root))}"
            raise UnknownSession(
                f"the decoder does not know session {session_id!r}; it was trained on: "
                f"{listed(ids, most=MOST_SHOWN)}. To teach it: {command}"
            )
        return ids.index(session_id)

    def _check_units(self, row: int, session: Session) -> None:
        """Raises StoreError unless the units of `session` are those of training."""
        entry = self.spec.sessions[row]
        if not session.has_all_units:
            raise StoreError(
                f"of {entry.id}, units were left out by Dataset.select: it has {session.n_units} "
                f"of them, the decoder was trained on {entry.units}; decode it from a dataset with "
                "all units"
            )
        if session.n_units != entry.units:
            fault = f"{session.n_units} units, the decoder was trained on {entry.units}"
        elif entry.checksum and not has_units(session, entry.checksum):
            fault = f"{session.n_units} units, but not those that the decoder was trained on"
        else:
            return
        raise StoreError(
            f"{entry.id} has {fault}: it was prepared anew; train anew, or drop it from the "
            "decoder (neurobrick-train prune) and adapt to it"
        )
