"""One version of a dandiset as a source of files.

Exceptions of dandi's client, and of requests beneath it, become SourceError here or in
`transport`. No message holds a key or a signed address.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from pydantic import Field

from neurobrick.errors import SourceError, listed
from neurobrick.sources.asset import Asset, may_hold_recording
from neurobrick.sources.dandi_client import api_url, archive_client, check_server
from neurobrick.sources.source import Gained, SourceSpec, uncounted
from neurobrick.sources.web.download import download, place
from neurobrick.sources.web.ranges import RangeReader
from neurobrick.sources.web.transport import UNEXPECTED, Patience, Web, patient
from neurobrick.sources.zarr_asset import ZarrAsset

if TYPE_CHECKING:
    from neurobrick.schema import Provenance

NUMBER = r"[0-9]{6}"
API_VARIABLE = "NEUROBRICK_DANDI_API"
KEY_VARIABLE = "DANDI_API_KEY"


class DandiSpec(SourceSpec):
    """A published version of a dandiset."""

    dandiset: str = Field(pattern=f"^{NUMBER}$")
    version: str = Field(description="a published version, such as 0.220113.0400")

    expected = "a dandiset's six digits, such as 000128"
    api_variable = API_VARIABLE

    @property
    def dataset(self) -> str:
        return self.dandiset

    @property
    def pinned(self) -> str:
        return self.version

    def open(
        self,
        version: str | None = None,
        instance: str | None = None,
        patience: Patience | None = None,
    ) -> DandiSource:
        return DandiSource(self.dandiset, version or self.version, instance, patience=patience)

    @classmethod
    def open_named(
        cls, name: str, version: str | None = None, instance: str | None = None
    ) -> DandiSource | None:
        return DandiSource(name, version, instance) if re.fullmatch(NUMBER, name) else None

    def holds(self, dataset: str, provenance: Provenance) -> bool:
        return provenance.dandiset == self.dandiset


class DandiSource:
    """One version of a dandiset, in a DANDI archive.

    Arguments:
        dandiset: its number, such as "000128".
        version: None means the newest published one, or the draft where nothing is published. The
            attribute `version` holds the choice.
        instance: the address of the archive's API, with or without `/api`. By default the variable
            NEUROBRICK_DANDI_API, else the public archive.
        token: a key for embargoed dandisets, by default the variable DANDI_API_KEY. Standard input
            is never read.

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
        if not re.fullmatch(NUMBER, dandiset):
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
        # The archive redirects to a server of somebody else, which must not see the key.
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
                        f"{self.url}: it has {listed(known)}"
                    )
            self.version = version or str(remote.version_id)
            about = self._client.get_dandiset(dandiset, self.version).get_raw_metadata()
        self.spec = DandiSpec(dandiset=dandiset, version=self.version)
        self.title = str(about.get("name", ""))
        self.licence = ", ".join(x.removeprefix("spdx:") for x in about.get("license") or ())
        self.citation = str(about.get("citation", ""))

    def assets(self) -> list[Asset]:
        return list(self._listing[0])

    def others(self) -> list[Asset]:
        return list(self._listing[1])

    @cached_property
    def _listing(self) -> tuple[list[Asset], list[Asset]]:
        """The assets that may hold a recording, and all others, each sorted by path."""
        where = f"dandiset {self.dataset}/{self.version}"
        assets: list[Asset] = []
        others: list[Asset] = []
        with self._reported(f"{where} is no longer in the archive at {self.url}"):
            for record in self._client.paginate(
                f"/dandisets/{self.dataset}/versions/{self.version}/assets/",
                params={"metadata": "true", "order": "path"},  # metadata holds the digests
            ):
                asset = self._asset(record)
                may_hold = may_hold_recording(asset.path, asset.is_zarr)
                (assets if may_hold else others).append(asset)
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

    def fetch(self, asset: Asset, folder: Path, gained: Gained = uncounted) -> Path:
        if asset.is_zarr:
            return self.zarr_files(asset).fetch(folder, gained)
        absent = self._absent(asset)
        return download(self._web, asset, place(folder, asset.path), absent, gained)

    def remote(self, asset: Asset) -> RangeReader | ZarrAsset:
        return self.zarr_files(asset) if asset.is_zarr else self.ranges(asset)

    def ranges(self, asset: Asset) -> RangeReader:
        """A reader of parts of an asset that is a file. No request is sent yet."""
        absent = self._absent(asset)
        return RangeReader(asset.path, asset.location, asset.size, self._web, self._store, absent)

    def zarr_files(self, asset: Asset) -> ZarrAsset:
        """The files of an asset that is a Zarr. No request is sent yet."""
        return ZarrAsset(asset, self._web, self._absent(asset))

    def _absent(self, asset: Asset) -> str:
        return f"{asset.path} is no longer in dandiset {self.dataset}: list it again"

    @contextmanager
    def _reported(self, absent: str) -> Iterator[None]:
        """Raise failures of the block as SourceError; `absent` is the text for a 404."""
        from dandi.exceptions import NotFoundError

        try:
            yield
        except NotFoundError as error:
            raise SourceError(absent) from error
        except requests.exceptions.JSONDecodeError as error:
            raise SourceError(self._foreign()) from error
        except requests.RequestException as error:
            raise self._web.complaint(error, absent) from error
        except UNEXPECTED as error:  # an answer that is not as the API's
            raise SourceError(self._foreign()) from error

    def _foreign(self) -> str:
        return f"{self.url} does not answer as a DANDI API: check the address"
