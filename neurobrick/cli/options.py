"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default="data",
    show_default=True,
    help="Folder of the corpus.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
