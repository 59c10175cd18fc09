"""`neurobrick completion`: what a shell needs to complete commands, sessions and datasets."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes commands, sessions and datasets.

    \b
    eval "$(neurobrick completion bash)"     in ~/.bashrc
    eval "$(neurobrick completion zsh)"      in ~/.zshrc
    neurobrick completion fish | source      in ~/.config/fish/config.fish
    """
    script = get_completion_class(shell)
    assert script is not None  # click has all three
    main = context.find_root().command
    click.echo(script(main, {}, "neurobrick", "_NEUROBRICK_COMPLETE").source())
