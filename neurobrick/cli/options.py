"""Options and arguments that several commands share, and the words that a shell completes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

DEFAULT_ROOT = "data"


def complete_session(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Session ids of the corpus under --root; none where there is no corpus."""
    from neurobrick.catalog import Catalog
    from neurobrick.errors import StoreError
    from neurobrick.storage import open_storage
    from neurobrick.storage.names import composed

    try:
        sessions = Catalog(open_storage(context.params.get("root") or DEFAULT_ROOT)).sessions
    except StoreError:
        return []
    ids = sessions["session"].to_pylist()
    begun = composed(incomplete)
    given = context.params.get("sessions") or ()
    return [CompletionItem(name) for name in ids if name.startswith(begun) and name not in given]


def in_one_form(_: click.Context, __: click.Parameter, value: Any) -> Any:
    """One name, or several, in composed Unicode, as session ids are."""
    from neurobrick.storage.names import composed

    return composed(value) if isinstance(value, str) else tuple(map(composed, value))


def complete_dataset(
    context: click.Context, _: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Ids of the registry's entries, each with its title."""
    from neurobrick.errors import RecipeError
    from neurobrick.registry import Manifest

    registry = context.params.get("registry")
    try:
        specs = Manifest.load(Path(registry) if registry else None).datasets
    except RecipeError:
        return []
    given = context.params.get("names") or ()
    return [
        CompletionItem(spec.id, help=spec.title)
        for spec in specs
        if spec.id.startswith(incomplete) and spec.id not in given
    ]


root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_ROOT,
    show_default=True,
    help="Folder of the corpus.",
)
corpus_option = click.option(
    "--root",
    default=DEFAULT_ROOT,
    show_default=True,
    metavar="PATH|URL",
    help="The corpus: a folder, or where it was pushed to (s3://…, https://…).",
)
manifest_option = click.option(
    "--manifest",
    "registry",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A registry of your own instead of the one that neurobrick ships.",
)
instance_option = click.option(
    "--instance",
    metavar="URL",
    envvar="NEUROBRICK_DANDI_API",
    help="A DANDI API other than the archive's own; also NEUROBRICK_DANDI_API.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
session_argument = click.argument("session", callback=in_one_form, shell_complete=complete_session)
sessions_argument = click.argument(
    "sessions",
    nargs=-1,
    metavar="[SESSION…]",
    callback=in_one_form,
    shell_complete=complete_session,
)
