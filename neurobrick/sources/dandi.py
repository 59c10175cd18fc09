"""One version of a dandiset as a source of files.

What dandi's client and requests beneath it raise becomes SourceError here or in `transport`. No
message holds a key or a signed address.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import requests

from neurobrick.errors import SourceError
from neurobrick.sources import Asset, Progress, may_hold_recording, unwatched
from neurobrick.sources.dandi_client import api_url, archive_client, check_server
from neurobrick.sources.download import download, place
from neurobrick.sources.ranges import RangeReader
from neurobrick.sources.transport import Patience, Web, patient
from neurobrick.sources.zarr_asset import ZarrAsset

API_VARIABLE = "NEUROBRICK_DANDI_API"
KEY_VARIABLE = "DANDI_API_KEY"


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
        patience = patience or Patience()
        self._client = archive_client(self.url, patience)
        key = (token or os.environ.get(KEY_VARIABLE, "")).strip()
        shut = "refuses this key" if key else f"keeps dandiset {dandiset} closed"
        remedy = f"set {KEY_VARIABLE} to a key that has access"
        server = f"the archive at {self.url}"
        self._web = Web(self._client.session, patience, server, shut, remedy)
        # Where the archive redirects to is another's server, which must not see the key.
        self._store = Web(patient(requests.Session(), patience), patience, server, shut, remedy)
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
        """The assets and the others; metadata=true brings the digests in the same pages."""
        where = f"dandiset {self.dataset}/{self.version}"
        assets: list[Asset] = []
        others: list[Asset] = []
        with self._reported(f"{where} is no longer in the archive at {self.url}"):
            for record in self._client.paginate(
                f"/dandisets/{self.dataset}/versions/{self.version}/assets/",
                params={"metadata": "true", "order": "path"},
            ):
                asset = self._asset(record)
                wanted = may_hold_recording(asset.path, asset.is_zarr)
                (assets if wanted else others).append(asset)
        return sorted(assets, key=lambda a: a.path), sorted(others, key=lambda a: a.path)

    def _asset(self, record: dict[str, Any]) -> Asset:
        digest = (record.get("metadata") or {}).get("digest") or {}
        asset_id, zarr_id = record["asset_id"], record.get("zarr")
        where = f"/zarr/{zarr_id}/files/" if zarr_id else f"/assets/{asset_id}/download/"
        return Asset(
            path=record["path"],
            size=record["size"],
            location=self._client.get_url(where),
            is_zarr=bool(zarr_id),
            asset_id=asset_id,
            sha256=digest.get("dandi:sha2-256"),
            etag=digest.get("dandi:dandi-etag"),
            checksum=digest.get("dandi:dandi-zarr-checksum"),
            dandiset=self.dataset,
            version=self.version,
        )

    def fetch(self, asset: Asset, folder: Path, progress: Progress = unwatched) -> Path:
        if asset.is_zarr:
            return self.zarr_files(asset).fetch(folder, progress)
        absent = self._absent(asset)
        return download(self._web, asset, place(folder, asset.path), absent, progress)

    def remote(self, asset: Asset) -> RangeReader | ZarrAsset:
        return self.zarr_files(asset) if asset.is_zarr else self.ranges(asset)

    def ranges(self, asset: Asset) -> RangeReader:
        """Parts of an asset that is a file. Nothing is asked of the archive yet."""
        absent = self._absent(asset)
        return RangeReader(asset.path, asset.location, asset.size, self._web, self._store, absent)

    def zarr_files(self, asset: Asset) -> ZarrAsset:
        """The files of an asset that is a Zarr. Nothing is asked of the archive yet."""
        return ZarrAsset(asset, self._web, self._absent(asset))

    def _absent(self, asset: Asset) -> str:
        return f"{asset.path} is no longer in dandiset {self.dataset}: list it again"

    @contextmanager
    def _reported(self, absent: str) -> Iterator[None]:
        """Raise what goes wrong inside as SourceError; `absent` is what a 404 means."""
        from dandi.exceptions import NotFoundError

        try:
            yield
        except NotFoundError as error:
            raise SourceError(absent) from error
        except requests.exceptions.JSONDecodeError as error:
            raise SourceError(self._foreign()) from error
        except requests.RequestException as error:
            raise self._web.complaint(error, absent) from error
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(self._foreign()) from error

    def _foreign(self) -> str:
        return f"{self.url} does not answer as a DANDI API: check the address"
