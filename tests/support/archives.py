"""Archives on this machine for tests: patience, keys, a Zenodo, and a host for each kind of source.

A new kind of source gets a line in `HOSTS`; `tests/sources/test_registered.py` then tests it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.archive import SIGNATURE, LoopbackArchive
from demo.loopback import JSON, Faults, Handler, Loopback
from neurobrick.errors import SourceError
from neurobrick.sources.dandi import DandiSpec
from neurobrick.sources.registered import REGISTERED
from neurobrick.sources.source import SourceSpec
from neurobrick.sources.web.transport import Patience
from neurobrick.sources.zenodo import ZenodoSpec

EAGER = Patience(stall=5.0, retries=3, first_wait=0.01)
KEY = "a-key-that-nobody-should-print"


def on_loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address, key or proxy of whoever runs the tests, and no questions."""
    for name in (*(kind.api_variable for kind in REGISTERED), "DANDI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on standard input"))


def message(make: Callable[[], object]) -> str:
    """What the SourceError says that `make` raises: one line, with nothing in it that is secret."""
    with pytest.raises(SourceError) as caught:
        make()
    said = str(caught.value)
    assert "\n" not in said
    assert KEY not in said
    assert SIGNATURE not in said
    return said


class LoopbackZenodo(Loopback):
    """One record of Zenodo, 3854034, with the files of a folder; 3854033 is its concept."""

    def __init__(self, folder: Path, faults: Faults | None = None) -> None:
        super().__init__(faults)
        self.url = self.listen(self._answer)
        self.api_url = f"{self.url}/api"
        self.files = {path.name: path for path in folder.iterdir()}
        self.sizes: dict[str, object] = {key: p.stat().st_size for key, p in self.files.items()}

    def _answer(self, request: Handler) -> None:
        match request.path.strip("/").split("/"):
            case ["api", "records", "3854034" | "3854033"]:
                request.send_json(self.record())
            case ["api", "records", "3854034", "files", key, "content"]:
                request.send_file(self.files[key], self._md5(key))
            case _:
                raise KeyError(request.path)

    def _md5(self, key: str) -> str:
        return hashlib.md5(self.files[key].read_bytes()).hexdigest()

    def record(self) -> JSON:
        """The fields of the API's answer that say what there is."""
        files = []
        for key in self.files:
            md5 = "0" * 32 if key in self.faults.wrong_digest else self._md5(key)
            url = f"{self.api_url}/records/3854034/files/{key}/content"
            file = {"id": f"id-of-{key}", "key": key, "size": self.sizes[key]}
            files.append(file | {"checksum": f"md5:{md5}", "links": {"self": url}})
        metadata = {
            "title": "Reaching",
            "doi": "10.5281/zenodo.3854034",
            "publication_date": "2020-05-26",
            "creators": [{"name": "Uthor, A."}, {"name": "Ther, O."}],
            "license": {"id": "cc-by-4.0"},
        }
        return {"id": 3854034, "conceptrecid": "3854033", "metadata": metadata, "files": files}


@dataclass(frozen=True)
class Host:
    """A server of this machine that serves some files as one source."""

    server: Loopback
    spec: SourceSpec  # of the source that it serves
    api_url: str  # for the environment variable of the kind
    forget: Callable[[str], object]  # take the file of this path away
    misstate: Callable[[str, object], object]  # list the file of this path with such a size
    empty: Sequence[object] = ()  # answers by which such an archive says that it has no files


def _dandi(folder: Path, files: Mapping[str, bytes], faults: Faults) -> Host:
    version = "0.220113.0400"
    _write(folder / "000128" / version, files)
    archive = LoopbackArchive(folder, faults)

    def forget(path: str) -> None:
        for asset_id, blob in list(archive.blobs.items()):
            if blob.record["path"] == path:
                del archive.blobs[asset_id]

    def misstate(path: str, size: object) -> None:
        true = archive.assets

        def misstated(dandiset: str, version: str, query: dict[str, str]) -> list[JSON]:
            records = true(dandiset, version, query)
            return [r | {"size": size} if r["path"] == path else r for r in records]

        archive.assets = misstated  # type: ignore[method-assign]

    spec = DandiSpec(dandiset="000128", version=version)
    return Host(archive, spec, archive.api_url, forget, misstate)


def _zenodo(folder: Path, files: Mapping[str, bytes], faults: Faults) -> Host:
    _write(folder, files)
    zenodo = LoopbackZenodo(folder, faults)
    spec = ZenodoSpec(zenodo="3854034")
    return Host(zenodo, spec, zenodo.api_url, zenodo.files.pop, zenodo.sizes.__setitem__)


HOSTS: dict[type[SourceSpec], Callable[[Path, Mapping[str, bytes], Faults], Host]] = {
    DandiSpec: _dandi,
    ZenodoSpec: _zenodo,
}


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
