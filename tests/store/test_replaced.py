"""Readers of a store that is replaced under their hands see the old one or the new one, whole."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from neurobrick import Dataset, Intervals, SessionMetadata, StoreError, catalog
from neurobrick.schema import Provenance, Series, SessionData
from neurobrick.store import write_store

READS = 150


def version(number: int) -> SessionData:
    """A session in which everything tells its version, and takes several chunks."""
    n = 300_000 + 1000 * number
    stamps = np.arange(1000 + number) / 100
    domain = Intervals([0.0], [40.0 + number])
    provenance = Provenance(path="x", size=0, digest="", neurobrick="", spec_hash="")
    return SessionData(
        metadata=SessionMetadata(
            id="a/s", dataset="a", target="pos", description=str(number), provenance=provenance
        ),
        spike_times=np.arange(n) / 30000,
        spike_units=np.full(n, number % 2),
        units=pa.table({"version": [number, number]}),
        behavior={"pos": Series(stamps, np.full((len(stamps), 2), number / 7), "m", "pos", "m")},
        intervals={"trials": pa.table({"start": [0.0], "stop": [1.0], "version": [number]})},
        domain=domain,
        evaluation=domain,
        splits={"train": domain},
    )


def seen(ds: Dataset) -> set[int]:
    """The versions that a reader comes upon in one session."""
    session = ds["a/s"]
    times, units = session.spike_arrays()
    stamps, values = session.behavior_arrays("pos")
    return {
        (len(times) - 300_000) // 1000,
        len(stamps) - 1000,
        *np.unique(np.rint(values * 7).astype(int)).tolist(),
        *session.units["version"].to_pylist(),
        *session.intervals["trials"]["version"].to_pylist(),
        int(session.metadata.description or -1),
        int(session.domain.duration) - 40,
    } | ({-1} if set(units.tolist()) != {((len(times) - 300_000) // 1000) % 2} else set())


@pytest.mark.slow
@pytest.mark.parametrize("readers", [1, 3])
def test_readers_see_one_version_whole(tmp_path: Path, readers: int) -> None:
    store = tmp_path / "a/s.zarr"
    write_store(version(0), store)
    catalog.build(tmp_path)
    done = threading.Event()
    written = [0]

    def write() -> None:
        while not done.is_set():
            written[0] += 1
            write_store(version(written[0] % 50), store)
            if written[0] % 3 == 0:
                catalog.build(tmp_path)

    mixed: list[object] = []
    told = 0

    def read() -> None:
        nonlocal told
        for _ in range(READS // readers):
            try:
                found = seen(Dataset(tmp_path))
            except StoreError as error:
                told += 1
                if "open the Dataset again" not in str(error):
                    mixed.append(error)
            else:
                if len(found) != 1:
                    mixed.append(found)

    writer = threading.Thread(target=write)
    threads = [threading.Thread(target=read) for _ in range(readers)]
    writer.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    writer.join()
    assert mixed == []
    assert written[0] > 3, "the writer wrote as well"
    assert told < READS, "and the readers read"
