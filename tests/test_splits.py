"""Splits are disjoint, reproducible, and cut where the spec says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobrick import HarmonizeError, Intervals, SplitSpec, split

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


def test_values_that_no_trial_has_are_an_error() -> None:
    with pytest.raises(HarmonizeError, match="no row of 'trials' is test"):
        split(SplitSpec(test={"split": ["hidden"]}), "a/b", DOMAIN, trials())
