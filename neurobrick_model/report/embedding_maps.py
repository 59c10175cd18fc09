"""Maps of embeddings: units and sessions in the plane. Points are near each other if their
embeddings are.

The plane is that of the first two principal components. It shows the directions that vary most.
Unlike a t-SNE it shows no clusters that are not there.
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
    """Embeddings in the plane of their first two principal components."""

    what: str  # "units" or "sessions"
    points: NDArray[np.float64]  # (n, 2)
    shares: tuple[float, float]  # of the variance, by component
    labels: dict[str, tuple[str, ...]]  # (n,) labels to color points by, such as "area"


def maps(model: Perceiver, anatomies: Sequence[Anatomy]) -> list[Map]:
    """A map of the units, with areas and subjects, and a map of the sessions, with subjects.

    `anatomies` has one entry a session, in the order of the vocabulary. A map of fewer than three
    points is left out.
    """
    areas = tuple(area for anatomy in anatomies for area in anatomy.areas)
    subjects_of_units = tuple(anatomy.subject for anatomy in anatomies for _ in anatomy.areas)
    subjects = tuple(anatomy.subject for anatomy in anatomies)
    tables = [
        ("units", model.unit_embedding, {"area": areas, "subject": subjects_of_units}),
        ("sessions", model.session_embedding, {"subject": subjects}),
    ]
    return [
        Map(what, *plane(table.weight.detach().double().cpu().numpy()), labels)
        for what, table, labels in tables
        if len(table.weight) > 2
    ]


def plane(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """The first two principal components (n, 2) of `x` (n, d), and the share of the variance of
    each. Signs are such that the largest loading of each is positive."""
    centered = x - x.mean(0)
    left, size, right = np.linalg.svd(centered, full_matrices=False)
    largest = right[:2][np.arange(2), np.abs(right[:2]).argmax(1)]
    points = left[:, :2] * size[:2] * np.sign(largest)
    first, second = size[:2] ** 2 / max((size**2).sum(), np.finfo(float).tiny)
    return points, (float(first), float(second))
