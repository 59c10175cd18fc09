"""An asset: one file, or one Zarr folder, that a source has; and which assets a glob chooses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from neurobrick.storage.names import composed

FILES = (".nwb", ".mat")  # endings of files that may hold a recording
FOLDERS = (".zarr", ".nwb")  # endings of folders that are one asset, with all that is in them


@dataclass(frozen=True)
class Asset:
    """A file or a Zarr folder of a source."""

    path: str  # relative to its source, with `/` between its parts; always text that UTF-8 can hold
    size: int  # bytes; of a Zarr, all its files together
    location: str  # where the bytes are: an absolute path, or the address to download from
    is_zarr: bool = False
    is_named: bool = False  # the user named this very file; the registry's globs do not apply
    asset_id: str | None = None
    sha256: str | None = None
    md5: str | None = None  # what Zenodo gives
    etag: str | None = None  # "dandi-etag"; the only digest that a fresh draft has
    checksum: str | None = None  # "dandi-zarr-checksum" of a Zarr
    dandiset: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for an entry that no listing should have."""
        if not isinstance(self.path, str) or not isinstance(self.location, str):
            raise ValueError(f"an asset without a path: {self.path!r}")
        if not isinstance(self.size, int) or self.size < 0:
            raise ValueError(f"an asset of {self.size!r} bytes: {self.path!r}")

    @property
    def is_remote(self) -> bool:
        """Whether it lies on another machine."""
        return self.location.startswith(("http://", "https://"))

    @property
    def digest(self) -> str | None:
        """The best digest that is known of it, as `algorithm:value`."""
        digests = {
            "sha256": self.sha256,
            "dandi-zarr-checksum": self.checksum,
            "dandi-etag": self.etag,
            "md5": self.md5,
        }
        return next((f"{name}:{value}" for name, value in digests.items() if value), None)


def may_hold_recording(path: str, is_zarr: bool) -> bool:
    """Whether an asset is worth opening, by its name: NWB in HDF5 or in Zarr, or MATLAB's files.

    OME-Zarr holds images, often terabytes.
    """
    name = path.lower()
    if is_zarr:
        return name.endswith(FOLDERS) and not name.endswith(".ome.zarr")
    return name.endswith(FILES)


def matches(path: str, glob: str) -> bool:
    """Whether a path matches a glob of the archive.

    Such a glob covers the whole path, ignores case, and knows only `*`, which crosses `/`.
    Composed and decomposed Unicode are the same.
    """
    pattern = ".*".join(map(re.escape, composed(glob).split("*")))
    return re.fullmatch(pattern, composed(path), re.IGNORECASE | re.DOTALL) is not None


def refusal(path: str, include: Sequence[str], exclude: Sequence[str]) -> str | None:
    """The rule by which globs leave a path out, in words; None where they let it through.

    It must match one glob of `include`, unless there are none, and no glob of `exclude`.
    """
    for glob in exclude:
        if matches(path, glob):
            return f"exclude {glob}"
    if include and not any(matches(path, glob) for glob in include):
        return f"include {' '.join(include)}"
    return None


def select(assets: Sequence[Asset], include: Sequence[str], exclude: Sequence[str]) -> list[Asset]:
    """The assets that the globs let through; see `refusal`."""
    return [asset for asset in assets if refusal(asset.path, include, exclude) is None]
