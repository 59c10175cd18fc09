"""Whether a store is what was written: every file, whether anything reads it or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurobrick.errors import StoreError
from neurobrick.storage import Storage, open_storage
from neurobrick.store.index import Index
from neurobrick.store.inventory import Inventory, Mismatch
from neurobrick.store.layout import MANIFEST
from neurobrick.store.zarr3 import METADATA

AT_ONCE = 64  # files that are held in memory together


def damage(path: Path) -> list[str]:
    """What is wrong with the files of the store at `path`; see `damage_of`."""
    return damage_of(open_storage(path.parent), path.name)


def damage_of(storage: Storage, path: str) -> list[str]:
    """What is wrong with a store's files, one line a fault; empty if it is as it was written.

    Missing, truncated, changed and foreign files are told from each other; where a file holds what
    belongs to another one of the store, that is named. Raises StoreError when there is no store.
    """
    try:
        manifest = storage.read(f"{path}/{MANIFEST}")
    except FileNotFoundError as error:
        raise StoreError(f"there is no whole store at {storage.url}/{path}") from error
    try:
        inventory = Inventory.parse(manifest)
    except Mismatch as error:
        return [str(error)]
    prefix = f"{path}/"
    there = {name.removeprefix(prefix): size for name, size in storage.files(prefix).items()}
    faults = []
    expected = sorted(inventory.files)
    present = [name for name in expected if name in there]
    for at in range(0, len(present), AT_ONCE):
        names = present[at : at + AT_ONCE]
        contents = storage.read_many([prefix + name for name in names])
        for name, content in zip(names, contents, strict=True):
            faults += _fault(inventory, name, content)
    faults += [f"{name} is missing" for name in expected if name not in there]
    known = {*inventory.files, MANIFEST}
    faults += [f"{name} is not part of the store" for name in sorted(there.keys() - known)]
    return faults or _misread(storage, path, manifest)


def _fault(inventory: Inventory, name: str, content: bytes) -> list[str]:
    try:
        inventory.check(name, content)
    except Mismatch as error:
        owner = inventory.owner(content)
        return [f"{error}: it holds {owner}" if owner else str(error)]
    return []


def _misread(storage: Storage, path: str, manifest: bytes) -> list[str]:
    """Why a store whose every file is as written is not one that can be read here."""
    try:
        Index(path, storage.read(f"{path}/{METADATA}"), manifest).check(f"{storage.url}/{path}")
    except (StoreError, Mismatch) as error:
        return [str(error)]
    return []


def read_attributes(path: Path) -> Mapping[str, Any] | None:
    """A store's raw metadata without validation, or None when there is no whole store there."""
    try:
        if not (path / MANIFEST).is_file():
            return None
        attributes = json.loads((path / METADATA).read_text())["attributes"]["neurobrick"]
    except (OSError, ValueError, KeyError):
        return None
    return attributes if isinstance(attributes, dict) else None
