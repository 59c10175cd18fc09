"""Maps of embeddings: units and sessions in the plane, so that what a decoder holds to be alike is
near to each other.

The plane is that of the first two principal components: it shows what varies most, and no clusters
that are not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neurobrick_model.data.anatomy import Anatomy

if TYPE_CHECKING:
    from neurobrick_model.model.perceiver import Perceiver


@dataclass(frozen=True)
class Map:
    """`points` (n, 2) of `what`, the `shares` (2,) of the variance that they show, and by what they
    may be colored: by name, a label (n,) of each."""

    what: str
    points: NDArray[np.float64]
    shares: tuple[float, float]
    labels: dict[str, tuple[str, ...]]


def maps(model: Perceiver, anatomies: Sequence[Anatomy]) -> list[Map]:
    """A map of the units, by area and by subject, and a map of the sessions, by subject.

    `anatomies` has one entry a session, in the order of the vocabulary. A map of fewer than three
    points is left out."""
    areas = tuple(area for origin in anatomies for area in origin.areas)
    of_units = tuple(origin.subject for origin in anatomies for _ in origin.areas)
    of_sessions = tuple(origin.subject for origin in anatomies)
    tables = [
        ("units", model.unit_embedding, {"area": areas, "subject": of_units}),
        ("sessions", model.session_embedding, {"subject": of_sessions}),
    ]
    return [
        Map(what, *plane(table.weight.detach().double().cpu().numpy()), labels)
        for what, table, labels in tables
        if len(table.weight) > 2
    ]


def plane(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """`x` (n, d) in its first two principal components (n, 2), each with its largest loading
    positive, and the share of the variance that each shows."""
    centered = x - x.mean(0)
    left, size, right = np.linalg.svd(centered, full_matrices=False)
    largest = right[:2][np.arange(2), np.abs(right[:2]).argmax(1)]
    points = left[:, :2] * size[:2] * np.sign(largest)
    first, second = size[:2] ** 2 / max((size**2).sum(), np.finfo(float).tiny)
    return points, (float(first), float(second))
