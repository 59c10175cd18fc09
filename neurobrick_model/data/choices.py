"""The sessions, the target and the readouts of a run, and whether they fit each other."""

from __future__ import annotations

from collections.abc import Sequence

from neurobrick import Dataset, FilterError, IntervalRule, RecipeError, Session, matching
from neurobrick.errors import listed
from neurobrick_model.data.readouts import Inherited, Readout
from neurobrick_model.data.targets import axes, unit_of
from neurobrick_model.recipe.settings import DataSettings, EvaluationSettings, ReadoutSettings


def select_sessions(dataset: Dataset, globs: Sequence[str]) -> list[str]:
    """The session ids that match any of `globs`, in the dataset's order.

    Raises RecipeError for a glob that matches nothing.
    """
    try:
        return dataset.matching(globs)
    except FilterError as error:
        raise RecipeError(f"data.sessions: {error}") from error


def choose_target(session: Session, name: str | None) -> str:
    """The behavior to decode: `name`, the recipe's, or else the one that the session itself names.

    Raises RecipeError when the session has no such behavior.
    """
    target = name or session.target
    if not session.behavior:
        raise RecipeError(
            f"{session.id} has no behavior to decode: leave it out of data.sessions, which are "
            "globs of session ids"
        )
    if target is None:
        raise RecipeError(
            f"{session.id} names no behavior to decode; set data.target to one of: "
            f"{listed(session.behavior)}"
        )
    if target not in session.behavior:
        raise RecipeError(
            f"{session.id} has no behavior {target!r}; there is: {listed(session.behavior)}; set "
            "data.target to one of these, or leave the session out of data.sessions"
        )
    return target


def choose_readout(
    sessions: Sequence[Session], name: str, settings: ReadoutSettings, inherited: Inherited
) -> Readout:
    """The readout `name`, with the unit and the axes of its behavior.

    Where no session has the behavior, the readout is the inherited one. The classes of a discrete
    readout are filled in later.

    Raises RecipeError when no session has the behavior, and when its unit or number of axes differs
    between sessions, or from the inherited readout.
    """
    if settings.column is not None:
        return Readout(name=name)
    behavior = settings.behavior or name
    sources = {
        Readout(name=name, unit=info.unit, axes=axes(info)): session.id
        for session in sessions
        if (info := session.behavior.get(behavior)) is not None
    }
    if not sources and name in inherited.readouts:
        return inherited.readouts[name]
    if not sources:
        raise RecipeError(
            f"data.readouts.{name}: no session has a behavior {behavior!r}; {sessions[0].id} has: "
            f"{listed(sessions[0].behavior)}; for a column of an interval table, set column and "
            "during"
        )
    if len(sources) > 1:
        (readout, id), (other, other_id), *_ = sources.items()
        raise RecipeError(
            f"data.readouts.{name}: {behavior!r} is {readout.width} axes in {readout.unit} in "
            f"{id}, and {other.width} axes in {other.unit} in {other_id}; train them apart"
        )
    readout, id = next(iter(sources.items()))
    base = inherited.readouts.get(name, readout)
    if base.axes and (base.width, base.unit) != (readout.width, readout.unit):
        raise RecipeError(
            f"data.readouts.{name}: {behavior!r} is {readout.width} axes in {readout.unit} in "
            f"{id}, but {base.width} in {base.unit} in the decoder that is adapted; set its "
            "behavior to one that is alike, or leave that session out"
        )
    return readout


def check_alike(
    sessions: Sequence[Session], names: Sequence[str], settings: DataSettings, inherited: Inherited
) -> None:
    """Raises RecipeError when a session has no units, or when the targets, `names` by session,
    differ in unit or number of axes from each other or from the inherited target."""
    first, name = sessions[0].behavior[names[0]], names[0]
    unit = unit_of(first, settings)
    for session, target in zip(sessions, names, strict=True):
        if not session.n_units:
            raise RecipeError(f"{session.id} has no units to decode from; leave it out")
        info = session.behavior[target]
        if (unit_of(info, settings), info.shape[1:]) != (unit, first.shape[1:]):
            raise RecipeError(
                f"{target!r} has {info.shape[1]} axes in {info.unit} in {session.id}, but {name!r} "
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
    """Raises RecipeError for a rule that matches no row in any of the sessions that it is for.

    Sessions without such rows beside others that have them are no error.
    """
    for key, (rule, globs) in _rules(settings, evaluation).items():
        if isinstance(rule, IntervalRule):
            ids = matching([session.id for session in sessions], globs, may_be_none=True)
            reason = rule.unmatched_in(s.intervals for s in sessions if s.id in ids)
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
