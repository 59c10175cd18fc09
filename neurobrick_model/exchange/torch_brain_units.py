"""Which sessions and units a foreign vocabulary names, and in which order they are with us.

In `torch_brain` a unit is an id, such as `c_20131003_center_out/group_M1/elec3/unit_5`; with us it
is a row of its session's units table. So ids have to tell two things: the session, by what they
begin with, and the row, by the number at their end. Where they do not, they have to be listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from neurobrick import RecipeError
from neurobrick_model.recipe.settings import Settings

LIST_THEM = 'list its units in the order of its units table, as "units" of its entry in `sessions`'


class SessionSource(Settings):
    """What one of our sessions is in a checkpoint."""

    session: str = Field(description="its id there")
    units: tuple[str, ...] | None = Field(
        None, min_length=1, description="its unit ids there, in the order of our units table"
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        return {"session": values} if isinstance(values, str) else values


@dataclass(frozen=True)
class Placed:
    """One of our sessions: the row of its foreign embedding, and those of its units, in order."""

    id: str
    row: int
    units: tuple[int, ...]


def place(
    units: Mapping[str, int], sessions: Mapping[str, int], wanted: Mapping[str, SessionSource]
) -> list[Placed]:
    """Where the `wanted` sessions, by our ids, lie in the embeddings of `units` and `sessions`;
    all sessions under their own ids, when none is wanted.

    Raises RecipeError when it cannot be told whose a unit is, or in which row, when a unit is taken
    twice, and when a session or unit is not there.
    """
    wanted = wanted or {id: SessionSource(session=id) for id in sessions}
    placed = []
    owner: dict[str, str] = {}
    for id, source in wanted.items():
        if source.session not in sessions:
            raise RecipeError(
                f"the checkpoint has no session {source.session!r}; it has: {_some(sessions)}"
            )
        mine = source.units or in_order(source.session, owned(source.session, units, sessions))
        unknown = [unit for unit in mine if unit not in units]
        if unknown:
            raise RecipeError(f"the checkpoint has no units {_some(unknown)}, as {id} lists them")
        for unit in mine:
            if unit in owner:
                raise RecipeError(
                    f"unit {unit!r} is taken twice, for {owner[unit]} and for {id}: a unit is one "
                    "row of one session; correct the lists of units"
                )
            owner[unit] = id
        placed.append(Placed(id, sessions[source.session], tuple(units[unit] for unit in mine)))
    return placed


def owned(session: str, units: Iterable[str], sessions: Iterable[str]) -> list[str]:
    """The ids of `units` that begin with the id of `session` and a slash.

    Raises RecipeError when there is none, or when one begins with that of another session, too.
    """
    mine = [unit for unit in units if unit.startswith(f"{session}/")]
    nested = [other for other in sessions if other.startswith(f"{session}/")]
    shared = [unit for unit in mine if any(unit.startswith(f"{other}/") for other in nested)]
    if not mine or shared:
        what = (
            f"{_some(shared)} may be of {_some(nested)}" if shared else "no unit is named after it"
        )
        raise RecipeError(f"whose units are those of {session!r}? {what}; {LIST_THEM}")
    return mine


def in_order(session: str, units: Sequence[str]) -> list[str]:
    """The `units` by the numbers at their ends, which are their rows when they are 0 to n - 1.

    Raises RecipeError when they are not.
    """
    ends = [re.search(r"\d+$", unit) for unit in units]
    rows = [int(end[0]) if end else -1 for end in ends]
    if sorted(rows) != list(range(len(units))):
        raise RecipeError(
            f"in which rows are the units of {session!r}? their ids do not end in 0 to "
            f"{len(units) - 1}, each once: {_some(units)}; {LIST_THEM}"
        )
    return [unit for _, unit in sorted(zip(rows, units, strict=True))]


def _some(names: Iterable[str]) -> str:
    first = list(names)
    return ", ".join(first[:3]) + (", …" if len(first) > 3 else "")
