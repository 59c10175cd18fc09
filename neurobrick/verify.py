"""Verification of a corpus: bytes against their manifests, counts against the registry.

Unlike `validate`, which finds data that were wrong from the start, this finds what changed or is
missing since.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from neurobrick.catalog import Catalog
from neurobrick.errors import StoreError
from neurobrick.finding import Finding
from neurobrick.manifest import DandiSpec, DatasetSpec, ZenodoSpec
from neurobrick.schema import Provenance
from neurobrick.sources import Asset, select
from neurobrick.store import damage

MOST_THREADS = 8  # checksums take a core each, and a disk seldom feeds more


@dataclass(frozen=True)
class _Prepared:
    """What the catalogue says of one session."""

    dataset: str
    provenance: Provenance
    units: int
    spikes: int


def damages(stores: Mapping[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """Each session's id and faults, in order, several stores read at a time.

    A store whose manifest cannot be read is a fault, too.
    """
    threads = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1))
    try:
        yield from zip(stores, threads.map(_faults, stores.values()), strict=True)
    finally:
        threads.shutdown(cancel_futures=True)


def _faults(store: Path) -> list[str]:
    try:
        return damage(store)
    except StoreError as error:
        return [str(error)]


def against_catalog(stores: Mapping[str, Path], catalog: Catalog) -> list[Finding]:
    """Sessions that the catalogue lists without a whole store, and stores that it does not list."""
    advice = f"any run of neurobrick prepare --root {catalog.storage.url} makes the catalogue anew"
    try:
        listed = set(catalog.sessions["session"].to_pylist())
    except StoreError as error:
        return [Finding("error", "catalog", str(error))]
    found = [
        Finding(
            "error", "catalog", f"{name} is listed, but there is no whole store of it; {advice}"
        )
        for name in sorted(listed - set(stores))
    ]
    found += [
        Finding("error", "catalog", f"{name} has a store, but is not listed; {advice}")
        for name in sorted(set(stores) - listed)
    ]
    return found


def against_registry(specs: Sequence[DatasetSpec], catalog: Catalog) -> list[Finding]:
    """What `specs` expect of their datasets, against the sessions that the catalogue lists.

    Only files of the version that a spec pins, and that its globs let through, are counted. As long
    as fewer sessions are there than expected, that is a fact and no fault, and nothing else is
    compared; the same goes for a dataset whose number of sessions the registry does not know.
    """
    prepared = [
        _Prepared(
            row["dataset"],
            Provenance.model_validate(catalog.store(row["session"]).session["provenance"]),
            row["units"],
            row["spikes"],
        )
        for row in catalog.sessions.to_pylist()
    ]
    return [found for spec in specs for found in _compared(spec, prepared)]


def _belongs(one: _Prepared, spec: DatasetSpec) -> bool:
    """Whether a session was made of a file of `spec`, of whatever version."""
    match spec.source:
        case DandiSpec(dandiset=dandiset):
            from_there = one.provenance.dandiset == dandiset
        case ZenodoSpec(zenodo=record):  # a record's number is its version, too
            from_there = one.dataset == f"zenodo-{record}" and one.provenance.asset_id is not None
        case None:
            from_there = False
    path, size = one.provenance.path, one.provenance.size
    return from_there and bool(select([Asset(path, size, path)], spec.include, spec.exclude))


def _compared(spec: DatasetSpec, prepared: Sequence[_Prepared]) -> list[Finding]:
    expect = spec.expect
    pinned = spec.source.version if isinstance(spec.source, DandiSpec) else None
    listed = [one for one in prepared if _belongs(one, spec)]
    mine = [one for one in listed if one.provenance.version == pinned]
    found = []
    if others := {str(one.provenance.version) for one in listed} - {str(pinned)}:
        text = f"version {', '.join(sorted(others))} is not compared: {pinned} is pinned"
        found.append(Finding("info", spec.id, text))
    if not mine or expect.sessions is None:
        return found
    if len(mine) < expect.sessions:
        text = f"{len(mine)} of {expect.sessions} sessions prepared"
        return [*found, Finding("info", spec.id, text)]
    counts = {
        "sessions": (expect.sessions, len(mine)),
        "units": (expect.units, sum(one.units for one in mine)),
        "spikes": (expect.spikes, sum(one.spikes for one in mine)),
        "source bytes": (expect.bytes, sum(one.provenance.size for one in mine)),
    }
    wrong = [
        Finding("error", spec.id, f"{expected:,} {what} expected, {there:,} there")
        for what, (expected, there) in counts.items()
        if expected is not None and expected != there
    ]
    same = [what for what, (expected, there) in counts.items() if expected == there]
    return [
        *found,
        *(wrong or [Finding("info", spec.id, f"{', '.join(same)} as the registry expects")]),
    ]
