"""Which sessions, which target and which readouts a run uses, and whether these fit each other."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from neurobrick import Dataset, IntervalRule, RecipeError, Session
from neurobrick_model.data.readouts import Inherited, Readout
from neurobrick_model.data.targets import (
    axes,
    unit_of,
)
from neurobrick_model.recipe.settings import DataSettings, EvaluationSettings, ReadoutSettings


def select_sessions(dataset: Dataset, globs: Sequence[str]) -> list[str]:
    """The session ids that match any of `globs`, in the dataset's order.

    Raises RecipeError for a glob that matches nothing.
    """
    for glob in globs:
        if not fnmatch.filter(dataset.sessions, glob):
            there = ", ".join(dataset.sessions[:5]) or "none"
            raise RecipeError(f"no session matches {glob!r}; the store has: {there}")
    return [id for id in dataset.sessions if any(fnmatch.fnmatch(id, glob) for glob in globs)]


def choose_target(session: Session, wanted: str | None) -> str:
    """The behavior to decode: the recipe's, or the one that the session itself names."""
    target = wanted or session.target
    if target is None:
        raise RecipeError(
            f"{session.id} names no behavior to decode; set data.target to one of: "
            f"{', '.join(session.behavior) or 'none'}"
        )
    if target not in session.behavior:
        there = ", ".join(session.behavior) or "none"
        raise RecipeError(f"{session.id} has no behavior {target!r}; there is: {there}")
    return target


def choose_readout(
    sessions: Sequence[Session], name: str, settings: ReadoutSettings, inherited: Inherited
) -> Readout:
    """A further readout, with a behavior's unit and axes. Where no session has the behavior, the
    readout is that of `inherited`. A discrete readout finds its classes later.

    Raises RecipeError when no session has it, or when it is another thing in one of them than in
    the others or in `inherited`.
    """
    if settings.column is not None:
        return Readout(name=name)
    behavior = settings.behavior or name
    found = {
        Readout(name=name, unit=info.unit, axes=axes(info)): session.id
        for session in sessions
        if (info := session.behavior.get(behavior)) is not None
    }
    if not found and name in inherited.readouts:
        return inherited.readouts[name]
    if not found:
        there = ", ".join(sessions[0].behavior) or "none"
        raise RecipeError(
            f"data.readouts.{name}: no session has a behavior {behavior!r}; {sessions[0].id} has: "
            f"{there}; for a column of an interval table, set column and during"
        )
    if len(found) > 1:
        (one, first), (other, second), *_ = found.items()
        raise RecipeError(
            f"data.readouts.{name}: {behavior!r} is {one.width} axes in {one.unit} in {first}, and "
            f"{other.width} axes in {other.unit} in {second}; train them apart"
        )
    readout, id = next(iter(found.items()))
    settled = inherited.readouts.get(name, readout)
    if settled.axes and (settled.width, settled.unit) != (readout.width, readout.unit):
        raise RecipeError(
            f"data.readouts.{name}: {behavior!r} is {readout.width} axes in {readout.unit} in "
            f"{id}, but {settled.width} in {settled.unit} in the decoder that is adapted; set its "
            "behavior to one that is alike, or leave that session out"
        )
    return readout


def check_alike(
    sessions: Sequence[Session], names: Sequence[str], settings: DataSettings, inherited: Inherited
) -> None:
    first, name = sessions[0].behavior[names[0]], names[0]
    unit = unit_of(first, settings)
    for session, target in zip(sessions, names, strict=True):
        if not session.n_units:
            raise RecipeError(f"{session.id} has no units to decode from; leave it out")
        mine = session.behavior[target]
        if (unit_of(mine, settings), mine.shape[1:]) != (unit, first.shape[1:]):
            raise RecipeError(
                f"{target!r} has {mine.shape[1]} axes in {mine.unit} in {session.id}, but {name!r} "
                f"{first.shape[1]} in {first.unit} in {sessions[0].id}; train them apart, or set "
                "data.velocity if one is a position and the other a velocity"
            )
    if inherited.target is not None and len(inherited.target[0]) != first.shape[1]:
        raise RecipeError(
            f"{name!r} has {first.shape[1]} axes in {sessions[0].id}, but the decoder that is "
            f"adapted has {len(inherited.target[0])}: set data.target to a behavior with as many"
        )


def check_rules(
    sessions: Sequence[Session], settings: DataSettings, evaluation: EvaluationSettings
) -> None:
    """Raise RecipeError for a rule that matches no row in any of the sessions that it is for.

    Sessions without such rows beside others that have them are no error.
    """
    for key, (rule, globs) in _rules(settings, evaluation).items():
        if isinstance(rule, IntervalRule):
            meant = [s for s in sessions if any(fnmatch.fnmatch(s.id, glob) for glob in globs)]
            reason = rule.unmatched_in(session.intervals for session in meant)
            if reason:
                raise RecipeError(f"{key}: {reason}")


def _rules(
    settings: DataSettings, evaluation: EvaluationSettings
) -> dict[str, tuple[object, Sequence[str]]]:
    """Every rule of a recipe by its key, with the globs of the sessions that it is for."""
    rules: dict[str, tuple[object, Sequence[str]]] = {}
    if settings.splits is not None:
        rules["data.splits.within"] = (settings.splits.within, "*")
        if settings.splits.blocks is None:
            rules["data.splits.trials"] = (settings.splits.trials, "*")
    for number, weight in enumerate(settings.weights.rules):
        rules[f"data.weights.rules.{number}.during"] = (weight.during, weight.sessions)
    for name, readout in settings.readouts.items():
        rules[f"data.readouts.{name}.during"] = (readout.during, "*")
    for name, during in evaluation.during.items():
        rules[f"evaluation.during.{name}"] = (during, "*")
    rules["evaluation.trials"] = (evaluation.trials, "*")
    return rules
