"""Copying sessions of a corpus to an object store.

Each version of a session has a place of its own there, named by its content. Readers see it once
the catalogue names it. The catalogue is replaced in one step, so readers find the old corpus or the
new one, whole. Of two pushes at once, the slower one adds its sessions to the catalogue of the
faster one. A push that was interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import google_crc32c
import pyarrow as pa
import pyarrow.compute as pc

from neurobrick.catalog import Catalog, dump, generation_of, join, table_file
from neurobrick.errors import NeurobrickError, StoreError
from neurobrick.progress import Progress
from neurobrick.storage import open_storage
from neurobrick.storage.remote.objects import ObjectStorage
from neurobrick.store import MANIFEST, SUFFIX, Index
from neurobrick.store.inventory import Mismatch
from neurobrick.transfer.copying import AT_ONCE, STAGE, Copy, chosen, size_of

TRIES = 20  # to replace the catalogue, while others replace it, too

Tables = Mapping[str, pa.Table]


def push(
    root: Path, url: str, globs: Sequence[str] = (), progress: Progress | None = None
) -> list[Copy]:
    """Copy sessions of the corpus at `root` to the one at `url`, which is made if there is none.

    Sessions that are at `url` already are not copied. Sessions that are only at `url` stay. Every
    file is compared with the inventory of its store before it is sent, and the server checks what
    arrives.

    Returns the outcome of each session. Raises StoreError when there is no corpus at `root`, or
    `url` cannot be written; FilterError for a glob that matches no session.
    """
    progress = progress or Progress()
    corpus, target = Catalog(open_storage(root)), ObjectStorage(url)
    indices = {session_id: corpus.store(session_id) for session_id in chosen(corpus, globs)}
    manifests = _manifests(target)
    absent = {i: index for i, index in indices.items() if manifests.get(i) != index.manifest}
    progress.total(STAGE, sum(map(size_of, absent.values())))
    copies, paths = [], {}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for session_id, index in indices.items():
            copy = Copy(session_id, "unchanged")
            if session_id in absent:
                path = f"{session_id}.{google_crc32c.value(index.manifest):08x}{SUFFIX}"
                try:
                    copy = _send(session_id, index, corpus, target, path, threads, progress)
                    paths[session_id] = path
                except NeurobrickError as error:
                    copy = Copy(session_id, "failed", reason=str(error))
            copies.append(copy)
            progress.finished(copy)
    if paths:
        _commit(target, _with_paths(corpus, paths), paths)
    return copies


def _manifests(target: ObjectStorage) -> dict[str, bytes]:
    """The manifest of every session at `target`, by session id; none without a catalogue there."""
    try:
        content = target.read(table_file("sessions"))
    except FileNotFoundError:
        return {}
    listed = Catalog(target, content)
    ids = listed.sessions["session"].to_pylist()
    return {session_id: listed.store(session_id).manifest for session_id in ids}


def _send(
    session_id: str,
    index: Index,
    corpus: Catalog,
    target: ObjectStorage,
    path: str,
    threads: ThreadPoolExecutor,
    progress: Progress,
) -> Copy:
    """Put the files of a store below `path`, its manifest last."""
    # The path is named by the content, and an object is there whole or not at all. So an object
    # with the name and the size of a file is that file.
    sizes_there = target.files(f"{path}/")
    inventory = index.inventory

    def send(name: str) -> int:
        size, _ = inventory.entry(name)
        if sizes_there.get(f"{path}/{name}") == size:
            progress.advance(STAGE, size)
            return 0
        try:
            content = corpus.storage.read(f"{index.path}/{name}")
            inventory.check(name, content)
        except (Mismatch, FileNotFoundError) as error:
            raise StoreError(
                f"{session_id} is damaged, or was replaced ({error}): run neurobrick verify, then"
                " push again"
            ) from error
        target.write(f"{path}/{name}", content)
        progress.advance(STAGE, size)
        return size

    sizes = list(threads.map(send, sorted(inventory.files)))
    target.write(f"{path}/{MANIFEST}", index.manifest)
    progress.advance(STAGE, len(index.manifest))
    return Copy.of(session_id, [*sizes, len(index.manifest)])


def _with_paths(corpus: Catalog, paths: Mapping[str, str]) -> dict[str, pa.Table]:
    """The catalogue's rows of the sessions in `paths`, with these paths of their stores."""
    ids = pa.array(list(paths), pa.string())
    tables = {
        name: table.filter(pc.is_in(table["session"], value_set=ids))
        for name, table in corpus.everything().items()
    }
    sessions = tables["sessions"]
    stores = pa.array([paths[session_id] for session_id in sessions["session"].to_pylist()])
    column = sessions.schema.get_field_index("store")
    return {**tables, "sessions": sessions.set_column(column, "store", stores)}


def _commit(target: ObjectStorage, new: Tables, paths: Mapping[str, str]) -> None:
    """Add the sessions of `new` to the catalogue at `target`, in one step.

    Raises StoreError when other pushes are faster again and again.
    """
    for _ in range(TRIES):
        try:
            content, version = target.read_version(table_file("sessions"))
        except FileNotFoundError:
            old, version = None, None
        else:
            old = Catalog(target, content)
        tables = _merged(old, new)
        generation = generation_of(tables)
        files = dump(tables)
        for name, file in files.items():
            if name != "sessions":
                target.write(table_file(name, generation), file)
        if target.write_if(table_file("sessions"), files["sessions"], version) is not None:
            if old is not None and old.generation.decode() != generation:
                _drop(target, old, paths)
            return
    raise StoreError(
        f"{target.url}: other pushes replaced the catalogue {TRIES} times over; the files were"
        " sent, push again to list them"
    )


def _merged(old: Catalog | None, new: Tables) -> dict[str, pa.Table]:
    """The tables of `old`, with the sessions of `new` added or in place of those of the same id."""
    parts = [new]
    if old is not None:
        ids = new["sessions"]["session"].combine_chunks()
        parts = [
            {
                name: table.filter(pc.invert(pc.is_in(table["session"], value_set=ids)))
                for name, table in old.everything().items()
            },
            new,
        ]
    return {name: table.sort_by("session") for name, table in join(parts).items()}


def _drop(target: ObjectStorage, old: Catalog, paths: Mapping[str, str]) -> None:
    """Remove the tables of `old`, which was replaced, and the stores that were replaced with it.

    Readers that have it open get an error that says to open the corpus again.
    """
    generation = old.generation.decode()
    stale = [table_file(name, generation) for name in ("units", "trials", "behavior")]
    ids = set(old.sessions["session"].to_pylist())
    for session_id in ids & set(paths):
        path = old.store(session_id).path
        if path != paths[session_id]:
            # The manifest first: a folder without one is no store.
            target.delete([f"{path}/{MANIFEST}"])
            stale += target.files(f"{path}/")
    with suppress(StoreError):  # what is left behind does no harm
        target.delete(stale)
