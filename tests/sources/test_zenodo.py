"""A record of Zenodo, on loopback."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import pytest

from demo.loopback import Faults
from neurobrick.prepare.plan import session_id
from neurobrick.sources.zenodo import ZenodoSource
from tests.support.archives import EAGER, LoopbackZenodo, message, on_loopback_only

INDY = "indy_20160407_02.mat"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    on_loopback_only(monkeypatch)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    folder = tmp_path / "record"
    folder.mkdir()
    for name, size in {INDY: 700_001, "loco_20170210_03.mat": 1_000, "README.txt": 10}.items():
        (folder / name).write_bytes(random.bytes(size))
    return folder


def _source(zenodo: LoopbackZenodo) -> ZenodoSource:
    return ZenodoSource("3854034", zenodo.api_url, patience=EAGER)


def test_a_record_says_what_it_is_and_what_it_has(record: Path) -> None:
    with LoopbackZenodo(record) as zenodo:
        source = _source(zenodo)
        indy, loco = source.assets()
        (other,) = source.others()
    assert (source.dataset, source.url) == ("zenodo-3854034", zenodo.api_url)
    assert (source.title, source.licence) == ("Reaching", "cc-by-4.0")
    assert source.doi == "10.5281/zenodo.3854034"
    assert source.citation == (
        "Uthor, A.; Ther, O. (2020). Reaching. Zenodo. https://doi.org/10.5281/zenodo.3854034"
    )
    assert (indy.path, loco.path, other.path) == (INDY, "loco_20170210_03.mat", "README.txt")
    assert (indy.size, indy.sha256) == (700_001, None)
    assert indy.md5 == hashlib.md5((record / INDY).read_bytes()).hexdigest()
    assert session_id(source.dataset, indy.path) == "zenodo-3854034/indy_20160407_02"


def test_zenodo_can_come_from_the_environment(
    record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackZenodo(record) as zenodo:
        monkeypatch.setenv("NEUROBRICK_ZENODO_API", zenodo.api_url + "/")
        assert len(ZenodoSource("3854034").assets()) == 2


def test_a_fetched_file_has_zenodos_bytes(record: Path, tmp_path: Path) -> None:
    gained: list[int] = []
    with LoopbackZenodo(record, Faults(cut_every_nth_body=2, every_nth_503=3)) as zenodo:
        next(zenodo.bodies)  # so that the first is cut
        source = _source(zenodo)
        file = source.fetch(source.assets()[0], tmp_path / "downloads", gained.append)
        before = len(zenodo.log)
        source.fetch(source.assets()[0], tmp_path / "downloads")
        assert len(zenodo.log) == before
    assert file == tmp_path / "downloads" / INDY
    assert file.read_bytes() == (record / INDY).read_bytes()
    assert sum(gained) == 700_001
    answers = [r.status for r in zenodo.log if r.path.endswith("/content")]
    assert answers == [200, 503, 206]


def test_wrong_bytes_are_never_kept(record: Path, tmp_path: Path) -> None:
    with LoopbackZenodo(record, Faults(wrong_digest={INDY})) as zenodo:
        source = _source(zenodo)
        said = message(lambda: source.fetch(source.assets()[0], tmp_path / "downloads"))
    assert f"{INDY}: expected md5 {'0' * 32}, got" in said
    assert list((tmp_path / "downloads").iterdir()) == []


def test_parts_of_a_file_can_be_read(record: Path) -> None:
    content = (record / INDY).read_bytes()
    ranges = [(n, n + 9_999) for n in range(0, 690_000, 10_000)]
    faults = Faults(every_nth_503=3, cut_every_nth_body=5)
    with LoopbackZenodo(record, faults) as zenodo:
        source = ZenodoSource("3854034", zenodo.api_url, patience=EAGER)
        began = time.monotonic()
        assert source.remote(source.assets()[0]).read(ranges) == [content[a:b] for a, b in ranges]
        assert time.monotonic() - began < 30


def test_an_overloaded_zenodo_says_how_long_to_wait(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    with LoopbackZenodo(record, Faults(every_nth_503=2, retry_after=7)) as zenodo:
        source = _source(zenodo)
        monkeypatch.setattr("neurobrick.sources.web.transport.time.sleep", waited.append)
        source.fetch(source.assets()[1], tmp_path / "downloads")
    assert waited == [7.0]


def test_what_is_not_there(record: Path, tmp_path: Path) -> None:
    with LoopbackZenodo(record) as zenodo:
        api = zenodo.api_url
        absent = message(lambda: ZenodoSource("1", api, patience=EAGER))
        assert f"record 1 is not on Zenodo at {api}" in absent
        concept = message(lambda: ZenodoSource("3854033", api, patience=EAGER))
        assert "whichever version is newest: name that, 3854034" in concept
        source = _source(zenodo)
        del zenodo.files[INDY]
        gone = message(lambda: source.fetch(source.assets()[0], tmp_path))
        assert f"{INDY} is no longer in record 3854034" in gone
        zenodo.record = lambda: {"hello": "world"}  # type: ignore[method-assign]
        assert "does not answer as a Zenodo API" in message(lambda: _source(zenodo))
    assert "not available" in message(lambda: _source(zenodo))
    assert "by its number" in message(lambda: ZenodoSource("10.5281/zenodo.3854034"))
    assert "not the address" in message(lambda: ZenodoSource("1", "zenodo.org"))
