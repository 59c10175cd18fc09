"""Parts: what of a session is scored apart, as in reach and in hold, and the trials by which the
confidence of scores is estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurobrick import HarmonizeError, IntervalRule, Intervals, Session
from neurobrick_model.recipe.settings import EVALUATION, EvaluationSettings

TRIALS = "trials"  # the table of most stores


class Part(NamedTuple):
    """What is scored by itself: a split, during some of its time."""

    split: str
    during: str


HEADLINE = Part("test", EVALUATION)


@dataclass(frozen=True)
class ScoringRequest:
    """What is asked of one session, on its own clock: `splits`, and in each the time `during` each
    named interval, empty where the session has none; `trials` (k, 2) s by start. `missing` says why
    there is none, by the setting that asks for it."""

    splits: tuple[str, ...] = ()
    during: Mapping[str, Intervals] = field(default_factory=dict)
    trials: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    missing: Mapping[str, str] = field(default_factory=dict)


def read_scoring_request(session: Session, settings: EvaluationSettings) -> ScoringRequest:
    """What the settings ask of a session; what it has no table or column for is `missing`."""
    tables, missing = session.intervals, {}
    during, trials = {EVALUATION: session.evaluation}, np.zeros((0, 2))
    for name, rule in settings.during.items():
        try:
            during[name] = rule.intervals(tables)
        except HarmonizeError as error:
            during[name], missing[f"evaluation.during.{name}"] = Intervals(), str(error)
    if settings.trials or TRIALS in tables:
        try:
            rows = (settings.trials or IntervalRule(table=TRIALS)).rows(tables)
            trials = np.stack(rows, axis=1)
        except HarmonizeError as error:
            missing["evaluation.trials"] = str(error)
    return ScoringRequest(settings.splits, during, trials[np.argsort(trials[:, 0])], missing)


def say_missing(
    ids: Sequence[str], missing: Sequence[Mapping[str, str]], say: Callable[[str], None]
) -> None:
    """Say of each setting how many of the sessions `ids` lack what it asks for, and why; `missing`
    is each one's reasons by setting."""
    for key in dict.fromkeys(key for one in missing for key in one):
        lacking = [id for id, one in zip(ids, missing, strict=True) if key in one]
        why = next(one[key] for one in missing if key in one)
        say(f"{key}: nothing in {len(lacking)} of {len(ids)} sessions, as in {lacking[0]}: {why}")
