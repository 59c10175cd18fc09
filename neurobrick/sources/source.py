"""What a source of files is, and how an entry of the registry names one.

A kind of source is one module of this package: a `SourceSpec`, which the registry reads from YAML,
and the `Source` that it opens. `registered` lists the kinds; `local` has files of this machine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from neurobrick.sources.asset import Asset

if TYPE_CHECKING:
    from neurobrick.schema import Provenance
    from neurobrick.sources.web.ranges import RangeReader
    from neurobrick.sources.web.transport import Patience
    from neurobrick.storage.zarr_files import Files

# Called with each number of bytes gained, and with a negative one for bytes that proved wrong.
Gained = Callable[[int], None]


def uncounted(_: int) -> None:
    """A `Gained` that does nothing."""


class Source(Protocol):
    """Somewhere files come from. It lists its assets, and fetches them one at a time."""

    @property
    def dataset(self) -> str:
        """What the ids of its sessions begin with."""
        ...

    @property
    def spec(self) -> SourceSpec | None:
        """What names this source in a registry, its version pinned; None for local files."""
        ...

    @property
    def title(self) -> str:
        """What its authors call it; empty where that is not known, as are the next two."""
        ...

    @property
    def licence(self) -> str: ...

    @property
    def citation(self) -> str: ...

    def assets(self) -> list[Asset]:
        """The assets that may hold a recording.

        Sorted by path; files of this machine are in the order in which they were given.
        """
        ...

    def others(self) -> list[Asset]:
        """All other assets."""
        ...

    def fetch(self, asset: Asset, folder: Path, gained: Gained = uncounted) -> Path:
        """A path with all bytes of the asset, verified; below `folder` if they had to be copied.

        The numbers that `gained` is called with add up to the asset's size. Several threads may
        call this, for different assets. Raises SourceError.
        """
        ...

    def remote(self, asset: Asset) -> RangeReader | Files | None:
        """A reader of parts of an asset on another machine, or of a Zarr's files; None for an asset
        of this machine.

        It can be pickled. Making it sends no request.
        """
        ...


class SourceSpec(BaseModel, ABC):
    """How the registry names one source: `source: {zenodo: "3854034"}`.

    Derive from it for each kind of source. The first field tells the kind: no other kind may have
    a first field of that name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    expected: ClassVar[str]  # a name on the command line, in words: "a dandiset's six digits"
    api_variable: ClassVar[str]  # environment variable with the address of another API

    @classmethod
    def key(cls) -> str:
        """The key of a registry entry's `source` that tells this kind."""
        return next(iter(cls.model_fields))

    @property
    @abstractmethod
    def dataset(self) -> str:
        """What the ids of its sessions begin with."""

    @property
    @abstractmethod
    def pinned(self) -> str | None:
        """The version that the provenance of its sessions has; None where versions have no names,
        because a new one is another source."""

    @abstractmethod
    def open(
        self,
        version: str | None = None,
        instance: str | None = None,
        patience: Patience | None = None,
    ) -> Source:
        """The source, at `version` or at the one that is pinned.

        `instance` is the command line's `--instance`, the address of a DANDI API; kinds with an API
        of another sort ignore it. `patience` says how long a server is waited for.

        Raises SourceError: no such source, no access, no answer.
        """

    @classmethod
    @abstractmethod
    def open_named(
        cls, name: str, version: str | None = None, instance: str | None = None
    ) -> Source | None:
        """The source that `name` means on the command line, its newest version by default; None
        when `name` is no name of this kind. Raises as `open` does."""

    @abstractmethod
    def holds(self, dataset: str, provenance: Provenance) -> bool:
        """Whether a session of `dataset` was prepared from this source, at any version."""
