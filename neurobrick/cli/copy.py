"""Commands that copy a corpus: push, pull."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neurobrick.cli.options import json_option, root_option, sessions_argument

if TYPE_CHECKING:
    from neurobrick.progress import Progress
    from neurobrick.transfer import Copy


@click.command()
@click.argument("url")
@sessions_argument
@root_option
@json_option
def push(url: str, sessions: tuple[str, ...], root: Path, as_json: bool) -> None:
    """Copy the corpus to object storage at URL.

    \b
    neurobrick push s3://bucket/corpus                   all of data/
    neurobrick push s3://bucket/corpus '000128/*'        some sessions

    Files that are there already are not sent again, and a push that was broken off goes on.
    Sessions that are only there stay. Everyone who may read URL can then open the corpus:
    neurobrick list --root URL, or Dataset(URL) in Python.

    Credentials are found as AWS's own programs find them: AWS_PROFILE, AWS_ACCESS_KEY_ID,
    ~/.aws, or the machine's role. AWS_ENDPOINT_URL names another S3 than Amazon's.
    """
    from neurobrick import transfer

    if "://" not in url:
        raise click.UsageError(
            f"{url!r} is no URL, such as s3://bucket/corpus; to copy to a folder, pull:"
            f" neurobrick pull {root} --root {url}"
        )
    _run(lambda progress: transfer.push(root, url, sessions, progress), "pushed", as_json)


@click.command()
@click.argument("url")
@sessions_argument
@root_option
@json_option
def pull(url: str, sessions: tuple[str, ...], root: Path, as_json: bool) -> None:
    """Copy a corpus from URL to this machine.

    \b
    neurobrick pull s3://bucket/corpus                   all of it, to data/
    neurobrick pull https://host/corpus '000128/*'       some sessions

    Every file is checked as it arrives. Files that are here already are not fetched again, and a
    pull that was broken off goes on. To look at a few sessions, no pull is needed:
    neurobrick plot … --root URL.
    """
    from neurobrick import transfer

    _run(lambda progress: transfer.pull(url, root, sessions, progress), "pulled", as_json)


def _run(copy: Callable[[Progress], Sequence[Copy]], word: str, as_json: bool) -> None:
    """Copy with a bar, and say at the end what became of the sessions."""
    from rich.markup import escape

    from neurobrick.display.console import console, size
    from neurobrick.display.progress import copying

    show = console(stderr=as_json)
    with copying(show) as progress:
        copies = copy(progress)
    failed = [one for one in copies if one.status == "failed"]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(one) for one in copies], indent=1))
    else:
        made = [one for one in copies if one.status == "copied"]
        same = len(copies) - len(made) - len(failed)
        said = f"{len(made)} {word}, {size(sum(one.size for one in made))}"
        show.print(said + (f", {same} unchanged" if same else ""))
        for one in failed:
            show.print(f"[red]✗[/] {escape(one.session_id)}: {escape(one.reason)}")
    if failed:
        raise click.ClickException(f"{len(failed)} of {len(copies)} sessions were not {word}")
