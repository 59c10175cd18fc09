"""The corpus has the spikes and samples of the dataset; training sees no held-out split."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from neurobrick import Intervals, RecipeError
from neurobrick_model.data.choices import choose_target
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.timeline import TICKS, Spans
from neurobrick_model.model.tokens import query_tokens
from neurobrick_model.recipe.settings import DataSettings
from tests.support.model.fakes import FakeDataset, FakeSession, fake_session
from tests.support.model.tools import bounds, draw


def build(dataset: FakeDataset, **settings: Any) -> Corpus:
    return Corpus.from_dataset(dataset, DataSettings.model_validate(settings))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def corpus(dataset: FakeDataset) -> Corpus:
    return build(dataset)


def test_windows_hold_the_spikes_of_the_slice(corpus: Corpus, dataset: FakeDataset) -> None:
    windows = draw(corpus, 1.0, 50)
    cut = corpus.spikes.cut(windows)
    for w in range(len(windows)):
        id, t0, t1 = bounds(corpus, windows, w)
        expected = dataset[id].slice(t0, t1).spikes
        mine = cut.window == w
        assert int(cut.counts[w]) == len(expected.times)
        np.testing.assert_allclose(cut.time[mine] / TICKS, expected.times - t0, atol=1 / TICKS)
        np.testing.assert_array_equal(cut.row[mine], expected.units)
    assert set(windows.session.tolist()) == {0, 1}


def test_a_spike_at_a_windows_start_is_in_it_and_one_at_its_stop_is_not(corpus: Corpus) -> None:
    times, units = corpus.spikes.of_session(0)
    windows = Spans(times[[10, 40]], times[[20, 45]], torch.zeros(2, dtype=torch.int64))
    cut = corpus.spikes.cut(windows)
    assert cut.counts.tolist() == [10, 5]
    rows = [*range(10, 20), *range(40, 45)]
    assert cut.time.tolist() == (times[rows] - times[[10] * 10 + [40] * 5]).tolist()
    assert cut.row.tolist() == units[rows].tolist()


@pytest.mark.slow
def test_32_bits_suffice_for_sessions_of_days() -> None:
    """The low bits of ticks repeat every 256 s; the index tells the repeats apart."""
    rng = np.random.default_rng(0)
    times = np.sort(np.concatenate([rng.uniform(0, 4e5, 4000), 256.0 * np.arange(1, 1500)]))
    session = fake_session("sim/long", 0, seconds=10.0).with_(
        spike_times=times,
        spike_units=(np.arange(len(times)) % 12).astype(np.int32),
        domain=Intervals([0.0], [4e5]),
    )
    spikes = build(FakeDataset(session)).spikes
    found, units = spikes.of_session(0)
    np.testing.assert_array_equal(found, np.rint(times * TICKS))
    np.testing.assert_array_equal(units, session.spike_units)
    starts = torch.from_numpy(rng.uniform(0, 4e5 - 100, 300) * TICKS).long()
    windows = Spans(starts, starts + 100 * TICKS, torch.zeros(300, dtype=torch.int64))
    cut = spikes.cut(windows)
    low, high = torch.searchsorted(found, windows.start), torch.searchsorted(found, windows.stop)
    assert torch.equal(cut.counts, high - low)
    expected = [found[a:b] - start for a, b, start in zip(low, high, starts, strict=True)]
    assert torch.equal(cut.time.long(), torch.cat(expected))


def test_units_beyond_32767_keep_their_rows() -> None:
    session = fake_session("sim/many", 0, seconds=10.0)
    units = np.linspace(0, 65535, len(session.spike_times)).astype(np.int32)
    many = session.with_(spike_units=units, n_units=65536)
    np.testing.assert_array_equal(build(FakeDataset(many)).spikes.of_session(0)[1], units)
    with pytest.raises(RecipeError, match="more than 65,536 units"):
        build(FakeDataset(session.with_(spike_units=units + 1, n_units=65537)))


@pytest.mark.parametrize("length", [0.5, 4.0])
def test_training_windows_lie_wholly_inside_training_intervals(
    corpus: Corpus, dataset: FakeDataset, length: float
) -> None:
    windows = draw(corpus, length, 2000)
    covered = np.zeros(2)
    for session, id in enumerate(corpus.vocabulary.sessions):
        mine = windows[windows.session == session]
        base = corpus.spikes.base[session]
        edges = (mine.start - base).numpy() / TICKS, (mine.stop - base).numpy() / TICKS
        spans = Intervals(edges[0] + 1e-7, edges[1] - 1e-7)
        assert (spans - dataset[id].splits["train"]).duration == 0
        covered[session] = spans.duration
    assert set((windows.stop - windows.start).tolist()) == {round(length * TICKS)}
    assert (covered > 0.98 * 48).all()  # of 48 s of training data in each session


def test_intervals_shorter_than_a_window_are_drawn_whole(dataset: FakeDataset) -> None:
    short = dataset["sim/a"].with_(
        splits={
            "train": Intervals([0.0, 10.0], [0.25, 30.0]),
            "valid": Intervals.empty(),
            "test": Intervals.empty(),
        }
    )
    windows = draw(build(FakeDataset(short)), 1.0, 4000)
    lengths = (windows.stop - windows.start) / TICKS
    assert set(lengths.tolist()) == {0.25, 1.0}
    share = float((lengths == 0.25).double().mean())
    assert abs(share - 0.25 / 20.25) < 0.005  # as often as its share of the time


def test_draws_repeat_with_the_seed(corpus: Corpus) -> None:
    assert torch.equal(draw(corpus, 1.0, 9, seed=3).start, draw(corpus, 1.0, 9, seed=3).start)
    assert not torch.equal(draw(corpus, 1.0, 9, seed=3).start, draw(corpus, 1.0, 9, seed=4).start)


def test_normalization_uses_training_samples_only(dataset: FakeDataset) -> None:
    corpus = build(dataset, target_rate=1000)
    inside = [s.splits["train"].contains(s.timestamps) for s in dataset.values()]
    pool = np.concatenate(
        [s.values[rows] for s, rows in zip(dataset.values(), inside, strict=True)]
    )
    np.testing.assert_allclose(corpus.targets.mean.numpy(), [pool.mean(0)] * 2)
    np.testing.assert_allclose(corpus.targets.std.numpy(), [pool.std(0)] * 2)

    moved = [
        s.with_(values=np.where(rows[:, None], s.values, 1e6))
        for s, rows in zip(dataset.values(), inside, strict=True)
    ]
    again = build(FakeDataset(*moved), target_rate=1000)
    torch.testing.assert_close(again.targets.mean, corpus.targets.mean, rtol=0, atol=0)

    own = build(dataset, normalize="session", target_rate=1000)
    for row, (session, rows) in enumerate(zip(dataset.values(), inside, strict=True)):
        np.testing.assert_allclose(own.targets.mean[row].numpy(), session.values[rows].mean(0))
        mine = own.targets.session == row
        np.testing.assert_allclose(
            own.targets.restore(own.targets.value[mine], row).numpy(), session.values, atol=1e-7
        )


def test_missing_samples_have_weight_0_and_are_not_scored(dataset: FakeDataset) -> None:
    values = dataset["sim/a"].values.copy()
    values[::7, 1] = np.nan
    corpus = build(FakeDataset(dataset["sim/a"].with_(values=values)))
    assert torch.isfinite(corpus.targets.value).all()
    assert (corpus.targets.weight[::7] == 0).all()
    assert (corpus.targets.weight[1::7] == 1).all()
    assert not set(corpus.targets.scored["test"].tolist()) & set(range(0, len(values), 7))


def test_weights_follow_the_rules_and_the_last_rule_wins(dataset: FakeDataset) -> None:
    trials = pa.table({"start": [0.0, 5.0], "stop": [2.0, 7.0], "success": [True, False]})
    session = dataset["sim/a"].with_(intervals={"trials": trials})
    corpus = build(
        FakeDataset(session),
        weights={
            "elsewhere": 0.1,
            "rules": [
                {"during": "evaluation", "weight": 1.0},
                {"during": {"table": "trials", "where": {"success": False}}, "weight": 0.25},
            ],
        },
    )
    expected = np.where(session.evaluation.contains(session.timestamps), 1.0, 0.1)
    expected[Intervals([5.0], [7.0]).contains(session.timestamps)] = 0.25
    np.testing.assert_allclose(corpus.targets.weight.numpy(), expected, rtol=1e-6)


def test_a_rule_may_be_for_some_sessions_only(dataset: FakeDataset) -> None:
    trials = pa.table({"start": [0.0], "stop": [5.0]})
    session = dataset["sim/a"].with_(intervals={"trials": trials})
    rule = {"during": {"table": "trials"}, "weight": 5.0, "sessions": ["*/a"]}
    corpus = build(FakeDataset(session, dataset["sim/b"]), weights={"rules": [rule]})
    first = corpus.targets.session == 0
    expected = np.where(session.timestamps < 5.0, 5.0, 1.0)
    np.testing.assert_array_equal(corpus.targets.weight[first], expected)
    assert (corpus.targets.weight[~first] == 1).all()  # which has no such table


def test_scored_samples_are_those_of_the_split_and_the_evaluation(dataset: FakeDataset) -> None:
    corpus = build(dataset, target_rate=25)
    for name in ("train", "valid", "test"):
        for row, session in enumerate(dataset.values()):
            rows = corpus.targets.scored[name]
            mine = rows[corpus.targets.session[rows] == row]
            times = (corpus.targets.time[mine] - corpus.spikes.base[row]).numpy() / TICKS
            stamps = session.timestamps[::4]
            expected = (session.splits[name] & session.evaluation).contains(stamps)
            np.testing.assert_allclose(times, stamps[expected], atol=1 / TICKS)


def test_own_splits_replace_the_stores(dataset: FakeDataset) -> None:
    epochs = pa.table({"start": [0.0, 40.0], "stop": [40.0, 60.0], "label": ["run", "rest"]})
    session = dataset["sim/a"].with_(intervals={"epochs": epochs})
    corpus = build(
        FakeDataset(session),
        splits={"within": {"table": "epochs", "where": {"label": "run"}}, "blocks": 4},
    )
    starts, stops = corpus.train.start.numpy() / TICKS, corpus.train.stop.numpy() / TICKS
    np.testing.assert_allclose(starts, [0, 10, 20, 30])
    np.testing.assert_allclose(stops, [7, 17, 27, 37])


def test_queries_are_samples_of_their_window_and_differ_by_draw(corpus: Corpus) -> None:
    windows = draw(corpus, 1.0, 64)
    time = corpus.targets.time
    full = query_tokens(time, windows, None)
    assert full.mask.sum(1).min() >= 99
    for most in (16, 500):
        jitter = torch.rand(64, 2, dtype=torch.float64)
        queries = query_tokens(time, windows, most, jitter[:, 0])
        for w in range(len(windows)):
            asked = queries.sample[w][queries.mask[w]]
            assert len(asked.unique()) == len(asked) == min(most, int(full.mask[w].sum()))
            at = time[asked]
            assert ((at >= windows.start[w]) & (at < windows.stop[w])).all()
            torch.testing.assert_close(
                queries.time[w][queries.mask[w]].long(), at - windows.start[w]
            )
        other = query_tokens(time, windows, most, jitter[:, 1])
        assert torch.equal(other.sample, queries.sample) == (most == 500)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({}, {"target": "led"}, "sim/a has no behavior 'led'; there is: hand_vel"),
        ({"n_units": 0}, {}, "sim/a has no units"),
        (
            {},
            {"sessions": ["perich*"]},
            r"data\.sessions: no session matches 'perich\*'; there is: sim",
        ),
        (
            {"target": None},
            {},
            "sim/a names no behavior to decode; set data.target to one of: hand_vel",
        ),
        ({"unit": "cm/s"}, {}, "train them apart"),
        ({"splits": dict.fromkeys(("train", "valid", "test"), Intervals())}, {}, "train split"),
        (
            {},
            {
                "weights": {
                    "rules": [{"during": {"table": "trials"}, "weight": 2, "sessions": ["sim/b"]}]
                }
            },
            r"data\.weights\.rules\.0: .* sim/b: the recording has no interval table 'trials'",
        ),
        (
            {},
            {"splits": {"within": {"table": "epochs"}}},
            r"data\.splits: sim/a cannot be divided so: the recording has no .* 'epochs'",
        ),
    ],
)
def test_sessions_that_cannot_be_trained_on_are_an_error(
    dataset: FakeDataset, change: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    broken: FakeSession = dataset["sim/a"].with_(**change)
    with pytest.raises(RecipeError, match=message):
        build(FakeDataset(broken, dataset["sim/b"]), **settings)


@pytest.mark.parametrize("name", [None, "hand_vel"])
def test_the_error_advises_to_leave_out_a_session_without_behavior(name: str | None) -> None:
    bare: Any = SimpleNamespace(id="sim/c", target=None, behavior={})
    with pytest.raises(RecipeError, match=r"sim/c has no behavior .* leave it out of data\.sess"):
        choose_target(bare, name)


def test_sessions_are_chosen_by_glob_in_the_datasets_order() -> None:
    dataset = FakeDataset(*(fake_session(f"sim/{k}", k, seconds=10.0) for k in range(3)))
    corpus = build(dataset, sessions=["sim/2", "sim/[01]"])
    assert corpus.vocabulary.sessions == ("sim/0", "sim/1", "sim/2")


def test_positions_are_decoded_as_velocities_on_request(dataset: FakeDataset) -> None:
    session = dataset["sim/a"]
    position = np.cumsum(session.values, axis=0) / 100
    moved = session.with_(id="sim/p", values=position, unit="m")
    with pytest.raises(RecipeError, match=r"data\.velocity"):
        build(FakeDataset(session, moved))
    corpus = build(FakeDataset(session, moved), velocity=True, normalize="session")
    assert corpus.unit == "m/s"
    mine = corpus.targets.session == 1
    found = corpus.targets.restore(corpus.targets.value[mine], 1).numpy()
    smooth = (session.values[1:-1] + session.values[2:]) / 2  # central differences of a sum
    np.testing.assert_allclose(found[1:-1], smooth, atol=1e-6)


def test_the_fingerprint_tells_corpora_apart(dataset: FakeDataset) -> None:
    one = build(dataset).fingerprint()
    assert build(dataset).fingerprint() == one
    assert build(dataset, sessions=["sim/a"]).fingerprint() != one
    assert build(dataset, weights={"elsewhere": 0.5}).fingerprint() != one
    times = dataset["sim/a"].spike_times.copy()
    times[7] += 1e-6
    other = FakeDataset(dataset["sim/a"].with_(spike_times=times), dataset["sim/b"])
    assert build(other).fingerprint() != one
