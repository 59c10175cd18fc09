"""The parts of a session that are scored apart, such as reach and hold, and its trials.

Confidence intervals of scores are estimated by drawing whole trials.
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
    """A part that is scored by itself: the samples of a split within a set of intervals."""

    split: str  # train, valid or test
    during: str  # name of the intervals


HEADLINE = Part("test", EVALUATION)


@dataclass(frozen=True)
class ScoringRequest:
    """The parts of one session that are to be scored, on its own clock."""

    splits: tuple[str, ...] = ()  # those that are scored
    during: Mapping[str, Intervals] = field(default_factory=dict)  # by name; empty if it has none
    trials: NDArray[np.float64] = field(  # (k, 2) s, start and stop, sorted by start
        default_factory=lambda: np.zeros((0, 2))
    )
    missing: Mapping[str, str] = field(default_factory=dict)  # by setting, why there is nothing


def read_scoring_request(session: Session, settings: EvaluationSettings) -> ScoringRequest:
    """The parts of `session` that the settings name.

    A rule that the session's tables do not fit gives nothing, and is noted in `missing`.
    """
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
    """Say, for each setting, in how many of the sessions `ids` it finds nothing, and why.

    `missing` holds each session's reasons by setting.
    """
    for key in dict.fromkeys(key for reasons in missing for key in reasons):
        lacking = [id for id, reasons in zip(ids, missing, strict=True) if key in reasons]
        why = next(reasons[key] for reasons in missing if key in reasons)
        say(f"{key}: nothing in {len(lacking)} of {len(ids)} sessions, as in {lacking[0]}: {why}")
