"""`neurobrick inspect`: what files hold, what would be kept, why not the rest, and the spec."""

from __future__ import annotations

import dataclasses
import json
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
    from neurobrick.sources.asset import Asset
    from neurobrick.sources.source import Source

FEW = 20  # objects left for one reason in one group before they are shown as a number


@click.command()
@click.argument("target", metavar="PATH|DATASET")
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
    """Show what a recording holds, what would be kept of it, why not the rest, and the spec.

    \b
    neurobrick inspect recording.nwb         read whole: what prepare would do
    neurobrick inspect 000128                read remotely: descriptions only, no download
    neurobrick inspect zenodo-3854034        a record of Zenodo
    neurobrick inspect 000688 --include "*ses-CO-2016*"

    The spec is an entry of a registry. Paste it into a file, edit it, and give the file to
    neurobrick prepare --manifest FILE.
    """
    from neurobrick.display.console import console
    from neurobrick.prepare.inspection import as_yaml

    show = console(stderr=as_json)
    source, spec = _source_and_spec(target, version, instance, registry)
    chosen = _chosen(source, spec, include)
    n_files = len(source.assets())
    inspections = list(_inspected(source, chosen, spec))
    if as_json:
        click.echo(json.dumps([_plain(each) for each in inspections], indent=1))
    for each in inspections:
        show.print(_drawn(each))
        for note in each.notes:
            show.print(f"note: {note}", markup=False, soft_wrap=True)
        if each.refused:
            show.print(f"would not be prepared: {each.refused}", markup=False, soft_wrap=True)
    if len(chosen) < n_files:
        show.print(f"{len(chosen)} of {n_files} files; --include chooses others", markup=False)
    readable = [each for each in inspections if each.kept]
    if readable and not as_json:
        again = (
            f"dandiset {target}"
            if source.dataset == target
            else f"nwb {target} --dataset {spec.id}"
        )
        show.print(f"\nThe spec; in a FILE, for: neurobrick prepare {again} --manifest FILE\n")
        click.echo(as_yaml(readable[0], spec, n_files))
    if any(each.refused for each in inspections):
        sys.exit(1)


def _source_and_spec(
    target: str, version: str | None, instance: str | None, registry: Path | None
) -> tuple[Source, DatasetSpec]:
    """The source that `target` names, and the spec that applies to it."""
    from neurobrick.prepare.inspection import entry_id
    from neurobrick.registry import DatasetSpec, Manifest
    from neurobrick.sources.local import LocalSource
    from neurobrick.sources.registered import expected_names, open_named

    if Path(target).exists():
        name = entry_id(Path(target).stem)
        return LocalSource([target]), DatasetSpec(id=name, title=f"{name}, by discovery")
    entry = Manifest.load(registry).for_dataset(target)[0]
    source = open_named(target, entry.source, version, instance)
    if source is None or source.spec is None:
        raise click.UsageError(f"{target} is neither a path here nor {expected_names()}")
    if entry.source is not None:
        return source, entry
    kind = source.spec.key()
    return source, DatasetSpec(
        id=entry_id(target if target.startswith(kind) else f"{kind}_{target}"),
        title=source.title or target,
        citation=source.citation or None,
        licence=source.licence or None,
        source=source.spec,
    )


def _chosen(source: Source, spec: DatasetSpec, include: tuple[str, ...]) -> list[Asset]:
    """The assets that match `include`; the first asset where there is no `include`."""
    from neurobrick.sources.asset import select

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
        remote = source.remote(asset)
        place = Path(asset.location) if remote is None else place_of(asset, remote)
        provenance = provenance_of(asset, spec) if remote is None else None
        try:
            with open_recording(place, asset.path, spec.units) as recording:
                yield inspect(recording, spec, asset.path, provenance)
        except NeurobrickError as error:
            yield Inspection(asset.path, {}, (), (), (), str(error), None, None)


def _plain(inspection: Inspection) -> dict[str, Any]:
    left = [each.model_dump() for each in inspection.left]
    return {**dataclasses.asdict(inspection), "left": left, "about": dict(inspection.about)}


def _drawn(inspection: Inspection) -> Tree:
    """The objects of a file as a tree: kept ones with what they are, the others with the reason."""
    from rich.markup import escape
    from rich.tree import Tree

    names = ("subject_id", "species", "session_start_time")
    about = ", ".join(filter(None, (inspection.about.get(name, "") for name in names)))
    tree = Tree(f"[bold]{escape(inspection.file)}[/]  {escape(about)}")
    branches: dict[str, Tree] = {"": tree}

    def branch(path: str) -> Tree:
        if path not in branches:
            parent, _, name = path.rpartition("/")
            branches[path] = branch(parent).add(escape(name))
        return branches[path]

    for kept in inspection.kept:
        parent, _, name = kept.path.rpartition("/")
        renamed = f" as {kept.name}" if kept.name != name else ""
        kind = "" if kept.kind == "units" else f"{kept.kind}, "
        text = escape(f"{renamed}  {kind}{kept.text}")
        branch(parent).add(f"[green]✓ {escape(name)}[/]{text}")
    for (parent, reason), left in _grouped(inspection).items():
        shown = left if len(left) <= FEW else [*left[:3], f"… and {len(left) - 3} more"]
        for name in shown:
            branch(parent).add(f"[dim]– {escape(name)}  {escape(reason)}[/]")
    return tree


def _grouped(inspection: Inspection) -> dict[tuple[str, str], list[str]]:
    """The names of the objects that are left, by their group in the file and the reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for left in inspection.left:
        parent, _, name = left.path.rpartition("/")
        groups.setdefault((parent, left.reason), []).append(name)
    return groups
