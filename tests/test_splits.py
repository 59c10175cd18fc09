"""Splits are disjoint, reproducible, and cut where the spec says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobrick import Dataset, DatasetSpec, HarmonizeError, Intervals, SplitSpec, split
from neurobrick.registry import Fractions
from neurobrick.splits import unmatched
from tests.conftest import prepare_files

DOMAIN = Intervals([0.0, 60.0], [50.0, 100.0])


def trials(n: int = 40) -> dict[str, pa.Table]:
    start = np.arange(n) * 2.5
    table = {
        "start": start,
        "stop": start + 2.0,
        "split": ["val" if k % 5 == 0 else "train" for k in range(n)],
    }
    return {"trials": pa.table(table)}


@given(
    st.sampled_from([{}, {"blocks": 3}, {"test": {"split": "val"}}, {"seed": 7}]),
    st.sampled_from([{}, trials()]),
)
def test_splits_are_disjoint_and_inside(fields: dict, tables: dict[str, pa.Table]) -> None:
    if "test" in fields and not tables:
        return
    found = split(SplitSpec.model_validate(fields), "a/b", DOMAIN, tables)
    assert set(found) == {"train", "valid", "test"}
    union = Intervals.empty()
    for part in found.values():
        assert part.duration > 0
        assert (part & union).duration == 0
        assert (part - DOMAIN).duration == 0
        union = union | part


def test_trials_are_never_cut() -> None:
    tables = trials()
    found = split(SplitSpec(), "a/b", Intervals([0.0], [100.0]), tables)
    for start, stop in zip(*tables["trials"].columns[:2], strict=True):
        whole = Intervals([start.as_py()], [stop.as_py()])
        assert [(part & whole).duration for part in found.values()].count(0.0) == 2


def test_named_test_trials_are_the_test_split() -> None:
    tables = trials()
    found = split(SplitSpec(test={"split": ["val"]}), "a/b", Intervals([0.0], [100.0]), tables)
    expected = [
        (t["start"], t["stop"]) for t in tables["trials"].to_pylist() if t["split"] == "val"
    ]
    assert list(found["test"]) == expected
    assert 0 < len(found["valid"]) < 8


def test_blocks_are_train_valid_test_in_order() -> None:
    found = split(SplitSpec(blocks=5), "a/b", Intervals([0.0], [100.0]), {})
    np.testing.assert_allclose(found["test"].start, [16, 36, 56, 76, 96])
    np.testing.assert_allclose(found["test"].stop, [20, 40, 60, 80, 100])


def test_the_same_session_is_split_the_same_way_and_another_otherwise() -> None:
    tables = trials()
    first = split(SplitSpec(), "a/b", DOMAIN, tables)
    assert first == split(SplitSpec(), "a/b", DOMAIN, tables)
    assert first != split(SplitSpec(), "a/c", DOMAIN, tables)
    assert first != split(SplitSpec(seed=1), "a/b", DOMAIN, tables)


def test_within_bounds_every_split() -> None:
    tables = {
        "epochs": pa.table({"start": [0.0, 40.0], "stop": [40.0, 99.0], "label": ["run", "rest"]})
    }
    spec = SplitSpec.model_validate(
        {"within": {"table": "epochs", "where": {"label": "run"}}, "blocks": 4}
    )
    found = split(spec, "a/b", DOMAIN, tables)
    assert max(part.span[1] for part in found.values()) == 40.0
    np.testing.assert_allclose(found["test"].start, [8, 18, 28, 38])


@pytest.mark.parametrize("train", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("valid", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("fields", [{}, {"blocks": 3}, {"test": {"split": ["val"]}}])
def test_a_share_may_be_nothing_or_all(train: float, valid: float, fields: dict[str, Any]) -> None:
    test = 1 - train - valid
    if test < 0:
        return
    fractions = Fractions(train=train, valid=valid, test=test)
    spec = SplitSpec.model_validate({"fractions": fractions, **fields})
    whole = Intervals([0.0], [100.0])
    found = split(spec, "a/b", whole, trials())
    assert sum(part.duration for part in found.values()) == pytest.approx(100)
    if not valid:
        assert found["valid"].duration == 0
    if not test and "test" not in fields:
        assert found["test"].duration == 0


@pytest.mark.parametrize("domain", [(-np.inf, 5.0), (0.0, np.inf), (-np.inf, np.inf)])
@pytest.mark.parametrize("tables", [{}, trials()])
def test_a_recording_has_bounds(domain: tuple[float, float], tables: dict[str, pa.Table]) -> None:
    with pytest.raises(ValueError, match="a start and a stop"):
        split(SplitSpec(), "a/b", Intervals([domain[0]], [domain[1]]), tables)


def test_a_session_without_such_trials_is_train_and_says_so() -> None:
    spec = SplitSpec.model_validate({"trials": {"table": "trials", "where": {"split": "extra"}}})
    whole = Intervals([0.0], [100.0])
    assert split(spec, "a/b", whole, trials()) == {
        "train": whole,
        "valid": Intervals(),
        "test": Intervals(),
    }
    assert unmatched(spec, trials()) == "no row of trials has split 'extra'; there is: train, val"
    assert unmatched(SplitSpec(), trials()) == ""
    within = SplitSpec.model_validate({"within": {"table": "trials", "where": {"split": "no"}}})
    assert "split 'no'" in unmatched(within, trials())


def test_values_that_no_trial_has_are_an_error() -> None:
    with pytest.raises(
        HarmonizeError,
        match="no trial is test: no row of trials has split 'hidden'; there is: train, val",
    ):
        split(SplitSpec(test={"split": ["hidden"]}), "a/b", DOMAIN, trials())


def test_a_store_notes_the_rules_of_the_registry_that_match_no_row(
    tmp_path: Path, recording: Path
) -> None:
    rule = {"table": "trials", "where": {"result": "X"}}
    spec = DatasetSpec.model_validate(
        {"id": "a", "title": "A", "evaluation": rule, "splits": {"trials": rule}}
    )
    (outcome,) = prepare_files(tmp_path, recording, spec=spec)
    assert outcome.status == "prepared"
    notes = Dataset(tmp_path)[outcome.session_id].metadata.notes
    for key in ("splits", "evaluation"):
        assert f"{key}: no row of trials has result 'X'; there is: A, F, R" in notes


def test_a_rule_that_means_something_else_fails_to_prepare(tmp_path: Path, recording: Path) -> None:
    spec = DatasetSpec.model_validate(
        {"id": "a", "title": "A", "splits": {"test": {"result": True}}}
    )
    (outcome,) = prepare_files(tmp_path, recording, spec=spec)
    assert outcome.status == "failed"
    assert "no row of trials has result True; there is: A, F, R (quote it" in outcome.reason
