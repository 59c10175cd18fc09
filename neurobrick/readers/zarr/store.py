"""What is in a Zarr store of NWB: its nodes, their metadata and links, in format 2 or 3.

hdmf-zarr wrote format 2 up to version 0.13, and writes format 3 since 0.14. Files on this machine
and elsewhere share one path: every byte comes through `Files`, so that nothing outside the store
can be reached.
"""

from __future__ import annotations

import json
import posixpath
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from neurobrick.errors import CorruptFile, UnsupportedFile
from neurobrick.readers.tree import boundary
from neurobrick.storage.zarr_files import Files

MAX_METADATA = 64 * 2**20  # bytes of all metadata; an NWB file has under 1 MB

V2_FILES = (".zgroup", ".zarray", ".zattrs")
V3_FILE = "zarr.json"


class Store:
    """The nodes of a store, and the bytes that were fetched ahead."""

    def __init__(self, files: Files, name: str) -> None:
        """Read the metadata of every node. `name` is the store's in messages.

        Raises UnsupportedFile when it is no such store, CorruptFile when its metadata contradict
        themselves.
        """
        self.name = name
        self.held: dict[str, bytes] = {}  # chunks that were fetched ahead, by key
        self._files = files
        self.sizes = dict(files.listing())  # bytes of each file, by key
        self._keys = sorted(self.sizes)
        self.arrays: dict[str, dict[str, Any]] = {}  # metadata of each array, by path
        self.children: dict[str, set[str]] = {}  # names of the nodes in each group, by path
        self._attributes: dict[str, dict[str, Any]] = {}  # of each node, by path
        if V3_FILE in self.sizes:
            self.format = 3
            self._read_v3()
        elif ".zgroup" in self.sizes:
            self.format = 2
            self._read_v2()
        else:
            raise UnsupportedFile(
                f"{name} is not an NWB-Zarr store: no .zgroup and no zarr.json in it"
            )

    def below(self, path: str) -> list[str]:
        """The keys of the files below `path`, metadata of its own excluded."""
        after = chr(ord("/") + 1)
        start, stop = (bisect_left(self._keys, f"{path}{sign}") for sign in ("/", after))
        own = {join(path, name) for name in (*V2_FILES, V3_FILE)}
        return [key for key in self._keys[start:stop] if key not in own]

    def attributes(self, path: str) -> dict[str, Any]:
        """The attributes of the node at `path`."""
        return self._attributes.get(path, {})

    def links(self, path: str) -> dict[str, str | None]:
        """Where each link of the group at `path` leads, from the root; None is another store.

        hdmf-zarr writes the source of a link relative to the store: "." is the store itself.
        """
        entries = self.attributes(path).get("_LINKS" if self.format == 3 else "zarr_link", [])
        targets: dict[str, str | None] = {}
        for entry in entries if isinstance(entries, list) else [entries]:
            name, target, source = (
                (entry.get(key) for key in ("name", "path", "source"))
                if isinstance(entry, dict)
                else (None, None, None)
            )
            if not (isinstance(name, str) and isinstance(target, str)):
                raise CorruptFile(
                    f"{path or self.name} has a link that leads nowhere: {entry!r:.80}"
                )
            inside = isinstance(source, str) and posixpath.normpath(source) == "."
            targets[name] = target if inside else None
        return targets

    def fetch(self, keys: list[str]) -> dict[str, bytes]:
        """The files of `keys`, all of them and whole."""
        contents = self._files.read(keys)
        for key in keys:
            if len(contents.get(key, b"")) != self.sizes[key]:
                raise CorruptFile(
                    f"{self.name}/{key} has {len(contents.get(key, b''))} of its"
                    f" {self.sizes[key]} bytes: fetch it again"
                )
        return contents

    def _read_v2(self) -> None:
        keys = [key for key in self._keys if split(key)[1] in V2_FILES]
        metadata: dict[str, dict[str, Any]] | None = None
        if ".zmetadata" in self.sizes:
            gathered = self._json([".zmetadata"])[".zmetadata"].get("metadata")
            if not isinstance(gathered, dict):
                raise CorruptFile(f"{self.name}/.zmetadata holds no metadata: fetch it again")
            # The gathered metadata lack what was added after they were gathered.
            if gathered.keys() >= {key for key in keys if not key.endswith(".zattrs")}:
                metadata = {key: self._object(key, value) for key, value in gathered.items()}
        metadata = self._json(keys) if metadata is None else metadata
        groups = set()
        for key, value in metadata.items():
            path, kind = split(key)
            if kind == ".zgroup":
                groups.add(path)
            elif kind == ".zarray":
                self.arrays[path] = value
            elif kind == ".zattrs":
                self._attributes[path] = value
        self._build(groups, metadata)

    def _read_v3(self) -> None:
        root = self._json([V3_FILE])[V3_FILE]
        keys = [key for key in self._keys if split(key)[1] == V3_FILE]
        gathered = root.get("consolidated_metadata")
        nodes: dict[str, dict[str, Any]] | None = None
        if gathered is not None:
            entries = gathered.get("metadata") if isinstance(gathered, dict) else None
            if not isinstance(entries, dict):
                raise CorruptFile(f"{self.name}/{V3_FILE} holds no metadata: fetch it again")
            named = {join(path, V3_FILE): value for path, value in entries.items()}
            # The gathered metadata lack what was added after they were gathered.
            if named.keys() | {V3_FILE} >= set(keys):
                nodes = {key: self._object(key, value) for key, value in named.items()}
                nodes[V3_FILE] = root
        nodes = self._json(keys) if nodes is None else nodes
        groups = set()
        for key, node in nodes.items():
            path = split(key)[0]
            if node.get("zarr_format") != 3 or node.get("node_type") not in ("group", "array"):
                raise CorruptFile(f"{self.name}/{key} is neither a group nor an array of Zarr 3")
            if node["node_type"] == "group":
                groups.add(path)
            else:
                self.arrays[path] = node
            self._attributes[path] = self._object(key, node.get("attributes", {}))
        self._build(groups, nodes)

    def _json(self, keys: list[str]) -> dict[str, dict[str, Any]]:
        """The JSON objects in the files of `keys`."""
        size = sum(self.sizes[key] for key in keys)
        if size > MAX_METADATA:
            raise CorruptFile(f"{self.name} has {size:,} bytes of metadata, more than NWB has")
        objects = {}
        for key, data in self.fetch(keys).items():
            with boundary(f"{self.name}/{key}"):
                objects[key] = self._object(key, json.loads(data))
        return objects

    def _object(self, key: str, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise CorruptFile(f"{self.name}/{key} is no JSON object: fetch it again")
        return value

    def _build(self, groups: set[str], metadata: Mapping[str, object]) -> None:
        """Put every node into its group. Raises CorruptFile for a node that no group holds, which
        would otherwise be left out without a word."""
        self.children = {path: set() for path in groups}
        for key in metadata:
            path = split(key)[0]
            parent, name = split(path)
            known = path in groups or path in self.arrays
            if path and (parent not in groups or name in ("", ".", "..") or not known):
                raise CorruptFile(f"{self.name}/{key} is in no group of it: fetch the store again")
            if path:
                self.children[parent].add(name)
        if "" not in groups or "" in self.arrays or self.arrays.keys() & groups:
            raise CorruptFile(f"{self.name} has a node that is both group and array")


def join(path: str, name: str) -> str:
    """The key of `name` in the folder `path`, which is "" for the root."""
    return f"{path}/{name}" if path else name


def split(key: str) -> tuple[str, str]:
    """The folder and the last part of a key."""
    folder, _, name = key.rpartition("/")
    return folder, name
