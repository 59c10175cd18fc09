"""The vocabulary's part of a decoder's weights: one row for every unit, one for every session.

All else in a decoder is shared, so that sessions are added and dropped by rows alone.
"""

from __future__ import annotations

import fnmatch
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick import RecipeError
from neurobrick_model.data.timeline import Vocabulary

UNITS = "unit_embedding.weight"
SESSIONS = "session_embedding.weight"
TABLES = (UNITS, SESSIONS)

Weights = Mapping[str, Tensor]


def extend(weights: Weights, more: Weights) -> dict[str, Tensor]:
    """`weights` with the rows of `more` after their own; the rest is that of `weights`."""
    rows = {
        name: torch.cat([weights[name], more[name].to(weights[name].device)]) for name in TABLES
    }
    return {**weights, **rows}


def keep(weights: Weights, vocabulary: Vocabulary, sessions: Sequence[int]) -> dict[str, Tensor]:
    """`weights` with the rows of these sessions of `vocabulary` only, in this order."""
    first, units = vocabulary.first_unit, vocabulary.units
    rows = [row for s in sessions for row in range(first[s], first[s] + units[s])]
    return {
        **weights,
        UNITS: weights[UNITS][rows],
        SESSIONS: weights[SESSIONS][list(sessions)],
    }


def matching(known: Sequence[str], globs: Sequence[str]) -> list[str]:
    """The sessions among `known` that match any of `globs`.

    Raises RecipeError for a glob that matches none of them.
    """
    for glob in globs:
        if not fnmatch.filter(known, glob):
            raise RecipeError(
                f"the decoder knows no session that matches {glob!r}; it knows: {listed(known)}"
            )
    return [id for id in known if any(fnmatch.fnmatch(id, glob) for glob in globs)]


def listed(ids: Sequence[str]) -> str:
    """The first few ids, for a message."""
    return f"{', '.join(ids[:5])}{', …' if len(ids) > 5 else ''}"


def units_checksum(unit: NDArray[np.integer], n_units: int) -> str:
    """Of the number of spikes of each of `n_units`, where `unit` (n,) are the rows of all spikes:
    hardly the same for other units, whatever these are called."""
    counts = np.bincount(unit, minlength=n_units).astype("<i8")
    return f"{zlib.crc32(counts.tobytes()):08x}"
