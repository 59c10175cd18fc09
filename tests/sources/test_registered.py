"""Every kind of source, in the same way: what it lists, fetches and streams, and how it fails."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.loopback import Faults, Handler, Loopback
from neurobrick import DatasetSpec
from neurobrick.errors import RequestRefused
from neurobrick.prepare.one_file import provenance_of
from neurobrick.sources.registered import REGISTERED, expected_names, open_named
from neurobrick.sources.source import Source, SourceSpec
from neurobrick.sources.web.ranges import RangeReader
from tests.support.archives import EAGER, HOSTS, Host, message, on_loopback_only

RANDOM = np.random.default_rng(0)
LARGE, SMALL, OTHER = "sub-A_ses-1_ecephys.nwb", "sub-B_ses-2_ecephys.nwb", "notes.txt"
FILES = {OTHER: b"not a recording", SMALL: RANDOM.bytes(10), LARGE: RANDOM.bytes(700_001)}

pytestmark = pytest.mark.parametrize("kind", REGISTERED, ids=lambda kind: kind.key())
MakeHost = Callable[..., Host]


@pytest.fixture
def serve(
    kind: type[SourceSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeHost]:
    """Starts a host of the kind, which its environment variable then names."""
    on_loopback_only(monkeypatch)
    with ExitStack() as servers:

        def serve(faults: Faults | None = None) -> Host:
            host = HOSTS[kind](tmp_path / "served", FILES, faults or Faults())
            servers.enter_context(host.server)
            monkeypatch.setenv(kind.api_variable, host.api_url)
            return host

        yield serve


def opened(host: Host) -> Source:
    return host.spec.open(patience=EAGER)


def test_an_entry_of_the_registry_names_it(kind: type[SourceSpec], serve: MakeHost) -> None:
    spec = serve().spec
    entry = DatasetSpec.model_validate({"id": "x", "title": "X", "source": spec.model_dump()})
    assert entry.source == spec
    assert type(entry.source) is kind
    assert [other.key() for other in REGISTERED].count(kind.key()) == 1


def test_its_name_on_the_command_line_is_no_other_kinds(
    kind: type[SourceSpec], serve: MakeHost
) -> None:
    host = serve()
    source = open_named(host.spec.dataset)
    assert source is not None
    assert type(source.spec) is kind
    assert source.dataset == host.spec.dataset
    assert open_named(host.spec.dataset, host.spec) is not None
    for other in REGISTERED:
        assert (other.open_named("../no name", None) is None) or other is not kind
    assert kind.expected in expected_names()


def test_it_says_what_it_is_and_what_it_has(serve: MakeHost) -> None:
    host = serve()
    source = opened(host)
    assets, others = source.assets(), source.others()
    assert source.spec == host.spec
    assert source.title
    assert [asset.path for asset in assets] == [LARGE, SMALL]
    assert [asset.size for asset in assets] == [700_001, 10]
    assert [asset.path for asset in others] == [OTHER]
    for asset in assets:
        assert asset.is_remote
        assert asset.digest
        assert not asset.is_named


def test_sessions_that_come_from_it_are_known_again(serve: MakeHost) -> None:
    host = serve()
    source = opened(host)
    (large, _) = source.assets()
    provenance = provenance_of(large, DatasetSpec.discovered(source.dataset))
    assert host.spec.holds(source.dataset, provenance)
    assert provenance.version == host.spec.pinned
    local = provenance.model_copy(update={"dandiset": None, "asset_id": None, "version": None})
    assert not host.spec.holds("local", local)


def test_a_faulty_server_gives_every_byte_in_the_end(serve: MakeHost, tmp_path: Path) -> None:
    gained: list[int] = []
    host = serve(Faults(every_nth_503=3, cut_every_nth_body=2))
    server = host.server
    source = opened(host)
    for asset in source.assets():
        file = source.fetch(asset, tmp_path / "downloads", gained.append)
        assert file.read_bytes() == FILES[asset.path]
    before = len(server.log)
    source.fetch(asset, tmp_path / "downloads")  # is here already
    assert len(server.log) == before
    assert sum(gained) == 700_011
    assert {503, 200} <= {request.status for request in server.log}


def test_wrong_bytes_are_never_kept(serve: MakeHost, tmp_path: Path) -> None:
    host = serve(Faults(wrong_digest={SMALL}))
    source = opened(host)
    said = message(lambda: source.fetch(source.assets()[1], tmp_path / "downloads"))
    assert SMALL in said
    assert "expected" in said
    assert list((tmp_path / "downloads").iterdir()) == []


@pytest.mark.slow
def test_parts_of_a_file_can_be_read_in_another_process(serve: MakeHost) -> None:
    ranges = [(n, n + 9_999) for n in range(0, 690_000, 10_000)] + [(700_000, 700_001), (5, 5)]
    host = serve(Faults(every_nth_503=3, cut_every_nth_body=5))
    server = host.server
    source = opened(host)
    (large, _) = source.assets()
    before = len(server.log)
    reader = pickle.loads(pickle.dumps(source.remote(large)))
    assert len(server.log) == before
    assert isinstance(reader, RangeReader)
    assert reader.size == 700_001
    assert reader.read(ranges) == [FILES[LARGE][start:stop] for start, stop in ranges]


def test_no_file_is_written_outside_the_folder(serve: MakeHost, tmp_path: Path) -> None:
    host = serve()
    server = host.server
    source = opened(host)
    asset = source.assets()[0]
    before = len(server.log)
    for path in ("../evil.nwb", "/evil.nwb", "a/../../evil.nwb", "a\\..\\evil.nwb", "C:/e"):
        evil = replace(asset, path=path)
        assert "lead out" in message(lambda evil=evil: source.fetch(evil, tmp_path / "down"))
    assert len(server.log) == before
    assert not list(tmp_path.rglob("evil*"))


def test_a_file_that_was_taken_away_is_named(serve: MakeHost, tmp_path: Path) -> None:
    host = serve()
    source = opened(host)
    (large, _) = source.assets()
    host.forget(LARGE)
    remote = source.remote(large)
    assert isinstance(remote, RangeReader)
    for use in (lambda: source.fetch(large, tmp_path), lambda: remote.read([(0, 9)])):
        said = message(use)
        assert LARGE in said
        assert "list it again" in said


def test_a_lasting_overload_is_given_up(serve: MakeHost) -> None:
    host = serve(Faults(every_nth_503=1))
    server = host.server
    said = message(lambda: opened(host))
    assert "not available" in said
    assert "answers 503" in said
    assert [request.status for request in server.log] == [503] * (1 + EAGER.retries)


def test_no_server(kind: type[SourceSpec], serve: MakeHost, monkeypatch: Any) -> None:
    host = serve()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/api"
    monkeypatch.setenv(kind.api_variable, address)
    said = message(lambda: opened(host))
    assert f"{address} is not available" in said
    assert "refused" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer", [{"hello": "world"}, {}, [], None, 3, "text", [[[]]], {"id": {}, "files": {}}]
)
def test_a_server_of_something_else(
    kind: type[SourceSpec], serve: MakeHost, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    host = serve()
    if answer in host.empty:
        pytest.skip("here it means that there are no files")

    def foreign(request: Handler) -> None:
        request.send_json(answer)

    server = Loopback()
    monkeypatch.setenv(kind.api_variable, server.listen(foreign))
    with server:
        said = message(lambda: opened(host))
    assert "check the address" in said or "stands for" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"9" * 5_000, b"NaN", b"<html>", b"\x00" * 9],
    ids=["empty", "half", "bytes", "deep", "large", "nan", "html", "zeros"],
)
def test_a_server_that_sends_no_json(
    kind: type[SourceSpec], serve: MakeHost, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    spec = serve().spec

    def foreign(request: Handler) -> None:
        request.send(200, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        request.wfile.write(body)

    server = Loopback()
    monkeypatch.setenv(kind.api_variable, server.listen(foreign))
    with server:
        assert "check the address" in message(lambda: spec.open(patience=EAGER))


@pytest.mark.parametrize("size", [None, -1, "many", [], {}, "9" * 5_000], ids=lambda x: repr(x)[:9])
def test_a_size_that_is_none_is_an_error_of_the_archive(serve: MakeHost, size: Any) -> None:
    host = serve()
    host.misstate(LARGE, size)
    said = message(lambda: opened(host).assets())
    assert "does not answer as a" in said


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses(
    kind: type[SourceSpec], serve: MakeHost, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    spec = serve().spec
    server = Loopback()
    monkeypatch.setenv(
        kind.api_variable, server.listen(lambda request: request.send_json({}, status))
    )
    with server, pytest.raises(RequestRefused, match=str(status)):
        spec.open(patience=EAGER)


def test_every_kind_has_a_host_here(kind: type[SourceSpec]) -> None:
    assert kind in HOSTS
