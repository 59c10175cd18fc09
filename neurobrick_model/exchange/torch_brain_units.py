"""The sessions and units of a foreign vocabulary, and their order in ours.

In `torch_brain` a unit is an id, such as `c_20131003_center_out/group_M1/elec3/unit_5`; here it is
a row of its session's units table. So an id has to give two things: the session, by its beginning,
and the row, by the number at its end. Where ids do not give them, the user has to list the units.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from neurobrick import RecipeError
from neurobrick.errors import listed
from neurobrick_model.recipe.settings import Settings

MOST_SHOWN = 3  # ids in a message
LIST_THEM = 'list its units in the order of its units table, as "units" of its entry in `sessions`'


class SessionSource(Settings):
    """The session in a checkpoint that is one of our sessions."""

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
    """One of our sessions, and its place in the foreign embeddings."""

    id: str  # ours
    row: int  # of the session embedding
    units: tuple[int, ...]  # rows of the unit embedding, in the order of our units table


def place(
    units: Mapping[str, int], sessions: Mapping[str, int], sources: Mapping[str, SessionSource]
) -> list[Placed]:
    """The places of our sessions in the foreign embeddings.

    `units` and `sessions` are the rows of the embeddings by foreign id, `sources` the foreign
    session of each of ours. Without `sources`, all sessions are taken, under their foreign ids.

    Raises RecipeError when the ids do not give a unit's session or row, when a unit is taken twice,
    and when the checkpoint lacks a session or unit.
    """
    sources = sources or {id: SessionSource(session=id) for id in sessions}
    placed = []
    owner: dict[str, str] = {}
    for id, source in sources.items():
        if source.session not in sessions:
            raise RecipeError(
                f"the checkpoint has no session {source.session!r}; "
                f"it has: {listed(sessions, most=MOST_SHOWN)}"
            )
        unit_ids = source.units or in_order(
            source.session, units_of(source.session, units, sessions)
        )
        unknown = [unit for unit in unit_ids if unit not in units]
        if unknown:
            raise RecipeError(
                f"the checkpoint has no units {listed(unknown, most=MOST_SHOWN)}, as {id} lists "
                "them"
            )
        for unit in unit_ids:
            if unit in owner:
                raise RecipeError(
                    f"unit {unit!r} is taken twice, for {owner[unit]} and for {id}: a unit is one "
                    "row of one session; correct the lists of units"
                )
            owner[unit] = id
        placed.append(Placed(id, sessions[source.session], tuple(units[unit] for unit in unit_ids)))
    return placed


def units_of(session: str, units: Iterable[str], sessions: Iterable[str]) -> list[str]:
    """The ids of `units` that begin with the id of `session` and a slash.

    Raises RecipeError when there is none, or when one begins with the id of another session, too.
    """
    unit_ids = [unit for unit in units if unit.startswith(f"{session}/")]
    nested = [other for other in sessions if other.startswith(f"{session}/")]
    shared = [unit for unit in unit_ids if any(unit.startswith(f"{other}/") for other in nested)]
    if not unit_ids:
        raise RecipeError(f"no unit's id begins with that of session {session!r}; {LIST_THEM}")
    if shared:
        raise RecipeError(
            f"units of session {session!r} may be of another session: "
            f"{listed(shared, most=MOST_SHOWN)} may be of {listed(nested, most=MOST_SHOWN)}; "
            f"{LIST_THEM}"
        )
    return unit_ids


def in_order(session: str, units: Sequence[str]) -> list[str]:
    """The n ids `units`, sorted by the numbers at their ends.

    Raises RecipeError unless the numbers are 0 to n - 1: then they are rows of the units table.
    """
    ends = [re.search(r"\d+$", unit) for unit in units]
    rows = [int(end[0]) if end else -1 for end in ends]
    if sorted(rows) != list(range(len(units))):
        raise RecipeError(
            f"the ids of the units of session {session!r} do not give their rows: they do not end "
            f"in 0 to {len(units) - 1}, each once: {listed(units, most=MOST_SHOWN)}; {LIST_THEM}"
        )
    return [unit for _, unit in sorted(zip(rows, units, strict=True))]
