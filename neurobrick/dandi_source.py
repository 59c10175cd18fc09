"""One version of a dandiset as a source of files.

The bytes of an asset arrive in a `.part` beside their place, are compared with the archive's
digest, and only then are renamed into it. A fetch that breaks off goes on where it stopped, in this
run or in a later one.

The client's exceptions, and those of requests beneath it, become SourceError here and nowhere else.
No message holds a key or a signed address.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import requests
from requests.exceptions import RetryError

from neurobrick.dandi_client import (
    BROKEN_OFF,
    Patience,
    api_url,
    archive_client,
    cause,
    check_server,
)
from neurobrick.errors import SourceError
from neurobrick.sources import Asset, Progress, sha256_of, unwatched

API_VARIABLE = "NEUROBRICK_DANDI_API"
KEY_VARIABLE = "DANDI_API_KEY"

_BLOCK = 1 << 16  # bytes read at a time, and the most that a connection that breaks off costs


class DandiSource:
    """One version of a dandiset, in a DANDI archive.

    `dandiset` is its number ("000128"). `version` None means the newest published one, or the draft
    where none is; `.version` says which it became. `instance` is the address of the archive's
    API, with or without `/api`; without it, the variable NEUROBRICK_DANDI_API, else the public
    archive. `token` is a key for embargoed dandisets, else DANDI_API_KEY; nothing is ever asked
    for on standard input. `.url`, `.title`, `.licence`, `.citation` tell what it is.

    Raises SourceError: no such dandiset or version, no access, no answer.
    """

    def __init__(
        self,
        dandiset: str,
        version: str | None = None,
        instance: str | None = None,
        token: str | None = None,
        *,
        patience: Patience | None = None,
    ) -> None:
        if not re.fullmatch("[0-9]{6}", dandiset):
            raise SourceError(f"a dandiset is named by six digits, as 000128 is; got {dandiset!r}")
        self.dataset = dandiset
        self.url = api_url(instance or os.environ.get(API_VARIABLE))
        self._patience = patience or Patience()
        self._client = archive_client(self.url, self._patience)
        key = (token or os.environ.get(KEY_VARIABLE, "")).strip()
        self._has_key = bool(key)
        with self._reported(f"no DANDI API is at {self.url}: check the address"):
            check_server(self._client)
        if key:
            with self._reported(f"{self.url} takes no keys"):
                self._client.authenticate(key)
        absent = f"dandiset {dandiset} is not in the archive at {self.url}: check the number"
        with self._reported(absent):
            remote = self._client.get_dandiset(dandiset, lazy=False)
            if version is not None:
                known = sorted(v.identifier for v in remote.get_versions())
                if version not in known:
                    raise SourceError(
                        f"dandiset {dandiset} has no version {version} in the archive at "
                        f"{self.url}: it has {', '.join(known)}"
                    )
            self.version = version or str(remote.version_id)
            about = self._client.get_dandiset(dandiset, self.version).get_raw_metadata()
        self.title = str(about.get("name", ""))
        self.licence = ", ".join(x.removeprefix("spdx:") for x in about.get("license") or ())
        self.citation = str(about.get("citation", ""))

    def assets(self) -> list[Asset]:
        return list(self._listing[0])

    def others(self) -> list[Asset]:
        return list(self._listing[1])

    @cached_property
    def _listing(self) -> tuple[list[Asset], list[Asset]]:
        """The NWB assets and the others; metadata=true brings the digests in the same pages."""
        where = f"dandiset {self.dataset}/{self.version}"
        nwb: list[Asset] = []
        others: list[Asset] = []
        with self._reported(f"{where} is no longer in the archive at {self.url}"):
            for record in self._client.paginate(
                f"/dandisets/{self.dataset}/versions/{self.version}/assets/",
                params={"metadata": "true", "order": "path"},
            ):
                is_nwb = record["path"].lower().endswith(".nwb") and record.get("blob")
                (nwb if is_nwb else others).append(self._asset(record))
        return sorted(nwb, key=lambda a: a.path), sorted(others, key=lambda a: a.path)

    def _asset(self, record: dict[str, Any]) -> Asset:
        digest = (record.get("metadata") or {}).get("digest") or {}
        return Asset(
            path=record["path"],
            size=record["size"],
            location=self._client.get_url(f"/assets/{record['asset_id']}/download/"),
            asset_id=record["asset_id"],
            sha256=digest.get("dandi:sha2-256"),
            etag=digest.get("dandi:dandi-etag"),
            dandiset=self.dataset,
            version=self.version,
        )

    def fetch(self, asset: Asset, folder: Path, progress: Progress = unwatched) -> Path:
        final = _place(folder, asset.path)
        part = final.with_name(final.name + ".part")
        try:
            if final.is_file() and _mismatch(final, asset) is None:
                progress(asset.size)
                return final
            final.parent.mkdir(parents=True, exist_ok=True)
            for _ in range(2):  # a part that an earlier run left may be of other bytes
                self._download(asset, part, progress)
                problem = _mismatch(part, asset)
                if problem is None:
                    part.replace(final)
                    return final
                progress(-part.stat().st_size)
                part.unlink()
        except OSError as error:
            raise SourceError(f"{part} cannot be written: {error.strerror or error}") from error
        raise SourceError(
            f"{asset.path} of dandiset {self.dataset}/{self.version}: {problem}, also when started "
            "again; nothing was kept. Try later, and tell the archive if it stays so"
        )

    def _download(self, asset: Asset, part: Path, progress: Progress) -> None:
        """Bring `part` to the asset's size, or beyond, going on from where it stops."""
        absent = f"{asset.path} is no longer in dandiset {self.dataset}: list it again"
        part.touch()
        size = furthest = part.stat().st_size
        progress(size)
        waits = self._patience.waits()
        while size < asset.size:
            reason = "it ended early"
            with self._reported(absent):
                try:
                    self._append(asset.location, part, progress)
                except BROKEN_OFF as error:
                    reason = cause(error)
            size = part.stat().st_size
            if size > furthest:
                furthest, waits = size, self._patience.waits()  # it moves: patience starts anew
            if size < asset.size:
                wait = next(waits, None)
                if wait is None:
                    raise SourceError(
                        f"{asset.path} broke off after {size} of {asset.size} bytes ({reason}): "
                        "fetch it again, and it goes on from there"
                    )
                time.sleep(wait)

    def _append(self, url: str, part: Path, progress: Progress) -> None:
        start = part.stat().st_size
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with self._client.get(url, json_resp=False, stream=True, headers=headers) as response:
            whole = response.status_code != 206  # a server may ignore the range
            with part.open("wb" if whole else "ab") as file:
                if whole:
                    progress(-start)
                for block in response.iter_content(_BLOCK):
                    file.write(block)
                    progress(len(block))
                file.flush()
                os.fsync(file.fileno())

    @contextmanager
    def _reported(self, absent: str) -> Iterator[None]:
        """Raise what goes wrong inside as SourceError; `absent` is what a 404 means."""
        from dandi.exceptions import NotFoundError

        try:
            yield
        except (NotFoundError, requests.RequestException, ValueError) as error:
            response = getattr(error, "response", None)
            status = getattr(response, "status_code", 0)
            if isinstance(error, NotFoundError) or status == 404:
                raise SourceError(absent) from error
            raise SourceError(self._why(error, status)) from error

    def _why(self, error: Exception, status: int) -> str:
        archive = f"the archive at {self.url}"
        if status in (401, 403):
            shut = "refuses this key" if self._has_key else f"keeps dandiset {self.dataset} closed"
            return f"{archive} {shut} ({status}): set {KEY_VARIABLE} to a key that has access"
        if status:
            return f"{archive} answered {status}: try again later"
        if isinstance(error, ValueError):
            return f"{self.url} does not answer as a DANDI API: check the address"
        why = error if isinstance(error, RetryError) else cause(error)
        return f"{archive} is not available ({why}): check address and network, or try later"


def _place(folder: Path, path: str) -> Path:
    """Where an asset is kept. Raises SourceError for a path that leads out of `folder`."""
    parts = path.split("/")
    odd = any(p in ("", ".", "..") or re.match("[A-Za-z]:", p) for p in parts)
    if odd or "\\" in path or "\0" in path:
        raise SourceError(f"the asset path {path!r} is not kept: it may lead out of the folder")
    return folder.joinpath(*parts)


def _mismatch(path: Path, asset: Asset) -> str | None:
    """How the file at `path` differs from what the archive says of the asset."""
    size = path.stat().st_size
    if size != asset.size:
        return f"expected {asset.size} bytes, got {size}"
    if asset.sha256:
        name, expected, got = "sha256", asset.sha256, sha256_of(path)
    elif asset.etag:
        from dandischema.digests.dandietag import DandiETag

        name, expected, got = "dandi-etag", asset.etag, DandiETag.from_file(path).as_str()
    else:
        return None
    return None if got == expected else f"expected {name} {expected}, got {got}"
