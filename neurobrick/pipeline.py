"""One file, the whole way: raw arrays → harmonized → split → checked → its store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from neurobrick import __version__
from neurobrick.errors import NeurobrickError, UnsupportedFile
from neurobrick.formats import open_recording
from neurobrick.harmonize import harmonize
from neurobrick.plan import Job, Outcome
from neurobrick.schema import Provenance, SessionData, check
from neurobrick.sources import sha256_of
from neurobrick.splits import split
from neurobrick.store import read_attributes, write_store


def prepare_file(job: Job, file: Path) -> Outcome:
    """Make the store of one file that is on this machine. Never raises NeurobrickError."""
    try:
        session = read_session(job, file)
        size = write_store(session, job.store)
    except UnsupportedFile as error:
        return job.outcome("skipped", str(error))
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


def read_session(job: Job, file: Path) -> SessionData:
    """One NWB file as a harmonized, split and checked session."""
    provenance = Provenance(
        path=job.asset.path,
        size=file.stat().st_size,
        sha256=job.asset.sha256 or sha256_of(file),
        dandiset=job.asset.dandiset,
        version=job.asset.version,
        asset_id=job.asset.asset_id,
        neurobrick=__version__,
        spec_hash=job.spec.fingerprint(),
    )
    with open_recording(file, job.spec.units) as recording:
        session = harmonize(
            recording,
            job.spec,
            session_id=job.session_id,
            dataset=job.dataset,
            provenance=provenance,
        )
    splits = split(job.spec.splits, job.session_id, session.domain, session.intervals)
    session = replace(session, splits=splits)
    check(session)
    return session


def unchanged(job: Job) -> bool:
    """Whether the store there was made of the same bytes, by the same program and spec."""
    attributes = read_attributes(job.store)
    if job.asset.sha256 is None or attributes is None:
        return False
    found = attributes.get("provenance", {})
    wanted = {
        "sha256": job.asset.sha256,
        "neurobrick": __version__,
        "spec_hash": job.spec.fingerprint(),
    }
    return {key: found.get(key) for key in wanted} == wanted
