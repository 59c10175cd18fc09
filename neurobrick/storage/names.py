"""The names of files in a storage: relative, with slashes."""

from __future__ import annotations

from neurobrick.errors import StoreError


def check_name(name: str, url: str) -> None:
    """Raise StoreError unless `name` is relative and cannot lead out of `url`."""
    parts = name.split("/")
    if not {"", ".", ".."}.isdisjoint(parts) or "\\" in name or "\0" in name:
        raise StoreError(f"{name!r} is no name of a file in {url}: it must be relative, as a/b/c")
