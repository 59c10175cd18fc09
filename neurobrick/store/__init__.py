"""One session, one store, in Zarr v3. Format version 3 is laid out in docs/architecture.md."""

from neurobrick.store.damage import damage, damage_of, faults_of_files, read_attributes
from neurobrick.store.index import Index
from neurobrick.store.layout import MANIFEST, SUFFIX
from neurobrick.store.load import Chunks
from neurobrick.store.reader import SessionStore
from neurobrick.store.writer import put_in_place, sweep, write_store

__all__ = [
    "MANIFEST",
    "SUFFIX",
    "Chunks",
    "Index",
    "SessionStore",
    "damage",
    "damage_of",
    "faults_of_files",
    "put_in_place",
    "read_attributes",
    "sweep",
    "write_store",
]
