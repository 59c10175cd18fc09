"""A file and its spec → a store: faults that are noted, specs that correct them, rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pynwb import NWBFile, TimeSeries

from neurobrick import Dataset, DatasetSpec, Session
from neurobrick.interval_rule import IntervalRule
from neurobrick.registry import BehaviorSpec
from tests.conftest import prepare_files
from tests.support.layouts import Write, regular, write


def prepared(tmp_path: Path, layout: Write, spec: DatasetSpec | None = None) -> Session:
    path = write(tmp_path / "sub-A_ses-1.nwb", layout)
    (outcome,) = prepare_files(tmp_path / "corpus", path, spec=spec)
    assert outcome.status == "prepared", outcome
    return Dataset(tmp_path / "corpus")["local/sub-A_ses-1"]


def failure(tmp_path: Path, layout: Write, spec: DatasetSpec | None = None) -> str:
    path = write(tmp_path / "sub-A_ses-1.nwb", layout)
    (outcome,) = prepare_files(tmp_path / "corpus", path, spec=spec)
    assert outcome.status == "failed"
    assert not list((tmp_path / "corpus").glob("*/*.zarr"))
    return outcome.reason


def spec(**fields: object) -> DatasetSpec:
    return DatasetSpec.model_validate({"id": "x", "title": "x", **fields})


def add_series(file: NWBFile, **fields: object) -> None:
    file.add_acquisition(TimeSeries(**{"name": "x", "unit": "m", **fields}))  # type: ignore[arg-type]


def test_unsorted_and_missing_spike_times(tmp_path: Path) -> None:
    def layout(file: NWBFile, rng: np.random.Generator) -> None:
        file.add_unit(spike_times=[3.0, 1.0, np.nan, 2.0])
        file.add_unit(spike_times=[1.0, 1.0])

    session = prepared(tmp_path, layout)
    spikes = session.slice(0, 10).spikes
    assert spikes.times.tolist() == [1.0, 1.0, 1.0, 2.0, 3.0]
    assert spikes.units.tolist() == [0, 1, 1, 0, 0]
    assert "1 spike times are not finite; dropped" in session.metadata.notes
    assert "spikes of 1 units were unsorted" in session.metadata.notes


def test_a_conversion_that_is_nan_is_not_applied(tmp_path: Path) -> None:
    def layout(file: NWBFile, rng: np.random.Generator) -> None:
        file.add_unit(spike_times=[1.0])
        add_series(file, data=np.arange(5.0), rate=10.0, conversion=float("nan"), unit="mm")

    session = prepared(tmp_path, layout)
    assert session.slice(0, 1).behavior["x"].values[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert session.behavior["x"].unit == "mm"
    assert any("conversion nan" in note for note in session.metadata.notes)
    (tmp_path / "with_unit").mkdir()
    with_unit = spec(behavior=[{"path": "acquisition/x", "unit": "mm"}])
    session = prepared(tmp_path / "with_unit", layout, with_unit)
    assert session.behavior["x"].unit == "m"
    assert session.slice(0, 1).behavior["x"].values[4, 0] == pytest.approx(0.004)


def test_an_unknown_unit_is_kept_and_noted(tmp_path: Path) -> None:
    def layout(file: NWBFile, rng: np.random.Generator) -> None:
        file.add_unit(spike_times=[1.0])
        add_series(file, data=np.arange(5.0), rate=10.0, unit="furlongs")

    session = prepared(tmp_path, layout)
    assert session.behavior["x"].unit == session.behavior["x"].source_unit == "furlongs"
    assert any("furlongs" in note for note in session.metadata.notes)


def test_a_series_that_runs_backwards_is_left_with_the_reason(tmp_path: Path) -> None:
    def layout(file: NWBFile, rng: np.random.Generator) -> None:
        file.add_unit(spike_times=[1.0])
        add_series(file, data=np.arange(4.0), timestamps=[0.0, 2.0, 1.0, 3.0])

    session = prepared(tmp_path, layout)
    assert not session.behavior
    assert any("backwards 1 times, first at row 2" in left.reason for left in session.metadata.left)


def test_float32_stays_float32_and_integers_of_32_bits_do_not(tmp_path: Path) -> None:
    def layout(file: NWBFile, rng: np.random.Generator) -> None:
        file.add_unit(spike_times=[1.0])
        add_series(file, name="a", data=np.ones(9, np.float32), rate=10.0)
        add_series(file, name="b", data=np.full(9, 2**24 + 1, np.int32), rate=10.0)

    window = prepared(tmp_path, layout).slice(0, 1)
    assert window.behavior["a"].values.dtype == np.float32
    assert window.behavior["b"].values[0, 0] == 2**24 + 1


def test_a_spec_names_keeps_and_corrects(tmp_path: Path) -> None:
    path = "processing/behavior/Position/cursor_pos"
    renamed = spec(behavior=[{"path": path, "name": "cursor", "unit": "mm"}], target="cursor")
    session = prepared(tmp_path, regular, renamed)
    assert list(session.behavior) == ["cursor"]
    assert session.target == "cursor"
    assert session.behavior["cursor"].unit == "m"
    (tmp_path / "plain").mkdir()
    plain = prepared(tmp_path / "plain", regular)
    np.testing.assert_allclose(
        session.slice(0, 9).behavior["cursor"].values * 10,
        plain.slice(0, 9).behavior["cursor_pos"].values,
        rtol=1e-6,
    )


def test_a_spec_that_does_not_fit_names_what_the_file_has(tmp_path: Path) -> None:
    missing = spec(behavior=[BehaviorSpec(path="processing/behavior/hand_vel").model_dump()])
    assert "Position/cursor_pos" in failure(tmp_path, regular, missing)
    assert "cursor_pos" in failure(tmp_path, regular, spec(target="hand_vel"))
    reason = failure(tmp_path, regular, spec(evaluation={"table": "reaches"}))
    assert "no interval table 'reaches'" in reason
    assert "trials" in reason


def test_evaluation_is_the_rule_of_the_spec(tmp_path: Path) -> None:
    rule = {"table": "trials", "where": {"result": "R"}, "stop": {"column": "start", "offset": 1}}
    session = prepared(tmp_path, regular, spec(evaluation=rule))
    trials = session.intervals["trials"].to_pylist()
    expected = [(t["start"], t["start"] + 1.0) for t in trials if t["result"] == "R"]
    assert [pair for pair in session.evaluation if pair[0] >= 1] == expected[1:]


def test_rules_leave_out_rows_without_a_time(corpus: Dataset) -> None:
    session = corpus["local/sub-A_ses-regular"]
    start, _ = IntervalRule(table="trials", stop="target_dir").rows(session.intervals)
    assert len(start) == 0  # directions are below the starts, and one is NaN
    start, _ = IntervalRule(table="trials", where={"result": ["R", "A"]}).rows(session.intervals)
    assert len(start) == 10
