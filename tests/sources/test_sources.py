"""Dandisets of a loopback archive, which dandi's own client takes for the archive."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo.archive import LoopbackArchive
from demo.loopback import Faults
from neurobrick.errors import SourceError
from neurobrick.sources.asset import Asset, select
from neurobrick.sources.dandi import DandiSource
from neurobrick.sources.digests import sha256_of
from neurobrick.sources.web.transport import Patience
from tests.support.archives import EAGER, KEY, message, on_loopback_only

OLD, NEW = "0.220113.0400", "0.230101.1200"
BIG = "sub-A/sub-A_ses-1_behavior+ecephys.nwb"
SMALL = "sub-B/sub-B_ses-2_ecephys.nwb"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    on_loopback_only(monkeypatch)


@pytest.fixture
def dandisets(tmp_path: Path) -> Path:
    """Dandiset 000128, published twice, and 000129, which has only a draft."""
    random = np.random.default_rng(0)
    for place, size in {
        f"000128/{OLD}/{SMALL}": 10,
        f"000128/{NEW}/{BIG}": 3_000_001,
        f"000128/{NEW}/{SMALL}": 1_000,
        f"000128/{NEW}/sub-B/notes.json": 2,
        f"000129/draft/{SMALL}": 0,
    }.items():
        file = tmp_path / "archive" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(random.bytes(size))
    about = '{"name": "Maze", "license": ["spdx:CC-BY-4.0"], "citation": "A. Uthor (2022)"}'
    (tmp_path / "archive/000128/dandiset.json").write_text(about)
    return tmp_path / "archive"


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


def _source(archive: LoopbackArchive, dandiset: str = "000128", **options: str) -> DandiSource:
    return DandiSource(dandiset, instance=archive.api_url, patience=EAGER, **options)


def _asset(source: DandiSource, path: str) -> Asset:
    return next(asset for asset in source.assets() if asset.path == path)


def _ranges(archive: LoopbackArchive) -> list[tuple[int, str | None]]:
    return [(r.status, r.range) for r in archive.log if r.path.startswith("/blobs/")]


# Listing


def test_the_newest_published_version_is_listed_with_its_digests(dandisets: Path) -> None:
    with LoopbackArchive(dandisets) as archive:
        source = _source(archive)
        big, small = source.assets()
        (other,) = source.others()
    assert (source.dataset, source.version, source.url) == ("000128", NEW, archive.api_url)
    assert (source.title, source.licence) == ("Maze", "CC-BY-4.0")
    assert source.citation == "A. Uthor (2022)"
    assert (big.path, small.path, other.path) == (BIG, SMALL, "sub-B/notes.json")
    original = dandisets / "000128" / NEW / BIG
    assert big.sha256 == hashlib.sha256(original.read_bytes()).hexdigest()
    assert (big.size, big.dandiset, big.version) == (3_000_001, "000128", NEW)
    assert sum(r.path.endswith("/assets/") for r in archive.log) == 1


def test_a_version_can_be_pinned_and_a_draft_stands_in_for_none(dandisets: Path) -> None:
    with LoopbackArchive(dandisets) as archive:
        assert [a.size for a in _source(archive, version=OLD).assets()] == [10]
        assert len(_source(archive, version="draft").assets()) == 2
        assert _source(archive, "000129").version == "draft"


def test_a_listing_of_several_pages_is_whole(tmp_path: Path) -> None:
    paths = [f"sub-{n:03}/sub-{n:03}_ecephys.nwb" for n in range(257)]
    for path in paths:
        file = tmp_path / "000200/draft" / path
        file.parent.mkdir(parents=True)
        file.write_text(path)
    with LoopbackArchive(tmp_path) as archive:
        assets = _source(archive, "000200").assets()
    assert [a.path for a in assets] == paths
    assert len({a.sha256 for a in assets}) == 257
    assert sum(r.path.endswith("/assets/") for r in archive.log) == 3


@pytest.mark.parametrize("ending", ["", "/", "/api", "/api/"])
def test_the_archive_can_come_from_the_environment(
    dandisets: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    with LoopbackArchive(dandisets) as archive:
        monkeypatch.setenv("NEUROBRICK_DANDI_API", archive.url + ending)
        assert len(DandiSource("000128").assets()) == 2


def test_globs_are_the_archives() -> None:
    assets = [Asset(path, 0, path) for path in ("sub-A/a_desc-train.nwb", "sub-B/B_desc-test.nwb")]

    def paths(include: list[str], exclude: list[str]) -> str:
        return "".join(a.path[4] for a in select(assets, include, exclude))

    assert paths([], []) == "AB"
    assert paths(["*TRAIN*"], []) == "A"
    assert paths(["sub-*.nwb"], ["sub-b/*"]) == "A"
    assert paths(["sub-A/*", "*test.nwb"], []) == "AB"
    assert paths(["sub-A"], []) == ""
    assert paths(["sub-?/*", "sub-[AB]/*"], []) == ""


# Fetching


def test_a_fetched_file_has_the_archives_bytes(dandisets: Path, downloads: Path) -> None:
    gained: list[int] = []
    with LoopbackArchive(dandisets) as archive:
        source = _source(archive)
        file = source.fetch(_asset(source, BIG), downloads, gained.append)
    assert file == downloads / BIG
    assert file.read_bytes() == (dandisets / "000128" / NEW / BIG).read_bytes()
    assert sum(gained) == 3_000_001
    assert list(file.parent.iterdir()) == [file]


def test_an_empty_file_is_fetched(dandisets: Path, downloads: Path) -> None:
    with LoopbackArchive(dandisets) as archive:
        source = _source(archive, "000129")
        assert source.fetch(source.assets()[0], downloads).read_bytes() == b""


def test_a_whole_file_is_not_asked_for_again(dandisets: Path, downloads: Path) -> None:
    gained: list[int] = []
    with LoopbackArchive(dandisets) as archive:
        source = _source(archive)
        asset = _asset(source, BIG)
        source.fetch(asset, downloads)
        before = len(archive.log)
        assert source.fetch(asset, downloads, gained.append) == downloads / BIG
        assert len(archive.log) == before
        (downloads / BIG).write_bytes(b"x" * asset.size)
        source.fetch(asset, downloads)
        assert len(archive.log) > before
    assert sum(gained) == asset.size
    assert sha256_of(downloads / BIG) == asset.sha256


def test_a_body_that_breaks_off_is_continued(dandisets: Path, downloads: Path) -> None:
    gained: list[int] = []
    with LoopbackArchive(dandisets, Faults(cut_every_nth_body=2)) as archive:
        next(archive.bodies)  # so that the first is cut, and the second is not
        source = _source(archive)
        asset = _asset(source, BIG)
        file = source.fetch(asset, downloads, gained.append)
    (first, whole), (second, rest) = _ranges(archive)
    assert (first, whole, second) == (200, None, 206)
    assert rest is not None
    start = int(rest.removeprefix("bytes=").removesuffix("-"))
    assert 1_000_000 < start <= 1_500_001
    assert sum(gained) == asset.size
    assert sha256_of(file) == asset.sha256


def test_an_interrupted_fetch_goes_on_in_a_later_run(dandisets: Path, downloads: Path) -> None:
    with LoopbackArchive(dandisets, Faults(cut_every_nth_body=1)) as archive:
        source = _source(archive)
        with pytest.raises(SourceError, match="broke off after") as caught:
            source.fetch(_asset(source, BIG), downloads)
    assert BIG in str(caught.value)
    assert not (downloads / BIG).exists()
    kept = (downloads / f"{BIG}.part").stat().st_size
    assert kept > 2_000_000
    with LoopbackArchive(dandisets) as archive:
        source = _source(archive)
        source.fetch(_asset(source, BIG), downloads)
    assert _ranges(archive) == [(206, f"bytes={kept}-")]


@pytest.mark.parametrize("left", [b"other bytes", b"x" * 3_000_001, b"x" * 4_000_000])
def test_what_another_version_left_does_no_harm(
    dandisets: Path, downloads: Path, left: bytes
) -> None:
    part = downloads / f"{BIG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(left)
    gained: list[int] = []
    with LoopbackArchive(dandisets) as archive:
        source = _source(archive)
        asset = _asset(source, BIG)
        assert sha256_of(source.fetch(asset, downloads, gained.append)) == asset.sha256
    assert sum(gained) == asset.size


def test_a_server_without_ranges_starts_again(dandisets: Path, downloads: Path) -> None:
    gained: list[int] = []
    with LoopbackArchive(dandisets, Faults(ignore_ranges=True, cut_every_nth_body=2)) as archive:
        next(archive.bodies)
        source = _source(archive)
        asset = _asset(source, BIG)
        assert sha256_of(source.fetch(asset, downloads, gained.append)) == asset.sha256
    assert [status for status, _ in _ranges(archive)] == [200, 200]
    assert sum(gained) == asset.size


@pytest.mark.parametrize("fresh_draft", [False, True])
def test_wrong_bytes_are_never_kept(dandisets: Path, downloads: Path, fresh_draft: bool) -> None:
    faults = Faults(wrong_digest={SMALL}, no_sha256={SMALL} if fresh_draft else ())
    with LoopbackArchive(dandisets, faults) as archive:
        source = _source(archive)
        with pytest.raises(SourceError) as caught:
            source.fetch(_asset(source, SMALL), downloads)
    got = sha256_of(dandisets / "000128" / NEW / SMALL)
    expected = "dandi-etag " + "0" * 32 if fresh_draft else "sha256 " + "0" * 64
    assert SMALL in str(caught.value)
    assert f"expected {expected}" in str(caught.value)
    assert fresh_draft or f"got {got}" in str(caught.value)
    assert list((downloads / SMALL).parent.iterdir()) == []


def test_a_fresh_draft_is_checked_by_its_etag(dandisets: Path, downloads: Path) -> None:
    with LoopbackArchive(dandisets, Faults(no_sha256={BIG})) as archive:
        source = _source(archive)
        asset = _asset(source, BIG)
        assert asset.sha256 is None
        assert source.fetch(asset, downloads).stat().st_size == asset.size


@pytest.mark.parametrize(
    "path",
    ["../evil.nwb", "/evil.nwb", "a/../../evil.nwb", "a\\..\\evil.nwb", "C:/evil.nwb", "a//b.nwb"],
)
def test_no_asset_is_written_outside_the_folder(
    dandisets: Path, downloads: Path, path: str
) -> None:
    with LoopbackArchive(dandisets) as archive:
        source = _source(archive)
        asset = replace(source.assets()[0], path=path)
        before = len(archive.log)
        with pytest.raises(SourceError, match="may lead out of the folder"):
            source.fetch(asset, downloads)
        assert len(archive.log) == before
    assert not list(downloads.parent.rglob("evil*"))


def test_threads_may_fetch_at_once(tmp_path: Path, downloads: Path) -> None:
    random = np.random.default_rng(1)
    for n in range(12):
        file = tmp_path / f"archive/000300/draft/sub-{n}/sub-{n}.nwb"
        file.parent.mkdir(parents=True)
        file.write_bytes(random.bytes(400_000 + n))
    faults = Faults(cut_every_nth_body=3, every_nth_503=5)
    with LoopbackArchive(tmp_path / "archive", faults) as archive:
        source = _source(archive, "000300")
        with ThreadPoolExecutor(4) as pool:
            files = list(pool.map(lambda a: source.fetch(a, downloads), source.assets()))
    assert [sha256_of(file) for file in files] == [a.sha256 for a in source.assets()]
    assert len(files) == 12


def test_a_folder_that_cannot_be_is_reported(dandisets: Path, downloads: Path) -> None:
    downloads.write_text("a file where a folder should be")
    with LoopbackArchive(dandisets) as archive:
        source = _source(archive)
        with pytest.raises(SourceError, match="cannot be written"):
            source.fetch(source.assets()[0], downloads)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_reported(dandisets: Path, downloads: Path) -> None:
    part = downloads / f"{BIG}.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with LoopbackArchive(dandisets) as archive:
        source = _source(archive)
        said = message(lambda: source.fetch(_asset(source, BIG), downloads))
    assert f"{part} cannot be written: No space left on device: free some" in said
    assert not (downloads / BIG).exists()


# What an archive may answer instead


def test_an_unknown_dandiset(dandisets: Path) -> None:
    with LoopbackArchive(dandisets) as archive:
        said = message(lambda: _source(archive, "999999"))
    assert f"dandiset 999999 is not in the archive at {archive.api_url}" in said
    assert "six digits" in message(lambda: DandiSource("../128"))


def test_an_unknown_version_is_told_which_there_are(dandisets: Path) -> None:
    with LoopbackArchive(dandisets) as archive:
        said = message(lambda: _source(archive, version="0.990101.0000"))
    assert "no version 0.990101.0000" in said
    assert OLD in said
    assert NEW in said


def test_an_embargoed_dandiset_opens_to_its_key(
    dandisets: Path, downloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackArchive(dandisets, Faults(require_token=KEY)) as archive:
        said = message(lambda: _source(archive))
        assert "closed (401): set DANDI_API_KEY" in said
        assert "refuses this key" in message(lambda: _source(archive, token=KEY[1:]))
        monkeypatch.setenv("DANDI_API_KEY", KEY)
        source = _source(archive)
        file = source.fetch(_asset(source, BIG), downloads)
    assert sha256_of(file) == sha256_of(dandisets / "000128" / NEW / BIG)


def test_no_message_tells_a_signed_address(dandisets: Path, downloads: Path) -> None:
    faults = Faults(require_token=KEY, cut_every_nth_body=1)
    with LoopbackArchive(dandisets, faults) as archive:
        source = _source(archive, token=KEY)
        said = message(lambda: source.fetch(_asset(source, BIG), downloads))
    assert "broke off" in said


def test_passing_overload_is_outlasted(dandisets: Path, downloads: Path) -> None:
    with LoopbackArchive(dandisets, Faults(every_nth_503=2)) as archive:
        source = _source(archive)
        for asset in source.assets():
            assert sha256_of(source.fetch(asset, downloads)) == asset.sha256
    assert 503 in {r.status for r in archive.log}


def test_lasting_overload_is_given_up(dandisets: Path) -> None:
    with LoopbackArchive(dandisets, Faults(every_nth_503=1)) as archive:
        said = message(lambda: _source(archive))
    assert "answers 503" in said
    assert [r.status for r in archive.log] == [503] * (1 + EAGER.retries)


@pytest.mark.slow
def test_the_client_prints_nothing_of_what_is_raised(dandisets: Path) -> None:
    script = (
        "import sys\n"
        "from neurobrick.errors import SourceError\n"
        "from neurobrick.sources.dandi import DandiSource\n"
        "try:\n    DandiSource('999999', instance=sys.argv[1])\n"
        "except SourceError as error:\n    print(error)\n"
    )
    with LoopbackArchive(dandisets) as archive:
        command = [sys.executable, "-c", script, archive.url]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.startswith("dandiset 999999 is not in the archive")


def test_an_asset_that_was_taken_away(dandisets: Path, downloads: Path) -> None:
    with LoopbackArchive(dandisets) as archive:
        source = _source(archive)
        asset = _asset(source, SMALL)
        gone = replace(asset, location=asset.location.replace(asset.asset_id or "", "0"))
        said = message(lambda: source.fetch(gone, downloads))
    assert f"{SMALL} is no longer in dandiset 000128" in said


def test_no_server() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    said = message(lambda: DandiSource("000128", instance=url, patience=EAGER))
    assert f"{url}/api is not available" in said
    assert "refused" in said


def test_a_server_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        patience = Patience(stall=0.2, retries=1, first_wait=0.01)
        start = time.monotonic()
        said = message(lambda: DandiSource("000128", instance=url, patience=patience))
    assert "timed out" in said
    assert time.monotonic() - start < 5


def test_a_server_of_something_else(dandisets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LoopbackArchive(dandisets) as archive:
        url = f"{archive.url}/elsewhere"
        assert "no DANDI API" in message(lambda: DandiSource("000128", instance=url))
        monkeypatch.setattr(archive, "answer", lambda path, query: {"hello": "world"})
        assert "not answer as a DANDI API" in message(lambda: _source(archive))
    assert "not the address" in message(lambda: DandiSource("000128", instance="dandi"))


def test_an_archive_that_wants_a_newer_client(
    dandisets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = {"cli-minimal-version": "99.0", "cli-bad-versions": []}
    with LoopbackArchive(dandisets) as archive:
        monkeypatch.setattr(archive, "answer", lambda path, query: info)
        assert "needs dandi 99.0 or later" in message(lambda: _source(archive))


# The stand-in itself


def test_the_client_takes_the_stand_in_for_an_archive(dandisets: Path) -> None:
    from dandi.dandiapi import DandiAPIClient
    from dandischema.digests.dandietag import DandiETag

    with LoopbackArchive(dandisets) as archive, DandiAPIClient(archive.api_url) as client:
        dandiset = client.get_dandiset("000128")
        assert [v.identifier for v in dandiset.get_versions()] == [OLD, NEW, "draft"]
        assert dandiset.for_version(OLD).version.size == 10
        (asset,) = dandiset.get_assets_by_glob("SUB-a/*")
        assert asset == dandiset.get_asset_by_path(BIG) == dandiset.get_asset(asset.identifier)
        assert [a.path for a in dandiset.get_assets(order="-path")][-1] == BIG
        original = dandisets / "000128" / NEW / BIG
        assert asset.get_digest().value == DandiETag.from_file(original).as_str()
        tail = b"".join(asset.get_download_file_iter()(2_999_999))
        assert tail == original.read_bytes()[-2:]
        url = asset.get_content_url(follow_redirects=True)
        assert url == f"{archive.store_url}/blobs/{asset.identifier}"
