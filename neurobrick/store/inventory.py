"""The inventory of a store: every file with its size and checksum, kept in its `manifest.json`.

Zarr reads a chunk that is missing as zeros, and takes another array's chunk for its own. What is
read here is held against the inventory, so that neither passes. The inventory covers itself, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from neurobrick.schema import FORMAT_VERSION
from neurobrick.storage.checksum import checksum


class Mismatch(ValueError):
    """Content that is not what an inventory says: damaged, or of another version of the store."""


@dataclass(frozen=True)
class Inventory:
    """`files` maps each name to its size in bytes and its `checksum`."""

    files: Mapping[str, tuple[int, int]]

    def dump(self) -> bytes:
        """What `manifest.json` holds."""
        files = {name: list(entry) for name, entry in sorted(self.files.items())}
        content = {"format_version": FORMAT_VERSION, "checksum": _checksum(files), "files": files}
        return json.dumps(content, indent=0, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, content: bytes) -> Inventory:
        """Of what `manifest.json` holds. Raises Mismatch when it is damaged."""
        try:
            found = json.loads(content)
            files = {name: (int(size), int(crc)) for name, (size, crc) in found["files"].items()}
            listed = {name: list(entry) for name, entry in files.items()}
            # Read back and compared whole: a flipped bit in a name, a number or a key is seen.
            whole = found["checksum"] == _checksum(listed)
            if not whole or found.keys() != {"format_version", "checksum", "files"}:
                raise Mismatch("does not match its checksum")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Mismatch(f"manifest.json is damaged ({error})") from error
        return cls(files)

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
        if checksum(content) != crc:
            raise Mismatch(f"{name} does not match its checksum")

    def owner(self, content: bytes) -> str | None:
        """The file that `content` is of, if it is one of the store's."""
        wanted = (len(content), checksum(content))
        return next((name for name, entry in self.files.items() if entry == wanted), None)

    def entry(self, name: str) -> tuple[int, int]:
        """Size and checksum of the file `name`. Raises Mismatch when the store has no such file."""
        if name not in self.files:
            raise Mismatch(f"{name} is not listed in manifest.json")
        return self.files[name]


def write_manifest(path: Path, manifest: bytes) -> None:
    """Write the file `path`, forced to disk."""
    with path.open("wb") as stream:
        stream.write(manifest)
        stream.flush()
        os.fsync(stream.fileno())


def _checksum(files: Mapping[str, list[int]]) -> int:
    covered = json.dumps([FORMAT_VERSION, sorted(files.items())], separators=(",", ":"))
    return int(google_crc32c.value(covered.encode()))
