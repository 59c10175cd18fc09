"""Several readouts at once: another behavior, and the values of a column of an interval table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from neurobrick import Dataset, RecipeError
from neurobrick_model import Decoder, Recipe, Trainer
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.timeline import TICKS
from neurobrick_model.evaluation.decoded import Classified
from neurobrick_model.evaluation.metrics import score_classes
from neurobrick_model.recipe.settings import DataSettings
from neurobrick_model.training.optimization.loss import LOSS, NULL_LOSS, WEIGHT, Objective
from tests.model.conftest import TINY
from tests.support.model.fakes import FakeDataset, FakeSession, fake_session

pytestmark = pytest.mark.slow

READOUTS: dict[str, Any] = {
    "hand_pos": {"weight": 0.5},
    "side": {"column": "side", "during": {"table": "trials", "where": {"ok": True}}},
}
SIDES = ("down", "up")


def with_more(session: FakeSession, seed: int) -> FakeSession:
    """The session with a position at 40 Hz that has a gap, and trials of half a second.

    A trial's `side` is the direction in which the hand mostly moves; the sixth of ten has none.
    Every fifth trial is not `ok`.
    """
    t0, t1 = session.span
    stamps = np.arange(t0, t1 - 1, 0.025)
    stamps = stamps[(stamps < t0 + 20) | (stamps > t0 + 22)]
    position = np.cumsum(session.values, 0) / 100
    at = np.searchsorted(session.timestamps, stamps)
    start = np.arange(t0, t1 - 0.5, 0.75)
    first, last = np.searchsorted(session.timestamps, [start, start + 0.5])
    side = [SIDES[int(session.values[i:j, 1].mean() > 0)] for i, j in zip(first, last, strict=True)]
    table = pa.table({
        "start": start,
        "stop": start + 0.5,
        "side": [None if k % 10 == 6 else one for k, one in enumerate(side)],
        "ok": [k % 5 != 0 for k in range(len(start))],
    })  # fmt: skip
    return session.with_(
        others={"hand_pos": (stamps, position[at], "m")}, intervals={"trials": table}
    )


@pytest.fixture(scope="module")
def dataset() -> FakeDataset:
    """Two sessions with both readouts, and one with the velocity alone."""
    return FakeDataset(
        with_more(fake_session("sim/a", 1, seconds=120), 1),
        with_more(fake_session("sim/b", 2, start=500.25, seconds=120), 2),
        fake_session("sim/c", 3),
    )


@pytest.fixture(scope="module")
def corpus(dataset: FakeDataset) -> Corpus:
    return Corpus.from_dataset(dataset, DataSettings.model_validate({"readouts": READOUTS}))  # type: ignore[arg-type]


def test_a_behavior_is_interpolated_at_the_targets_samples(
    dataset: FakeDataset, corpus: Corpus
) -> None:
    position, _ = corpus.targets.readouts
    assert (position.readout.unit, position.readout.axes) == ("m", ("x", "y"))
    for row, (id, session) in enumerate(dataset.items()):
        mine = corpus.targets.session == row
        if id == "sim/c":
            assert not position.weight[mine].any()
            continue
        stamps, values, _ = session.others["hand_pos"]
        gaps = [
            min(stamps[stamps >= t], default=np.inf) - max(stamps[stamps <= t], default=-np.inf)
            for t in session.timestamps
        ]
        there = np.array(gaps) < 0.03
        assert 0.95 < there.mean() < 1
        assert position.weight[mine].numpy().astype(bool).tolist() == there.tolist()
        found = position.restore(position.value[mine], row).numpy()[there]
        for axis in range(2):
            expected = np.interp(session.timestamps[there], stamps, values[:, axis])
            np.testing.assert_allclose(found[:, axis], expected, atol=1e-6)


def test_a_column_has_its_value_during_its_rows(dataset: FakeDataset, corpus: Corpus) -> None:
    _, side = corpus.targets.readouts
    assert side.readout.classes == SIDES
    for row, (id, session) in enumerate(dataset.items()):
        mine = corpus.targets.session == row
        found = side.value[mine].tolist()
        trials = session.intervals["trials"].to_pylist() if id != "sim/c" else []
        expected = [
            next((SIDES.index(trial["side"]) for trial in trials
                  if trial["start"] <= t < trial["stop"] and trial["ok"] and trial["side"]), -1)
            for t in session.timestamps
        ]  # fmt: skip
        assert found == expected
        assert (side.weight[mine] > 0).tolist() == [label >= 0 for label in expected]


def test_a_readout_is_scored_within_its_split(dataset: FakeDataset, corpus: Corpus) -> None:
    for one in corpus.targets.readouts:
        rows = one.scored["test"]
        for row, session in enumerate(dataset.values()):
            mine = rows[corpus.targets.session[rows] == row]
            times = (corpus.targets.time[mine] - corpus.spikes.base[row]).numpy() / TICKS
            inside = session.splits["test"]
            if one.readout.axes:
                inside = inside & session.evaluation
            assert inside.contains(times).all()
            assert len(times) or session.id == "sim/c"


def test_a_session_that_lacks_a_readout_trains_on_the_others(dataset: FakeDataset) -> None:
    """A table without the column counts as no table, since the next session may have it."""
    session = dataset["sim/b"]
    bare = session.with_(
        others={}, intervals={"trials": session.intervals["trials"].drop_columns(["ok"])}
    )
    said: list[str] = []
    settings = DataSettings.model_validate({"readouts": READOUTS})
    three = FakeDataset(dataset["sim/a"], bare, dataset["sim/c"])
    found = Corpus.from_dataset(three, settings, say=said.append).targets  # type: ignore[arg-type]
    for one in found.readouts:
        assert set(found.session[one.weight > 0].tolist()) == {0}
    assert said[1:] == [
        "data.readouts.hand_pos: nothing in 2 of 3 sessions, as in sim/b: it has no behavior "
        "'hand_pos'",
        "data.readouts.side: nothing in 2 of 3 sessions, as in sim/b: table 'trials' has no column "
        "'ok'; there is: side, start, stop",
    ]


def test_a_class_outside_of_the_rule_does_not_affect_the_others(dataset: FakeDataset) -> None:
    session = dataset["sim/a"]
    trials = session.intervals["trials"].to_pylist()
    for trial in trials:
        trial["side"] = trial["side"] if trial["ok"] else "aside"
    settings = DataSettings.model_validate({"readouts": READOUTS})
    before, after = (
        Corpus.from_dataset(FakeDataset(one), settings).targets.readouts[1]  # type: ignore[arg-type]
        for one in (
            session,
            session.with_(intervals={"trials": pa.Table.from_pylist(trials)}),
        )
    )
    assert after.readout.classes == before.readout.classes == SIDES
    assert torch.equal(after.value, before.value)


def test_a_class_that_is_not_in_training_is_scored_as_wrong(dataset: FakeDataset) -> None:
    """So the test is as hard for a run that has seen fewer classes."""
    session = dataset["sim/a"]
    trials = session.intervals["trials"].to_pylist()
    train = session.splits["train"]
    for trial in trials:
        if not train.contains(np.array([trial["start"], trial["stop"]])).any():
            trial["side"] = "aside" if trial["side"] == "up" else trial["side"]
    test = session.with_(intervals={"trials": pa.Table.from_pylist(trials)})
    settings = DataSettings.model_validate({"readouts": READOUTS})
    before, after = (
        Corpus.from_dataset(FakeDataset(one), settings).targets.readouts[1]  # type: ignore[arg-type]
        for one in (session, test)
    )
    assert after.readout.classes == SIDES
    rows = after.scored["test"]
    assert torch.equal(rows, before.scored["test"])
    unseen = after.value[rows] < 0
    assert 0 < unseen.sum() < len(rows)
    assert torch.equal(unseen, before.value[rows] == SIDES.index("up"))
    assert not after.weight[rows][unseen].any()

    truth = after.value[rows].numpy()
    down = np.tile([0.9, 0.1], (len(rows), 1))
    expected = np.mean(before.value[rows].numpy() == 0)
    always_down = Classified(np.arange(len(rows)), truth, down)
    scores = score_classes(truth, always_down.right)
    assert scores["accuracy"] == scores["guessing"] == expected < 1
    unknown = Classified(np.zeros(2), np.full(2, -1), down[:2])
    scores = score_classes(unknown.truth, unknown.right)
    assert scores["accuracy"] == scores["guessing"] == 0


def test_losses_match_plain_formulas(dataset: FakeDataset) -> None:
    recipe = Recipe.model_validate({"name": "x", **TINY, "data": {"readouts": READOUTS}})
    trainer = Trainer(recipe, dataset)  # type: ignore[arg-type]
    batch = trainer.setup.batch_maker.cut(0, torch.arange(recipe.training.batch))
    guess = trainer.model(batch.keys, batch.queries, batch.dropout_keys).detach().double()
    sums = Objective(trainer.model, torch.float32, trainer.corpus.targets.readouts)(batch)
    sums = sums.detach().double()

    error = ((guess[..., 2:4] - batch.target[1]) ** 2).mean(-1) * batch.weight[1]
    assert sums[1, LOSS] == pytest.approx(error.sum().item(), rel=1e-5)
    there = batch.target[2] >= 0
    chances = torch.softmax(guess[..., 4:], -1)[there]
    right = chances[torch.arange(len(chances)), batch.target[2][there]]
    weight = batch.weight[2][there]
    assert sums[2, LOSS] == pytest.approx(-(right.log() * weight).sum().item(), rel=1e-5)
    assert sums[2, NULL_LOSS] == pytest.approx(np.log(2) * weight.sum().item(), rel=1e-5)
    assert sums[2, WEIGHT] == pytest.approx(weight.sum().item())
    total = trainer.setup.objective.loss(sums.float(), batch.weights)
    expected = sum(
        share * sums[k, LOSS].item() / batch.weight[k].sum().item()
        for k, share in enumerate((1.0, 0.5, 1.0))
    )
    assert total.item() == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def run(dataset: FakeDataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    runs = tmp_path_factory.mktemp("runs")
    sizes = {**TINY["model"], "dim": 32, "residual_dropout": 0.0}
    training = {**TINY["training"], "steps": 400, "batch": 16, "learning_rate": 5e-3}
    recipe = Recipe.model_validate({
        **TINY, "name": "both", "runs": runs, "data": {"readouts": READOUTS}, "model": sizes,
        "training": {**training, "validate_every": 200},
    })  # fmt: skip
    return runs / "both", Trainer(recipe, dataset).fit()  # type: ignore[arg-type]


def test_all_readouts_are_learned_at_once_and_reported(run: tuple[Path, Any]) -> None:
    folder, metrics = run
    position, side = metrics["readouts"]
    assert metrics["mean"]["decoder"] > 0.3
    assert set(position["sessions"]) == set(side["sessions"]) == {"sim/a", "sim/b"}
    for readout, name in ((position, "r2"), (side, "accuracy")):
        for one in (readout["summary"], *readout["sessions"].values()):
            low, high = one["ci95"][name]
            assert low < one[name] < high
    for one in side["sessions"].values():
        assert one["accuracy"] > one["guessing"] + 0.1
    page = (folder / "report.html").read_text()
    assert "hand_pos (m)" in page
    assert "side (2 classes)" in page


def test_a_decoder_predicts_each_readout(
    run: tuple[Path, Any], dataset: FakeDataset, corpus: Corpus
) -> None:
    decoder = Decoder.load(run[0])
    data: Dataset = dataset  # type: ignore[assignment]
    times, velocity = decoder.predict(data, "sim/a", 48.0, 53.0)
    again, position = decoder.predict(data, "sim/a", 48.0, 53.0, readout="hand_pos")
    _, chances = decoder.predict(data, "sim/a", 48.0, 53.0, readout="side")
    assert np.array_equal(times, again)
    assert velocity.shape == position.shape == chances.shape == (500, 2)
    np.testing.assert_allclose(chances.sum(1), 1)
    assert position.std() > 0
    with pytest.raises(KeyError, match=r"no readout 'speed'; it decodes: hand_vel, hand_pos, side"):
        decoder.predict(data, "sim/a", 48.0, 53.0, readout="speed")


@pytest.mark.parametrize(
    ("readouts", "said"),
    [
        ({"gaze": {}}, r"no session has a behavior 'gaze'; sim/a has: hand_vel, hand_pos"),
        (
            {"side": {"column": "nothing", "during": {"table": "trials"}}},
            r"data\.readouts\.side: no session has .*: table 'trials' has no column 'nothing'",
        ),
        ({"side": {"column": "side"}}, "set both column and during"),
        (
            {"side": {"column": "start", "behavior": "x", "during": {"table": "trials"}}},
            "not both",
        ),
    ],
)
def test_a_readout_that_no_session_has_is_an_error(
    dataset: FakeDataset, readouts: dict[str, Any], said: str
) -> None:
    with pytest.raises((RecipeError, ValueError), match=said):
        Corpus.from_dataset(dataset, DataSettings.model_validate({"readouts": readouts}))  # type: ignore[arg-type]


def test_values_outside_of_the_rule_are_no_classes(dataset: FakeDataset) -> None:
    """Nor do they count for the largest number of classes."""
    session = dataset["sim/a"]
    n = np.arange(600)
    trials = pa.table({"start": n / 5, "stop": (n + 1) / 5, "n": np.where(n < 300, n % 2, n)})
    during = {"table": "trials", "where": {"n": [0, 1]}}
    settings = DataSettings.model_validate({"readouts": {"n": {"column": "n", "during": during}}})
    only = FakeDataset(session.with_(intervals={"trials": trials}))
    (found,) = Corpus.from_dataset(only, settings).targets.readouts  # type: ignore[arg-type]
    assert found.readout.classes == (0, 1)
    row = np.searchsorted(trials["start"].to_numpy(), session.timestamps, side="right") - 1
    assert found.value.tolist() == np.where(row < 300, row % 2, -1).tolist()


def test_a_column_of_too_many_values_is_an_error(dataset: FakeDataset) -> None:
    many = pa.table({"start": np.arange(300.0), "stop": np.arange(300.0) + 1, "n": range(300)})
    session = dataset["sim/a"].with_(intervals={"trials": many})
    settings = {"n": {"column": "n", "during": {"table": "trials"}}}
    with pytest.raises(RecipeError, match="has 300 values in sim/a, more than the 256"):
        Corpus.from_dataset(
            FakeDataset(session),  # type: ignore[arg-type]
            DataSettings.model_validate({"readouts": settings}),
        )
