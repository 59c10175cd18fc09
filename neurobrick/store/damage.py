"""Whether a store is what was written: every file, whether anything reads it or not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurobrick.errors import StoreError
from neurobrick.storage import Storage, open_storage
from neurobrick.storage.folder import Folder
from neurobrick.store.index import Index, check_version, format_version
from neurobrick.store.inventory import Inventory, Mismatch
from neurobrick.store.layout import MANIFEST
from neurobrick.store.zarr3 import METADATA

AT_ONCE = 64  # files in memory at a time


def damage(path: Path) -> list[str]:
    """The faults of the store at `path`, a folder; see `damage_of`."""
    return damage_of(open_storage(path.parent), path.name)


def damage_of(storage: Storage, path: str) -> list[str]:
    """The faults of a store, one line each; none if it is as it was written.

    Raises StoreError when there is no store at `path`, or it cannot be read.
    """
    return faults_of_files(storage, path) or _misread(storage, path)


def faults_of_files(storage: Storage, path: str) -> list[str]:
    """How the files below `path` differ from the inventory there, one line a file.

    A line says whether a file is missing, truncated, changed or foreign, and whether it has the
    content of another file. Foreign files are found where the storage can list its files.

    Raises StoreError when there is no inventory.
    """
    place = f"{storage.url}/{path}"
    try:
        manifest = storage.read(f"{path}/{MANIFEST}")
    except FileNotFoundError as error:
        raise StoreError(f"there is no whole store at {place}") from error
    try:
        check_version(place, format_version(manifest))
        inventory = Inventory.parse(manifest)
    except (StoreError, Mismatch) as error:
        return [str(error)]
    prefix = f"{path}/"
    expected = sorted(inventory.files)
    there = set(expected)
    if storage.lists:
        there = {name.removeprefix(prefix) for name in storage.files(prefix)}
    faults = []
    for at in range(0, len(expected), AT_ONCE):
        names = [name for name in expected[at : at + AT_ONCE] if name in there]
        for name, content in zip(names, _contents(storage, prefix, names), strict=True):
            faults += (
                [f"{name} is missing"] if content is None else _fault(inventory, name, content)
            )
    faults += [f"{name} is missing" for name in expected if name not in there]
    foreign = sorted(there - inventory.files.keys() - {MANIFEST})
    return faults + [f"{name} is not part of the store" for name in foreign]


def _contents(storage: Storage, prefix: str, names: Sequence[str]) -> list[bytes | None]:
    """The content of each file; None for an absent one."""
    found: list[bytes | None] = []
    for get in storage.fetch([prefix + name for name in names], [0] * len(names)):
        try:
            found.append(get())
        except FileNotFoundError:
            found.append(None)
    return found


def _fault(inventory: Inventory, name: str, content: bytes | None) -> list[str]:
    if content is None:
        return [f"{name} is missing"]
    try:
        inventory.check(name, content)
    except Mismatch as error:
        owner = inventory.owner(content)
        return [f"{error}: it holds {owner}" if owner else str(error)]
    return []


def _misread(storage: Storage, path: str) -> list[str]:
    """Why a store cannot be read here although every file matches the inventory."""
    try:
        manifest, metadata = (storage.read(f"{path}/{name}") for name in (MANIFEST, METADATA))
        Index(path, metadata, manifest).check(f"{storage.url}/{path}")
    except (StoreError, Mismatch, FileNotFoundError) as error:
        return [str(error)]
    return []


def read_attributes(path: Path) -> Mapping[str, Any] | None:
    """The raw metadata of a session, not validated; None when there is no whole store at `path`, or
    its metadata are damaged.

    Raises StoreError when the store is there and cannot be read.
    """
    folder = Folder(path)
    try:
        folder.read(MANIFEST)
        attributes = json.loads(folder.read(METADATA))["attributes"]["neurobrick"]
    except (FileNotFoundError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return attributes if isinstance(attributes, dict) else None
