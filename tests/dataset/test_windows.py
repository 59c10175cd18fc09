"""Windows lie inside their stretches, cover them, and are drawn the same way every time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from neurobrick import Dataset, Intervals, StoreError
from neurobrick.dataset.windows import Rank, WindowBatch, Windows

stretches = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 90)), min_size=1, max_size=6),
    min_size=1,
)
Drawn = dict[str, list[tuple[int, int]]]


def laid(drawn: Drawn) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Stretches on a grid of 0.1 s, disjoint and sorted."""
    sets = {
        name: Intervals([a / 10 for a, _ in pairs], [(a + n) / 10 for a, n in pairs])
        for name, pairs in drawn.items()
    }
    return {name: (one.start, one.stop) for name, one in sets.items()}


def all_of(windows: Windows, epoch: int = 0) -> list[tuple[str, float, float]]:
    found = windows.epoch(epoch)
    return list(zip(found.session_ids, found.starts.tolist(), found.lengths.tolist(), strict=True))


def some(drawn: Drawn, **settings: object) -> Windows | None:
    try:
        return Windows.lay(laid(drawn), **settings)  # type: ignore[arg-type]
    except ValueError:
        return None


@given(stretches, st.sampled_from(["random", "sequential", "trials"]), st.integers(1, 20))
def test_every_window_lies_in_one_stretch(drawn: Drawn, order: str, tenths: int) -> None:
    windows = some(drawn, order=order, length=tenths / 10)
    if windows is None:
        return
    places = laid(drawn)
    found = all_of(windows)
    assert len(found) == len(windows)
    for name, start, length in found:
        begin, end = places[name]
        assert np.any((begin <= start) & (start + length <= end)), (name, start, length)


@given(stretches, st.integers(1, 20))
def test_as_many_windows_as_fit(drawn: Drawn, tenths: int) -> None:
    """Counted in whole tenths of seconds, where nothing is rounded."""
    fits = 0
    for start, stop in laid(drawn).values():
        for a, b in zip(start, stop, strict=True):
            fits += round((b - a) * 10) // tenths
    for order in ("random", "sequential"):
        windows = some(drawn, order=order, length=tenths / 10)
        assert (0 if windows is None else len(windows)) == fits


@given(stretches, st.integers(1, 12), st.integers(1, 12))
def test_a_walk_is_every_step(drawn: Drawn, length: int, step: int) -> None:
    expected = []
    for name, (start, stop) in laid(drawn).items():
        for a, b in zip(start, stop, strict=True):
            first, last = round(a * 10), round(b * 10)
            expected += [(name, at) for at in range(first, last - length + 1, step)]
    windows = some(drawn, order="sequential", length=length / 10, step=step / 10)
    found = [] if windows is None else [(n, round(t * 10)) for n, t, _ in all_of(windows)]
    assert found == expected


@given(stretches)
def test_trials_are_the_stretches(drawn: Drawn) -> None:
    windows = Windows.lay(laid(drawn), order="trials")
    expected = [
        (name, a, b)
        for name, (start, stop) in laid(drawn).items()
        for a, b in zip(start, stop, strict=True)
    ]
    found = [(name, start, start + length) for name, start, length in all_of(windows)]
    assert [one[:2] for one in found] == [one[:2] for one in expected]
    np.testing.assert_allclose([one[2] for one in found], [one[2] for one in expected], rtol=1e-15)


@given(
    stretches, st.integers(1, 5), st.sampled_from(["random", "sequential", "trials"]), st.booleans()
)
def test_ranks_share_an_epoch(drawn: Drawn, size: int, order: str, by_session: bool) -> None:
    whole = some(drawn, order=order, length=0.5)
    if whole is None:
        return
    parts = []
    for index in range(size):
        mine = Windows.lay(laid(drawn), order=order, length=0.5, rank=Rank(index, size))  # type: ignore[arg-type]
        batches = list(mine.batches(4, epoch=3, by_session=by_session))
        parts.append(batches)
        if not by_session:
            assert sum(map(len, batches)) == len(mine)
    counted = Counter(
        (name, start)
        for batches in parts
        for batch in batches
        for name, start in zip(batch.session_ids, batch.starts.tolist(), strict=True)
    )
    total = Counter((name, start) for name, start, _ in all_of(whole, 3))
    assert not counted - total, "no window is seen twice, or is of another epoch"
    if order == "random":
        assert len({len(batches) for batches in parts}) == 1, "no rank waits for another"
    else:
        assert counted == total
    if order == "random" and not by_session:
        assert sum(counted.values()) > sum(total.values()) - size
    if by_session:
        assert all(len(set(batch.session_ids)) == 1 for batches in parts for batch in batches)


def test_draws_follow_from_the_seed_and_the_epoch_alone() -> None:
    places = {"a": (np.array([0.0]), np.array([60.0])), "b": (np.array([5.0]), np.array([90.0]))}
    one, again = Windows.lay(places, seed=1), Windows.lay(places, seed=1)
    assert all_of(one, 2) == all_of(again, 2)
    assert all_of(one, 2) != all_of(one, 3)
    assert all_of(one) != all_of(Windows.lay(places, seed=2))
    alone = Windows.lay({"b": places["b"]}, seed=1)
    assert sorted(all_of(alone, 2)) == sorted(w for w in all_of(one, 2) if w[0] == "b")


def test_an_interrupted_epoch_continues_with_the_same_windows() -> None:
    places = {name: (np.array([0.0]), np.array([77.0])) for name in "abc"}
    windows = Windows.lay(places)
    for by_session in (False, True):
        whole = list(windows.batches(16, epoch=1, by_session=by_session))
        rest = list(windows.batches(16, epoch=1, by_session=by_session, first=3))
        assert [b.starts.tolist() for b in rest] == [b.starts.tolist() for b in whole[3:]]


def test_random_windows_cover_a_stretch_evenly() -> None:
    """Starts are uniform over the possible starts: each tenth is drawn equally often."""
    windows = Windows.lay({"a": (np.array([10.0]), np.array([40.7]))}, length=1.0)
    starts = np.concatenate([windows.epoch(k).starts for k in range(300)])
    counts = np.histogram(starts, bins=10, range=(10.0, 39.7))[0]
    assert counts.sum() == 300 * 30
    np.testing.assert_allclose(counts, 900, rtol=0.03)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"length": 0.0}, "positive"),
        ({"length": float("nan")}, "positive"),
        ({"length": float("inf")}, "positive"),
        ({"step": -1.0}, "positive"),
        ({"length": 5.0}, "the longest of 1 in 1 sessions has 3 s"),
    ],
)
def test_impossible_windows_are_refused(settings: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Windows.lay({"a": (np.array([1.0]), np.array([4.0]))}, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": "Random"}, "no order 'Random'; there is: random, sequential, trials"),
        ({"order": ""}, "no order ''; there is: random, sequential, trials"),
        ({"order": None}, "no order None; there is: random, sequential, trials"),
        ({"split": "trian"}, "no split 'trian'; there is: train, valid, test"),
        ({"split": "domain"}, "no split 'domain'; there is: train, valid, test"),
        ({"split": ""}, "no split ''; there is: train, valid, test"),
        ({"seed": -1}, "seed is 0 or more"),
        ({"rank": -1}, "rank -1 of 1"),
    ],
)
def test_options_with_other_values_are_refused(
    corpus: Dataset, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        corpus.windows(**settings)  # type: ignore[arg-type]


def test_within_names_sessions_of_the_dataset(corpus: Dataset) -> None:
    with pytest.raises(StoreError, match="no session 'local/typo'"):
        corpus.windows(within={"local/typo": Intervals([0.0], [5.0])})


@pytest.mark.parametrize(
    "settings", [{"size": 0}, {"size": 4, "epoch": -1}, {"size": 4, "first": -1}]
)
def test_batches_are_refused_when_they_are_asked_for(settings: dict[str, int]) -> None:
    windows = Windows.lay({"a": (np.array([1.0]), np.array([4.0]))})
    with pytest.raises(ValueError, match="a batch has 1 window or more"):
        windows.batches(**settings)


def test_impossible_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="rank 2 of 2"):
        Rank(2, 2)


def test_windows_of_a_dataset_lie_in_its_split(corpus: Dataset) -> None:
    windows = corpus.windows("train", length=0.5)
    for batch in windows.batches(64):
        for name, start in zip(batch.session_ids, batch.starts, strict=True):
            assert corpus[name].splits["train"].covers([start], [start + 0.5]).all()
    assert {name for name, _, _ in all_of(windows)} == set(corpus.sessions)


def test_whole_trials_of_a_dataset(corpus: Dataset) -> None:
    found = all_of(corpus.windows("test", order="trials"))
    assert found
    for name, start, length in found:
        table = corpus[name].intervals["trials"]
        rows = table["start"].to_numpy() == start
        assert np.any(np.isclose(table["stop"].to_numpy()[rows] - start, length))
        assert corpus[name].splits["test"].covers([start], [start + length]).all()


def test_windows_within_sets_of_time(corpus: Dataset) -> None:
    (first, *_) = corpus.sessions
    windows = corpus.windows(
        length=0.5, within={first: Intervals([3.0], [6.0])}, order="sequential"
    )
    assert {name for name, _, _ in all_of(windows)} == {first}
    assert len(windows) == 6


class Slices(TorchDataset[int]):
    """Batches by number, for a DataLoader."""

    def __init__(self, ds: Dataset, batches: list[WindowBatch]) -> None:
        self.ds, self.all = ds, batches

    def __len__(self) -> int:
        return len(self.all)

    def __getitem__(self, k: int) -> int:
        batch = self.all[k]
        cut = self.ds.slices(batch.session_ids, batch.starts, batch.lengths)
        return int(cut.spike_units.sum()) * 1000 + len(cut.spike_times)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_dataloader_workers_read_after_the_parent_has_read(corpus: Dataset, start: str) -> None:
    ds = Dataset(corpus.root)
    batches = list(ds.windows("train").batches(8))
    expected = [Slices(ds, batches)[k] for k in range(len(batches))]  # decode threads have run
    ds = ds if start == "spawn" else Dataset(corpus.root)
    Slices(ds, batches)[0]  # some sessions are decoded before the fork, some after
    loader = DataLoader(
        Slices(ds, batches),
        batch_size=None,
        num_workers=2,
        multiprocessing_context=start,
        timeout=60,
    )
    assert torch.tensor(list(loader)).tolist() == expected
