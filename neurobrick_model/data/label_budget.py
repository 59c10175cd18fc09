"""Labels: a few seconds of labelled behavior, chosen at random from a training split.

How well a decoder does with few labels depends on the labels that it gets. So the choice depends on
a seed and the session's id alone, and the labels of a larger budget contain those of a smaller one.
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
    """A part of `split` with `seconds` of labels: `seconds * rate` samples.

    `times` (n,), sorted, s, are the samples with labels, `rate` a second. `seed` and the session's
    `id` choose. The whole split is returned where it has no more labels than that.

    Pieces of about `PIECE` seconds are taken in random order. The last one is cut short, so that
    the number of labels is exact; where samples share a time, all of them are taken.
    """
    start, stop = pieces(split)
    order = np.random.default_rng([seed, zlib.crc32(id.encode())]).permutation(len(start))
    start, stop = start[order], stop[order]
    first = np.searchsorted(times, start)
    count = np.searchsorted(times, stop) - first
    before = np.cumsum(count) - count
    budget = int(np.ceil(seconds * rate - 1e-9))
    taken = (count > 0) & (before < budget)
    start, stop, first, count, before = (x[taken] for x in (start, stop, first, count, before))
    if len(count) and before[-1] + count[-1] > budget:
        last, after = times[first[-1] + budget - before[-1] + [-1, 0]]
        stop[-1] = after if last < after else np.nextafter(last, np.inf)
    return Intervals(start, stop)


def pieces(split: Intervals) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Starts and stops (n,) of pieces of about `PIECE` seconds: each interval of `split`, divided
    evenly."""
    counts = [max(1, round((stop - start) / PIECE)) for start, stop in split]
    edges = [
        np.linspace(start, stop, n + 1) for (start, stop), n in zip(split, counts, strict=True)
    ]
    none = np.empty(0)
    return (
        np.concatenate([none, *(edge[:-1] for edge in edges)]),
        np.concatenate([none, *(edge[1:] for edge in edges)]),
    )
