"""Copying sessions of a remote corpus to this machine.

A session is fetched into a folder beside its place. It is moved there when it is complete and every
file matches the inventory of the store. A pull that was interrupted goes on where it stopped.
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
from neurobrick.progress import Progress
from neurobrick.storage import Storage, open_storage
from neurobrick.storage.folder import Folder
from neurobrick.storage.lock import only_run
from neurobrick.store import MANIFEST, SUFFIX, Index, put_in_place
from neurobrick.store.inventory import Mismatch
from neurobrick.transfer.copying import AT_ONCE, STAGE, Copy, chosen, is_file_of, size_of

COMING = ".coming-"  # no *.zarr, so no store


def pull(
    url: str, root: Path, globs: Sequence[str] = (), progress: Progress | None = None
) -> list[Copy]:
    """Copy sessions of the corpus at `url` to the one at `root`, which is made if there is none.

    Sessions that are at `root` already are not copied. Sessions that are only at `root` stay.

    Returns the outcome of each session. Raises StoreError when there is no corpus at `url`, when
    the disk is too small, or when another run is at work on `root`; FilterError for a glob that
    matches no session.
    """
    root = root.absolute()
    progress = progress or Progress()
    corpus = Catalog(open_storage(url))
    indices = {session_id: corpus.store(session_id) for session_id in chosen(corpus, globs)}
    copies = []
    with only_run(root):
        absent = {
            session_id: index
            for session_id, index in indices.items()
            if not _is_here(root / f"{session_id}{SUFFIX}", index)
        }
        needed = sum(map(size_of, absent.values()))
        _check_space(root, needed)
        progress.total(STAGE, needed)
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for session_id, index in indices.items():
                copy = Copy(session_id, "unchanged")
                if session_id in absent:
                    try:
                        copy = _fetch(session_id, index, corpus.storage, root, threads, progress)
                    except NeurobrickError as error:
                        copy = Copy(session_id, "failed", reason=str(error))
                copies.append(copy)
                progress.finished(copy)
        for fault in catalog.build(root):
            progress.say(f"not in the catalogue: {fault}")
    return copies


def _check_space(root: Path, needed: int) -> None:
    """Raise StoreError unless `needed` bytes are free at `root`."""
    try:
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise StoreError(f"cannot look at {root}: {error.strerror or error}") from error
    if free < needed:
        raise StoreError(
            f"the sessions take {needed:,} bytes, and {root} has {free:,} free: free some"
            " space, choose another --root, or name fewer sessions"
        )


def _is_here(path: Path, index: Index) -> bool:
    """Whether the store of `index` is at `path`. Raises StoreError if that cannot be read."""
    try:
        return Folder(path).read(MANIFEST) == index.manifest
    except FileNotFoundError:
        return False


def _fetch(
    session_id: str,
    index: Index,
    source: Storage,
    root: Path,
    threads: ThreadPoolExecutor,
    progress: Progress,
) -> Copy:
    """Fetch the files of a store into a folder beside its place, then move it there.

    Raises StoreError when a file is damaged or absent, or the disk does not take it.
    """
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
            progress.advance(STAGE, size)
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
        progress.advance(STAGE, size)
        return size

    try:
        for folder in path.parent.glob(f"{name_of_copy}*"):
            if folder != coming:  # of an older version, whose pull was interrupted
                shutil.rmtree(folder, ignore_errors=True)
        sizes = list(threads.map(fetch, sorted(inventory.files)))
        put_in_place(coming, path, index.manifest)
    except FileNotFoundError as error:
        raise StoreError(f"{source.url} lacks {error}: it was replaced; pull again") from error
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; free some space, then pull again"
        ) from error
    progress.advance(STAGE, len(index.manifest))
    return Copy.of(session_id, [*sizes, len(index.manifest)])


def _inside(folder: Path, name: str) -> Path:
    """The file `name` below `folder`. Raises StoreError when the name leads out of it."""
    parts = Path(name).parts
    if name.startswith("/") or ".." in parts or not parts:
        raise StoreError(f"{name!r} leads out of {folder}: nothing of it is copied")
    return folder / name
