"""Names and sizes of format version 3; docs/architecture.md draws it."""

from __future__ import annotations

from urllib.parse import quote, unquote

MANIFEST = "manifest.json"
SUFFIX = ".zarr"
STAGING = ".staging-"  # no *.zarr, so no store

# Measured (benchmarks/encoding.py): smaller chunks cost a request or an open each, and larger ones
# are no smaller for a spike, but more to fetch for a window.
SPIKE_CHUNK = 2**18  # spikes, or rows of a table
BEHAVIOR_CHUNK = 2**16  # samples


def encoded(name: str) -> str:
    """A name as one path segment: slashes, dots and letters beyond ASCII are percent-encoded."""
    return quote(name, safe=" ").replace(".", "%2E")


def decoded(segment: str) -> str:
    """The name that `encoded` made a path segment of."""
    return unquote(segment)


def behavior_key(name: str) -> str:
    """Where a behavior lies."""
    return f"behavior/{encoded(name)}"


def intervals_key(name: str) -> str:
    """Where an interval table lies."""
    return f"intervals/{encoded(name)}"


def column_key(table: str, name: str, role: str) -> str:
    """Where an array of a table's column lies; `role` as `tables.ColumnArrays` has it."""
    segment = encoded(name)
    return f"{table}/{segment}" if role == "values" else f"{table}/{segment}.{role}"
