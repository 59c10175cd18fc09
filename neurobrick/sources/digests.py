"""Digests of what lies on this machine, as archives compute them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from neurobrick.errors import CorruptFile
from neurobrick.sources.asset import Asset
from neurobrick.storage.zarr_files import LocalFiles


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """The MD5 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def zarr_checksum_of(folder: Path) -> str:
    """The dandi-zarr-checksum of a Zarr in `folder`: `<md5>-<files>--<bytes>`.

    The archive gives a Zarr asset the same: https://github.com/dandi/zarr_checksum. Raises what
    `LocalFiles.listing` raises, and CorruptFile for a file that cannot be read.
    """
    from zarr_checksum import compute_zarr_checksum
    from zarr_checksum.checksum import ZarrDirectoryDigest
    from zarr_checksum.generators import ZarrArchiveFile

    files = LocalFiles(folder).listing()
    try:
        digest: ZarrDirectoryDigest = compute_zarr_checksum(
            ZarrArchiveFile(path=Path(key), size=size, digest=md5_of(folder / key))
            for key, size in files.items()
        )
    except OSError as error:
        name = Path(error.filename or folder).name
        raise CorruptFile(f"{name} cannot be read ({error.strerror})") from error
    return digest.digest


def with_digest(asset: Asset, file: Path) -> Asset:
    """The asset with the digest of its bytes at `file`: sha256, or dandi-zarr-checksum of a Zarr.

    Raises OSError for a file that cannot be read, and what `zarr_checksum_of` raises.
    """
    if asset.is_zarr:
        return replace(asset, checksum=zarr_checksum_of(file))
    return replace(asset, sha256=sha256_of(file))
