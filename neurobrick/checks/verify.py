"""Verification of a corpus: bytes against their manifests, counts against the registry.

This finds what changed or is missing since the stores were written. `validate` finds data that were
wrong from the start.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from neurobrick.catalog import FOLDER, Catalog
from neurobrick.catalog import stores as local_stores
from neurobrick.checks.finding import Finding
from neurobrick.errors import StoreError, listed
from neurobrick.registry import DatasetSpec
from neurobrick.schema import Provenance
from neurobrick.sources.asset import refusal
from neurobrick.storage import Storage
from neurobrick.store import MANIFEST, SUFFIX, damage_of, faults_of_files

MOST_THREADS = 8  # checksums take a core each, and a disk seldom feeds more


@dataclass(frozen=True)
class _Prepared:
    """One session, as the catalogue describes it."""

    dataset: str  # what its id begins with
    provenance: Provenance
    units: int  # how many
    spikes: int  # how many


def stores_in(storage: Storage, catalog: Catalog | None) -> dict[str, str]:
    """The paths of the stores of a corpus, by session id.

    All stores that are there; where the storage cannot list its files, those of the catalogue.
    """
    in_catalog = {}
    if catalog is not None:
        ids = catalog.sessions["session"].to_pylist()
        in_catalog = {session_id: catalog.store(session_id).path for session_id in ids}
    if not storage.lists:
        return in_catalog
    if storage.is_remote:
        end = f"{SUFFIX}/{MANIFEST}"
        paths = {n.removesuffix(f"/{MANIFEST}") for n in storage.files() if n.endswith(end)}
    else:
        paths = {f"{session_id}{SUFFIX}" for session_id in local_stores(Path(storage.url))}
    stores = {session_id: path for session_id, path in in_catalog.items() if path in paths}
    for path in sorted(paths - set(stores.values())):
        stores[path.removesuffix(SUFFIX)] = path
    return dict(sorted(stores.items()))


def damages(storage: Storage, stores: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Each session's id and its faults, in order; several stores are read at a time.

    A manifest that cannot be read is a fault, too.
    """

    def faults(path: str) -> list[str]:
        try:
            return damage_of(storage, path)
        except StoreError as error:
            return [str(error)]

    threads = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1))
    try:
        yield from zip(stores, threads.map(faults, stores.values()), strict=True)
    finally:
        threads.shutdown(cancel_futures=True)


def against_catalog(
    storage: Storage,
    stores: Mapping[str, str],
    damaged: Collection[str],
    catalog: Catalog | StoreError,
) -> list[Finding]:
    """How the catalogue and the stores differ.

    A session is listed and has no whole store; a store is not listed; or a store, unless it is
    `damaged`, was replaced since it was listed.
    """
    if isinstance(catalog, StoreError):
        return [Finding("error", "catalog", str(catalog))]
    advice = f"any run of neurobrick prepare --root {storage.url} makes the catalogue anew"
    if storage.is_remote:
        advice = "push the corpus again"
    ids = set(catalog.sessions["session"].to_pylist())
    faults = [f"{name} is listed, but there is no whole store of it" for name in ids - set(stores)]
    faults += [f"{name} has a store, but is not listed" for name in set(stores) - ids]
    for name in (ids & set(stores)) - set(damaged):
        with suppress(FileNotFoundError):
            if storage.read(f"{stores[name]}/{MANIFEST}") != catalog.store(name).manifest:
                faults.append(f"{name} has another store than the one that is listed")
    faults = [f"{fault}; {advice}" for fault in sorted(faults)]
    return [Finding("error", "catalog", fault) for fault in faults + _tables(storage, catalog)]


def _tables(storage: Storage, catalog: Catalog) -> list[str]:
    """What is wrong with the catalogue's own files."""
    try:
        catalog.everything()  # every page has its checksum
        return [] if storage.is_remote else faults_of_files(storage, FOLDER)
    except StoreError as error:
        return [str(error)]


def against_registry(specs: Sequence[DatasetSpec], catalog: Catalog) -> list[Finding]:
    """The counts that `specs` expect, against the sessions that the catalogue lists.

    Only files of the version that a spec pins, and that its globs let through, are counted. A
    dataset with fewer sessions than expected is no fault; then nothing else is compared. Nor is
    anything compared where the registry does not know the number of sessions.
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
    return [finding for spec in specs for finding in _compared(spec, prepared)]


def _belongs(session: _Prepared, spec: DatasetSpec) -> bool:
    """Whether a session was made of a file of `spec`, at any version."""
    if spec.source is None or not spec.source.holds(session.dataset, session.provenance):
        return False
    return refusal(session.provenance.path, spec.include, spec.exclude) is None


def _compared(spec: DatasetSpec, prepared: Sequence[_Prepared]) -> list[Finding]:
    """The sessions of `spec` against what it expects."""
    expect = spec.expect
    pinned = spec.source.pinned if spec.source is not None else None
    at_any_version = [session for session in prepared if _belongs(session, spec)]
    sessions = [s for s in at_any_version if s.provenance.version == pinned]
    findings = []
    other_versions = {str(s.provenance.version) for s in at_any_version} - {str(pinned)}
    if other_versions:
        text = f"version {listed(sorted(other_versions))} is not compared: {pinned} is pinned"
        findings.append(Finding("info", spec.id, text))
    if not sessions or expect.sessions is None:
        return findings
    if len(sessions) < expect.sessions:
        text = f"{len(sessions)} of {expect.sessions} sessions prepared"
        return [*findings, Finding("info", spec.id, text)]
    counts = {
        "sessions": (expect.sessions, len(sessions)),
        "units": (expect.units, sum(session.units for session in sessions)),
        "spikes": (expect.spikes, sum(session.spikes for session in sessions)),
        "source bytes": (expect.bytes, sum(session.provenance.size for session in sessions)),
    }
    wrong = [
        Finding("error", spec.id, f"{expected:,} {name} expected, {counted:,} there")
        for name, (expected, counted) in counts.items()
        if expected is not None and expected != counted
    ]
    if wrong:
        return [*findings, *wrong]
    right = listed(name for name, (expected, counted) in counts.items() if expected == counted)
    return [*findings, Finding("info", spec.id, f"{right} as the registry expects")]
