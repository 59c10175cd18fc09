"""`neurobrick completion`: what a shell needs to complete commands, sessions and datasets."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, sessions and datasets in SHELL.

    \b
    eval "$(neurobrick completion bash)"     in ~/.bashrc
    eval "$(neurobrick completion zsh)"      in ~/.zshrc
    neurobrick completion fish | source      in ~/.config/fish/config.fish
    """
    found = get_completion_class(shell)
    assert found is not None  # click has all three
    main = context.find_root().command
    click.echo(found(main, {}, "neurobrick", "_NEUROBRICK_COMPLETE").source())
