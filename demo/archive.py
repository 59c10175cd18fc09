"""A DANDI archive on this machine, good enough for the archive's own client.

    <folder>/<dandiset>/<version>/sub-X/sub-X_….nwb      version: "draft", or one like 0.220113.0400

A folder named like a version is a published version. There is always a draft: without a folder of
its own, it has the files of the newest published version. A folder called `*.zarr` is one Zarr
asset. A file `dandiset.json` beside the versions may give the `name`, `license` and `citation` of
the dandiset. All files are read once, at the start.

It answers the requests by which dandi 0.81 lists and downloads, on loopback only. As in the real
archive, another server sends the bytes: requests are redirected to a second port, with a signature
if the dandiset is embargoed. `Faults` make it misbehave.

    python -m demo.archive FOLDER [--port PORT]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import threading
import uuid
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

from zarr_checksum import compute_zarr_checksum
from zarr_checksum.generators import ZarrArchiveFile

from demo.loopback import JSON, Faults, Handler, Loopback

PAGE_SIZE = 100
ZARR_PAGE_SIZE = 1000
ETAG_PART = 64 << 20  # bytes of a part of a dandi-etag, which is an S3 multipart ETag
EPOCH = "2020-01-01T00:00:00+00:00"
SIGNATURE = "a-signature-that-nobody-should-print"  # of the files of embargoed dandisets


class Kept(NamedTuple):
    """A file of a Zarr asset."""

    file: Path
    size: int  # bytes
    md5: str


class Blob(NamedTuple):
    """An asset of one version."""

    file: Path  # a file, or the folder of a Zarr
    record: JSON  # its entry in listings
    metadata: JSON


class LoopbackArchive(Loopback):
    """Serves `folder` while used as a context manager.

    Clients use the address `api_url`, and are redirected to `store_url` for the bytes of assets.
    """

    def __init__(self, folder: Path, faults: Faults | None = None, port: int = 0) -> None:
        super().__init__(faults)
        self.url = self.listen(self._answer, port)
        self.api_url = f"{self.url}/api"
        self.store_url = self.listen(self._hand_out)
        self.blobs: dict[str, Blob] = {}  # by asset id
        self.zarrs: dict[str, dict[str, Kept]] = {}  # by Zarr id, then by key
        self.about: dict[str, JSON] = {}
        self.dandisets: dict[str, dict[str, list[Blob]]] = {}
        self._signatures = count(1)
        self._uses: Counter[str] = Counter()
        for dandiset in sorted(p for p in folder.iterdir() if re.fullmatch(r"\d{6}", p.name)):
            about = dandiset / "dandiset.json"
            given = json.loads(about.read_text()) if about.exists() else {}
            self.about[dandiset.name] = {"name": f"Dandiset {dandiset.name}", **given}
            versions = {
                version.name: [self._read(file, version) for file in _assets(version)]
                for version in dandiset.iterdir()
                if version.is_dir() and re.fullmatch(r"draft|\d+\.\d+\.\d+", version.name)
            }
            versions.setdefault("draft", versions[max(versions)] if versions else [])
            self.dandisets[dandiset.name] = dict(sorted(versions.items()))  # the draft last

    def _read(self, file: Path, version: Path) -> Blob:
        path, is_zarr = file.relative_to(version).as_posix(), file.is_dir()
        name = f"{version.parent.name}/{version.name}/{path}"
        asset_id = str(uuid.uuid5(uuid.NAMESPACE_OID, name))
        modified = datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat()
        if is_zarr:
            kept = self.zarrs[asset_id] = self._read_zarr(file, path)
            size, digest = sum(k.size for k in kept.values()), _tree_digest(kept)
            url = f"{self.store_url}/zarr/{asset_id}/"
        else:
            size, digest = file.stat().st_size, _digests(file)
            url = f"{self.store_url}/blobs/{asset_id}"
        record = {"asset_id": asset_id, "path": path, "size": size}
        record |= {"blob": None, "zarr": asset_id} if is_zarr else {"blob": asset_id, "zarr": None}
        record |= {"created": EPOCH, "modified": modified}
        if path in self.faults.wrong_digest:
            digest = {name: _wrong(value) for name, value in digest.items()}
        if path in self.faults.no_sha256:
            digest = {name: x for name, x in digest.items() if name == "dandi:dandi-etag"}
        metadata = {"schemaKey": "Asset", "path": path, "contentSize": size, "digest": digest}
        encoding = "x-zarr" if is_zarr else "x-nwb"
        metadata |= {"encodingFormat": f"application/{encoding}", "blobDateModified": modified}
        metadata["contentUrl"] = [f"{self.api_url}/assets/{asset_id}/download/", url]
        return self.blobs.setdefault(asset_id, Blob(file, record, metadata))

    def _read_zarr(self, folder: Path, path: str) -> dict[str, Kept]:
        """The files of a Zarr asset by key, in the order in which they are listed."""
        files = {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if f.is_file()}
        kept = {}
        for key, file in sorted(files.items(), key=lambda item: item[0].encode()):
            md5 = hashlib.md5(file.read_bytes()).hexdigest()
            md5 = _wrong(md5) if f"{path}/{key}" in self.faults.wrong_digest else md5
            kept[key] = Kept(file, file.stat().st_size, md5)
        return kept

    def _answer(self, request: Handler) -> None:
        """Answer a request to the API's port."""
        path, query, token = request.path, request.query, self.faults.require_token
        if token and path != "/api/info/" and request.headers["Authorization"] != f"token {token}":
            return request.send_json({"detail": "Refused."}, 401)
        match path.strip("/").split("/"):
            case [*_, "assets", asset_id, "download"]:
                self._redirect(request, self.blobs[asset_id].metadata["contentUrl"][1])
            case [*_, "zarr", zarr_id, "files"] if query.get("download") == "true":
                key = query["prefix"]
                self._redirect(request, f"{self.store_url}/zarr/{zarr_id}/{quote(key)}")
            case _:
                request.send_json(self.answer(path, query))

    def _redirect(self, request: Handler, url: str) -> None:
        if self.faults.require_token:
            url += f"?signature={SIGNATURE}-{next(self._signatures)}"
        request.send(302, {"Location": url})

    def _hand_out(self, request: Handler) -> None:
        """Answer a request to the store's port. Like S3 it refuses requests with a key."""
        signature = request.query.get("signature", "")
        self._uses[signature] += 1
        spent = 0 < self.faults.signature_lasts < self._uses[signature]
        if "Authorization" in request.headers:
            return request.send(400, {})
        if self.faults.require_token and (spent or not signature.startswith(SIGNATURE)):
            return request.send(403, {})
        match request.path.lstrip("/").split("/", 2):
            case ["blobs", asset_id]:
                blob = self.blobs[asset_id]
                request.send_file(blob.file, blob.metadata["digest"]["dandi:dandi-etag"])
            case ["zarr", zarr_id, key]:
                kept = self.zarrs[zarr_id][key]
                request.send_file(kept.file, kept.md5)
            case _:
                raise KeyError(request.path)

    def answer(self, path: str, query: dict[str, str]) -> JSON:
        """The API's answer at `path`. Raises KeyError when there is none."""
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
            case ["zarr", zarr_id, "files"]:
                return self.zarr_page(path, query, self.zarrs[zarr_id])
        raise KeyError(path)

    def metadata(self, dandiset: str, version: str) -> JSON:
        known = {"version": self.versions(dandiset)[version]["version"], **self.about[dandiset]}
        return {"schemaKey": "Dandiset", "id": f"DANDI:{dandiset}/{version}", **known}

    def versions(self, dandiset: str) -> dict[str, JSON]:
        """The published versions from old to new, then the draft."""
        embargo = "EMBARGOED" if self.faults.require_token else "OPEN"
        times = {"created": EPOCH, "modified": EPOCH}
        owner = {"identifier": dandiset, **times, "contact_person": "", "embargo_status": embargo}
        versions = {}
        for version, blobs in self.dandisets[dandiset].items():
            size = sum(blob.record["size"] for blob in blobs)
            status = "Valid" if version == "draft" else "Published"
            about = {"version": version, "name": self.about[dandiset]["name"], "status": status}
            counts = {"asset_count": len(blobs), "size": size}
            versions[version] = {**about, **counts, **times, "dandiset": owner}
        return versions

    def assets(self, dandiset: str, version: str, query: dict[str, str]) -> list[JSON]:
        """The assets that the query's `path` (a prefix) and `glob` choose. Both ignore case, and
        `*` crosses `/`."""
        glob = re.compile(re.escape(query.get("glob", "*")).replace(r"\*", ".*"), re.IGNORECASE)
        path, order = query.get("path", "").lower(), query.get("order", "created")
        records = []
        for _, record, metadata in self.dandisets[dandiset][version]:
            if record["path"].lower().startswith(path) and glob.fullmatch(record["path"]):
                asked = {"metadata": metadata} if query.get("metadata") == "true" else {}
                records.append(record | asked)
        return sorted(records, key=lambda r: str(r[order.lstrip("-")]), reverse=order[0] == "-")

    def page(self, path: str, query: dict[str, str], records: list[JSON]) -> JSON:
        """One page of records. As in the archive, only the first page has the `count`."""
        page, size = int(query.get("page", 1)), int(query.get("page_size", PAGE_SIZE))
        more = len(records) > page * size
        following = f"{self.url}{path}?{urlencode({**query, 'page': page + 1})}" if more else None
        results = records[(page - 1) * size : page * size]
        return {"count": len(records) if page == 1 else None, "next": following, "results": results}

    def zarr_page(self, path: str, query: dict[str, str], kept: dict[str, Kept]) -> JSON:
        """One page of a Zarr asset's files. The next page begins after the last key of this one."""
        prefix, after = query.get("prefix", ""), query.get("after", "").encode()
        keys = [k for k in kept if k.startswith(prefix) and k.encode() > after]
        page = keys[: int(query.get("limit", ZARR_PAGE_SIZE))]
        following = f"{self.url}{path}?{urlencode({**query, 'after': page[-1]})}" if page else None
        results = [
            {"Key": k, "LastModified": EPOCH, "ETag": kept[k].md5, "Size": kept[k].size}
            for k in page
        ]
        return {"next": following if len(keys) > len(page) else None, "results": results}


def _assets(version: Path) -> list[Path]:
    """The files and the Zarr folders of a version."""
    assets: list[Path] = []
    for parent, folders, files in os.walk(version):
        zarrs = [name for name in folders if name.endswith(".zarr")]
        folders[:] = [name for name in folders if name not in zarrs]
        assets += [Path(parent, name) for name in (*files, *zarrs)]
    return assets


def _digests(file: Path) -> dict[str, str]:
    sha256, parts = hashlib.sha256(), []
    with file.open("rb") as stream:
        while part := stream.read(ETAG_PART):
            sha256.update(part)
            parts.append(hashlib.md5(part).digest())
    etag = f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"
    return {"dandi:dandi-etag": etag, "dandi:sha2-256": sha256.hexdigest()}


def _tree_digest(kept: dict[str, Kept]) -> dict[str, str]:
    files = (ZarrArchiveFile(Path(key), size, md5) for key, (_, size, md5) in kept.items())
    return {"dandi:dandi-zarr-checksum": compute_zarr_checksum(files).digest}


def _wrong(digest: str) -> str:
    return re.sub(r"\w", "0", digest)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.archive")
    parser.add_argument("folder", type=Path, help="holds <dandiset>/<version>/…")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    options = parser.parse_args()
    with LoopbackArchive(options.folder, port=options.port) as archive, suppress(KeyboardInterrupt):
        print(archive.api_url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
