"""The inventory of a store: every file with its size and checksum, kept in its `manifest.json`.

Zarr reads a missing chunk as zeros, and takes the chunk of another array for its own. Whatever is
read here is compared with the inventory, so that neither passes. The inventory covers itself, too:
its last entry is the crc32c of all bytes before that entry.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c

from neurobrick.schema import FORMAT_VERSION
from neurobrick.storage.checksum import checksum, checksum_of_format_2

CHECKSUM_KEY = b'"checksum":'


class Mismatch(ValueError):
    """Content that is not what an inventory says: damaged, or of another version of the store."""


@dataclass(frozen=True)
class Inventory:
    """Every file of a store, but for the inventory itself."""

    files: Mapping[str, tuple[int, int]]  # by name: bytes, and `checksum`
    version: int = FORMAT_VERSION  # 2: the checksums are those of `checksum_of_format_2`

    def dump(self) -> bytes:
        """The content of `manifest.json`, in the newest format."""
        files = {name: list(entry) for name, entry in sorted(self.files.items())}
        content = {"format_version": FORMAT_VERSION, "files": files}
        head = json.dumps(content, indent=0, separators=(",", ":")).removesuffix("\n}") + ",\n"
        return head.encode() + CHECKSUM_KEY + _tail(head.encode())

    @classmethod
    def parse(cls, content: bytes) -> Inventory:
        """The inventory in the `content` of `manifest.json`. Raises Mismatch when it is damaged."""
        try:
            manifest = json.loads(content)
            version = manifest["format_version"]
            if manifest.keys() != {"format_version", "checksum", "files"}:
                raise Mismatch("it has other entries")
            files = {n: (int(size), int(crc)) for n, (size, crc) in manifest["files"].items()}
            if not (_is_intact_2(manifest, files) if version == 2 else _is_intact(content)):
                raise Mismatch("it does not match its checksum")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Mismatch(f"manifest.json is damaged ({error})") from error
        return cls(files, version)

    @property
    def size(self) -> int:
        """Bytes of all files together, without the inventory itself."""
        return sum(size for size, _ in self.files.values())

    def below(self, prefix: str) -> int:
        """Bytes of the files whose names begin with `prefix`."""
        return sum(size for name, (size, _) in self.files.items() if name.startswith(prefix))

    def check(self, name: str, content: bytes) -> None:
        """Raise Mismatch unless `content` is that of the file `name`."""
        size, crc = self.entry(name)
        if len(content) != size:
            raise Mismatch(f"{name} has {len(content)} bytes, not {size}")
        if self._checksum(content) != crc:
            raise Mismatch(f"{name} does not match its checksum")

    def owner(self, content: bytes) -> str | None:
        """The name of the file that has this content, if the store has one."""
        entry = (len(content), self._checksum(content))
        return next((name for name, listed in self.files.items() if listed == entry), None)

    def entry(self, name: str) -> tuple[int, int]:
        """Size and checksum of the file `name`. Raises Mismatch when the store has no such file."""
        if name not in self.files:
            raise Mismatch(f"{name} is not listed in manifest.json")
        return self.files[name]

    def _checksum(self, content: bytes) -> int:
        return checksum_of_format_2(content) if self.version == 2 else checksum(content)


def write_manifest(path: Path, manifest: bytes) -> None:
    """Write the file `path`, forced to disk."""
    with path.open("wb") as stream:
        stream.write(manifest)
        stream.flush()
        os.fsync(stream.fileno())


def _is_intact(content: bytes) -> bool:
    head, _, tail = content.rpartition(CHECKSUM_KEY)
    return tail == _tail(head)


def _tail(head: bytes) -> bytes:
    """The end of a manifest that begins with `head`."""
    return b"%d\n}" % google_crc32c.value(head)


def _is_intact_2(manifest: Mapping[str, Any], files: Mapping[str, tuple[int, int]]) -> bool:
    """Of format version 2, whose checksum is of the list in another notation."""
    listed = [[name, list(entry)] for name, entry in sorted(files.items())]
    covered = json.dumps([2, listed], separators=(",", ":"))
    return bool(manifest["checksum"] == google_crc32c.value(covered.encode()))
