"""The size of a corpus, estimated before it is read, and the device that then holds it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from neurobrick import RecipeError
from neurobrick_model.compute import memory
from neurobrick_model.data import corpus as corpus_module
from neurobrick_model.data import placement
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.recipe.settings import DataSettings
from tests.model.data.test_readouts import READOUTS, with_more
from tests.support.model.fakes import FakeDataset, fake_session

CPU, CARD = torch.device("cpu"), torch.device("cuda", 0)
GB = 10**9


def test_the_estimate_equals_the_memory_that_is_used() -> None:
    dataset = FakeDataset(*(fake_session(f"sim/{k}", k, n_units=40) for k in range(3)))
    sessions = [dataset[id] for id in dataset.sessions]
    corpus = Corpus.from_dataset(dataset, DataSettings())  # type: ignore[arg-type]
    estimate = placement.spike_bytes(sessions)  # type: ignore[arg-type]
    assert estimate == pytest.approx(corpus.spikes.nbytes, rel=0.02)
    targets = corpus.targets
    parts = [targets.time, targets.value, targets.weight, targets.session, targets.train]
    taken = sum(x.numel() * x.element_size() for x in [*parts, *targets.scored.values()])
    names = ["hand_vel"] * 3
    assert placement.target_bytes(sessions, names) == pytest.approx(taken, rel=0.25)  # type: ignore[arg-type]


def test_the_estimate_includes_readouts() -> None:
    dataset = FakeDataset(*(with_more(fake_session(f"sim/{k}", k), k) for k in range(2)))
    sessions = [dataset[id] for id in dataset.sessions]
    settings = DataSettings.model_validate({"readouts": READOUTS})
    targets = Corpus.from_dataset(dataset, settings).targets  # type: ignore[arg-type]
    taken = sum(
        x.numel() * x.element_size()
        for one in targets.readouts
        for x in (one.value, one.weight, *one.scored.values())
    )
    names = ["hand_vel"] * 2
    without, estimate = (
        placement.target_bytes(sessions, names, asked)  # type: ignore[arg-type]
        for asked in ({}, settings.readouts)
    )
    assert taken < estimate - without < 1.3 * taken


def test_a_spike_takes_six_bytes() -> None:
    dataset = FakeDataset(fake_session("sim/a", 0, n_units=200))
    spikes = Corpus.from_dataset(dataset, DataSettings()).spikes  # type: ignore[arg-type]
    assert spikes.tick.element_size() + spikes.unit.element_size() == 6


@pytest.mark.parametrize(
    ("wanted", "spikes", "free", "home"),
    [
        ("auto", 6 * GB, 80 * GB, CARD),
        ("auto", 41 * GB, 80 * GB, CPU),  # over half of the card
        ("device", 41 * GB, 80 * GB, CARD),
        ("host", 6 * GB, 80 * GB, CPU),
    ],
)
def test_spikes_go_to_the_gpu_if_they_leave_room_for_the_model(
    wanted: str, spikes: int, free: int, home: torch.device
) -> None:
    assert placement.choose_device_for_spikes(wanted, spikes, 0, CARD, free, 100 * GB) == home


def test_a_corpus_that_does_not_fit_is_an_error_with_advice() -> None:
    with pytest.raises(RecipeError, match=r"takes about 91.0 GB and 80.0 GB on cuda:0.*=host"):
        placement.choose_device_for_spikes("device", 90 * GB, GB, CARD, 80 * GB, 200 * GB)
    with pytest.raises(RecipeError, match=r"24.0 GB of main memory are free: choose fewer"):
        placement.choose_device_for_spikes("auto", 90 * GB, GB, CPU, 24 * GB, 24 * GB)


def test_a_corpus_that_does_not_fit_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    session = fake_session("sim/a", 0)

    monkeypatch.setattr(corpus_module, "read_samples", pytest.fail)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    with pytest.raises(RecipeError, match="choose fewer sessions"):
        Corpus.from_dataset(FakeDataset(session), DataSettings())  # type: ignore[arg-type]


def test_free_memory_of_this_machine_is_plausible() -> None:
    assert 10**7 < memory.free_bytes(CPU) < 2**62


def test_a_containers_cache_of_files_counts_as_free(tmp_path: Path) -> None:
    """A store that was just prepared is in the page cache, which does not count as used memory."""
    stat = "anon 100\nfile 730\nshmem 30\ninactive_file 600\nactive_file 100\n"
    (tmp_path / "memory.current").write_text("830\n")
    (tmp_path / "memory.stat").write_text(stat)
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory.container_room(tmp_path) == 1000 - 130
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.container_room(tmp_path) == 2**62
    assert memory.container_room(tmp_path / "none") == 2**62
