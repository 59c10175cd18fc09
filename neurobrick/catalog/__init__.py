"""The catalogue: sessions, units, trials and behavior of a whole corpus, as Parquet files.

`build` makes it from the stores and replaces it as a whole, so it can be made again at any time.
`Dataset` opens a corpus from `sessions.parquet` alone, which also holds the index of every store.
"""

from neurobrick.catalog.build import build, dump, generation_of, join, stores
from neurobrick.catalog.tables import FOLDER, Catalog, table_file

__all__ = [
    "FOLDER",
    "Catalog",
    "build",
    "dump",
    "generation_of",
    "join",
    "stores",
    "table_file",
]
