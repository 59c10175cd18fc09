"""Commands that check a corpus: verify, validate."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from neurobrick.cli.options import (
    corpus_option,
    json_option,
    manifest_option,
    root_option,
    sessions_argument,
)

if TYPE_CHECKING:
    from rich.console import Console

    from neurobrick.checks.finding import Finding
    from neurobrick.checks.unreadable import Unreadable

T = TypeVar("T")

SIGNS = {"error": "[red]✗[/]", "warning": "[yellow]⚠[/]", "info": "[green]✓[/]"}
MARKS = {"error": "[red]✗[/]", "warning": "[yellow]⚠[/]", "info": "[dim]·[/]"}


@click.command()
@sessions_argument
@corpus_option
@manifest_option
@json_option
def verify(sessions: tuple[str, ...], root: str, registry: Path | None, as_json: bool) -> None:
    """Check that every file of the stores is as it was written, and the corpus complete.

    \b
    neurobrick verify                        everything under data/
    neurobrick verify 000128/sub-Jenkins     one session
    neurobrick verify --root s3://bucket/corpus

    Files are compared with the sizes and checksums in their store's manifest. Without a SESSION,
    the catalogue is compared with the stores as well, and the counts that the registry expects
    with those of each dataset that is wholly prepared at the registry's version.
    """
    from neurobrick.catalog import Catalog
    from neurobrick.checks.finding import Finding
    from neurobrick.checks.unreadable import Unreadable, unreadable
    from neurobrick.checks.verify import against_catalog, against_registry, damages, stores_in
    from neurobrick.display.console import console, watched
    from neurobrick.errors import StoreError
    from neurobrick.registry import Manifest
    from neurobrick.storage import open_storage
    from neurobrick.store import SUFFIX

    storage = open_storage(root)
    catalog: Catalog | StoreError
    try:
        catalog = Catalog(storage)
    except StoreError as error:
        catalog = error
    known = None if isinstance(catalog, StoreError) else catalog
    closed = Unreadable() if storage.is_remote else unreadable(Path(storage.url))
    stores = {name: f"{name}{SUFFIX}" for name in closed.stores} | stores_in(storage, known)
    stores = dict(_named(root, dict(sorted(stores.items())), sessions, closed))
    show = console(stderr=as_json)
    faults = {}
    for name, found in watched(show, damages(storage, stores), len(stores), "verifying"):
        faults[name] = found
        if not as_json:
            _print(show, name, [("error", fault) for fault in found])
    corpus: list[Finding] = []
    if not sessions:
        corpus += [Finding("error", name, text) for name, text in closed.datasets.items()]
        if not closed.datasets:
            damaged_names = [name for name in faults if faults[name]]
            corpus += against_catalog(storage, stores, damaged_names, catalog)
        if known is not None and not corpus:
            corpus += against_registry(Manifest.load(registry).datasets, known)
    by_subject: dict[str, list[tuple[str, str]]] = {}
    for finding in corpus:
        by_subject.setdefault(finding.subject, []).append((finding.level, finding.text))
    if as_json:
        plain = {"sessions": faults, "corpus": [dataclasses.asdict(f) for f in corpus]}
        click.echo(json.dumps(plain, indent=1))
    else:
        for subject, lines in by_subject.items():
            _print(show, subject, lines)
    damaged = sum(map(bool, faults.values()))
    if damaged:
        raise click.ClickException(f"{damaged} damaged: prepare with --force to make them anew")
    if any(finding.level == "error" for finding in corpus):
        raise click.ClickException("the corpus is not what it should be; the lines above say why")


@click.command()
@sessions_argument
@root_option
@json_option
def validate(sessions: tuple[str, ...], root: Path, as_json: bool) -> None:
    """Check that the data of the stores are plausible.

    \b
    neurobrick validate                      everything under data/
    neurobrick validate 000128/sub-Jenkins   one session

    First every promise of the format. Then physics: firing rates, refractory violations, units
    that are there twice, velocities against the positions they belong to, dead columns, uneven
    clocks, trials and spikes outside the recorded time, empty splits.

    ✗ contradicts itself, ⚠ is odd, · is worth knowing. The exit status is 1 only for ✗.
    """
    from neurobrick import catalog
    from neurobrick.checks.finding import Finding
    from neurobrick.checks.unreadable import unreadable
    from neurobrick.checks.validate import validate as findings_of
    from neurobrick.display.console import console, watched
    from neurobrick.errors import StoreError
    from neurobrick.store import SessionStore

    def checked(path: Path) -> list[Finding]:
        try:
            return findings_of(SessionStore.at(path))
        except StoreError as error:
            return [Finding("error", "store", str(error))]

    closed = unreadable(root)
    stores = dict(sorted({**closed.stores, **catalog.stores(root)}.items()))
    stores = dict(_named(root, stores, sessions, closed))
    show = console(stderr=as_json)
    found = {}
    if not sessions:
        for name, text in closed.datasets.items():
            found[name] = [Finding("error", "stores", text)]
            if not as_json:
                _print(show, name, [("error", text)])
    work = ((name, checked(path)) for name, path in stores.items())
    for name, findings in watched(show, work, len(stores), "validating"):
        found[name] = findings
        if not as_json:
            _print(show, name, [(f.level, f"{f.subject}: {f.text}") for f in findings])
    if as_json:
        plain = {name: [dataclasses.asdict(f) for f in some] for name, some in found.items()}
        click.echo(json.dumps(plain, indent=1))
    wrong = sum(any(f.level == "error" for f in some) for some in found.values())
    if wrong:
        click.echo(f"{wrong} of {len(found)} sessions contradict themselves", err=True)
        sys.exit(1)


def _named(
    root: str | Path, stores: Mapping[str, T], sessions: Sequence[str], closed: Unreadable
) -> Mapping[str, T]:
    """The stores of `sessions`, in that order; without sessions, all stores."""
    if not stores and not closed.datasets:
        raise click.ClickException(f"there is no store under {root}: run neurobrick prepare")
    unknown = [name for name in sessions if name not in stores]
    for name in unknown:
        if (reason := closed.datasets.get(name.partition("/")[0])) is not None:
            raise click.ClickException(reason)
    if unknown:
        raise click.ClickException(f"{root} has no whole store of {', '.join(unknown)}")
    return {name: stores[name] for name in sessions or stores}


def _print(show: Console, name: str, lines: Sequence[tuple[str, str]]) -> None:
    """A line for the session or dataset with the sign of its worst line, then its lines."""
    from rich.markup import escape

    levels = [level for level, _ in lines]
    worst = next((level for level in SIGNS if level in levels), "info")
    show.print(f"{SIGNS[worst]} {escape(name)}", soft_wrap=True)
    for level, text in lines:
        show.print(f"    {MARKS[level]} {escape(text)}", soft_wrap=True)
