"""A label budget: the exact number of labels, the same ones every time, and training uses no
others."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from neurobrick import Intervals, RecipeError
from neurobrick_model import Recipe
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.label_budget import choose
from neurobrick_model.data.targets import read_samples
from neurobrick_model.data.timeline import TICKS
from neurobrick_model.recipe.settings import DataSettings, TrainingSettings
from neurobrick_model.training.batches import BatchMaker
from tests.model.data.test_readouts import READOUTS, with_more
from tests.support.model.fakes import FakeDataset, fake_session

SPLIT = Intervals([0.0, 40.0, 70.2], [31.0, 70.0, 71.0])
TIMES = np.arange(0, 100, 0.01)[SPLIT.contains(np.arange(0, 100, 0.01))]


def chosen(seconds: float, seed: int = 0, id: str = "sim/a") -> Intervals:
    return choose(SPLIT, TIMES, seconds=seconds, rate=100, seed=seed, id=id)


def labelled(dataset: FakeDataset, labels: float | None, seed: int = 0) -> Corpus:
    settings = DataSettings(labels=labels)
    return Corpus.from_dataset(dataset, settings, seed=seed)  # type: ignore[arg-type]


def trained_on(corpus: Corpus) -> dict[str, set[float]]:
    """The times, s, of the samples that each session is trained on, on its own clock."""
    targets = corpus.targets
    return {
        name: {
            float(tick) / TICKS - float(corpus.spikes.base[row]) / TICKS
            for tick in targets.time[targets.train & (targets.session == row)]
        }
        for row, name in enumerate(corpus.vocabulary.sessions)
    }


@pytest.mark.parametrize("seconds", [0.004, 0.5, 3.0, 17.37, 60.0])
def test_the_number_of_labels_is_exact(seconds: float) -> None:
    spans = chosen(seconds)
    assert spans.contains(TIMES).sum() == np.ceil(round(seconds * 100, 6))
    assert (spans - SPLIT).duration == 0


def test_a_budget_beyond_the_split_takes_the_whole_split() -> None:
    assert chosen(1000).contains(TIMES).all()


def test_more_labels_contain_fewer() -> None:
    amounts = [chosen(seconds) for seconds in (1.0, 7.5, 30.0, 31.0, 60.0)]
    for fewer, more in pairwise(amounts):
        assert (fewer - more).duration == 0


def test_the_choice_depends_on_seed_and_session_alone() -> None:
    assert chosen(10) == chosen(10)
    assert chosen(10) != chosen(10, seed=1)
    assert chosen(10) != chosen(10, id="sim/b")


def test_windows_fit_into_the_chosen_pieces() -> None:
    """From long stretches of a split, nearly all chosen pieces are longer than 2 s."""
    spans = chosen(20)
    lengths = spans.stop - spans.start
    assert (lengths > 2).sum() >= len(lengths) - 2


def test_each_session_has_its_labels(dataset: FakeDataset) -> None:
    corpus = labelled(dataset, 7.5)
    everything = trained_on(labelled(dataset, None))
    for name, times in trained_on(corpus).items():
        assert len(times) == 750
        assert times < everything[name]


def test_validation_has_no_more_than_training(dataset: FakeDataset) -> None:
    few, everything = labelled(dataset, 2.0), labelled(dataset, None)
    for corpus, samples in ((few, 200), (everything, 400)):
        rows = corpus.targets.scored["valid"]
        assert torch.bincount(corpus.targets.session[rows]).tolist() == [samples] * 2
    assert torch.equal(few.targets.scored["test"], everything.targets.scored["test"])


def test_training_uses_no_other_labels(dataset: FakeDataset) -> None:
    """Neither by the decoder, nor by the normalization."""
    known = trained_on(labelled(dataset, 5.0))
    spoiled = {}
    for id, session in dataset.items():
        kept = np.isin(np.rint(session.timestamps * TICKS), [np.rint(t * TICKS) for t in known[id]])
        assert kept.sum() == 500
        spoiled[id] = session.with_(values=np.where(kept[:, None], session.values, 1e6))
    corpora = labelled(dataset, 5.0), labelled(FakeDataset(*spoiled.values()), 5.0)
    settings = TrainingSettings(batch=64, queries=100)
    batches = [
        BatchMaker(corpus, settings, 1.0, 1, padded=False).cut(0, torch.arange(64))
        for corpus in corpora
    ]
    assert torch.equal(*(batch.target[0] * batch.weight[0][..., None] for batch in batches))
    assert batches[0].weight[0].sum() > 64 * 50
    assert torch.equal(*(corpus.targets.mean for corpus in corpora))


def test_other_readouts_have_the_same_labels() -> None:
    dataset = FakeDataset(with_more(fake_session("sim/a", 1), 1))
    settings = DataSettings.model_validate({"readouts": READOUTS})
    session = dataset["sim/a"]
    whole = read_samples(session, "hand_vel", settings)  # type: ignore[arg-type]
    spans = choose(whole.train, whole.times, seconds=9.0, rate=100, seed=0, id="sim/a")
    held = whole.labelled(spans, valid=Intervals(24.0, 25.0))
    for name, own in held.readouts.items():
        before = whole.readouts[name]
        np.testing.assert_array_equal(own.trained, before.trained & spans.contains(whole.times))
        assert 0 < own.scored["valid"].sum() < before.scored["valid"].sum()
        np.testing.assert_array_equal(own.scored["test"], before.scored["test"])


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("5min", 300), ("1.5 h", 5400), ("90", 90), (90, 90)]
)
def test_a_duration_may_have_a_unit(text: str | int, seconds: float) -> None:
    assert DataSettings.model_validate({"labels": text}).labels == seconds


@pytest.mark.parametrize("text", ["a minute", "60 m", "1.2.3s", "", "0s", "-5"])
def test_text_that_is_no_duration_is_an_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: x\ndata: {{labels: '{text}'}}")
    with pytest.raises(RecipeError, match=r"data\.labels: must be (seconds|greater)"):
        Recipe.from_yaml(path)
