"""One record of Zenodo as a source of files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from pydantic import Field

from neurobrick.errors import SourceError
from neurobrick.sources.asset import Asset, may_hold_recording
from neurobrick.sources.source import Gained, SourceSpec, uncounted
from neurobrick.sources.web.download import download, place
from neurobrick.sources.web.ranges import RangeReader
from neurobrick.sources.web.transport import UNEXPECTED, Patience, Web, patient

if TYPE_CHECKING:
    from neurobrick.schema import Provenance

NUMBER = "[0-9]+"
PREFIX = "zenodo-"  # of the dataset, before the record's number
API_VARIABLE = "NEUROBRICK_ZENODO_API"
API = "https://zenodo.org/api"


class ZenodoSpec(SourceSpec):
    """A record of Zenodo. Its files never change: a new version is another record."""

    zenodo: str = Field(pattern=f"^{NUMBER}$", description="the record's number")

    expected = "zenodo- and a record's number, such as zenodo-3854034"
    api_variable = API_VARIABLE

    @property
    def dataset(self) -> str:
        return f"{PREFIX}{self.zenodo}"

    @property
    def pinned(self) -> None:
        return None

    def open(
        self,
        version: str | None = None,
        instance: str | None = None,
        patience: Patience | None = None,
    ) -> ZenodoSource:
        return ZenodoSource(self.zenodo, patience=patience)

    @classmethod
    def open_named(
        cls, name: str, version: str | None = None, instance: str | None = None
    ) -> ZenodoSource | None:
        number = re.fullmatch(f"{PREFIX}({NUMBER})", name)
        return ZenodoSource(number[1]) if number else None

    def holds(self, dataset: str, provenance: Provenance) -> bool:
        return dataset == self.dataset and provenance.asset_id is not None


class ZenodoSource:
    """The files of one record of Zenodo.

    Arguments:
        record: its number, such as "3854034".
        api: the address of the API. By default the variable NEUROBRICK_ZENODO_API, else Zenodo's.

    Raises SourceError: no such record, no access, no answer.
    """

    def __init__(
        self, record: str, api: str | None = None, *, patience: Patience | None = None
    ) -> None:
        if not re.fullmatch(NUMBER, record):
            raise SourceError(
                f"a record of Zenodo is named by its number, as 3854034 is; got {record!r}"
            )
        self.spec = ZenodoSpec(zenodo=record)
        self.dataset = self.spec.dataset
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
        answer = self._web.json(f"{self.url}/records/{record}", absent)
        try:
            if str(answer["id"]) != record:
                raise SourceError(
                    f"record {record} of Zenodo stands for whichever version is newest: name that, "
                    f"{answer['id']}, so that what is prepared stays the same"
                )
            self._describe(answer)
            files = [_asset(file) for file in answer["files"]]
        except UNEXPECTED as error:
            raise SourceError(
                f"{self.url} does not answer as a Zenodo API: check the address"
            ) from error
        self._files = sorted(files, key=lambda asset: asset.path)

    def _describe(self, answer: dict[str, Any]) -> None:
        about = answer["metadata"]
        self.doi = str(answer.get("doi") or about.get("doi") or "")
        self.title = str(about["title"])
        self.licence = str((about.get("license") or {}).get("id", ""))
        authors = "; ".join(creator["name"] for creator in about.get("creators") or ())
        year = str(about.get("publication_date", ""))[:4]
        self.citation = f"{authors} ({year}). {self.title}. Zenodo. https://doi.org/{self.doi}"

    def assets(self) -> list[Asset]:
        return [file for file in self._files if may_hold_recording(file.path, is_zarr=False)]

    def others(self) -> list[Asset]:
        return [file for file in self._files if not may_hold_recording(file.path, is_zarr=False)]

    def fetch(self, asset: Asset, folder: Path, gained: Gained = uncounted) -> Path:
        return download(self._web, asset, place(folder, asset.path), self._absent(asset), gained)

    def remote(self, asset: Asset) -> RangeReader:
        return self.ranges(asset)

    def ranges(self, asset: Asset) -> RangeReader:
        """A reader of parts of a file. No request is sent yet."""
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
