"""Labels: a few seconds of behavior, chosen at random from a training split.

How well a decoder does with few labels depends on which they are. So the choice follows from a seed
and the session's id alone, and the labels of a larger number of seconds contain those of a smaller.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from neurobrick import Intervals

PIECE = 3.0  # s, about that of a reach from cue to hold; windows of 1 s have room to move in it


def choose(
    split: Intervals, times: NDArray[np.float64], *, seconds: float, rate: float, seed: int, id: str
) -> Intervals:
    """The part of `split` that holds `seconds` of the labels at `times` (n,), sorted, of which
    there are `rate` a second; all of it where there are no more. Session `id` is part of the seed.

    Pieces of about `PIECE` seconds are taken in random order; the last one is cut short so that
    the number of labels is exact.
    """
    start, stop = pieces(split)
    order = np.random.default_rng([seed, zlib.crc32(id.encode())]).permutation(len(start))
    start, stop = start[order], stop[order]
    first = np.searchsorted(times, start)
    held = np.searchsorted(times, stop) - first
    before = np.cumsum(held) - held
    wanted = int(np.ceil(seconds * rate - 1e-9))
    taken = (held > 0) & (before < wanted)
    start, stop, first, held, before = (x[taken] for x in (start, stop, first, held, before))
    if len(held) and before[-1] + held[-1] > wanted:
        stop[-1] = times[first[-1] + wanted - before[-1]]
    return Intervals(start, stop)


def pieces(split: Intervals) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each interval divided evenly into pieces of about `PIECE` seconds: starts and stops (n,)."""
    counts = [max(1, round((stop - start) / PIECE)) for start, stop in split]
    edges = [
        np.linspace(start, stop, n + 1) for (start, stop), n in zip(split, counts, strict=True)
    ]
    none = np.empty(0)
    return (
        np.concatenate([none, *(edge[:-1] for edge in edges)]),
        np.concatenate([none, *(edge[1:] for edge in edges)]),
    )
