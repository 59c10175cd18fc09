"""A Zarr asset of a DANDI archive: a listing of many files, each with its own digest.

The listing as a whole has a digest as well. It is compared with the archive's digest of the asset
before anything is fetched; then each file is compared with the listing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from zarr_checksum import compute_zarr_checksum
from zarr_checksum.generators import ZarrArchiveFile

from neurobrick.errors import CorruptFile, SourceError
from neurobrick.sources.asset import Asset
from neurobrick.sources.digests import zarr_checksum_of
from neurobrick.sources.source import Gained, uncounted
from neurobrick.sources.web.download import download, part_of, place, unwritable
from neurobrick.sources.web.transport import UNEXPECTED, Web, blocks, persevere, side_by_side


class Entry(NamedTuple):
    """A file of a Zarr asset."""

    size: int  # bytes
    md5: str


class ZarrAsset:
    """The files of one Zarr asset, by key, as `zarr_files.Files` gives them, and to fetch whole.

    The listing is requested once, when it is needed. Reading and fetching raise SourceError, with
    the text `absent` when the archive no longer has the asset. It can be pickled.
    """

    def __init__(self, asset: Asset, web: Web, absent: str) -> None:
        self._asset = asset
        self._web = web
        self._absent = absent

    def listing(self) -> dict[str, int]:
        """Every key, with the size of its file in bytes."""
        return {key: entry.size for key, entry in self._entries.items()}

    def read(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The whole of each file, fetched side by side and checked; absent ones are left out."""
        known = [key for key in dict.fromkeys(keys) if key in self._entries]
        return dict(zip(known, side_by_side(self._read, known), strict=True))

    def fetch(self, folder: Path, gained: Gained = uncounted) -> Path:
        """The whole asset under `folder`; one that breaks off goes on where it stopped."""
        final = place(folder, self._asset.path)
        if self._asset.checksum and _checksum_of(final) == self._asset.checksum:
            gained(self._asset.size)
            return final
        staging = part_of(final)
        places = {key: place(staging, key) for key in self._entries}
        try:
            _sweep(staging, {path for p in places.values() for path in (p, part_of(p))})
            staging.mkdir(parents=True, exist_ok=True)
            side_by_side(
                lambda key: download(self._web, self._file(key), places[key], self._absent, gained),
                places,
            )
            if final.is_dir():
                shutil.rmtree(final)  # damaged, or of another version
            staging.replace(final)
        except OSError as error:
            raise unwritable(final, error) from error
        return final

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        """The listing, compared with the archive's digest of the asset."""
        entries: dict[str, Entry] = {}
        page = self._asset.location
        try:
            while page:
                answer = self._web.json(page, self._absent)
                before = len(entries)
                for file in answer["results"]:
                    entry = Entry(int(file["Size"]), file["ETag"].strip('"'))
                    entries[str(file["Key"])] = entry
                if answer["next"] and len(entries) == before:
                    raise ValueError("a page without a new file is followed by another")
                page = answer["next"]
        except UNEXPECTED as error:
            raise SourceError(
                f"{self._web.server} does not list the files of {self._asset.path} as a DANDI API"
                " does: check the address"
            ) from error
        if self._asset.checksum:
            got = compute_zarr_checksum(
                ZarrArchiveFile(Path(key), *entry) for key, entry in entries.items()
            ).digest
            if got != self._asset.checksum:
                raise SourceError(
                    f"{self._asset.path}: expected dandi-zarr-checksum {self._asset.checksum}, got "
                    f"{got} of its {len(entries)} files: it is being changed in the archive: try "
                    "again later"
                )
        return entries

    def _file(self, key: str) -> Asset:
        """One of the files, as an asset of its own."""
        size, md5 = self._entries[key]
        query = urlencode({"prefix": key, "download": "true"})
        location = f"{self._asset.location}?{query}"
        return Asset(f"{self._asset.path}/{key}", size, location, md5=md5)

    def _read(self, key: str) -> bytes:
        file = self._file(key)
        for _ in range(2):
            data = self._whole(file)
            got = hashlib.md5(data, usedforsecurity=False).hexdigest()
            if got == file.md5:
                return data
        raise SourceError(
            f"{file.path}: expected md5 {file.md5}, got {got}, also from a second request: tell "
            "the archive if it stays so"
        )

    def _whole(self, file: Asset) -> bytes:
        data = bytearray()
        persevere(
            gain=lambda: self._extend(data, file),
            held=lambda: len(data),
            size=file.size,
            patience=self._web.patience,
            title=file.path,
            advice="try again later",
        )
        return bytes(data)

    def _extend(self, data: bytearray, file: Asset) -> None:
        """Request the bytes that `data` lacks, and add those that come."""
        headers = {"Range": f"bytes={len(data)}-"} if data else {}
        with self._web.get(file.location, self._absent, headers) as response:
            if response.status_code != 206:  # a server may ignore the range
                data.clear()
            for block in blocks(response):
                data += block
                if len(data) > file.size:
                    break  # this is another file: do not read all of it


def _checksum_of(folder: Path) -> str | None:
    """The checksum of the Zarr in `folder`; None where there is none, or no sound one."""
    with suppress(CorruptFile):
        return zarr_checksum_of(folder) if folder.is_dir() else None
    return None


def _sweep(staging: Path, kept: set[Path]) -> None:
    """Remove files that another version of the asset left in its staging folder."""
    for path in _below(staging):
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):  # it still holds files
                path.rmdir()
        elif path not in kept:
            path.unlink()


def _below(folder: Path) -> Iterator[Path]:
    """All files and folders below a folder, the deepest first."""
    for parent, folders, files in os.walk(folder, topdown=False):
        yield from (Path(parent, name) for name in (*files, *folders))
