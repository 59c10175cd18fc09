"""Commands that check a corpus: verify."""

from __future__ import annotations

from pathlib import Path

import click

from neurobrick.cli.options import root_option


@click.command()
@click.argument("sessions", nargs=-1, metavar="[SESSION…]")
@root_option
def verify(sessions: tuple[str, ...], root: Path) -> None:
    """Check every file of the stores against the manifest that was written with them."""
    from neurobrick import catalog
    from neurobrick.store import damage

    stores = catalog.stores(root)
    unknown = [name for name in sessions if name not in stores]
    if not stores:
        raise click.ClickException(f"there is no store under {root}: run neurobrick prepare")
    if unknown:
        raise click.ClickException(f"{root} has no whole store of {', '.join(unknown)}")
    bad = 0
    for name in sessions or stores:
        faults = damage(stores[name])
        bad += bool(faults)
        click.echo(f"{'✗' if faults else '✓'} {name}")
        for fault in faults:
            click.echo(f"    {fault}")
    if bad:
        raise click.ClickException(f"{bad} damaged: prepare with --force to make them anew")
