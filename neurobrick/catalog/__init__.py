"""Sessions, units, trials and behavior of a whole corpus as Parquet, beside its stores.

The catalogue is derived: `build` reads the stores and replaces it as a whole, so it can always be
made again. `Dataset` opens a corpus from `sessions.parquet` alone, one file, which holds all that
is needed to read any store.
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
