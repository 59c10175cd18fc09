"""Stitching and R² against oracles written another way."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick import IntervalRule, Intervals
from neurobrick_model.baselines.fit_all import baselines
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.scored_parts import HEADLINE, Part
from neurobrick_model.data.timeline import TICKS, Spans
from neurobrick_model.decoding import stitching
from neurobrick_model.decoding.stitching import covering, stitch
from neurobrick_model.evaluation.breakdown import break_down
from neurobrick_model.evaluation.decoded import decode_rows, of_part
from neurobrick_model.files import to_json
from neurobrick_model.model.tokens import KINDS, Keys, Queries
from neurobrick_model.recipe.settings import BaselineSettings, DataSettings, EvaluationSettings
from tests.support.model.fakes import FakeDataset, FakeSession, fake_session


@pytest.fixture(scope="module")
def corpus(dataset: FakeDataset) -> Corpus:
    return Corpus.from_dataset(dataset, DataSettings())  # type: ignore[arg-type]


class Counter(torch.nn.Module):
    """Answers each query with the number of spikes in its window, and its place in it."""

    readout = SimpleNamespace(out_features=2)

    def forward(self, keys: Keys, queries: Queries) -> Tensor:
        window = torch.repeat_interleave(keys.offsets.diff())
        spikes = torch.bincount(window[keys.token % KINDS == 0], minlength=len(queries.time))
        return torch.stack(
            [spikes[:, None].expand_as(queries.time).float(), queries.time / TICKS], 2
        )


def stitched(
    session: FakeSession, when: Intervals, window: float, step: float
) -> NDArray[np.float64]:
    """The output (n, 2) of Counter at a session's samples in `when`, window by window."""
    first, last = session.domain.span
    starts = [*np.arange(first, last - window - 1e-9, step), last - window]
    values = []
    for t in session.timestamps[when.contains(session.timestamps)]:
        total = weight = 0.0
        for start in starts:
            if start <= t < start + window:
                trust = max(1 - abs(2 * (t - start) / window - 1), 1e-3)
                n = len(session.slice(start, start + window).spikes.times)
                total = total + trust * np.array([n, t - start])
                weight += trust
        values.append(total / weight)
    return np.array(values).reshape(-1, 2)


def test_stitching_is_the_weighted_average_over_windows(
    corpus: Corpus, dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stitching, "BATCH", {"cpu": 7})
    rows = corpus.targets.scored["test"]
    decoded = stitch(
        Counter(),
        corpus.vocabulary,
        corpus.spikes,
        corpus.targets.time[rows],
        1.0,
        0.4,  # type: ignore[arg-type]
    )
    expected = np.concatenate(
        [stitched(one, one.splits["test"] & one.evaluation, 1.0, 0.4) for one in dataset.values()]
    )
    # A window whose edge falls on a sample may or may not hold it, at a weight of 1e-3.
    np.testing.assert_allclose(decoded.numpy(), expected, rtol=2e-3)


def test_stitching_works_over_long_windows() -> None:
    session = fake_session("sim/long", 5, n_units=3, seconds=230.0)
    built = Corpus.from_dataset(FakeDataset(session), DataSettings(target_rate=2.0))  # type: ignore[arg-type]
    rows = built.targets.scored["test"]
    time = built.targets.time[rows]
    decoded = stitch(Counter(), built.vocabulary, built.spikes, time, 100.0, 40.0)  # type: ignore[arg-type]
    samples = session.with_(
        timestamps=(time - built.spikes.base[0]).numpy() / TICKS, values=np.zeros((len(time), 2))
    )
    expected = stitched(samples, session.domain, 100.0, 40.0)
    np.testing.assert_allclose(decoded.numpy(), expected, rtol=2e-3)


HOLD = IntervalRule.model_validate({"table": "trials", "stop": "go"})
REACH = IntervalRule.model_validate({"table": "trials", "start": "go"})


@pytest.fixture(scope="module")
def in_parts(dataset: FakeDataset) -> tuple[FakeDataset, Corpus, list[str]]:
    """Two sessions, their corpus, and the lines that were printed. One session has trials of 3 s,
    whose holds lie partly outside the evaluation intervals. The other has no trials."""
    start = np.arange(0.0, 60.0, 3.5)
    trials = pa.table({"start": start, "go": start + 1.2, "stop": start + 3.0})
    both = FakeDataset(dataset["sim/a"].with_(intervals={"trials": trials}), dataset["sim/b"])
    asked = EvaluationSettings(splits=("test", "valid"), during={"hold": HOLD, "reach": REACH})
    lines: list[str] = []
    corpus = Corpus.from_dataset(both, DataSettings(), say=lines.append, evaluation=asked)  # type: ignore[arg-type]
    return both, corpus, lines


def test_parts_are_decoded_once_and_scored_apart(
    in_parts: tuple[FakeDataset, Corpus, list[str]],
) -> None:
    sessions, corpus, _ = in_parts
    targets = corpus.targets
    decoded = decode_rows(Counter(), corpus, targets.reported, 1.0, 0.4)  # type: ignore[arg-type]
    trials = sessions["sim/a"].intervals
    rules = {"hold": HOLD.intervals(trials), "reach": REACH.intervals(trials)}
    for id, session in sessions.items():
        when = {"evaluation": session.evaluation, "hold": Intervals(), "reach": Intervals()}
        if id == "sim/a":
            when |= rules
        std, mean = targets.std[0].numpy(), targets.mean[0].numpy()
        for part in targets.parts:
            inside = session.splits[part.split] & when[part.during]
            samples = of_part(corpus, decoded, part)[id]
            rows = inside.contains(session.timestamps)
            np.testing.assert_allclose(samples.time, session.timestamps[rows], atol=1e-7)
            np.testing.assert_allclose(samples.truth, session.values[rows], atol=1e-7)
            expected = stitched(session, inside, 1.0, 0.4)
            np.testing.assert_allclose((samples.guess - mean) / std, expected, rtol=2e-3)
    assert set(targets.parts) == {
        (split, during) for split in ("test", "valid") for during in ("evaluation", "hold", "reach")
    }
    held = of_part(corpus, decoded, Part("test", "hold"))["sim/a"].time
    evaluated = sessions["sim/a"].evaluation.contains(held)
    assert 0 < evaluated.sum() < len(held)


def test_a_session_without_the_table_is_left_out_with_a_line(
    in_parts: tuple[FakeDataset, Corpus, list[str]],
) -> None:
    _, corpus, printed = in_parts
    lines = [line for line in printed if line.startswith("evaluation.during.")]
    assert len(lines) == 2
    assert "hold: nothing in 1 of 2 sessions, as in sim/b: the recording has no" in lines[0]
    decoded = decode_rows(Counter(), corpus, corpus.targets.reported, 1.0, 0.5)  # type: ignore[arg-type]
    assert len(of_part(corpus, decoded, Part("test", "hold"))["sim/b"].time) == 0
    assert len(of_part(corpus, decoded, HEADLINE)["sim/b"].time) == 200


def test_further_parts_do_not_change_the_headline(
    corpus: Corpus, in_parts: tuple[FakeDataset, Corpus, list[str]]
) -> None:
    wide = in_parts[1]
    alone, beside = (
        of_part(c, decode_rows(Counter(), c, c.targets.reported, 1.0, 0.4), HEADLINE)  # type: ignore[arg-type]
        for c in (corpus, wide)
    )
    for id, samples in alone.items():
        np.testing.assert_array_equal(samples.time, beside[id].time)
        np.testing.assert_array_equal(samples.guess, beside[id].guess)


def test_a_breakdown_has_every_session_and_resamples_its_trials(
    in_parts: tuple[FakeDataset, Corpus, list[str]],
) -> None:
    _, corpus, _ = in_parts
    which = BaselineSettings(which=("ridge", "kalman"), bins=(0.05,))
    fitted = {name: one.decoded for name, one in baselines(corpus, which, 0).items()}
    decoders = {"decoder": fitted["ridge"], **fitted}
    reach = break_down(corpus, decoders, Part("test", "reach"), block=2.0, seed=0)
    first, second = reach["sessions"]
    inside = of_part(corpus, fitted["ridge"], Part("test", "reach"))["sim/a"]
    assert first["samples"] == len(inside.time)
    assert first["trials"] == len(np.unique(inside.time // 3.5))
    assert first["decoder"]["r2"] == inside.r2
    low, high = first["decoder"]["ci95"]["r2"]
    assert low < inside.r2 < high < 1
    ridge, decoder = first["baselines"]["ridge"], first["decoder"]
    assert to_json(ridge) == to_json(decoder)  # decoded alike, and resampled alike
    assert list(first["baselines"]) == list(reach["summary"]["baselines"]) == ["ridge", "kalman"]
    kalman = of_part(corpus, fitted["kalman"], Part("test", "reach"))["sim/a"]
    assert first["baselines"]["kalman"]["r2"] == kalman.r2 != inside.r2
    assert (second["samples"], second["trials"]) == (0, 0)
    assert reach["summary"]["decoder"]["r2"] == inside.r2
    evaluated = break_down(corpus, decoders, HEADLINE, block=2.0, seed=0)["sessions"]
    assert evaluated[1]["trials"] == 2  # in blocks of 2 s, of which one second each is evaluated


def test_windows_cover_spans_and_never_leave_them() -> None:
    spans = Spans(
        torch.tensor([0, 100, 200]),
        torch.tensor([33, 104, 210]),
        torch.tensor([0, 0, 1]),
    )
    windows = covering(spans, 10, 5)
    assert windows.start.tolist() == [0, 5, 10, 15, 20, 23, 100, 200]
    assert windows.stop.tolist() == [10, 15, 20, 25, 30, 33, 104, 210]
    assert windows.session.tolist() == [0] * 7 + [1]
