"""One record of Zenodo as a source of files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import requests

from neurobrick.errors import SourceError
from neurobrick.sources import Asset, Progress, may_hold_recording, unwatched
from neurobrick.sources.download import download, place
from neurobrick.sources.ranges import RangeReader
from neurobrick.sources.transport import Patience, Web, patient

API_VARIABLE = "NEUROBRICK_ZENODO_API"
API = "https://zenodo.org/api"


class ZenodoSource:
    """The files of one record of Zenodo, which never change: a new version is a new record.

    `record` is its number ("3854034"). `api` is the address of the API; without it, the variable
    NEUROBRICK_ZENODO_API, else Zenodo's own. `.url`, `.title`, `.licence`, `.citation`, `.doi` tell
    what it is.

    Raises SourceError: no such record, no access, no answer.
    """

    def __init__(
        self, record: str, api: str | None = None, *, patience: Patience | None = None
    ) -> None:
        if not re.fullmatch("[0-9]+", record):
            raise SourceError(
                f"a record of Zenodo is named by its number, as 3854034 is; got {record!r}"
            )
        self.dataset = f"zenodo-{record}"
        self.url = (api or os.environ.get(API_VARIABLE) or API).rstrip("/")
        if not re.match(r"https?://[^/]", self.url):
            raise SourceError(f"{self.url!r} is not the address of a Zenodo API: {API}")
        patience = patience or Patience()
        self._record = record
        self._web = Web(
            patient(requests.Session(), patience),
            patience,
            server=f"Zenodo at {self.url}",
            shut=f"keeps record {record} closed",
            remedy="download its files by hand, and prepare those",
        )
        absent = f"record {record} is not on Zenodo at {self.url}: check the number"
        found = self._web.json(f"{self.url}/records/{record}", absent)
        try:
            if str(found["id"]) != record:
                raise SourceError(
                    f"record {record} of Zenodo stands for whichever version is newest: name that, "
                    f"{found['id']}, so that what is prepared stays the same"
                )
            self._describe(found)
            files = [_asset(file) for file in found["files"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SourceError(
                f"{self.url} does not answer as a Zenodo API: check the address"
            ) from error
        self._files = sorted(files, key=lambda asset: asset.path)

    def _describe(self, found: dict[str, Any]) -> None:
        about = found["metadata"]
        self.doi = str(found.get("doi") or about.get("doi") or "")
        self.title = str(about["title"])
        self.licence = str((about.get("license") or {}).get("id", ""))
        authors = "; ".join(creator["name"] for creator in about.get("creators") or ())
        year = str(about.get("publication_date", ""))[:4]
        self.citation = f"{authors} ({year}). {self.title}. Zenodo. https://doi.org/{self.doi}"

    def assets(self) -> list[Asset]:
        return [file for file in self._files if may_hold_recording(file.path, is_zarr=False)]

    def others(self) -> list[Asset]:
        return [file for file in self._files if not may_hold_recording(file.path, is_zarr=False)]

    def fetch(self, asset: Asset, folder: Path, progress: Progress = unwatched) -> Path:
        return download(self._web, asset, place(folder, asset.path), self._absent(asset), progress)

    def remote(self, asset: Asset) -> RangeReader:
        return self.ranges(asset)

    def ranges(self, asset: Asset) -> RangeReader:
        """Parts of a file. Nothing is asked of Zenodo yet."""
        absent = self._absent(asset)
        return RangeReader(asset.path, asset.location, asset.size, self._web, self._web, absent)

    def _absent(self, asset: Asset) -> str:
        return f"{asset.path} is no longer in record {self._record} of Zenodo: list it again"


def _asset(file: dict[str, Any]) -> Asset:
    algorithm, _, digest = str(file["checksum"]).partition(":")
    return Asset(
        path=file["key"],
        size=int(file["size"]),
        location=file["links"]["self"],
        asset_id=file.get("id"),
        md5=digest if algorithm == "md5" else None,
    )
