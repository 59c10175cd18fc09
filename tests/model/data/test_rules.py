"""A rule of a recipe that matches no row in any session is one line, wherever it stands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from neurobrick import Dataset, Intervals, RecipeError, SessionMetadata, catalog
from neurobrick.schema import Provenance, Series, SessionData
from neurobrick.store import write_store
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.recipe.settings import DataSettings, EvaluationSettings

PROVENANCE = Provenance(path="x", size=0, digest="", neurobrick="", spec_hash="")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two sessions; only the second one has a trial with the answer `late`."""
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for name, last in (("a", "yes"), ("b", "late")):
        domain = Intervals([0.0], [60.0])
        stamps = np.arange(6000) / 100
        start = np.arange(12) * 5.0
        answers = [last, *["yes", "no"] * 5, "no"]
        session = SessionData(
            metadata=SessionMetadata(
                id=f"x/{name}", dataset="x", target="pos", provenance=PROVENANCE
            ),
            spike_times=np.sort(rng.uniform(0, 60, 500)),
            spike_units=rng.integers(0, 3, 500),
            units=pa.table({"id": [1, 2, 3]}),
            behavior={"pos": Series(stamps, np.sin(stamps)[:, None], "m", "pos", "m")},
            intervals={"trials": pa.table({"start": start, "stop": start + 4, "answer": answers})},
            domain=domain,
            evaluation=domain,
            splits={
                "train": Intervals([0.0], [40.0]),
                "valid": Intervals([40.0], [50.0]),
                "test": Intervals([50.0], [60.0]),
            },
        )
        write_store(session, root / f"x/{name}.zarr")
    catalog.build(root)
    return Dataset(root)


def settings(place: str, rule: dict[str, Any]) -> tuple[DataSettings, EvaluationSettings]:
    """The settings of a recipe with `rule` at `place`."""
    data: dict[str, Any] = {
        "splits": {"splits": {"trials": rule}},
        "within": {"splits": {"within": rule}},
        "weights": {"weights": {"rules": [{"during": rule, "weight": 2}]}},
        "readouts": {"readouts": {"answer": {"column": "answer", "during": rule}}},
    }.get(place, {})
    evaluation: dict[str, Any] = {
        "during": {"during": {"reach": rule}},
        "trials": {"trials": rule},
    }.get(place, {})
    return DataSettings.model_validate(data), EvaluationSettings.model_validate(evaluation)


PLACES = ["splits", "within", "weights", "readouts", "during", "trials"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (True, "no row of trials has answer True; there is: no, yes (quote it"),
        ("nno", "no row of trials has answer 'nno'; there is: no, yes"),
    ],
)
def test_a_rule_that_matches_nowhere_is_an_error(
    dataset: Dataset, place: str, value: object, reason: str
) -> None:
    data, evaluation = settings(place, {"table": "trials", "where": {"answer": value}})
    with pytest.raises(RecipeError) as caught:
        Corpus.from_dataset(dataset, data, evaluation=evaluation)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


# `within` would leave nothing of a session without such rows to train on.
@pytest.mark.parametrize("place", [place for place in PLACES if place != "within"])
def test_a_rule_that_matches_in_one_session_is_none(dataset: Dataset, place: str) -> None:
    data, evaluation = settings(place, {"table": "trials", "where": {"answer": "late"}})
    corpus = Corpus.from_dataset(dataset, data, evaluation=evaluation)
    assert len(corpus.vocabulary.sessions) == 2
