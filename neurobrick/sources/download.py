"""One file from an archive onto this machine: resumed, checked, and only then in its place.

Its bytes arrive in a `.part` beside their place, are compared with the archive's digest, and are
renamed into it. A fetch that breaks off goes on where it stopped, in this run or in a later one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path

from neurobrick.errors import SourceError
from neurobrick.sources import Asset, Progress, sha256_of, unwatched
from neurobrick.sources.transport import Web, blocks, persevere

_FULL = (errno.ENOSPC, errno.EDQUOT)


def place(folder: Path, path: str) -> Path:
    """Where an asset is kept. Raises SourceError for a path that leads out of `folder`."""
    parts = path.split("/")
    odd = any(p in ("", ".", "..") or re.match("[A-Za-z]:", p) for p in parts)
    if odd or "\\" in path or "\0" in path:
        raise SourceError(f"the asset path {path!r} is not kept: it may lead out of the folder")
    return folder.joinpath(*parts)


def part_of(final: Path) -> Path:
    """Where what belongs at `final` is kept until it is whole."""
    return final.with_name(final.name + ".part")


def unwritable(path: Path, error: OSError) -> SourceError:
    """What to raise when the disk refuses."""
    advice = ": free some space and fetch it again" if error.errno in _FULL else ""
    return SourceError(f"{path} cannot be written: {error.strerror or error}{advice}")


def download(
    web: Web, asset: Asset, final: Path, absent: str, progress: Progress = unwatched
) -> Path:
    """Bring the file of an asset to `final`, and return that.

    `progress` is told as `sources.Source.fetch` says. Raises SourceError, which is `absent` when
    the archive no longer has the file.
    """
    part = part_of(final)
    try:
        if final.is_file() and mismatch(final, asset) is None:
            progress(asset.size)
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):  # a part that an earlier run left may be of other bytes
            _complete(web, asset, part, absent, progress)
            problem = mismatch(part, asset)
            if problem is None:
                part.replace(final)
                return final
            progress(-part.stat().st_size)
            part.unlink()
    except OSError as error:
        raise unwritable(part, error) from error
    raise SourceError(
        f"{asset.path}: {problem}, also when started again; nothing was kept. Try later, and tell "
        "the archive if it stays so"
    )


def _complete(web: Web, asset: Asset, part: Path, absent: str, progress: Progress) -> None:
    """Bring `part` to the asset's size, or beyond, going on from where it stops."""
    part.touch()
    progress(part.stat().st_size)
    persevere(
        gain=lambda: _append(web, asset, part, absent, progress),
        held=lambda: part.stat().st_size,
        size=asset.size,
        patience=web.patience,
        title=asset.path,
        advice="fetch it again, and it goes on from there",
    )


def _append(web: Web, asset: Asset, part: Path, absent: str, progress: Progress) -> None:
    start = part.stat().st_size
    headers = {"Range": f"bytes={start}-"} if start else {}
    with web.get(asset.location, absent, headers) as response:
        whole = response.status_code != 206  # a server may ignore the range
        with part.open("wb" if whole else "ab") as file:
            if whole:
                progress(-start)
            for block in blocks(response):
                file.write(block)
                progress(len(block))
                if file.tell() > asset.size:
                    break  # it is another file, of whatever length
            file.flush()
            os.fsync(file.fileno())


def mismatch(path: Path, asset: Asset) -> str | None:
    """How the file at `path` differs from what the archive says of the asset."""
    size = path.stat().st_size
    if size != asset.size:
        return f"expected {asset.size} bytes, got {size}"
    if asset.sha256:
        name, expected, got = "sha256", asset.sha256, sha256_of(path)
    elif asset.md5:
        name, expected, got = "md5", asset.md5, _md5_of(path)
    elif asset.etag:
        from dandischema.digests.dandietag import DandiETag

        name, expected, got = "dandi-etag", asset.etag, DandiETag.from_file(path).as_str()
    else:
        return None
    return None if got == expected else f"expected {name} {expected}, got {got}"


def _md5_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
