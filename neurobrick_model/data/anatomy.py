"""The subject of a session and the brain areas of its units."""

from __future__ import annotations

from dataclasses import dataclass

from neurobrick import Session

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Anatomy:
    """Where a session's spikes were recorded."""

    subject: str  # id of the subject, or UNKNOWN
    areas: tuple[str, ...]  # (n_units,) brain area of each unit, or UNKNOWN

    @classmethod
    def of(cls, session: Session) -> Anatomy:
        """The anatomy that the session's metadata and units table name."""
        subject, units = session.metadata.subject, session.units
        areas = units["area"].to_pylist() if "area" in units.column_names else []
        areas = areas or [None] * session.n_units
        return cls(
            (subject.id if subject else None) or UNKNOWN, tuple(area or UNKNOWN for area in areas)
        )
