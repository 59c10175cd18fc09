"""A target that does not vary is refused; samples absurdly far from the others are said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neurobrick import RecipeError
from neurobrick_model.data.corpus import Corpus
from neurobrick_model.recipe.settings import DataSettings
from tests.support.model.fakes import FakeDataset, FakeSession, fake_session


def build(*sessions: FakeSession, **settings: Any) -> tuple[Corpus, list[str]]:
    """The corpus of these sessions, and the lines that were said."""
    lines: list[str] = []
    corpus = Corpus.from_dataset(
        FakeDataset(*sessions),  # type: ignore[arg-type]
        DataSettings.model_validate(settings),
        say=lines.append,
    )
    return corpus, lines


@pytest.fixture(scope="module")
def session() -> FakeSession:
    return fake_session("sim/b", 1)


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        (np.full((6000, 2), 0.3), {}),
        (np.full((6000, 2), 0.3) * (1 + 1e-15 * (np.arange(6000)[:, None] % 2)), {}),  # rounding
        (np.zeros((6000, 2)), {}),
        (np.full((6000, 1), -1e5), {}),
        (np.full((6000, 2), 0.3), {"normalize": "session"}),
        (np.full((6000, 2), 0.3), {"velocity": True}),
    ],
)
def test_a_target_that_does_not_vary_is_an_error(
    session: FakeSession, values: Any, settings: dict[str, Any]
) -> None:
    still = session.with_(values=values, unit="m")
    moving = fake_session("sim/a", 2).with_(
        values=np.random.default_rng(0).normal(size=values.shape), unit="m"
    )
    with pytest.raises(
        RecipeError, match=r"'hand_vel' of sim/b does not vary: each of its 4,8\d\d"
    ):
        build(moving, still, **settings)


def test_a_target_that_varies_in_the_test_split_only_is_an_error(session: FakeSession) -> None:
    train = session.splits["train"].contains(session.timestamps)
    values = np.where(train[:, None], 0.3, session.values)
    with pytest.raises(RecipeError, match="does not vary"):
        build(session.with_(values=values))


def test_one_axis_may_be_constant(session: FakeSession) -> None:
    """As the third axis of movements on a table."""
    values = np.column_stack([session.values, np.full(len(session.values), 0.1)])
    corpus, _ = build(session.with_(values=values))
    assert corpus.targets.std[0, 2] == 1
    assert corpus.targets.value[:, 2].abs().max() < 1e-9


def test_a_readout_that_varies_in_no_session_is_an_error(session: FakeSession) -> None:
    times = session.timestamps
    still, moving = (
        session.with_(id=id, others={"gaze": (times, values, "m")})
        for id, values in (("sim/s", np.full((len(times), 2), 0.3)), ("sim/m", session.values))
    )
    with pytest.raises(RecipeError, match=r"data\.readouts\.gaze: it does not vary"):
        build(still, readouts={"gaze": {}})
    build(moving, still, readouts={"gaze": {}})


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("value", [1e30, -1e30, 1e4, -9999.0])
@pytest.mark.parametrize("resting", [False, True])
def test_a_warning_gives_the_number_and_size_of_absurd_samples(
    session: FakeSession, count: int, value: float, resting: bool
) -> None:
    values = session.values.copy()
    if resting:  # nine tenths of the time
        values[np.arange(len(values)) % 1000 > 100] = 0
    values[300 : 300 + 7 * count : 7, 1] = value
    _, lines = build(session.with_(values=values))
    (line,) = [line for line in lines if line.startswith("warning: ")]
    assert f"{count} of 6,000 samples of 'hand_vel' of sim/b" in line
    assert f"up to {value:.4g} m/s" in line


@pytest.mark.parametrize("resting", [False, True])
def test_no_warning_about_ordinary_movements(session: FakeSession, resting: bool) -> None:
    rng = np.random.default_rng(0)
    values = session.values * rng.lognormal(sigma=1.0, size=(len(session.values), 1))
    if resting:
        values[np.arange(len(values)) % 1000 > 10] = 0
    values[50] = np.nan
    _, lines = build(session.with_(values=values))
    assert not [line for line in lines if line.startswith("warning: ")]
