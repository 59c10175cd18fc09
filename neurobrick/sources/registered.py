"""The kinds of sources. A new kind is one module, and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Tag

from neurobrick.sources.dandi import DandiSpec
from neurobrick.sources.source import Source, SourceSpec
from neurobrick.sources.zenodo import ZenodoSpec

REGISTERED: tuple[type[SourceSpec], ...] = (
    DandiSpec,
    ZenodoSpec,
)


def open_named(
    name: str,
    listed: SourceSpec | None = None,
    version: str | None = None,
    instance: str | None = None,
) -> Source | None:
    """The source that `name` means on the command line; None where no kind knows such a name.

    `listed` is the source in the registry's entry for `name`, if there is one: its version is
    opened unless `version` is given. Raises SourceError as `SourceSpec.open` does.
    """
    if listed is not None:
        return listed.open(version, instance)
    for kind in REGISTERED:
        source = kind.open_named(name, version, instance)
        if source is not None:
            return source
    return None


def expected_names() -> str:
    """Which names `open_named` knows, in words."""
    return ", or ".join(kind.expected for kind in REGISTERED)


def _key(value: Any) -> str | None:
    """Which kind an entry's `source` is of: the tag of its class."""
    if isinstance(value, SourceSpec):
        return value.key()
    keys = [kind.key() for kind in REGISTERED]
    return next((key for key in keys if isinstance(value, Mapping) and key in value), None)


# The type of the registry's `source`: the key of an entry chooses the class that pydantic makes.
if TYPE_CHECKING:
    AnySpec = SourceSpec
else:
    keys = " or ".join(kind.key() for kind in REGISTERED)
    tagged = [Annotated[kind, Tag(kind.key())] for kind in REGISTERED]
    AnySpec = Annotated[
        reduce(or_, tagged),
        Discriminator(
            _key,
            custom_error_type="source",
            custom_error_message=f"a source has the key {keys}",
        ),
    ]
