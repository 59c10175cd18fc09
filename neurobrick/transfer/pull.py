"""Copying sessions of a corpus that is elsewhere to this machine.

A session is fetched beside its place and moved there when it is complete, every file as its store's
inventory says. A pull that was broken off goes on where it stopped.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c

from neurobrick import catalog
from neurobrick.catalog import Catalog
from neurobrick.errors import NeurobrickError, StoreError
from neurobrick.storage import Storage, open_storage
from neurobrick.storage.lock import only_run
from neurobrick.store import MANIFEST, SUFFIX, Index, put_in_place
from neurobrick.store.inventory import Mismatch
from neurobrick.transfer.copying import AT_ONCE, Copy, Watch, chosen, is_file_of, size_of

COMING = ".coming-"  # no *.zarr, so no store


def pull(url: str, root: Path, globs: Sequence[str] = (), watch: Watch | None = None) -> list[Copy]:
    """Copy sessions of the corpus at `url` to the one at `root`, which is made if there is none.

    What is here already is not copied; sessions that are only at `root` stay.

    Raises StoreError when there is no corpus at `url`, when a glob matches nothing, when the disk
    is too small, or when another run is at work on `root`.
    """
    watch = watch or Watch()
    corpus = Catalog(open_storage(url))
    indices = {session_id: corpus.store(session_id) for session_id in chosen(corpus, globs)}
    copies = []
    with only_run(root):
        wanted = {i: x for i, x in indices.items() if not _is_here(root / f"{i}{SUFFIX}", x)}
        needed = sum(map(size_of, wanted.values()))
        if (free := shutil.disk_usage(root).free) < needed:
            raise StoreError(
                f"the sessions take {needed:,} bytes, and {root} has {free:,} free: free some"
                " space, choose another --root, or name fewer sessions"
            )
        watch.planned(needed)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for session_id, index in indices.items():
                copy = Copy(session_id, "unchanged")
                if session_id in wanted:
                    try:
                        copy = _fetch(session_id, index, corpus.storage, root, threads, watch)
                    except NeurobrickError as error:
                        copy = Copy(session_id, "failed", reason=str(error))
                copies.append(copy)
                watch.finished(copy)
        catalog.build(root)
    return copies


def _is_here(path: Path, index: Index) -> bool:
    """Whether the store of `index` is at `path`."""
    manifest = path / MANIFEST
    return manifest.is_file() and manifest.read_bytes() == index.manifest


def _fetch(
    session_id: str,
    index: Index,
    source: Storage,
    root: Path,
    threads: ThreadPoolExecutor,
    watch: Watch,
) -> Copy:
    """Fetch the files of a store beside its place, then put it there."""
    path = _inside(root, f"{session_id}{SUFFIX}")
    if path.parent.parent != root:
        raise StoreError(f"{session_id!r} is no name of a session: nothing of it is copied")
    name_of_copy = f"{COMING}{path.stem}-"
    coming = path.with_name(f"{name_of_copy}{google_crc32c.value(index.manifest):08x}")
    inventory = index.inventory

    def fetch(name: str) -> int:
        size, _ = inventory.entry(name)
        file = _inside(coming, name)
        if file.is_file() and is_file_of(inventory, name, file.read_bytes()):
            watch.moved(size)
            return 0
        content = source.read(f"{index.path}/{name}")
        try:
            inventory.check(name, content)
        except Mismatch as error:
            raise StoreError(
                f"{source.url}/{index.path}: {error}; pull again, and if that says the same, see"
                f" neurobrick verify --root {source.url}"
            ) from error
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        watch.moved(size)
        return size

    try:
        for folder in path.parent.glob(f"{name_of_copy}*"):
            if folder != coming:  # what the session was when another pull broke off
                shutil.rmtree(folder, ignore_errors=True)
        sizes = list(threads.map(fetch, sorted(inventory.files)))
        put_in_place(coming, path, index.manifest)
    except FileNotFoundError as error:
        raise StoreError(f"{source.url} lacks {error}: it was replaced; pull again") from error
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; free some space, then pull again"
        ) from error
    watch.moved(len(index.manifest))
    return Copy.of(session_id, [*sizes, len(index.manifest)])


def _inside(folder: Path, name: str) -> Path:
    """The file `name` below `folder`. Raises StoreError when the name leads out of it."""
    parts = Path(name).parts
    if name.startswith("/") or ".." in parts or not parts:
        raise StoreError(f"{name!r} leads out of {folder}: nothing of it is copied")
    return folder / name
