"""The catalogue agrees with the stores, and a selection holds only what was selected."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from neurobrick import Dataset, FilterError, StoreError
from neurobrick.catalog import Catalog
from neurobrick.storage import open_storage
from tests.conftest import prepare_files


def test_units_of_the_catalogue_are_those_of_the_sessions(corpus: Dataset) -> None:
    for name in corpus:
        session = corpus[name]
        rows = corpus.catalog.filter("units", f'session == "{name}"')
        units = session.spike_arrays()[1]
        counts = np.bincount(units, minlength=session.n_units)
        assert rows["spikes"].to_pylist() == counts.tolist()
        np.testing.assert_allclose(rows["rate_hz"], counts / session.domain.duration)
        assert rows["row"].to_pylist() == list(range(session.n_units))


def test_behavior_and_trials_of_the_catalogue_are_those_of_the_sessions(corpus: Dataset) -> None:
    for name in corpus:
        session = corpus[name]
        series = corpus.catalog.filter("behavior", f'session == "{name}"').to_pylist()
        assert [row["name"] for row in series] == list(session.behavior)
        for row in series:
            info = session.behavior[row["name"]]
            assert (row["samples"], row["rate_hz"], row["unit"]) == (
                info.shape[0],
                info.rate,
                info.unit,
            )
        trials = corpus.catalog.filter("trials", f'session == "{name}"')
        table = session.intervals.get("trials")
        assert trials.num_rows == (table.num_rows if table else 0)
        (row,) = corpus.catalog.filter("sessions", f'session == "{name}"').to_pylist()
        assert row["spikes"] == session.n_spikes
        assert row["trials"] == trials.num_rows
        assert row["behavior"] == list(session.behavior)


def test_a_table_is_also_a_pyarrow_dataset(corpus: Dataset) -> None:
    units = corpus.catalog.dataset("units")
    assert units.count_rows() == corpus.catalog.units.num_rows


def test_slices_of_selected_units_hold_their_spikes_alone(corpus: Dataset) -> None:
    selected = corpus.select(units="rate_hz > 5 and spikes > 20")
    assert set(selected) <= set(corpus)
    assert len(selected)
    for name in selected:
        whole, part = corpus[name], selected[name]
        times, units = whole.spike_arrays()
        rates = np.bincount(units, minlength=whole.n_units) / whole.domain.duration
        kept = np.flatnonzero((rates > 5) & (rates * whole.domain.duration > 20.5))
        assert part.n_units == len(kept) > 0
        assert part.units.equals(whole.units.take(kept))
        selected_spikes = np.isin(units, kept)
        assert part.n_spikes == int(selected_spikes.sum())
        spikes = part.slice(2.0, 9.0).spikes
        inside = selected_spikes & (times >= 2.0) & (times < 9.0)
        np.testing.assert_array_equal(spikes.times, times[inside])
        np.testing.assert_array_equal(kept[spikes.units], units[inside])
        whole_bins = whole.slice(2.0, 9.0).bin(0.5)
        np.testing.assert_array_equal(part.slice(2.0, 9.0).bin(0.5), whole_bins[:, kept])
    # What the whole dataset reads is not narrowed by it.
    for name in corpus:
        assert len(corpus[name].spike_arrays()[0]) == corpus[name].n_spikes


def test_selections_of_several_tables_and_of_selections(corpus: Dataset) -> None:
    both = corpus.select(units="rate_hz > 5", trials='result == "R"', behavior='unit == "m"')
    again = corpus.select(units="rate_hz > 5").select(trials='result == "R"')
    again = again.select(behavior='unit == "m"')
    assert both.sessions == again.sessions
    for name in both:
        assert set(both[name].intervals["trials"]["result"].to_pylist()) == {"R"}
        assert {info.unit for info in both[name].behavior.values()} == {"m"}
        ids = [ds[name].intervals["trials"]["id"].to_pylist() for ds in (both, again)]
        assert ids[0] == ids[1] != []
        assert set(both.catalog.units["session"].to_pylist()) == set(both.sessions)
    for batch in both.windows(order="trials").batches(16):
        for name, start in zip(batch.session_ids, batch.starts, strict=True):
            assert start in both[name].intervals["trials"]["start"].to_pylist()


def test_a_selection_of_sessions_and_of_nothing(corpus: Dataset) -> None:
    (first, *_) = corpus.sessions
    assert corpus.select(f'session == "{first}"').sessions == [first]
    nothing = corpus.select("spikes < 0")
    assert nothing.sessions == []
    assert nothing.catalog.units.num_rows == 0
    with pytest.raises(ValueError, match="no stretch"):
        nothing.windows("train")


def test_the_message_about_a_wrong_filter_names_the_column(corpus: Dataset) -> None:
    with pytest.raises(FilterError, match="rate_hz"):
        corpus.select(units="rate_hs > 1")
    with pytest.raises(FilterError, match="nowhere"):
        corpus.catalog.filter("sessions", "nowhere == 1")


def test_a_selection_survives_pickling(corpus: Dataset) -> None:
    selected = corpus.select(units="rate_hz > 5")
    (name, *_) = selected.sessions
    copy = pickle.loads(pickle.dumps(selected))
    np.testing.assert_array_equal(copy[name].spike_arrays()[1], selected[name].spike_arrays()[1])


@pytest.mark.slow
def test_a_flipped_bit_of_the_catalogue_is_never_read(corpus: Dataset, tmp_path: Path) -> None:
    """Neither in pages, nor in the footer, where it renames columns, nor in the seal."""
    shutil.copytree(corpus.root / "catalog", tmp_path / "catalog")
    rng = np.random.default_rng(0)
    for name in ("sessions", "units", "trials", "behavior"):
        file = tmp_path / f"catalog/{name}.parquet"
        whole = file.read_bytes()
        footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
        for k in range(150):
            damaged = bytearray(whole)
            at = rng.integers(footer if k % 2 else 0, len(whole))
            damaged[at] ^= 1 << rng.integers(8)
            file.write_bytes(damaged)
            with pytest.raises(StoreError):
                Catalog(open_storage(tmp_path)).everything()
        file.write_bytes(whole)
    assert Catalog(open_storage(tmp_path)).units.equals(corpus.catalog.units)


def test_a_corpus_without_sessions_opens(tmp_path: Path, recording: Path) -> None:
    bad = tmp_path / "bad.nwb"
    bad.write_bytes(b"no recording")
    prepare_files(tmp_path / "corpus", bad)
    ds = Dataset(tmp_path / "corpus")
    assert len(ds) == 0
    assert [getattr(ds.catalog, name).num_rows for name in ("units", "trials", "behavior")] == [
        0
    ] * 3
