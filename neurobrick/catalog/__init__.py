"""Sessions, units, trials and behavior of a whole corpus as Parquet, beside its stores.

The catalogue is derived: `build` reads the stores and replaces it as a whole, so it can always be
made again. `Dataset` opens a corpus from `sessions.parquet` alone, one file, which holds all that
is needed to read any store.
"""

from neurobrick.catalog.build import build, put, stores
from neurobrick.catalog.tables import FOLDER, TABLES, Catalog

__all__ = ["FOLDER", "TABLES", "Catalog", "build", "put", "stores"]
