"""The rows of a decoder's embedding tables: one row for every unit, one for every session.

All other weights are shared by the sessions. So a session is added or dropped by its rows alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurobrick_model.data.timeline import Vocabulary

UNITS = "unit_embedding.weight"
SESSIONS = "session_embedding.weight"
TABLES = (UNITS, SESSIONS)

Weights = Mapping[str, Tensor]


def extend(weights: Weights, more: Weights) -> dict[str, Tensor]:
    """`weights`, with the embeddings of `more` after its own embeddings."""
    rows = {
        name: torch.cat([weights[name], more[name].to(weights[name].device)]) for name in TABLES
    }
    return {**weights, **rows}


def keep(weights: Weights, vocabulary: Vocabulary, sessions: Sequence[int]) -> dict[str, Tensor]:
    """`weights` with the embeddings of these rows of `vocabulary` only, in this order."""
    first, units = vocabulary.first_unit, vocabulary.units
    rows = [row for s in sessions for row in range(first[s], first[s] + units[s])]
    return {
        **weights,
        UNITS: weights[UNITS][rows],
        SESSIONS: weights[SESSIONS][list(sessions)],
    }


def units_checksum(counts: NDArray[np.integer]) -> str:
    """The CRC-32 of the number of spikes of each unit, `counts` (n_units,), as 8 hex digits.

    Other units hardly ever have the same counts, whatever the units are called.
    """
    return f"{zlib.crc32(counts.astype('<i8').tobytes()):08x}"
