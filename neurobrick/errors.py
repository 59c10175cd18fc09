"""Every exception that neurobrick raises on purpose, as one tree.

    NeurobrickError
    ├── SourceError            a file could not be had: network, authorization, checksum
    │   ├── RequestRefused     the server refuses this client: 401 or 403
    │   ├── RangesIgnored      the server sends whole files only, whatever part is asked for
    │   └── TooMuchToStream    most of a file would be read: fetching it whole is cheaper
    ├── UnsupportedFile        a file that neurobrick does not read: not NWB, or no spikes in it
    ├── CorruptFile            a file that contradicts itself, or breaks off
    ├── HarmonizeError         arrays that do not fit the DatasetSpec, or that no policy covers
    ├── StoreError             a store that is absent, incomplete, damaged or of another version
    ├── FilterError            a filter that cannot be read, or does not fit its table's columns
    └── RecipeError            a training recipe or a registry entry with a wrong key or value

`neurobrick_model.errors` continues the tree. An exception of a library becomes one of these at a
boundary: `sources` (requests, dandi), `readers.tree` (h5py, zarr), `store` (numcodecs),
`storage.remote.failures` (obstore, boto3), `catalog.tables` (pyarrow), and, in the model, `files`
(safetensors, json). A message is one line: what was asked, what was there, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class NeurobrickError(Exception):
    """Root of every error that neurobrick raises on purpose."""


class SourceError(NeurobrickError):
    """A file could not be listed or fetched whole."""


class RequestRefused(SourceError):
    """The server does not give this file to this client: 401 or 403."""


class RangesIgnored(SourceError):
    """The server sends the whole file, whatever part is asked for: fetch it whole."""


class TooMuchToStream(SourceError):
    """Most of a file would be read: fetch it whole, which is cheaper and checks its digest."""


class UnsupportedFile(NeurobrickError):
    """A file that neurobrick does not prepare, with the reason."""


class CorruptFile(NeurobrickError):
    """A file that contradicts itself or breaks off."""


class HarmonizeError(NeurobrickError):
    """Arrays that cannot be brought into the schema without guessing."""


class StoreError(NeurobrickError):
    """A store that is absent, incomplete, damaged, or of another format version."""


class FilterError(NeurobrickError, ValueError):
    """A filter that cannot be read, or does not fit the columns of its table."""


class RecipeError(NeurobrickError):
    """A recipe or a registry entry that does not validate."""


def listed(names: Iterable[object], most: int | None = None) -> str:
    """Names for a message: `a, b, c`, or `none`. With more than `most` names: `a, b, … (7)`."""
    texts = [str(name) for name in names]
    if most is not None and len(texts) > most:
        return f"{', '.join(texts[:most])}, … ({len(texts)})"
    return ", ".join(texts) or "none"


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The first fault that pydantic found: its key (`data.splits`, "" for the whole), and the fault
    in words (`input should be a valid string`)."""
    fault = error.errors(include_url=False)[0]
    message = fault["msg"].removeprefix("Value error, ")
    return ".".join(str(part) for part in fault["loc"]), f"{message[:1].lower()}{message[1:]}"
