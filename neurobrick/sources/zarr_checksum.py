"""The checksum of a Zarr folder as the DANDI archive computes it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from neurobrick.errors import CorruptFile
from neurobrick.storage.zarr_files import BLOCK, LocalFiles


def checksum(folder: Path) -> str:
    """The dandi-zarr-checksum of a store in `folder`: `<md5>-<files>--<bytes>`.

    The archive gives a Zarr asset the same: https://github.com/dandi/zarr_checksum. Raises what
    `LocalFiles.listing` does.
    """
    from zarr_checksum import compute_zarr_checksum
    from zarr_checksum.checksum import ZarrDirectoryDigest
    from zarr_checksum.generators import ZarrArchiveFile

    files = LocalFiles(folder)
    digest: ZarrDirectoryDigest = compute_zarr_checksum(
        ZarrArchiveFile(path=Path(key), size=size, digest=_md5(folder / key))
        for key, size in files.listing().items()
    )
    return digest.digest


def _md5(path: Path) -> str:
    try:
        made = hashlib.md5(usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                made.update(block)
    except OSError as error:
        raise CorruptFile(f"{path.name} cannot be read ({error.strerror})") from error
    return made.hexdigest()
