"""The columns of every catalogue. Its units and trials have the columns of their files, too."""

from __future__ import annotations

import pyarrow as pa

from neurobrick.schema import SPLITS

TABLES = ("sessions", "units", "trials", "behavior")

# Columns of sessions.parquet that are not shown: the index of each store, and its sets of time.
INDEX_COLUMNS = ("store", "zarr", "manifest")
TIME_COLUMNS = ("domain", "evaluation", *SPLITS)

_EDGES = pa.list_(pa.float64())  # start, stop, start, stop, …, in seconds
_ROW = [("session", pa.string()), ("row", pa.int64())]  # row of the session's own table
SESSIONS = pa.schema(
    [
        *((name, pa.string()) for name in ("session", "dataset", "subject", "species", "sex")),
        *((name, pa.string()) for name in ("age", "lab", "institution")),
        *((name, pa.string()) for name in ("session_start_time", "version")),
        *((name, pa.int64()) for name in ("units", "spikes", "trials")),
        *((name, pa.float64()) for name in ("start", "stop", "duration")),
        *((name, pa.list_(pa.string())) for name in ("areas", "behavior")),
        ("target", pa.string()),
        ("bytes", pa.int64()),
        *((name, _EDGES) for name in TIME_COLUMNS),
        ("store", pa.string()),
        ("zarr", pa.binary()),  # zarr.json, compressed by zlib
        ("manifest", pa.binary()),  # manifest.json, compressed by zlib
    ]
)
BEHAVIOR = pa.schema(
    [
        ("session", pa.string()),
        ("name", pa.string()),
        ("samples", pa.int64()),
        ("columns", pa.list_(pa.string())),
        ("rate_hz", pa.float64()),
        *((name, pa.string()) for name in ("unit", "source", "source_unit", "description")),
    ]
)
SCHEMAS = {
    "sessions": SESSIONS,
    "units": pa.schema([*_ROW, ("spikes", pa.int64()), ("rate_hz", pa.float64())]),
    "trials": pa.schema([*_ROW, ("start", pa.float64()), ("stop", pa.float64())]),
    "behavior": BEHAVIOR,
}
