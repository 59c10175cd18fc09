"""A store is replaced while a Dataset is open: no reader mixes the old version with the new one."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from neurobrick import Dataset, Intervals, Session, SessionMetadata, StoreError, catalog
from neurobrick.schema import Provenance, Series, SessionData
from neurobrick.store import write_store

SECONDS = 60.0


def session_data(version: int) -> SessionData:
    """The session `a/s`, in which every array holds `version`."""
    stamps = np.arange(6000) / 100
    domain = Intervals([0.0], [SECONDS + version])
    provenance = Provenance(path="x", size=0, digest="", neurobrick="", spec_hash="")
    return SessionData(
        metadata=SessionMetadata(
            id="a/s", dataset="a", target="pos", description=str(version), provenance=provenance
        ),
        spike_times=np.sort(np.random.default_rng(version).uniform(0, SECONDS, 300_000)),
        spike_units=np.full(300_000, version),
        units=pa.table({"version": [version, version]}),
        behavior={
            name: Series(stamps, np.full((6000, 2), float(version)), "m", name, "m")
            for name in ("pos", "vel")
        },
        intervals={
            name: pa.table({"start": [0.0], "stop": [9.0], "version": [version]})
            for name in ("trials", "epochs")
        },
        domain=domain,
        evaluation=domain,
        splits={"train": domain},
    )


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The store in its two versions."""
    folder = tmp_path_factory.mktemp("versions")
    paths = [folder / str(version) for version in (0, 1)]
    for version, path in enumerate(paths):
        write_store(session_data(version), path)
    return paths


def batch_of(session: Session, name: str) -> np.ndarray:
    ds = OWNER[id(session)]
    batch = ds.slices([session.id] * 2, [1.0, 40.0], 2.0)
    return batch.spike_units if name == "spikes" else batch.behavior(name)[1]


OWNER: dict[int, Dataset] = {}

# Each reads a session in one way, and gives the versions that it sees.
READS: dict[str, Callable[[Session], object]] = {
    "spikes": lambda session: session.spike_arrays()[1],
    "spikes of a window": lambda session: session.slice(1, 3).spikes.units,
    "spikes of windows": lambda session: batch_of(session, "spikes"),
    "behavior": lambda session: session.behavior_arrays("pos")[1],
    "behavior of a window": lambda session: session.slice(1, 3).behavior["vel"].values,
    "behavior of windows": lambda session: batch_of(session, "vel"),
    "rows of a window": lambda session: session.slice(1, 3).intervals["epochs"]["version"],
    "trials": lambda session: session.intervals["trials"]["version"],
    "units": lambda session: session.units["version"],
    "metadata": lambda session: int(session.metadata.description or -1),
    "domain": lambda session: int(session.domain.duration - SECONDS),
}
CACHES = {"whole": 2**32, "by chunks": 0}
SELECTIONS: dict[str, dict[str, str]] = {
    "all": {},
    "units": {"units": "row >= 0"},
    "trials": {"trials": "row >= 0"},
    "behavior": {"behavior": 'unit == "m"'},
}


@pytest.fixture(params=CACHES)
def ds(request: pytest.FixtureRequest, tmp_path: Path, versions: list[Path]) -> Dataset:
    shutil.copytree(versions[0], tmp_path / "a/s.zarr")
    catalog.build(tmp_path)
    return Dataset(tmp_path, cache_bytes=CACHES[request.param])


@pytest.fixture
def replace(ds: Dataset, versions: list[Path]) -> Callable[[], None]:
    """Puts version 1 in the place of version 0."""

    def put() -> None:
        shutil.rmtree(Path(ds.root) / "a/s.zarr")
        shutil.copytree(versions[1], Path(ds.root) / "a/s.zarr")

    return put


def opened(ds: Dataset) -> Session:
    session = ds["a/s"]
    OWNER[id(session)] = ds
    return session


def seen(session: Session, first: str) -> set[int]:
    """The versions that a reader sees: `first`, then all else. A refused read sees nothing."""
    found: set[int] = set()
    for name in (first, *READS):
        try:
            found |= set(np.unique(np.asarray(READS[name](session)).astype(int)).tolist())
        except StoreError as error:
            assert "open the Dataset again" in str(error)  # noqa: PT017
    return found


@pytest.mark.slow
@pytest.mark.parametrize("first", READS)
def test_a_session_that_was_read_stays_with_its_version(
    ds: Dataset, replace: Callable[[], None], first: str
) -> None:
    session = opened(ds)
    READS[first](session)
    replace()
    assert seen(session, first) == {0}


@pytest.mark.slow
@pytest.mark.parametrize("first", READS)
def test_a_session_that_was_only_opened_sees_one_version(
    ds: Dataset, replace: Callable[[], None], first: str
) -> None:
    session, other = opened(ds), opened(ds.select())
    assert session is not other
    replace()
    assert len(seen(session, first)) == 1
    assert len(seen(other, first)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("first", READS)
def test_a_session_opened_later_sees_the_new_version(
    ds: Dataset, replace: Callable[[], None], first: str
) -> None:
    for read in READS.values():
        read(opened(ds))
    replace()
    assert seen(opened(ds.select()), first) == {1}


@pytest.mark.slow
@pytest.mark.parametrize("first", READS)
def test_what_another_session_cached_counts_as_read(
    ds: Dataset, replace: Callable[[], None], first: str
) -> None:
    """Both sessions are open; one fills the cache; the other one is then bound to that version."""
    for read in READS.values():
        read(opened(ds))
    later = opened(ds.select())
    replace()
    assert len(seen(later, first)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("opened_before", [True, False])
def test_a_selection_is_of_the_version_that_it_was_made_of(
    ds: Dataset, replace: Callable[[], None], selection: str, opened_before: bool
) -> None:
    part = ds.select(**SELECTIONS[selection])
    if opened_before:
        opened(part)
    replace()
    found = seen(opened(part), "spikes")
    assert found <= {0} if selection != "all" else len(found) == 1


def test_a_copy_in_another_process_stays_with_the_version(
    ds: Dataset, replace: Callable[[], None]
) -> None:
    session = opened(ds)
    session.spike_arrays()
    copy = pickle.loads(pickle.dumps(ds))
    replace()
    assert seen(opened(copy), "spikes") <= {0}


@pytest.mark.parametrize("first", ["spikes", "behavior"])
def test_rebuilt_catalogue_and_open_sessions(
    ds: Dataset, replace: Callable[[], None], first: str
) -> None:
    old = opened(ds)
    READS[first](old)
    replace()
    catalog.build(Path(ds.root))
    assert seen(opened(Dataset(ds.root)), first) == {1}
    assert seen(old, first) == {0}
