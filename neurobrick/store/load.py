"""Loads: chunks of arrays, and their conversion to times in seconds and values in SI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurobrick.clock import Clock, ticks_of_runs
from neurobrick.storage import Storage
from neurobrick.store.codec import decode
from neurobrick.store.index import ArrayNode, Index
from neurobrick.store.inventory import Mismatch
from neurobrick.store.pool import run_all
from neurobrick.store.quantize import VALUE_TYPES, Quantization

Array = NDArray[Any]

INLINE = 2**18  # bytes; less is decoded faster than threads start
Chunks = slice | None  # the numbers of an array's chunks; None is all of them


@dataclass(frozen=True)
class Load:
    """Some chunks of an array, and the array that they fill."""

    node: ArrayNode
    chunks: Sequence[tuple[str, int]]  # consecutive; name of each file, and first row in the array
    out: Array  # as many rows as the chunks hold of the array
    # Called with the rows of a chunk and the rows of `out` to fill. None: `out` holds the rows as
    # they are stored, and chunks are decoded in place.
    convert: Callable[[Array, Array], object] | None = None

    def decode(self, content: bytes, start: int) -> None:
        """Decode the chunk whose first row is `start` into its rows of `out`."""
        first = start - self.chunks[0][1]
        into = self.out[first : first + self.node.rows]
        whole = self.convert is None and len(into) == self.node.rows
        chunk = into if whole else np.empty(self.node.chunk_shape, self.node.dtype)
        decode(content, chunk)
        if self.convert is not None:
            self.convert(chunk[: len(into)], into)
        elif not whole:
            into[...] = chunk[: len(into)]


def fill(storage: Storage, index: Index, loads: Sequence[Load]) -> None:
    """Fetch and decode the chunks of all `loads`, several at a time.

    Raises Mismatch for content that differs from the index, FileNotFoundError for a chunk that is
    not there.
    """
    chunks = [(load, name, start) for load in loads for name, start in load.chunks]
    names = [f"{index.path}/{name}" for _, name, _ in chunks]
    entries = [index.inventory.entry(name) for _, name, _ in chunks]
    fetched = storage.fetch(names, [crc for _, crc in entries])

    def task(get: Callable[[], bytes], load: Load, name: str, start: int) -> None:
        content = get()
        index.inventory.check(name, content)
        try:
            load.decode(content, start)
        except ValueError as error:
            raise Mismatch(f"{name} {error}") from error

    tasks = [partial(task, get, *chunk) for get, chunk in zip(fetched, chunks, strict=True)]
    if len(tasks) > 1 and sum(size for size, _ in entries) > INLINE:
        run_all(tasks)
    else:
        for decode_chunk in tasks:
            decode_chunk()


def _some(node: ArrayNode, chunks: Chunks) -> tuple[Sequence[tuple[str, int]], tuple[int, ...]]:
    """Those of an array's chunks, and the shape of the rows that they hold."""
    names = node.chunks()
    if chunks is None:
        return names, node.shape
    kept = names[chunks]
    first = kept[0][1] if kept else 0
    stop = min(node.shape[0], kept[-1][1] + node.rows) if kept else 0
    return kept, (stop - first, *node.shape[1:])


def array_load(index: Index, key: str, chunks: Chunks = None, dtype: type | None = None) -> Load:
    """The load of an array as it is, or cast to `dtype`."""
    node = index.array(key)
    names, shape = _some(node, chunks)
    if dtype is None or node.dtype == dtype:
        return Load(node, names, np.empty(shape, node.dtype))
    return Load(node, names, np.empty(shape, dtype), lambda chunk, out: np.copyto(out, chunk))


def times_load(index: Index, key: str, chunks: Chunks = None) -> Load:
    """The load of an array of times, in seconds."""
    clock = clock_of(index, key)
    if clock is None:
        return array_load(index, key, chunks)
    node = index.array(key)
    names, shape = _some(node, chunks)
    return Load(node, names, np.empty(shape, np.float64), clock.times)


def values_load(index: Index, key: str, chunks: Chunks = None) -> Load:
    """The load of a series' values, in SI."""
    node = index.array(key)
    if "quantization" not in node.attributes:
        return array_load(index, key, chunks)
    quantization = Quantization(**node.attributes["quantization"])
    if quantization.dtype not in VALUE_TYPES:
        raise Mismatch(f"{key} has values of type {str(quantization.dtype)[:50]}")
    names, shape = _some(node, chunks)
    return Load(node, names, np.empty(shape, quantization.dtype), quantization.values)


def clock_of(index: Index, key: str) -> Clock | None:
    """The clock of an array of ticks; None where there is no such array, or it holds seconds.

    Raises Mismatch when its rate or its offset is not a number.
    """
    if key not in index.nodes:
        return None
    attributes = index.array(key).attributes
    if "rate" not in attributes:
        return None
    rate, offset = attributes["rate"], attributes["offset"]
    numbers = isinstance(rate, int | float) and isinstance(offset, int | float)
    if not numbers or not 0 < rate < inf or not isfinite(offset):
        raise Mismatch(f"{key} has ticks of {str(rate)[:50]} Hz from {str(offset)[:50]} s")
    return Clock(rate, offset)


def sample_ticks(segments: Array, n_samples: int) -> NDArray[np.int64]:
    """The tick (n_samples,) of each sample of a regular series, from its `segments` (k, 2).

    Raises Mismatch, before it takes memory, when the segments are not of so many samples.
    """
    if segments.ndim != 2 or segments.shape[1] != 2:
        raise Mismatch(f"segments of shape {segments.shape}")
    counts = segments[:, 1]
    if np.any(counts < 0) or np.any(counts > n_samples) or counts.sum() != n_samples:
        raise Mismatch(f"the segments are not of {n_samples} samples")
    return ticks_of_runs(segments)


def chunk_starts(index: Index, key: str) -> NDArray[np.float64]:
    """The first time (n_chunks,) in seconds of each chunk of an array of times."""
    return np.asarray(index.array(key).attributes["chunk_starts"], np.float64)
