"""A DANDI archive on this machine, good enough for the archive's own client.

    <folder>/<dandiset>/<version>/sub-X/sub-X_….nwb      version: "draft", or one like 0.220113.0400

A folder named like a version is a published version; a draft is always there and, where it has no
folder of its own, holds what the newest published version holds. A file `dandiset.json` beside the
versions may give the dandiset's `name`, `license` and `citation`. All is read once, at the start.

It answers what dandi 0.81 asks in order to list and download, on loopback only, and can be told to
misbehave as real archives do: see `Faults`.

    python -m demo.archive FOLDER [--port PORT]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import threading
import uuid
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

JSON = dict[str, Any]
PAGE_SIZE = 100
ETAG_PART = 64 << 20  # bytes of a part of a dandi-etag, which is an S3 multipart ETag
EPOCH = "2020-01-01T00:00:00+00:00"
SIGNATURE = "a-signature-that-nobody-should-print"  # of the blobs of embargoed dandisets


@dataclass(frozen=True)
class Faults:
    """How the archive misbehaves. Of an "every n-th", 1 is always and 0 never."""

    every_nth_503: int = 0
    cut_every_nth_body: int = 0  # each n-th answer with a blob's bytes breaks off half way
    wrong_digest: Collection[str] = ()  # asset paths whose digests are those of other bytes
    no_sha256: Collection[str] = ()  # asset paths that have only a dandi-etag, as on a fresh draft
    ignore_ranges: bool = False  # blobs are sent whole, whatever range is asked for
    require_token: str | None = None  # every dandiset is embargoed, and opens to this key only


class Request(NamedTuple):
    """A line of the log."""

    method: str
    path: str
    query: dict[str, str]
    range: str | None
    status: int


class Blob(NamedTuple):
    """A file, as an asset of one version: what listings say of it, and its metadata."""

    file: Path
    record: JSON
    metadata: JSON


class LoopbackArchive:
    """Serves `folder` while used as a context manager; `api_url` is what a client is to be given.

    `log` holds every request that was answered, in the order of the answers.
    """

    def __init__(self, folder: Path, faults: Faults | None = None, port: int = 0) -> None:
        self.faults = faults or Faults()
        self.log: list[Request] = []
        self.asked, self.bodies = count(1), count(1)
        self.server = _Server(("127.0.0.1", port), _Handler)
        self.server.archive = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.api_url = f"{self.url}/api"
        self.blobs: dict[str, Blob] = {}  # by asset id
        self.about: dict[str, JSON] = {}
        self.dandisets: dict[str, dict[str, list[Blob]]] = {}
        for dandiset in sorted(p for p in folder.iterdir() if re.fullmatch(r"\d{6}", p.name)):
            about = dandiset / "dandiset.json"
            given = json.loads(about.read_text()) if about.exists() else {}
            self.about[dandiset.name] = {"name": f"Dandiset {dandiset.name}", **given}
            versions = {
                version.name: [self._read(f, version) for f in version.rglob("*") if f.is_file()]
                for version in dandiset.iterdir()
                if version.is_dir() and re.fullmatch(r"draft|\d+\.\d+\.\d+", version.name)
            }
            versions.setdefault("draft", versions[max(versions)] if versions else [])
            self.dandisets[dandiset.name] = dict(sorted(versions.items()))  # the draft last

    def __enter__(self) -> LoopbackArchive:
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _read(self, file: Path, version: Path) -> Blob:
        path, size = file.relative_to(version).as_posix(), file.stat().st_size
        name = f"{version.parent.name}/{version.name}/{path}"
        asset_id = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
        modified = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat()
        record = {"asset_id": asset_id, "blob": asset_id, "path": path, "size": size}
        record |= {"created": EPOCH, "modified": modified}
        digest = _digests(file)
        if path in self.faults.wrong_digest:
            digest = {name: re.sub(r"\w", "0", value) for name, value in digest.items()}
        if path in self.faults.no_sha256:
            del digest["dandi:sha2-256"]
        download, blob = f"/api/assets/{asset_id}/download/", f"/blobs/{asset_id}"
        metadata = {"schemaKey": "Asset", "path": path, "contentSize": size, "digest": digest}
        metadata |= {"encodingFormat": "application/x-nwb", "blobDateModified": modified}
        metadata["contentUrl"] = [self.url + download, self.url + blob]
        return self.blobs.setdefault(asset_id, Blob(file, record, metadata))

    def answer(self, path: str, query: dict[str, str]) -> JSON:
        """What the API says at `path`. KeyError: there is no such thing."""
        match path.strip("/").split("/")[1:]:
            case ["info"]:
                info = {"version": "0.0.0", "services": {"api": {"url": self.api_url}}}
                return {**info, "cli-minimal-version": "0.60.0", "cli-bad-versions": []}
            case ["auth", "token"]:
                return {}
            case ["dandisets", dandiset]:
                *published, draft = self.versions(dandiset).values()
                latest = published[-1] if published else None
                which = {"most_recent_published_version": latest, "draft_version": draft}
                return {**draft["dandiset"], **which}
            case ["dandisets", dandiset, "versions"]:
                return self.page(path, query, list(self.versions(dandiset).values()))
            case ["dandisets", dandiset, "versions", version]:
                return self.metadata(dandiset, version)
            case ["dandisets", dandiset, "versions", version, "info"]:
                errors: JSON = {"asset_validation_errors": [], "version_validation_errors": []}
                metadata = {"metadata": self.metadata(dandiset, version)}
                return {**self.versions(dandiset)[version], **errors, **metadata}
            case ["dandisets", dandiset, "versions", version, "assets"]:
                return self.page(path, query, self.assets(dandiset, version, query))
            case [*_, "assets", asset_id]:
                return self.blobs[asset_id].metadata
            case [*_, "assets", asset_id, "info"]:
                return {**self.blobs[asset_id].record, "metadata": self.blobs[asset_id].metadata}
        raise KeyError(path)

    def metadata(self, dandiset: str, version: str) -> JSON:
        known = {"version": self.versions(dandiset)[version]["version"], **self.about[dandiset]}
        return {"schemaKey": "Dandiset", "id": f"DANDI:{dandiset}/{version}", **known}

    def versions(self, dandiset: str) -> dict[str, JSON]:
        """The published versions from old to new, then the draft."""
        embargo = "EMBARGOED" if self.faults.require_token else "OPEN"
        times = {"created": EPOCH, "modified": EPOCH}
        owner = {"identifier": dandiset, **times, "contact_person": "", "embargo_status": embargo}
        found = {}
        for version, blobs in self.dandisets[dandiset].items():
            size = sum(blob.record["size"] for blob in blobs)
            status = "Valid" if version == "draft" else "Published"
            about = {"version": version, "name": self.about[dandiset]["name"], "status": status}
            counts = {"asset_count": len(blobs), "size": size}
            found[version] = {**about, **counts, **times, "dandiset": owner}
        return found

    def assets(self, dandiset: str, version: str, query: dict[str, str]) -> list[JSON]:
        """What `path` (a prefix) and `glob` choose; both ignore case, and `*` crosses `/`."""
        glob = re.compile(re.escape(query.get("glob", "*")).replace(r"\*", ".*"), re.IGNORECASE)
        path, order = query.get("path", "").lower(), query.get("order", "created")
        records = []
        for _, record, metadata in self.dandisets[dandiset][version]:
            if record["path"].lower().startswith(path) and glob.fullmatch(record["path"]):
                asked = {"metadata": metadata} if query.get("metadata") == "true" else {}
                records.append(record | asked)
        return sorted(records, key=lambda r: str(r[order.lstrip("-")]), reverse=order[0] == "-")

    def page(self, path: str, query: dict[str, str], records: list[JSON]) -> JSON:
        """One page as the archive cuts them: only the first tells the `count`."""
        page, size = int(query.get("page", 1)), int(query.get("page_size", PAGE_SIZE))
        more = len(records) > page * size
        following = f"{self.url}{path}?{urlencode({**query, 'page': page + 1})}" if more else None
        results = records[(page - 1) * size : page * size]
        return {"count": len(records) if page == 1 else None, "next": following, "results": results}


class _Server(ThreadingHTTPServer):
    archive: LoopbackArchive
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"  # connections are kept
    disable_nagle_algorithm = True  # or each answer waits for the client's delayed acknowledgement

    def do_GET(self) -> None:
        self.archive = self.server.archive
        self.url = urlsplit(self.path)
        self.query = dict(parse_qsl(self.url.query))
        try:
            if refusal := self._refusal():
                return self._send_json({"detail": "Refused."}, refusal)
            match self.url.path.strip("/").split("/"):
                case ["blobs", asset_id]:
                    self._send_blob(self.archive.blobs[asset_id])
                case [*_, "assets", asset_id, "download"]:
                    url = self.archive.blobs[asset_id].metadata["contentUrl"][1]
                    closed = self.archive.faults.require_token is not None
                    self._send(302, {"Location": f"{url}?signature={SIGNATURE}" if closed else url})
                case _:
                    self._send_json(self.archive.answer(self.url.path, self.query))
        except KeyError:
            self._send_json({"detail": "Not found."}, 404)
        except ConnectionError:  # the client went away
            self.close_connection = True

    do_HEAD = do_GET  # noqa: N815

    def _refusal(self) -> int | None:
        faults, path = self.archive.faults, self.url.path
        if _nth(self.archive.asked, faults.every_nth_503):
            return 503
        if faults.require_token is None or path == "/api/info/":
            return None
        if path.startswith("/blobs/"):
            return None if self.query.get("signature") == SIGNATURE else 403
        return None if self.headers["Authorization"] == f"token {faults.require_token}" else 401

    def _send_blob(self, blob: Blob) -> None:
        start, stop, size, status = 0, blob.record["size"], blob.record["size"], 200
        headers = {"ETag": f'"{blob.metadata["digest"]["dandi:dandi-etag"]}"'}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if asked and not self.archive.faults.ignore_ranges:
            start, stop = int(asked[1]), min(int(asked[2] or size - 1) + 1, size)
            if start >= size:
                return self._send(416, {"Content-Range": f"bytes */{size}"})
            status, headers["Content-Range"] = 206, f"bytes {start}-{stop - 1}/{size}"
        self._send(status, headers | {"Content-Length": str(stop - start)})
        if self.command == "HEAD":
            return
        if _nth(self.archive.bodies, self.archive.faults.cut_every_nth_body):
            stop -= (stop - start + 1) // 2
            self.close_connection = True
        with blob.file.open("rb") as stream:
            stream.seek(start)
            while block := stream.read(min(stop - stream.tell(), 1 << 20)):
                self.wfile.write(block)

    def _send_json(self, answer: JSON, status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self._send(status, {"Content-Type": "application/json", "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send(self, status: int, headers: dict[str, str]) -> None:
        line = Request(self.command, self.url.path, self.query, self.headers["Range"], status)
        self.archive.log.append(line)
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error: the requests are in the archive's log."""


def _digests(file: Path) -> dict[str, str]:
    sha256, parts = hashlib.sha256(), []
    with file.open("rb") as stream:
        while part := stream.read(ETAG_PART):
            sha256.update(part)
            parts.append(hashlib.md5(part).digest())
    etag = f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"
    return {"dandi:dandi-etag": etag, "dandi:sha2-256": sha256.hexdigest()}


def _nth(counter: count[int], n: int) -> bool:
    return n > 0 and next(counter) % n == 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.archive")
    parser.add_argument("folder", type=Path, help="holds <dandiset>/<version>/…")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    options = parser.parse_args()
    archive = LoopbackArchive(options.folder, port=options.port)
    print(archive.api_url, flush=True)
    with archive.server, suppress(KeyboardInterrupt):
        archive.server.serve_forever()


if __name__ == "__main__":
    main()
