"""`Decoder.predict` reads only the spikes around what it decodes, and gives the values of the whole
recording."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from neurobrick import Dataset, StoreError
from neurobrick_model import Decoder
from neurobrick_model.data.timeline import PackedSpikes, ticks
from neurobrick_model.decoding.spec import DecoderSpec, SessionEntry
from neurobrick_model.decoding.stitching import stitch
from neurobrick_model.decoding.trailing_windows import decode_causally
from neurobrick_model.decoding.vocabulary import units_checksum
from tests.model.decoding.test_stream import ID, MEAN, RATE, SMALL, STD, hard_session, make_decoder
from tests.support.model.fakes import FakeDataset, FakeSession

WINDOW = SMALL.window
STEP = 0.5  # s, of make_decoder
START = 1000.25  # s, of hard_session, which has a gap from 6.0 to 6.5 s and ends after 8.0 s


@dataclass(frozen=True)
class WatchedSession(FakeSession):
    """Notes which stretches of its spikes are read."""

    read: list[tuple[float, float]] = field(default_factory=list)

    def slice(self, t0: float, t1: float) -> Any:
        self.read.append((t0, t1))
        return super().slice(t0, t1)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return make_decoder(SMALL)


def watched(start: float = START) -> WatchedSession:
    return WatchedSession(**vars(hard_session(start)))


def decoded_whole(
    decoder: Decoder, session: Any, row: int, times: NDArray[np.float64], lag: float | None
) -> NDArray[np.float64]:
    """The target (n, 2) at `times` (n,), from a session that was read and packed whole."""
    spikes = session.slice(*session.span).spikes
    recording = PackedSpikes.gather(
        [(row, spikes.times, spikes.units, session.domain)],
        len(decoder.spec.sessions),
        torch.device("cpu"),
    )
    time = torch.from_numpy(ticks(times)) + recording.base[row]
    model, vocabulary = decoder.model, decoder.spec.vocabulary
    if lag is None:
        output = stitch(model, vocabulary, recording, time, WINDOW, decoder.spec.step)
    else:
        output = decode_causally(model, vocabulary, recording, time, WINDOW, lag)
    return output[:, :2].double().numpy()


@pytest.mark.slow
@pytest.mark.parametrize("lag", [None, 0.0, 0.1, WINDOW])
@pytest.mark.parametrize("start", [START, 0.0, -3.3, 2.0**31])
@pytest.mark.parametrize(
    ("t0", "t1"),
    [
        (-1.0, 0.3),  # the recording's start
        (3.2, 4.2),  # the middle
        (3.21, 3.22),  # one sample
        (5.7, 6.8),  # across the gap
        (5.9, 5.99),  # before the gap
        (6.5, 6.6),  # after the gap
        (7.7, 9.0),  # the recording's end
        (-1e9, 1e9),  # all of it
    ],
)
def test_predict_equals_decoding_the_whole_recording(
    decoder: Decoder, start: float, t0: float, t1: float, lag: float | None
) -> None:
    session = watched(start)
    dataset: Any = FakeDataset(session)
    times, values = decoder.predict(dataset, ID, start + t0, start + t1, lag=lag)
    assert len(times)
    assert session.domain.contains(times).all()
    expected = decoded_whole(decoder, session, 1, times, lag)
    np.testing.assert_allclose((values - MEAN) / STD, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("t0", "t1"), [(6.1, 6.4), (-9.0, 0.0), (8.0, 9.0), (4.0, 4.0), (5, 3)])
def test_no_samples_where_nothing_was_recorded(decoder: Decoder, t0: float, t1: float) -> None:
    session = watched()
    dataset: Any = FakeDataset(session)
    times, values = decoder.predict(dataset, ID, START + t0, START + t1)
    assert (times.shape, values.shape) == ((0,), (0, 2))
    assert session.read == []


@pytest.mark.parametrize(("t0", "t1"), [(np.nan, 1.0), (0.0, np.inf), (-np.inf, 0.0)])
def test_infinite_ends_are_an_error(decoder: Decoder, t0: float, t1: float) -> None:
    dataset: Any = FakeDataset(watched())
    with pytest.raises(ValueError, match="needs a first and a last second"):
        decoder.predict(dataset, ID, t0, t1)


@pytest.mark.parametrize("lag", [None, 0.0, 0.1])
def test_predict_reads_only_the_windows_that_hold_the_samples(
    decoder: Decoder, lag: float | None
) -> None:
    checked = with_checksum(decoder, units_checksum(watched().spike_counts))
    session = watched()
    dataset: Any = FakeDataset(session)
    times, _ = checked.predict(dataset, ID, START + 3.0, START + 3.5, lag=lag)
    ((first, last),) = session.read
    assert first >= times[0] - WINDOW - STEP
    assert last <= times[-1] + WINDOW + STEP


# Units


def with_checksum(decoder: Decoder, checksum: str | None) -> Decoder:
    """The decoder, with the units of its second session known by `checksum`."""
    first, second = decoder.spec.sessions
    sessions = (first, second.model_copy(update={"checksum": checksum}))
    return Decoder(decoder.spec.model_copy(update={"sessions": sessions}), decoder.model)


def test_units_are_recognized_where_spikes_lie_outside_of_the_recording(decoder: Decoder) -> None:
    """Training counts the spikes within the session's span, a store counts all of them."""
    session = watched()
    trained = with_checksum(decoder, units_checksum(session.spike_counts))
    more = np.array([START - 7.0, START - 6.0, START + 8.0])
    wide = session.with_(
        spike_times=np.concatenate([more[:2], session.spike_times, more[2:]]),
        spike_units=np.r_[1, 2, session.spike_units, 0].astype(np.int32),
    )
    here: Any = FakeDataset(session)
    there: Any = FakeDataset(wide)
    np.testing.assert_array_equal(
        trained.predict(here, ID, START, START + 1.0)[1],
        trained.predict(there, ID, START, START + 1.0)[1],
    )


def test_other_units_are_an_error_at_any_time(decoder: Decoder) -> None:
    session = watched()
    trained = with_checksum(decoder, units_checksum(session.spike_counts))
    other = session.with_(spike_units=session.spike_units[::-1].copy())
    dataset: Any = FakeDataset(session.with_(spike_units=(other.spike_units + 1) % 9))
    for t0 in (0.0, 4.0, 100.0):
        with pytest.raises(StoreError, match="not those that the decoder was trained on"):
            trained.predict(dataset, ID, START + t0, START + t0 + 0.5)


# Prepared sessions


@pytest.fixture
def prepared(corpus: Dataset) -> tuple[Dataset, str, Decoder]:
    """A dataset, one of its sessions, and a decoder of that session."""
    id = next(id for id in corpus.sessions if id.endswith("ses-regular"))
    session = corpus[id]
    entry = SessionEntry(
        id=id,
        units=session.n_units,
        mean=(0.0, 0.0),
        std=(1.0, 1.0),
        checksum=units_checksum(np.bincount(session.spike_arrays()[1], minlength=session.n_units)),
    )
    spec = DecoderSpec(
        target="cursor_pos", unit="m", axes=("x", "y"), rate=RATE, step=STEP, model=SMALL,
        sessions=(entry,),
    )  # fmt: skip
    torch.manual_seed(0)
    return corpus, id, Decoder(spec, spec.build())


@pytest.mark.parametrize("cache_bytes", [2**30, 1])  # whole in memory, and read by chunks
@pytest.mark.parametrize("lag", [None, 0.1])
def test_sessions_read_by_chunks_are_decoded_alike(
    prepared: tuple[Dataset, str, Decoder], cache_bytes: int, lag: float | None
) -> None:
    corpus, id, decoder = prepared
    dataset = Dataset(corpus.root, cache_bytes=cache_bytes)
    first, last = dataset[id].span
    for t0, t1 in ((first, first + 0.5), (2.0, 3.0), (last - 0.5, last)):
        times, values = decoder.predict(dataset, id, t0, t1, lag=lag)
        assert len(times)
        expected = decoded_whole(decoder, corpus[id], 0, times, lag)
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


def test_the_error_names_units_that_were_selected_away(
    prepared: tuple[Dataset, str, Decoder],
) -> None:
    corpus, id, decoder = prepared
    with pytest.raises(StoreError, match=r"left out by Dataset\.select") as refused:
        decoder.predict(corpus.select(units="row > 0"), id, 2.0, 3.0)
    assert "prepared anew" not in str(refused.value)
    assert len(decoder.predict(corpus.select(units="row >= 0"), id, 2.0, 3.0)[0]) == RATE
