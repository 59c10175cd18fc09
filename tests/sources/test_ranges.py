"""Parts of a file that stays in the archive, against the file itself."""

from __future__ import annotations

import pickle
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo.archive import LoopbackArchive
from demo.loopback import Faults, Handler
from neurobrick.errors import RangesIgnored
from neurobrick.sources.dandi import DandiSource
from neurobrick.sources.local import LocalSource
from neurobrick.sources.web.ranges import RangeReader
from tests.support.archives import EAGER, KEY, message, on_loopback_only

PATH = "000128/draft/sub-A/sub-A_ecephys.nwb"
SIZE = 1_000_003


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    on_loopback_only(monkeypatch)


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """The bytes of the only asset of dandiset 000128."""
    file = tmp_path / PATH
    file.parent.mkdir(parents=True)
    file.write_bytes(np.random.default_rng(0).bytes(SIZE))
    return file.read_bytes()


def _reader(archive: LoopbackArchive, token: str | None = None) -> RangeReader:
    source = DandiSource("000128", instance=archive.api_url, token=token, patience=EAGER)
    (asset,) = source.assets()
    return source.ranges(asset)


def _located(archive: LoopbackArchive) -> int:
    return sum(r.path.endswith("/download/") for r in archive.log)


def test_ranges_come_in_the_order_in_which_they_are_asked_for(
    tmp_path: Path, content: bytes
) -> None:
    ranges = [(900_000, SIZE), (0, 1), (5, 5), (70_000, 200_000), (1, 4)]
    with LoopbackArchive(tmp_path) as archive:
        reader = _reader(archive)
        assert reader.size == SIZE
        assert reader.requests == 0
        assert reader.read(ranges) == [content[a:b] for a, b in ranges]
        assert reader.read([]) == []
        assert reader.bytes == sum(b - a for a, b in ranges)
        assert reader.requests == 1 + 4  # where it is, and every range that is not empty
        assert _located(archive) == 1
    asked = {r.range for r in archive.log if r.path.startswith("/blobs/")}
    assert asked == {f"bytes={a}-{b - 1}" for a, b in ranges if a < b}


def test_a_range_that_breaks_off_is_continued(tmp_path: Path, content: bytes) -> None:
    with LoopbackArchive(tmp_path, Faults(cut_every_nth_body=2)) as archive:
        next(archive.bodies)
        reader = _reader(archive)
        assert reader.read([(1_000, 901_000)]) == [content[1_000:901_000]]
    first, second = (r.range for r in archive.log if r.path.startswith("/blobs/"))
    assert first == "bytes=1000-900999"
    start, stop = map(int, str(second).removeprefix("bytes=").split("-"))
    assert (start, stop) == (1_000 + 450_000, 900_999)
    assert reader.bytes == 900_000


def test_a_range_that_always_breaks_off_is_given_up(tmp_path: Path, content: bytes) -> None:
    with LoopbackArchive(tmp_path, Faults(cut_every_nth_body=1)) as archive:
        reader = _reader(archive)
        said = message(lambda: reader.read([(0, 1_000)]))
    assert "the range 0–1000 of sub-A/sub-A_ecephys.nwb broke off" in said


def test_a_server_without_ranges_is_told_apart(tmp_path: Path, content: bytes) -> None:
    with LoopbackArchive(tmp_path, Faults(ignore_ranges=True)) as archive:
        reader = _reader(archive)
        with pytest.raises(RangesIgnored, match="fetch the file whole"):
            reader.read([(0, 10), (20, 30)])
        assert reader.bytes == 0


def test_a_file_that_changed_is_not_mixed_with_what_it_was(tmp_path: Path, content: bytes) -> None:
    with LoopbackArchive(tmp_path) as archive:
        source = DandiSource("000128", instance=archive.api_url, patience=EAGER)
        (asset,) = source.assets()
        reader = source.ranges(replace(asset, size=SIZE - 1))
        assert "not what was listed" in message(lambda: reader.read([(0, 10)]))
        assert "no range" in message(lambda: reader.read([(0, SIZE)]))
        gone = source.ranges(replace(asset, location=asset.location.replace("download", "x")))
        assert "no longer in dandiset 000128" in message(lambda: gone.read([(0, 10)]))


def test_the_key_stays_with_the_archive(tmp_path: Path, content: bytes) -> None:
    with LoopbackArchive(tmp_path, Faults(require_token=KEY)) as archive:
        assert _reader(archive, KEY).read([(3, 9), (0, 3)]) == [content[3:9], content[:3]]
        source = DandiSource("000128", instance=archive.api_url, token=KEY, patience=EAGER)
        file = source.fetch(source.assets()[0], tmp_path / "downloads")
    assert file.read_bytes() == content
    keyed = {r.path.startswith("/api/"): set[bool]() for r in archive.log}
    for r in archive.log[1:]:  # whether the API is there, is asked without a key
        keyed[r.path.startswith("/api/")].add(r.authorized)
    assert keyed[False] == {False}
    assert True in keyed[True]


def test_an_expired_signature_is_renewed(tmp_path: Path, content: bytes) -> None:
    with LoopbackArchive(tmp_path, Faults(require_token=KEY, signature_lasts=3)) as archive:
        reader = _reader(archive, KEY)
        read = [reader.read([(n, n + 7)])[0] for n in range(8)]
        assert _located(archive) == 3
    assert read == [content[n : n + 7] for n in range(8)]


def test_a_lasting_refusal_is_asked_about_once(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsigned(request: Handler, url: str) -> None:
        request.send(302, {"Location": url})

    with LoopbackArchive(tmp_path, Faults(require_token=KEY)) as archive:
        monkeypatch.setattr(archive, "_redirect", unsigned)
        reader = _reader(archive, KEY)
        assert "refuses this key (403)" in message(lambda: reader.read([(0, 9)]))
        assert _located(archive) == 2


def test_a_faulty_server_gives_every_range_in_the_end(tmp_path: Path, content: bytes) -> None:
    random = np.random.default_rng(1)
    starts = random.integers(0, SIZE, 100)
    stops = np.minimum(starts + random.integers(1, 50_000, 100), SIZE)
    ranges = list(zip(starts.tolist(), stops.tolist(), strict=True))
    with LoopbackArchive(tmp_path, Faults(every_nth_503=3, cut_every_nth_body=5)) as archive:
        source = DandiSource("000128", instance=archive.api_url, patience=EAGER)
        began = time.monotonic()
        assert source.ranges(source.assets()[0]).read(ranges) == [content[a:b] for a, b in ranges]
        assert time.monotonic() - began < 30
    assert {200, 206, 302, 503} <= {r.status for r in archive.log}


def test_a_reader_can_be_sent_to_another_process(tmp_path: Path, content: bytes) -> None:
    with LoopbackArchive(tmp_path, Faults(require_token=KEY, every_nth_503=2)) as archive:
        source = DandiSource("000128", instance=archive.api_url, token=KEY, patience=EAGER)
        (asset,) = source.assets()
        sent = pickle.dumps(source.remote(asset))
        assert pickle.loads(sent).read([(5, 9)]) == [content[5:9]]


def test_what_is_here_needs_no_ranges(tmp_path: Path, content: bytes) -> None:
    source = LocalSource([tmp_path])
    (asset,) = source.assets()
    assert not asset.is_remote
    assert source.remote(asset) is None
