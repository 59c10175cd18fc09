"""One file, the whole way: raw arrays → harmonized → split → checked → its store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

from neurobrick import __version__
from neurobrick.errors import NeurobrickError, SourceError, UnsupportedFile
from neurobrick.harmonize import harmonize, spikes_of
from neurobrick.prepare.plan import Job, Outcome
from neurobrick.readers.formats import FileLocation, open_recording
from neurobrick.readers.stream import RangeFile, Reader
from neurobrick.registry import DatasetSpec
from neurobrick.schema import READABLE_VERSIONS, ByteRange, Provenance, SessionData, check
from neurobrick.sources.asset import Asset
from neurobrick.splits import split, unmatched
from neurobrick.storage.zarr_files import Files
from neurobrick.store import read_attributes, write_store

# Where an asset can be read. It can be pickled for another process, which an open file cannot be.
Where = Path | Files | Reader


def prepare_file(job: Job, where: Where) -> Outcome | SourceError:
    """Make the store of one file. Never raises NeurobrickError.

    Returns a SourceError for a remote file that cannot be read in parts. A file on this machine
    that cannot be had now (it is locked, the disk fails) has failed; a file that holds no recording
    is skipped.
    """
    try:
        session = read_session(job, where)
        size = write_store(session, job.store)
    except UnsupportedFile as error:
        return job.outcome("skipped", str(error))
    except SourceError as error:
        # A file that is here is not fetched again.
        return job.outcome("failed", str(error)) if isinstance(where, Path) else error
    except NeurobrickError as error:
        return job.outcome("failed", str(error))
    except MemoryError:
        return job.outcome("failed", "there is not enough memory: try --jobs 1")
    return Outcome(
        path=job.asset.path,
        session_id=job.session_id,
        status="prepared",
        units=session.units.num_rows,
        spikes=len(session.spike_times),
        seconds=session.domain.duration,
        size=size,
        left=session.metadata.left,
        notes=session.metadata.notes,
    )


def look(job: Job, where: Where) -> Outcome | SourceError | None:
    """The outcome of a remote file that holds no spikes, without fetching it; else None.

    Returns a SourceError where it cannot be read in parts.
    """
    place = place_of(job.asset, where)
    try:
        with open_recording(place, job.asset.path, job.spec.units) as recording:
            spikes_of(recording)
    except UnsupportedFile as error:
        return job.outcome("skipped", str(error))
    except SourceError as error:
        return error
    except NeurobrickError:
        return None  # its fault is reported when it has been fetched
    return None


def read_session(job: Job, where: Where) -> SessionData:
    """One file as a harmonized, split and checked session."""
    place = place_of(job.asset, where)
    provenance = provenance_of(job.asset, job.spec)
    with open_recording(place, job.asset.path, job.spec.units) as recording:
        session = harmonize(
            recording,
            job.spec,
            session_id=job.session_id,
            dataset=job.dataset,
            provenance=provenance,
        )
    if isinstance(place, RangeFile):
        read = (ByteRange(start=a, stop=b, sha256=digest) for a, b, digest in place.read_ranges())
        streamed = provenance.model_copy(update={"streamed": tuple(read)})
        metadata = session.metadata.model_copy(update={"provenance": streamed})
        session = replace(session, metadata=metadata)
    session = _divided(session, job.spec)
    check(session)
    return session


def _divided(session: SessionData, spec: DatasetSpec) -> SessionData:
    """The session with its splits, and a note for each rule of `spec` that matches no row."""
    tables = session.intervals
    splits = split(spec.splits, session.metadata.id, session.domain, tables)
    reasons = {"splits": unmatched(spec.splits, tables)}
    if spec.evaluation:
        reasons["evaluation"] = spec.evaluation.unmatched(tables)
    notes = tuple(f"{key}: {reason}" for key, reason in reasons.items() if reason)
    metadata = session.metadata.model_copy(update={"notes": (*session.metadata.notes, *notes)})
    return replace(session, splits=splits, metadata=metadata)


def place_of(asset: Asset, where: Where) -> FileLocation:
    """The location at which `open_recording` opens an asset."""
    if isinstance(where, Path) or asset.is_zarr:
        return cast("Path | Files", where)
    return RangeFile(cast("Reader", where), asset.path)


def provenance_of(asset: Asset, spec: DatasetSpec) -> Provenance:
    """Where a session comes from, and which program and spec make it."""
    return Provenance(
        path=asset.path,
        size=asset.size,
        digest=asset.digest or "",
        dandiset=asset.dandiset,
        version=asset.version,
        asset_id=asset.asset_id,
        neurobrick=__version__,
        spec_hash=spec.fingerprint(),
    )


def unchanged(job: Job) -> bool:
    """Whether the job's store exists and was made of the same bytes, by the same program and
    spec."""
    attributes = read_attributes(job.store)
    if job.asset.digest is None or attributes is None:
        return False
    if attributes.get("format_version") not in READABLE_VERSIONS:
        return False
    provenance = attributes.get("provenance")
    expected = provenance_of(job.asset, job.spec).model_dump(
        include={"digest", "neurobrick", "spec_hash"}
    )
    return isinstance(provenance, dict) and expected.items() <= provenance.items()
