"""What can go wrong, as one tree.

    NeurobrickError
    ├── SourceError        a file could not be had: network, authorization, checksum, no dandiset
    ├── UnsupportedFile    a file neurobrick does not read: not NWB, or no spikes in it
    ├── CorruptFile        a file that says it is NWB and contradicts itself, or breaks off
    ├── HarmonizeError     arrays that do not fit the DatasetSpec, or that no policy covers
    ├── StoreError         a store that is absent, incomplete, damaged or of another format version
    ├── FilterError        a filter that cannot be read, or does not fit the columns of its table
    └── RecipeError        a training recipe or a registry entry with a wrong key or value

Exceptions of libraries become one of these at one boundary each: `sources`, `readers.tree` and
`store`.
A message is one line that says what was asked, what was found, and what to do.
"""

from __future__ import annotations


class NeurobrickError(Exception):
    """Root of every error that neurobrick raises on purpose."""


class SourceError(NeurobrickError):
    """A file could not be listed or fetched whole."""


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
