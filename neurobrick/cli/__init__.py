"""The command line: parse, call, print.

Exit status: 0 all done; 1 something failed, and the last lines say what and why; 2 wrong usage.

The modules of this package import libraries only when a command runs, so that help and completion
answer at once.
"""

from __future__ import annotations

from typing import Any

import click

from neurobrick import __version__
from neurobrick.cli.check import validate, verify
from neurobrick.cli.completion import completion
from neurobrick.cli.copy import pull, push
from neurobrick.cli.inspect import inspect
from neurobrick.cli.look import info, list_sessions, plot
from neurobrick.cli.prepare import prepare
from neurobrick.cli.simulate import simulate
from neurobrick.display.signs import replace_signs
from neurobrick.errors import NeurobrickError


class _Group(click.Group):
    """A group whose commands end in one line, not in a traceback, when neurobrick refuses."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        replace_signs()
        return super().main(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NeurobrickError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="neurobrick")
def main() -> None:
    """Bring recordings of neurons and behavior into one kind of store, and slice them.

    \b
    neurobrick prepare dandiset 000128       download, harmonize, store
    neurobrick inspect 000128                what it holds, and what would be kept of it
    neurobrick list                          the sessions that are there
    neurobrick plot SESSION 12 14            look at two seconds of it
    """


COMMANDS = (
    prepare,
    inspect,
    list_sessions,
    info,
    plot,
    verify,
    validate,
    push,
    pull,
    simulate,
    completion,
)
for command in COMMANDS:
    main.add_command(command)
