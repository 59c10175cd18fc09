"""A stream gives the values of `predict` with a lag, which are those of the paper's formulas on the
one window that ends there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from neurobrick import Intervals
from neurobrick_model import Decoder, Stream
from neurobrick_model.data.readouts import Readout
from neurobrick_model.decoding.spec import DecoderSpec, SessionEntry
from neurobrick_model.decoding.stream import LEAST_ROOM, ROOM
from neurobrick_model.errors import StreamError, UnknownSession
from neurobrick_model.model.tokens import END, SPIKE, START
from neurobrick_model.recipe.settings import ModelSettings
from tests.support.model.fakes import FakeDataset, FakeSession, fake_session
from tests.support.model.reference import Reference

SMALL = ModelSettings(
    dim=16, depth=2, head_dim=8, self_heads=3, latent_step=0.25, latents_per_step=3
)
RATE = 64.0  # Hz: its moments are whole ticks, so that spikes can fall on the edges of windows
ID, UNITS, OTHER_UNITS = "sim/b", 9, 5
MEAN, STD = np.array([3.0, -1.0]), np.array([0.1, 2.0])
CLASSES = ("left", "right", "up")


def hard_session(start: float = 1000.25) -> FakeSession:
    """A session that was recorded in two stretches.

    One unit is silent and one bursts. Many spikes lie on the times that are decoded, and some of
    these share a time. For longer than a window there is no spike. All spikes are on whole ticks.
    """
    rng = np.random.default_rng(0)
    moments = rng.integers(0, 8 * RATE, 150) / RATE
    burst = 2.3 + rng.uniform(0, 0.004, 300)
    times = np.concatenate([rng.uniform(0, 8, 800), moments, moments[:20].repeat(2), burst])
    times = np.rint(times * 2**16) / 2**16
    unit = rng.integers(0, UNITS - 2, len(times))
    unit[-len(burst) :] = UNITS - 2
    kept = ~((times > 3.5) & (times < 5.0)) & ~((times >= 6.0) & (times < 6.5))
    order = np.argsort(times[kept], kind="stable")
    return fake_session(ID, 1, n_units=UNITS, start=start, seconds=8.0).with_(
        spike_times=start + times[kept][order],
        spike_units=unit[kept][order].astype(np.int32),
        domain=Intervals([start, start + 6.5], [start + 6.0, start + 8.0]),
    )


def make_decoder(sizes: ModelSettings) -> Decoder:
    """A decoder with random weights, so large that its output varies about as behavior does."""
    scale = {"mean": tuple(MEAN), "std": tuple(STD)}
    spec = DecoderSpec(
        target="hand_vel",
        unit="m/s",
        axes=("x", "y"),
        readouts=(Readout(name="side", classes=CLASSES),),
        rate=RATE,
        step=0.5,
        model=sizes,
        sessions=(
            SessionEntry(id="sim/a", units=OTHER_UNITS, **scale),
            SessionEntry(id=ID, units=UNITS, **scale),
        ),
    )
    torch.manual_seed(0)
    model = spec.build()
    with torch.no_grad():
        for parameter in model.parameters():
            if sizes is SMALL:
                parameter.normal_(0, 0.4)
            elif parameter.ndim == 2:
                parameter.mul_(2)
    return Decoder(spec, model)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return make_decoder(SMALL)


def follow(
    stream: Stream, session: FakeSession, first: float, moments: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values (n, d) decoded at each of `moments` (n,). Spikes from `first` until each moment,
    those at the moment included, are fed before."""
    times, units, values = session.spike_times, session.spike_units, []
    fed = np.searchsorted(times, first)
    for moment in moments:
        stop = np.searchsorted(times, moment, side="right")
        stream.feed(times[fed:stop], units[fed:stop])
        values.append(stream.decode(moment))
        fed = stop
    return np.array(values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "lag"),
    [
        (1000.25, 0.0),
        (1000.25, 4 / RATE),
        (1000.25, 0.1),  # no whole number of ticks
        (2.0**31, 0.0),  # seconds since 1970
        (2.0**31, 4 / RATE),
    ],
)
def test_a_stream_equals_predict(decoder: Decoder, lag: float, start: float) -> None:
    """From the first sample of each stretch of the recording to its last."""
    session = hard_session(start)
    dataset: Any = FakeDataset(session)
    for first, last in zip(session.domain.start, session.domain.stop, strict=True):
        times, expected = decoder.predict(dataset, ID, first, last - lag, lag=lag)
        assert abs(len(times) - (last - lag - first) * RATE) < 1
        assert (expected.std(0) > 0.1 * STD).all()
        stream = decoder.stream(ID, start=first, lag=lag)
        found = follow(stream, session, first, times + lag)
        np.testing.assert_allclose(found / STD, expected / STD, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "sizes",
    [ModelSettings(preset="poyo-1.3m"), ModelSettings(depth=0, head_dim=4, latents_per_step=1)],
    ids=["published", "least"],
)
def test_a_stream_equals_predict_at_other_sizes(sizes: ModelSettings) -> None:
    decoder, session = make_decoder(sizes), hard_session()
    dataset: Any = FakeDataset(session)
    times, expected = decoder.predict(dataset, ID, 1002.25, 1002.5, lag=0.0)
    assert (expected.std(0) > 0.1 * STD).all()
    found = follow(decoder.stream(ID, start=1000.25), session, 1000.25, times)
    np.testing.assert_allclose(found / STD, expected / STD, rtol=0, atol=1e-5)


def test_a_stream_decodes_any_readout(decoder: Decoder) -> None:
    session = hard_session()
    dataset: Any = FakeDataset(session)
    times, expected = decoder.predict(dataset, ID, 1001.25, 1002.25, readout="side", lag=0.0)
    assert expected.shape == (RATE, len(CLASSES))
    stream = decoder.stream(ID, start=1000.25, readout="side")
    np.testing.assert_allclose(follow(stream, session, 1000.25, times), expected, atol=1e-5)
    with pytest.raises(KeyError, match="no readout 'speed'"):
        decoder.stream(ID, readout="speed")


@pytest.mark.slow
@pytest.mark.parametrize("lag", [0.0, 4 / RATE])
def test_predict_with_a_lag_reads_the_one_window_that_ends_there(
    decoder: Decoder, lag: float
) -> None:
    session = hard_session()
    dataset: Any = FakeDataset(session)
    reference = Reference(decoder.model, SMALL)
    for stretch in (0, 1):
        first, last = session.domain.start[stretch], session.domain.stop[stretch]
        times, found = decoder.predict(dataset, ID, first, last, lag=lag)
        for k in [*range(0, len(times), 23), len(times) - 1]:
            t1 = min(times[k] + lag, last)
            t0 = max(t1 - SMALL.window, first)
            spikes = session.slice(t0, t1).spikes
            n = len(spikes.times)
            every = np.arange(UNITS)
            output = reference.decode(
                OTHER_UNITS + torch.from_numpy(np.concatenate([spikes.units, every, every])),
                torch.tensor([SPIKE] * n + [START] * UNITS + [END] * UNITS),
                torch.from_numpy(
                    np.r_[spikes.times - t0, np.zeros(UNITS), np.full(UNITS, t1 - t0)]
                ),
                1,
                torch.tensor([times[k] - t0], dtype=torch.float64),
            )
            expected = output[0, :2].detach().numpy()
            np.testing.assert_allclose((found[k] - MEAN) / STD, expected, rtol=0, atol=1e-5)


def test_a_stream_is_as_exact_after_years(decoder: Decoder) -> None:
    session, years = hard_session(2.0**27), 2.0**27
    moments = 2.0**27 + np.arange(1, 100) / RATE
    fresh = follow(decoder.stream(ID, start=years - 1), session, years, moments)
    old = decoder.stream(ID)
    old.feed(np.arange(10) / 10, np.arange(10) % UNITS)
    old.decode(1.0)
    old.decode(years - 1)
    np.testing.assert_allclose(follow(old, session, years, moments), fresh, rtol=0, atol=1e-5)


def test_a_stream_is_as_exact_after_minutes_of_few_spikes(decoder: Decoder) -> None:
    """Memory is not made anew for long, so that times from its origin grow."""
    times, units = np.arange(0, 200, 0.2), np.arange(1000) % UNITS
    old = decoder.stream(ID)
    for first in range(0, 1000, 5):
        old.feed(times[first : first + 5], units[first : first + 5])
    fresh = decoder.stream(ID, start=199.0)
    fresh.feed(times[-5:], units[-5:])
    np.testing.assert_allclose(old.decode(200.0), fresh.decode(200.0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("decodes", [True, False])
def test_a_stream_keeps_the_spikes_of_one_window(decoder: Decoder, decodes: bool) -> None:
    """Ten minutes at 1,000 spikes a second, decoded or not."""
    stream, rng = decoder.stream(ID), np.random.default_rng(0)
    for t in range(0, 600, 4):
        stream.feed(np.sort(rng.uniform(t, t + 4, 4000)), rng.integers(0, UNITS, 4000))
        if decodes:
            stream.decode(t + 4)
    assert 800 < len(stream.recent) < 1200
    assert stream.recent.room <= ROOM * max(2 * 1200, LEAST_ROOM)


@pytest.mark.parametrize(
    ("times", "units", "message"),
    [
        ([2.5, 2.4], [0, 1], "from 2.500000 s to 2.400000 s"),
        ([1.9, 2.5], [0, 1], "from 2.000000 s to 1.900000 s"),
        ([2.1, np.nan], [0, 1], "nan is no time"),
        ([2.1, np.inf], [0, 1], "inf is no time"),
        ([2.1, 1.7e12], [0, 1], "is no time in seconds"),  # milliseconds since 1970
        ([2.1, 2.2], [0, UNITS], "no unit 9: the session has 9"),
        ([2.1, 2.2], [0, -1], "no unit -1"),
        ([2.1, 2.2], [0.0, 1.0], "float64"),
        ([2.1, 2.2], [0], "one shape"),
        ([[2.1, 2.2]], [[0, 1]], "one shape"),
    ],
)
def test_invalid_spikes_are_an_error_and_change_nothing(
    decoder: Decoder, times: Any, units: Any, message: str
) -> None:
    streams = [decoder.stream(ID) for _ in range(2)]
    for stream in streams:
        stream.feed(np.arange(1, 2, 0.01), np.arange(100) % UNITS)
        stream.decode(2.0)
    with pytest.raises(StreamError, match=message):
        streams[0].feed(times, units)
    for stream in streams:
        stream.feed([], [])
        stream.feed([2.0, 2.05], np.array([1, 2], dtype=np.uint16))
    np.testing.assert_array_equal(streams[0].decode(2.1), streams[1].decode(2.1))


def test_times_that_cannot_be_decoded_are_an_error(decoder: Decoder) -> None:
    stream = decoder.stream(ID, start=1.0)
    stream.feed([2.0], [0])
    with pytest.raises(StreamError, match=r"from 2\.000000 s to 1\.500000 s"):
        stream.decode(1.5)
    with pytest.raises(StreamError, match="nan is no time"):
        stream.decode(np.nan)
    with pytest.raises(StreamError, match=r"from 1\.000000 s to 0\.500000 s"):
        decoder.stream(ID, start=1.0).feed([0.5], [0])
    for wrong in (-0.1, SMALL.window + 0.1):
        with pytest.raises(StreamError, match=r"window of 1\.0 s"):
            decoder.stream(ID, lag=wrong)
    with pytest.raises(UnknownSession, match="sim/c"):
        decoder.stream("sim/c")
