"""Copying sessions of a corpus to an object store.

A session gets a place of its own there, named by its content, and is seen once the catalogue names
it, which is replaced in one step: readers find the old corpus or the new one, whole. Of two pushes
at once, the slower takes what the faster wrote into its own. One that was broken off goes on.
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
from neurobrick.storage import open_storage
from neurobrick.storage.remote.objects import ObjectStorage
from neurobrick.store import MANIFEST, SUFFIX, Index
from neurobrick.store.inventory import Mismatch
from neurobrick.transfer.copying import AT_ONCE, Copy, Watch, chosen, size_of

TRIES = 20  # of replacing the catalogue, where others replace it, too

Tables = Mapping[str, pa.Table]


def push(root: Path, url: str, globs: Sequence[str] = (), watch: Watch | None = None) -> list[Copy]:
    """Copy sessions of the corpus at `root` to the one at `url`, which is made if there is none.

    What is there already is not copied; sessions that are only at `url` stay. Every file is held
    against its store's inventory before it is sent, and the server checks what arrives.

    Raises StoreError when there is no corpus at `root`, when a glob matches nothing, or when `url`
    cannot be written.
    """
    watch = watch or Watch()
    corpus, target = Catalog(open_storage(root)), ObjectStorage(url)
    indices = {session_id: corpus.store(session_id) for session_id in chosen(corpus, globs)}
    there = _manifests(target)
    wanted = {i: index for i, index in indices.items() if there.get(i) != index.manifest}
    watch.planned(sum(map(size_of, wanted.values())))
    copies, places = [], {}
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for session_id, index in indices.items():
            copy = Copy(session_id, "unchanged")
            if session_id in wanted:
                path = f"{session_id}.{google_crc32c.value(index.manifest):08x}{SUFFIX}"
                try:
                    copy = _send(session_id, index, corpus, target, path, threads, watch)
                    places[session_id] = path
                except NeurobrickError as error:
                    copy = Copy(session_id, "failed", reason=str(error))
            copies.append(copy)
            watch.finished(copy)
    if places:
        _commit(target, _placed(corpus, places), places)
    return copies


def _manifests(target: ObjectStorage) -> dict[str, bytes]:
    """The manifest of every session at `target`."""
    try:
        content = target.read(table_file("sessions"))
    except FileNotFoundError:
        return {}
    there = Catalog(target, content)
    ids = there.sessions["session"].to_pylist()
    return {session_id: there.store(session_id).manifest for session_id in ids}


def _send(
    session_id: str,
    index: Index,
    corpus: Catalog,
    target: ObjectStorage,
    path: str,
    threads: ThreadPoolExecutor,
    watch: Watch,
) -> Copy:
    """Put the files of a store below `path`, its manifest last."""
    # The place is named by the content, and objects are there whole or not at all: what has a
    # file's name and size there is that file.
    there = target.files(f"{path}/")
    inventory = index.inventory

    def send(name: str) -> int:
        size, _ = inventory.entry(name)
        if there.get(f"{path}/{name}") == size:
            watch.moved(size)
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
        watch.moved(size)
        return size

    sizes = list(threads.map(send, sorted(inventory.files)))
    target.write(f"{path}/{MANIFEST}", index.manifest)
    watch.moved(len(index.manifest))
    return Copy.of(session_id, [*sizes, len(index.manifest)])


def _placed(corpus: Catalog, places: Mapping[str, str]) -> dict[str, pa.Table]:
    """The catalogue's rows of the sessions in `places`, with their stores there."""
    ids = pa.array(list(places), pa.string())
    tables = {
        name: table.filter(pc.is_in(table["session"], value_set=ids))
        for name, table in corpus.everything().items()
    }
    sessions = tables["sessions"]
    stores = pa.array([places[session_id] for session_id in sessions["session"].to_pylist()])
    column = sessions.schema.get_field_index("store")
    return {**tables, "sessions": sessions.set_column(column, "store", stores)}


def _commit(target: ObjectStorage, new: Tables, places: Mapping[str, str]) -> None:
    """Put sessions into the catalogue at `target`, beside those that are in it, in one step."""
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
                _drop(target, old, places)
            return
    raise StoreError(
        f"{target.url}: other pushes replaced the catalogue {TRIES} times over; what was sent is"
        " there, push again to list it"
    )


def _merged(old: Catalog | None, new: Tables) -> dict[str, pa.Table]:
    """The catalogue with the sessions of `new` in place of those it had of their names."""
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


def _drop(target: ObjectStorage, old: Catalog, places: Mapping[str, str]) -> None:
    """Remove what the catalogue that was replaced alone had: its tables, and replaced stores.

    Readers that hold it are told to open the corpus again.
    """
    generation = old.generation.decode()
    stale = [table_file(name, generation) for name in ("units", "trials", "behavior")]
    known = set(old.sessions["session"].to_pylist())
    for session_id in known & set(places):
        path = old.store(session_id).path
        if path != places[session_id]:
            # The manifest first: what has none is no store.
            target.delete([f"{path}/{MANIFEST}"])
            stale += target.files(f"{path}/")
    with suppress(StoreError):  # left behind, they do no harm
        target.delete(stale)
