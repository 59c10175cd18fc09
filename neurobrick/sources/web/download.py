"""One file from an archive to this machine: resumed, checked, and only then put in its place.

Bytes arrive in a file `NAME.part` beside the place of NAME. When all are there, the file is
compared with the archive's digest and renamed to NAME. A fetch that breaks off goes on where it
stopped, in this run or in a later one.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from neurobrick.errors import SourceError
from neurobrick.sources.asset import Asset
from neurobrick.sources.digests import md5_of, sha256_of
from neurobrick.sources.source import Gained, uncounted
from neurobrick.sources.web.transport import Web, blocks, persevere

_FULL = (errno.ENOSPC, errno.EDQUOT)


def place(folder: Path, path: str) -> Path:
    """Where below `folder` an asset is kept. Raises SourceError for a path that leads out of it."""
    parts = path.split("/")
    leads_out = any(p in ("", ".", "..") or re.match("[A-Za-z]:", p) for p in parts)
    if re.search(r"[\x00-\x1f\ud800-\udfff]", path):
        raise SourceError(f"the asset path {path!r} is not kept: no file can be called so")
    if leads_out or "\\" in path:
        raise SourceError(f"the asset path {path!r} is not kept: it may lead out of the folder")
    return folder.joinpath(*parts)


def part_of(final: Path) -> Path:
    """Where the bytes of `final` are kept until all of them are there."""
    return final.with_name(final.name + ".part")


def unwritable(path: Path, error: OSError) -> SourceError:
    """The error to raise when the disk refuses."""
    advice = ": free some space and fetch it again" if error.errno in _FULL else ""
    return SourceError(f"{path} cannot be written: {error.strerror or error}{advice}")


def download(web: Web, asset: Asset, final: Path, absent: str, gained: Gained = uncounted) -> Path:
    """Bring the file of an asset to `final`, and return `final`.

    `gained` is called as `Source.fetch` says. Raises SourceError, with the text `absent` when the
    archive no longer has the file.
    """
    part = part_of(final)
    try:
        if final.is_file() and mismatch(final, asset) is None:
            gained(asset.size)
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(2):  # an earlier run may have left a part of another version
            _complete(web, asset, part, absent, gained)
            problem = mismatch(part, asset)
            if problem is None:
                part.replace(final)
                return final
            gained(-part.stat().st_size)
            part.unlink()
    except OSError as error:
        raise unwritable(part, error) from error
    raise SourceError(
        f"{asset.path}: {problem}, also when started again; nothing was kept. Try later, and tell "
        "the archive if it stays so"
    )


def _complete(web: Web, asset: Asset, part: Path, absent: str, gained: Gained) -> None:
    """Bring `part` to the asset's size, or beyond, going on from where it stops."""
    part.touch()
    gained(part.stat().st_size)
    persevere(
        gain=lambda: _append(web, asset, part, absent, gained),
        held=lambda: part.stat().st_size,
        size=asset.size,
        patience=web.patience,
        title=asset.path,
        advice="fetch it again, and it goes on from there",
    )


def _append(web: Web, asset: Asset, part: Path, absent: str, gained: Gained) -> None:
    start = part.stat().st_size
    headers = {"Range": f"bytes={start}-"} if start else {}
    with web.get(asset.location, absent, headers) as response:
        whole = response.status_code != 206  # a server may ignore the range
        with part.open("wb" if whole else "ab") as file:
            if whole:
                gained(-start)
            for block in blocks(response):
                file.write(block)
                gained(len(block))
                if file.tell() > asset.size:
                    break  # this is another file: do not read all of it
            file.flush()
            os.fsync(file.fileno())


def mismatch(path: Path, asset: Asset) -> str | None:
    """How the file at `path` differs from the archive's size and digest; None if it does not."""
    size = path.stat().st_size
    if size != asset.size:
        return f"expected {asset.size} bytes, got {size}"
    if asset.sha256:
        name, expected, got = "sha256", asset.sha256, sha256_of(path)
    elif asset.md5:
        name, expected, got = "md5", asset.md5, md5_of(path)
    elif asset.etag:
        from dandischema.digests.dandietag import DandiETag

        name, expected, got = "dandi-etag", asset.etag, DandiETag.from_file(path).as_str()
    else:
        return None
    return None if got == expected else f"expected {name} {expected}, got {got}"
