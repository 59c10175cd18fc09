"""`neurobrick inspect`: what files hold, what would be kept, why not the rest, and the spec."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neurobrick.cli.options import instance_option, json_option, manifest_option

if TYPE_CHECKING:
    from rich.tree import Tree

    from neurobrick.prepare.inspection import Inspection
    from neurobrick.registry import DatasetSpec
    from neurobrick.sources import Asset, Source

FEW = 20  # objects left for one reason in one group before they are shown as a number


@click.command()
@click.argument("target", metavar="PATH|DANDISET")
@click.option("--version", metavar="V", help="Version of the dandiset, as for prepare.")
@click.option(
    "--include",
    multiple=True,
    metavar="GLOB",
    help="Files whose path matches; by default only the first.",
)
@instance_option
@manifest_option
@json_option
def inspect(
    target: str,
    version: str | None,
    include: tuple[str, ...],
    instance: str | None,
    registry: Path | None,
    as_json: bool,
) -> None:
    """What a recording holds: what would be kept, why not the rest, and the spec that says so.

    \b
    neurobrick inspect recording.nwb         read whole: what prepare would do
    neurobrick inspect 000128                read remotely: descriptions only, no download
    neurobrick inspect 000688 --include "*ses-CO-2016*"

    The spec that is printed, pasted into a registry of your own and edited, is what
    neurobrick prepare --manifest reads.
    """
    from neurobrick.display.console import console
    from neurobrick.prepare.inspection import as_yaml

    show = console(stderr=as_json)
    source, spec = _found(target, version, instance, registry)
    chosen = _chosen(source, spec, include)
    n_files = len(source.assets())
    inspections = list(_inspected(source, chosen, spec))
    if as_json:
        click.echo(json.dumps([_plain(one) for one in inspections], indent=1))
    for one in inspections:
        show.print(_drawn(one))
        for note in one.notes:
            show.print(f"note: {note}", markup=False, soft_wrap=True)
        if one.refused:
            show.print(f"would not be prepared: {one.refused}", markup=False, soft_wrap=True)
    if len(chosen) < n_files:
        show.print(f"{len(chosen)} of {n_files} files; --include chooses others", markup=False)
    readable = [one for one in inspections if one.kept]
    if readable and not as_json:
        again = (
            f"dandiset {target}"
            if source.dataset == target
            else f"nwb {target} --dataset {spec.id}"
        )
        show.print(f"\nThe spec; in a FILE, for: neurobrick prepare {again} --manifest FILE\n")
        click.echo(as_yaml(readable[0], spec, n_files))
    if any(one.refused for one in inspections):
        sys.exit(1)


def _found(
    target: str, version: str | None, instance: str | None, registry: Path | None
) -> tuple[Source, DatasetSpec]:
    """The source that `target` names, and the spec that applies to it."""
    from neurobrick.prepare.inspection import entry_id
    from neurobrick.registry import DandiSpec, DatasetSpec, Manifest
    from neurobrick.sources import LocalSource
    from neurobrick.sources.dandi import DandiSource

    if re.fullmatch(r"\d{6}", target) and not Path(target).exists():
        listed = Manifest.load(registry).for_dataset(target)
        pinned = listed[0].source.version if isinstance(listed[0].source, DandiSpec) else None
        archive = DandiSource(target, version or pinned, instance)
        if listed[0].source is not None:
            return archive, listed[0]
        return archive, DatasetSpec(
            id=entry_id(f"dandiset_{target}"),
            title=archive.title or target,
            citation=archive.citation or None,
            licence=archive.licence or None,
            source=DandiSpec(dandiset=target, version=archive.version),
        )
    if not Path(target).exists():
        raise click.UsageError(f"{target} is neither a path here nor a dandiset's six digits")
    name = entry_id(Path(target).stem)
    return LocalSource([target]), DatasetSpec(id=name, title=f"{name}, by discovery")


def _chosen(source: Source, spec: DatasetSpec, include: tuple[str, ...]) -> list[Asset]:
    """The assets that match, or the first one."""
    from neurobrick.sources import select

    assets = select(select(source.assets(), spec.include, spec.exclude), include, ())
    if not assets:
        raise click.ClickException(f"nothing of {source.dataset} matches")
    return assets if include else assets[:1]


def _inspected(source: Source, assets: list[Asset], spec: DatasetSpec) -> Iterator[Inspection]:
    from neurobrick.errors import NeurobrickError
    from neurobrick.prepare.inspection import Inspection, inspect
    from neurobrick.prepare.one_file import place_of, provenance_of
    from neurobrick.readers.formats import open_recording

    for asset in assets:
        elsewhere = source.remote(asset)
        place = Path(asset.location) if elsewhere is None else place_of(asset, elsewhere)
        provenance = provenance_of(asset, spec) if elsewhere is None else None
        try:
            with open_recording(place, asset.path, spec.units) as recording:
                yield inspect(recording, spec, asset.path, provenance)
        except NeurobrickError as error:
            yield Inspection(asset.path, {}, (), (), (), str(error), None, None)


def _plain(found: Inspection) -> dict[str, Any]:
    left = [one.model_dump() for one in found.left]
    return {**dataclasses.asdict(found), "left": left, "about": dict(found.about)}


def _drawn(found: Inspection) -> Tree:
    """The objects of a file as a tree: kept ones with what they are, the others with the reason."""
    from rich.markup import escape
    from rich.tree import Tree

    about = [found.about.get(name, "") for name in ("subject_id", "species", "session_start_time")]
    tree = Tree(f"[bold]{escape(found.file)}[/]  {escape(', '.join(filter(None, about)))}")
    branches: dict[str, Tree] = {"": tree}

    def branch(path: str) -> Tree:
        if path not in branches:
            parent, _, name = path.rpartition("/")
            branches[path] = branch(parent).add(escape(name))
        return branches[path]

    for one in found.kept:
        parent, _, name = one.path.rpartition("/")
        renamed = f" as {one.name}" if one.name != name else ""
        what = "" if one.kind == "units" else f"{one.kind}, "
        branch(parent).add(f"[green]✓ {escape(name)}[/]{escape(renamed)}  {what}{escape(one.text)}")
    for (parent, reason), names in _grouped(found).items():
        if len(names) > FEW:
            names = [*names[:3], f"… and {len(names) - 3} more"]
        for name in names:
            branch(parent).add(f"[dim]– {escape(name)}  {escape(reason)}[/]")
    return tree


def _grouped(found: Inspection) -> dict[tuple[str, str], list[str]]:
    groups: dict[tuple[str, str], list[str]] = {}
    for left in found.left:
        parent, _, name = left.path.rpartition("/")
        groups.setdefault((parent, left.reason), []).append(name)
    return groups
