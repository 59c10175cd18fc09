"""A store that may not be read, or whose metadata are damaged, is not 'no store' to anyone."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from neurobrick import Dataset, StoreError, catalog
from neurobrick.checks.verify import damages, stores_in
from neurobrick.storage import open_storage
from neurobrick.store import SessionStore, damage, read_attributes
from tests.conftest import prepare_files
from tests.support.refusals import Refuse

DENIED = os.strerror(errno.EACCES)


@pytest.fixture
def root(tmp_path: Path, corpus: Dataset) -> Path:
    """A copy of a corpus of two sessions, to change."""
    for name in corpus.sessions[:2]:
        shutil.copytree(Path(corpus.root) / f"{name}.zarr", tmp_path / "corpus" / f"{name}.zarr")
    catalog.build(tmp_path / "corpus")
    return tmp_path / "corpus"


@pytest.fixture
def store(root: Path) -> Path:
    return root / f"{Dataset(root).sessions[0]}.zarr"


@pytest.mark.parametrize("part", [".", "manifest.json", "zarr.json"])
def test_who_opens_it_hears_the_reason(store: Path, refuse: Refuse, part: str) -> None:
    refuse(store / part, errno.EACCES)
    for use in (SessionStore.at, read_attributes):
        with pytest.raises(StoreError, match=DENIED):
            use(store)


@pytest.mark.parametrize("part", [".", "manifest.json"])
def test_verify_and_the_catalogue_say_so(
    root: Path, store: Path, refuse: Refuse, part: str
) -> None:
    listed = Dataset(root).catalog
    refuse(store / part, errno.EACCES)
    storage = open_storage(root)
    faults = dict(damages(storage, stores_in(storage, listed)))
    assert [bool(found) for found in faults.values()] == [True, False]
    assert DENIED in faults[listed.sessions["session"][0].as_py()][0]
    assert [DENIED in str(fault) for fault in catalog.build(root)] == [True]
    assert len(Dataset(root)) == 1


def test_prepare_does_not_replace_it(tmp_path: Path, recording: Path, refuse: Refuse) -> None:
    (outcome,) = prepare_files(tmp_path, recording)
    store = tmp_path / "local" / f"{recording.stem}.zarr"
    refuse(store / "zarr.json", errno.EACCES)
    (outcome,) = prepare_files(tmp_path, recording)
    assert outcome.status == "failed"
    assert DENIED in outcome.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        *("null", "[]", "7", '"x"', "", "{", "{}", '{"attributes": null}', '{"attributes": []}'),
        '{"attributes": {"neurobrick": null}}',
        '{"attributes": {"neurobrick": {"provenance": null, "format_version": 3}}}',
        '{"attributes": {"neurobrick": {"provenance": [], "format_version": 3}}}',
        "[" * 100_000,
        "\udcff",
    ],
    ids=lambda content: content[:40],
)
def test_prepare_makes_a_store_with_damaged_metadata_anew(
    tmp_path: Path, recording: Path, content: str
) -> None:
    prepare_files(tmp_path, recording)
    store = tmp_path / "local" / f"{recording.stem}.zarr"
    (store / "zarr.json").write_bytes(content.encode(errors="surrogateescape"))
    (outcome,) = prepare_files(tmp_path, recording)
    assert outcome.status == "prepared", outcome.reason
    assert damage(store) == []
