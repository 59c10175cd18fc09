"""Every baseline: what it decodes, what it never sees, what it costs, and how it may fail."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from neurobrick import Intervals, Progress
from neurobrick_model import Recipe, Trainer
from neurobrick_model.baselines import fit_all, kalman, network_training
from neurobrick_model.baselines.binned_spikes import Guess, SessionSize
from neurobrick_model.baselines.fit_all import METHODS, Plan, baselines
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.evaluation.decoded import Decoded
from neurobrick_model.recipe.settings import BaselineSettings, DataSettings
from neurobrick_model.report.comparison import render
from neurobrick_model.report.label_efficiency import FinishedRun
from tests.support.model.baselines import ALL, QUICK, corpus_of, decoded
from tests.support.model.fakes import FakeDataset, FakeSession


@pytest.fixture(autouse=True, scope="module")
def _few_epochs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_training, "EPOCHS", 4)
        yield


@pytest.fixture(scope="module")
def usual(dataset: FakeDataset) -> dict[str, Decoded]:
    return decoded(dataset["sim/a"], QUICK)


def with_labels_changed(session: FakeSession, split: str) -> FakeSession:
    inside = session.splits[split].contains(session.timestamps)
    return session.with_(values=np.where(inside[:, None], -3 * session.values, session.values))


def test_no_baseline_sees_a_test_label(dataset: FakeDataset, usual: dict[str, Decoded]) -> None:
    changed = decoded(with_labels_changed(dataset["sim/a"], "test"), QUICK)
    for name in ALL:
        assert np.array_equal(changed[name].guess, usual[name].guess)
        assert not np.array_equal(changed[name].truth, usual[name].truth)


def test_validation_labels_only_choose_settings(
    dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kalman, "DELAYS", (1,))
    monkeypatch.setattr(kalman, "DERIVATIVES", (1,))
    monkeypatch.setattr(kalman, "PENALTIES", (0.1,))
    monkeypatch.setattr(network_training, "EPOCHS", 1)
    session = dataset["sim/a"]
    before, after = decoded(session, QUICK), decoded(with_labels_changed(session, "valid"), QUICK)
    for name in ALL:
        assert np.array_equal(before[name].guess, after[name].guess)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_on_any_number_of_cores(dataset: FakeDataset) -> None:
    corpus = corpus_of(*dataset.values(), rate=20)
    alone, other = baselines(corpus, QUICK, 7), baselines(corpus, QUICK, 8)
    torch.set_num_threads(2)
    try:
        shared = baselines(corpus, QUICK, 7)
    finally:
        torch.set_num_threads(1)
    for name in ALL:
        for id in corpus.vocabulary.sessions:
            guess = alone[name].decoded[id].guess
            assert np.array_equal(guess, shared[name].decoded[id].guess)
            same = np.array_equal(guess, other[name].decoded[id].guess)
            assert same == (name in ("ridge", "kalman"))


@pytest.mark.slow
def test_a_sessions_baselines_do_not_depend_on_the_other_sessions(dataset: FakeDataset) -> None:
    settings = DataSettings(target_rate=20, normalize="session")
    both, alone = (
        baselines(Corpus.from_dataset(sessions, settings), QUICK, 0)  # type: ignore[arg-type]
        for sessions in (dataset, FakeDataset(dataset["sim/b"]))
    )
    for name in ALL:
        guesses = (fitted[name].decoded["sim/b"].guess for fitted in (both, alone))
        np.testing.assert_allclose(*guesses, atol=1e-6)


@pytest.mark.slow
def test_each_decodes_tuned_units(dataset: FakeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_training, "EPOCHS", 60)
    for baseline in decoded(dataset["sim/a"], QUICK).values():
        assert baseline.r2 > 0.5


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_session_without_scored_samples_is_decoded_to_nothing(
    split: str, dataset: FakeDataset
) -> None:
    session = dataset["sim/a"]
    without = session.with_(splits={**session.splits, split: Intervals()})
    for baseline in decoded(without, QUICK).values():
        assert baseline.guess.shape == (0 if split == "test" else 40, 2)
        assert np.isfinite(baseline.guess).all()


@pytest.mark.parametrize("n_units", [1, 4])
def test_silent_units_decode_nearly_nothing(n_units: int, dataset: FakeDataset) -> None:
    silent = dataset["sim/a"].with_(
        n_units=n_units, spike_times=np.zeros(0), spike_units=np.zeros(0, dtype=np.int32)
    )
    for baseline in decoded(silent, QUICK).values():
        assert np.ptp(baseline.guess, axis=0).max() < 0.02  # of a velocity of 0.1 m/s


def test_one_unit_is_enough(dataset: FakeDataset) -> None:
    session = dataset["sim/a"]
    kept = session.spike_units == 0
    alone = session.with_(
        n_units=1, spike_times=session.spike_times[kept], spike_units=session.spike_units[kept]
    )
    for baseline in decoded(alone, QUICK).values():
        assert np.isfinite(baseline.guess).all()
        assert (baseline.guess.std(axis=0) > 1e-3).all()


SMALL = SessionSize("sim/a", units=50, train=10_000, valid=1_000, reported=1_000, seconds=600.0)
MANY_UNITS = replace(SMALL, id="sim/b", units=5_000, train=400_000, seconds=8_000.0)
EVERY = BaselineSettings(which=ALL)


def test_what_fits_is_fitted_on_every_core() -> None:
    plan = Plan.for_sizes([SMALL] * 4, EVERY, free=8 * 10**9, cores=3)
    assert plan.names == ALL
    assert not plan.lines()
    assert plan.sessions_at_once == 3


@pytest.mark.parametrize("name", ALL)
def test_a_baseline_that_memory_cannot_hold_is_left_out_with_what_to_set(name: str) -> None:
    settings = EVERY.model_copy(update={"which": (name,)})
    plan = Plan.for_sizes([SMALL, MANY_UNITS], settings, free=2 * 10**9, cores=2)
    assert plan.names == ()
    (line,) = plan.lines()
    assert line.startswith(f"baseline {name} is left out: sim/b")
    assert re.search("(lower|set) baseline.lags", line)


def test_ridge_of_many_features_is_left_out_however_much_memory_there_is() -> None:
    """Fewer samples than features are no reason: the dual solution has the side of the samples."""
    ridge_only = EVERY.model_copy(update={"which": ("ridge",)})
    plan = Plan.for_sizes([MANY_UNITS], ridge_only, free=10**15, cores=1)
    assert "45,000 features (5,000 units × 9 lags)" in plan.left_out["ridge"]
    assert "set baseline.lags to 3 or less" in plan.left_out["ridge"]
    fewer = ridge_only.model_copy(update={"lags": 3})
    assert Plan.for_sizes([MANY_UNITS], fewer, free=10**15, cores=1).names == ("ridge",)
    short = replace(MANY_UNITS, train=1_600)
    assert Plan.for_sizes([short], ridge_only, free=4 * 10**9, cores=1).names == ("ridge",)


def test_fewer_sessions_are_fitted_at_once_where_memory_is_short() -> None:
    which = EVERY.model_copy(update={"which": ("ridge",)})
    need = METHODS["ridge"].bytes_needed(SMALL, which)
    for room, at_once in ((1.5, 1), (3, 2), (10, 4)):
        assert Plan.for_sizes([SMALL] * 4, which, int(room * need), 4).sessions_at_once == at_once


def test_a_long_recording_shortens_networks_and_says_so() -> None:
    long = replace(SMALL, units=107, train=438_000, seconds=4_380.0)
    plan = Plan.for_sizes([SMALL, long], EVERY, free=10**12, cores=2)
    assert [line.split(":")[0] for line in plan.lines()] == ["baseline mlp", "baseline gru"]
    assert "up to 1,711 steps" in plan.lines()[0]
    assert "500 steps" in plan.lines()[0]
    assert "10,000 steps" in plan.lines()[0]
    assert "200 steps" in plan.lines()[1]
    assert "4,000 steps" in plan.lines()[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("no memory:\n12 GB"), torch.linalg.LinAlgError("singular")],
)
def test_a_baseline_that_fails_is_left_out_and_the_others_are_reported(
    error: Exception, dataset: FakeDataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> Guess:
        raise error

    monkeypatch.setitem(METHODS, "kalman", replace(METHODS["kalman"], decode=fail))  # type: ignore[arg-type]
    which = QUICK.model_copy(update={"which": ("ridge", "kalman")})
    metrics = Trainer(recipe.model_copy(update={"baseline": which}), dataset).fit()  # type: ignore[arg-type]
    assert list(metrics["mean"]["baselines"]) == ["ridge"]
    reason = metrics["baselines_left_out"]["kalman"]
    assert reason.startswith(f"it failed on sim/a: {type(error).__name__}: ")
    assert "\n" not in reason
    page = (recipe.folder / "report.html").read_text()
    assert f"Kalman is left out: {reason}" in page


@pytest.mark.slow
def test_a_run_is_reported_without_any_baseline(
    dataset: FakeDataset, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is too short for it; a line says so before training."""
    monkeypatch.setattr(fit_all, "free_bytes", lambda device: 1000)
    lines: list[str] = []

    class Lines(Progress):
        def say(self, line: str) -> None:
            lines.append(line)

    metrics = Trainer(recipe, dataset, Lines()).fit()  # type: ignore[arg-type]
    left_out = [n for n, line in enumerate(lines) if line.startswith("baseline ridge is left out:")]
    assert left_out[0] < min(n for n, line in enumerate(lines) if line.startswith("step "))
    assert metrics["mean"]["baselines"] == {}
    assert metrics["mean"]["decoder"] == metrics["mean"]["decoder"]
    page = (recipe.folder / "report.html").read_text()
    assert "ridge is left out: sim/" in page
    assert page.count("<svg") >= 4
    run = FinishedRun.read(recipe.folder)
    assert run.baselines == {}
    assert "no baseline" not in render([run])


def test_progress_counts_every_setting_that_is_tried(dataset: FakeDataset) -> None:
    class Recorder(Progress):
        totals: ClassVar[dict[str, int]] = {}
        states: ClassVar[list[str]] = []

        def total(self, stage: str, amount: int) -> None:
            self.totals[stage] = amount

        def advance(self, stage: str, amount: int = 1, state: str = "") -> None:
            self.states.extend([state] * amount)

    several = {"bins": (0.1, 0.2), "hidden": (8, 4), "dropout": (0.1, 0.2)}
    settings = QUICK.model_copy(update=several)
    corpus = corpus_of(dataset["sim/a"], rate=20)
    baselines(corpus, settings, 0, Recorder())
    assert Recorder.totals == {"fitting baselines": 2 + 2 + 4 + 4}
    assert Counter(Recorder.states) == {
        "ridge of sim/a": 2, "kalman of sim/a": 2, "mlp of sim/a": 4, "gru of sim/a": 4,
    }  # fmt: skip


@pytest.mark.slow
def test_a_report_shows_every_baseline(dataset: FakeDataset, recipe: Recipe) -> None:
    recipe = recipe.model_copy(update={"baseline": QUICK})
    metrics = Trainer(recipe, dataset).fit()  # type: ignore[arg-type]
    written = json.loads((recipe.folder / "metrics.json").read_text())
    assert list(written["mean"]["baselines"]) == list(ALL)
    page = (recipe.folder / "report.html").read_text()
    for name, label in zip(ALL, ("ridge", "Kalman", "MLP", "GRU"), strict=True):
        assert f"<th>{label}</th>" in page
        for session in metrics["sessions"]:
            scores = session["baselines"][name]
            assert scores["bin"] == 0.1
            low, high = scores["ci95"]["r2"]
            assert low < scores["r2"] < high
            cell = f'<td>{scores["r2"]:.3f}<span class="ci">{low:.3f} to {high:.3f}</span></td>'
            assert cell in page
            for r2 in scores["axes"]:
                assert f"<td>{r2:.3f}</td>" in page
