"""Zarr assets of a dandiset, against the folders that the archive on loopback serves."""

from __future__ import annotations

import hashlib
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.archive import LoopbackArchive
from demo.loopback import Faults
from neurobrick.errors import SourceError
from neurobrick.readers.zarr.tree import open_zarr
from neurobrick.sources.asset import Asset
from neurobrick.sources.dandi import DandiSource
from neurobrick.sources.digests import zarr_checksum_of as checksum
from neurobrick.sources.local import LocalSource
from neurobrick.sources.web.transport import Patience
from tests.support.archives import EAGER, KEY, message, on_loopback_only
from tests.support.zarr_files import array, group, write_files

NAME = "sub-A/sub-A_ses-1_ecephys.nwb.zarr"
LARGE = "units/spike_times/0"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    on_loopback_only(monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The only recording of dandiset 000400; there are images beside it."""
    random = np.random.default_rng(0)
    folder = tmp_path / "archive/000400/draft"
    sizes = {f"acquisition/lfp/{i}.{j}": 500 + i for i in range(4) for j in range(6)}
    sizes |= {LARGE: 300_001, ".zgroup": 20, "units/.zattrs": 3, "units/spaced name": 9, "empty": 0}
    for key, size in sizes.items():
        file = folder / NAME / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(random.bytes(size))
    image = folder / "sub-A/sub-A_sample-1.ome.zarr/0"
    image.parent.mkdir()
    image.write_bytes(b"an image")
    return folder / NAME


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


def _archive(store: Path, faults: Faults | None = None) -> LoopbackArchive:
    return LoopbackArchive(store.parents[3], faults)


def _source(
    archive: LoopbackArchive, patience: Patience = EAGER, token: str | None = None
) -> tuple[DandiSource, Asset]:
    source = DandiSource("000400", instance=archive.api_url, token=token, patience=patience)
    (asset,) = source.assets()
    return source, asset


def _files(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, by key."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def _asked(archive: LoopbackArchive) -> list[str]:
    """The keys whose bytes were asked for."""
    return [r.path.split("/", 3)[3] for r in archive.log if r.path.startswith("/zarr/")]


def test_a_zarr_is_listed_with_its_checksum(store: Path) -> None:
    with _archive(store) as archive:
        source, asset = _source(archive)
        (image,) = source.others()
    assert (asset.path, asset.is_zarr, asset.sha256) == (NAME, True, None)
    assert asset.size == sum(map(len, _files(store).values()))
    assert asset.checksum == checksum(store)
    assert (image.path, image.is_zarr) == ("sub-A/sub-A_sample-1.ome.zarr", True)


def test_a_fetched_zarr_has_the_archives_files(store: Path, downloads: Path) -> None:
    gained: list[int] = []
    with _archive(store) as archive:
        source, asset = _source(archive)
        folder = source.fetch(asset, downloads, gained.append)
        before = len(archive.log)
        assert source.fetch(asset, downloads) == folder  # it is whole: nothing is asked
        assert len(archive.log) == before
    assert folder == downloads / NAME
    assert _files(folder) == _files(store)
    assert sum(gained) == asset.size
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_damaged_zarr_is_fetched_again(store: Path, downloads: Path) -> None:
    with _archive(store) as archive:
        source, asset = _source(archive)
        folder = source.fetch(asset, downloads)
        (folder / LARGE).write_bytes(b"damaged")
        (folder / "stray").write_bytes(b"")
        assert _files(source.fetch(asset, downloads)) == _files(store)


def test_an_interrupted_fetch_goes_on_in_a_later_one(store: Path, downloads: Path) -> None:
    gained = 0

    def interrupt(n_bytes: int) -> None:
        nonlocal gained
        gained += n_bytes
        if gained > 5_000:
            raise SourceError("interrupted")

    with _archive(store) as archive:
        source, asset = _source(archive)
        with pytest.raises(SourceError, match="interrupted"):
            source.fetch(asset, downloads, interrupt)
    assert not (downloads / NAME).exists()
    staging = downloads / f"{NAME}.part"
    there = {key for key in _files(staging) if not key.endswith(".part")}
    assert there
    with _archive(store) as archive:
        source, asset = _source(archive)
        assert _files(source.fetch(asset, downloads)) == _files(store)
    assert there.isdisjoint(_asked(archive))
    assert not staging.exists()


def test_a_large_file_that_breaks_off_is_continued(store: Path, downloads: Path) -> None:
    part = downloads / f"{NAME}.part" / f"{LARGE}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes((store / LARGE).read_bytes()[:200_000])
    with _archive(store) as archive:
        source, asset = _source(archive)
        assert _files(source.fetch(asset, downloads)) == _files(store)
    asked = [r.range for r in archive.log if r.path.endswith(LARGE)]
    assert asked == ["bytes=200000-"]


def test_what_another_version_left_does_no_harm(store: Path, downloads: Path) -> None:
    for key in ("units/spike_times/7", "old/0", f"{LARGE}.part", ".zgroup"):
        file = downloads / f"{NAME}.part" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"bytes of another version")
    with _archive(store) as archive:
        source, asset = _source(archive)
        folder = source.fetch(asset, downloads)
    assert _files(folder) == _files(store)
    assert not (folder / "old").exists()


def test_wrong_bytes_are_never_kept(store: Path, downloads: Path) -> None:
    with _archive(store, Faults(wrong_digest={f"{NAME}/{LARGE}"})) as archive:
        source, asset = _source(archive)
        said = message(lambda: source.fetch(asset, downloads))
        files = source.zarr_files(asset)
        read = message(lambda: files.read([LARGE]))
        assert files.read(["units/.zattrs"]) == {
            "units/.zattrs": (store / "units/.zattrs").read_bytes()
        }
    got = hashlib.md5((store / LARGE).read_bytes()).hexdigest()
    assert f"{NAME}/{LARGE}: expected md5 {'0' * 32}, got {got}" in said
    assert f"{NAME}/{LARGE}: expected md5 {'0' * 32}, got {got}" in read
    assert not (downloads / NAME).exists()
    assert LARGE not in _files(downloads / f"{NAME}.part")


def test_a_zarr_that_is_being_changed_is_not_fetched(store: Path, downloads: Path) -> None:
    with _archive(store, Faults(wrong_digest={NAME})) as archive:
        source, asset = _source(archive)
        said = message(lambda: source.fetch(asset, downloads))
        assert "is being changed" in message(lambda: source.zarr_files(asset).listing())
    assert f"expected dandi-zarr-checksum {asset.checksum}, got {checksum(store)}" in said
    assert _asked(archive) == []
    assert not downloads.exists()


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"results": None, "next": None},
        {"results": [{"Key": "a"}], "next": None},
        {"results": [{"Key": "a", "Size": "many", "ETag": "x"}], "next": None},
        {"results": [{"Key": "a", "Size": 1, "ETag": 3}], "next": None},
        {"results": [], "next": "SAME"},  # for ever
    ],
    ids=repr,
)
def test_a_listing_that_is_none_is_one_line(
    store: Path, page: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with _archive(store, Faults(no_sha256={NAME})) as archive:
        source, asset = _source(archive)
        answer = {key: asset.location if x == "SAME" else x for key, x in page.items()}
        monkeypatch.setattr(archive, "answer", lambda path, query: answer)
        said = message(lambda: source.zarr_files(asset).listing())
    assert "does not list the files of" in said


def test_a_fresh_draft_has_no_checksum_yet(store: Path, downloads: Path) -> None:
    with _archive(store, Faults(no_sha256={NAME})) as archive:
        source, asset = _source(archive)
        assert asset.checksum is None
        assert _files(source.fetch(asset, downloads)) == _files(store)


@pytest.mark.parametrize("key", ["../../evil", "/evil", "a/../../../evil"])
def test_no_file_is_written_outside_the_folder(store: Path, downloads: Path, key: str) -> None:
    with _archive(store, Faults(no_sha256={NAME})) as archive:
        source, asset = _source(archive)
        files = archive.zarrs[asset.asset_id or ""]
        files[key] = files[LARGE]
        assert "may lead out" in message(lambda: source.fetch(asset, downloads))
    assert _asked(archive) == []
    assert not list(downloads.parent.rglob("evil*"))


def test_files_can_be_read_without_being_fetched(store: Path) -> None:
    there = _files(store)
    with _archive(store) as archive:
        source, asset = _source(archive)
        files = source.zarr_files(asset)
        assert archive.log[-1].path.endswith("/assets/")  # nothing is asked yet
        assert files.listing() == {key: len(content) for key, content in there.items()}
        assert files.read([*there, "absent"]) == there
        assert files.read([]) == {}
        assert pickle.loads(pickle.dumps(source.remote(asset))).read([LARGE])
        listings = [r for r in archive.log if r.path.endswith("/files/") and not r.query]
        assert len(listings) == 2  # of the copy, another


def test_a_store_can_be_opened_where_it_is(tmp_path: Path) -> None:
    times = np.arange(40.0)
    files = group() | group("units") | array("units/spike_times", times, chunks=(16,))
    write_files(tmp_path / "000400/draft" / NAME, files)
    with LoopbackArchive(tmp_path) as archive:
        source, asset = _source(archive)
        with open_zarr(source.zarr_files(asset), NAME) as tree:
            units = tree.root.group("units")
            assert units is not None
            found = units.array("spike_times")
            assert found is not None
            np.testing.assert_array_equal(found.read(), times)


def test_an_embargoed_zarr_opens_to_its_key(
    store: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _archive(store, Faults(require_token=KEY)) as archive:
        assert "set DANDI_API_KEY" in message(lambda: _source(archive))
        monkeypatch.setenv("DANDI_API_KEY", KEY)
        source, asset = _source(archive)
        assert _files(source.fetch(asset, downloads)) == _files(store)
        assert source.zarr_files(asset).read(["units/.zattrs"])
        archive.faults = replace(archive.faults, require_token=KEY[1:])  # it is withdrawn
        said = message(lambda: source.zarr_files(asset).listing())
    assert "refuses this key (401): set DANDI_API_KEY" in said
    assert not any(r.authorized for r in archive.log if r.path.startswith("/zarr/"))
    assert {r.status for r in archive.log if r.path.startswith("/zarr/")} == {200}


@pytest.mark.slow
def test_a_faulty_archive_gives_every_file_in_the_end(store: Path, downloads: Path) -> None:
    with _archive(store, Faults(every_nth_503=3, cut_every_nth_body=5)) as archive:
        source, asset = _source(archive)
        began = time.monotonic()
        assert _files(source.fetch(asset, downloads)) == _files(store)
        assert source.zarr_files(asset).read(list(_files(store))) == _files(store)
        assert time.monotonic() - began < 60
    assert {200, 302, 503} <= {r.status for r in archive.log}


def test_a_zarr_that_was_taken_away(store: Path, downloads: Path) -> None:
    with _archive(store) as archive:
        source, asset = _source(archive)
        archive.zarrs.clear()
        said = message(lambda: source.fetch(asset, downloads))
    assert f"{NAME} is no longer in dandiset 000400" in said


def test_the_client_takes_the_stand_in_for_an_archive(tmp_path: Path) -> None:
    from dandi.dandiapi import DandiAPIClient, RemoteZarrAsset

    folder = tmp_path / "000400/draft" / NAME
    folder.mkdir(parents=True)
    for n in range(1_100):  # more than a page
        (folder / str(n)).write_text(f"chunk {n}")
    with LoopbackArchive(tmp_path) as archive, DandiAPIClient(archive.api_url) as client:
        (remote,) = client.get_dandiset("000400", "draft").get_assets()
        assert isinstance(remote, RemoteZarrAsset)
        entries = {str(entry): entry for entry in remote.iterfiles()}
        content = b"".join(entries["1099"].get_download_file_iter()(6))
        assert remote.get_digest().value == checksum(folder)
        source, asset = _source(archive)
        listing = source.zarr_files(asset).listing()
    assert content == b"1099"
    assert {key: entry.size for key, entry in entries.items()} == listing
    assert listing == {str(n): len(f"chunk {n}") for n in range(1_100)}
    digests = {key: entry.digest.value for key, entry in entries.items()}
    assert digests["7"] == hashlib.md5(b"chunk 7").hexdigest()


def test_a_zarr_on_this_machine_is_one_asset(store: Path) -> None:
    for source in (LocalSource([store]), LocalSource([store.parent])):
        (asset,) = source.assets()
        assert (asset.path, asset.is_zarr) == (store.name, True)
        assert asset.size == sum(map(len, _files(store).values()))
        assert source.fetch(asset, store) == store
    (image,) = LocalSource([store.parent]).others()
    assert image.path == "sub-A_sample-1.ome.zarr"
