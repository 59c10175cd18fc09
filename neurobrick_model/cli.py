"""The command line: parse, call, print.

Exit status: 0 trained and scored; 1 something failed, and the last line says why; 2 wrong usage, a
recipe that does not validate included.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.console import Console

from neurobrick import NeurobrickError, RecipeError, __version__
from neurobrick_model.console import scores, watching
from neurobrick_model.recipe.recipe import RECIPE, Recipe
from neurobrick_model.recipe.settings import Way

if TYPE_CHECKING:
    from neurobrick_model.decoding.decoder import Decoder

# Before torch is loaded: threads that wait by spinning starve each other, and whatever else runs
# on the machine, by more than tenfold; asleep they cost an idle machine about a fifth.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class Commands(click.Group):
    """Commands, of which `train` need not be named: what is none of them is a recipe."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = next((arg for arg in args if not arg.startswith("-")), None)
        if named is not None and named not in self.commands:
            args = ["train", *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["RECIPE [OPTIONS] | COMMAND …"]


overrides_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting of the recipe, such as training.steps=100; repeatable.",
)
resume_option = click.option(
    "--resume", is_flag=True, help="Go on from the run's last checkpoint, if it has one."
)
force_option = click.option(
    "--force",
    is_flag=True,
    help="Delete the run that has this name, if there is one, and start anew.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="neurobrick-train")
def main() -> None:
    """Train spike decoders, and take them to new recordings.

    neurobrick-train recipes/multisession.yaml trains the decoder that a recipe describes; the other
    commands start from one that was trained.
    """


@main.command()
@click.argument("recipe", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@overrides_option
@resume_option
@force_option
@json_option
def train(
    recipe: Path, overrides: tuple[str, ...], resume: bool, force: bool, as_json: bool
) -> None:
    """Train the decoder that RECIPE describes, and score it on held-out data.

    Leaves runs/NAME: the decoder, its metrics, the log, and report.html, one page to look at.

    On several GPUs, and on several machines that see the same folders, start it by torchrun:

    \b
        torchrun --nproc-per-node 8 -m neurobrick_model.cli RECIPE

    A run that was stopped, or killed, goes on with --resume and ends with the weights it would have
    had; on a CPU, bit for bit. Watch its curves with: tensorboard --logdir runs
    """
    try:
        settings = Recipe.from_yaml(recipe, overrides)
    except RecipeError as error:
        raise click.UsageError(str(error)) from error
    fit(settings, resume, force, as_json)


@main.command()
@click.argument("base", metavar="RUN", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--sessions",
    multiple=True,
    default=["*"],
    show_default=True,
    metavar="GLOB",
    help="Session ids to adapt to, repeatable; none of them may be known to RUN.",
)
@click.option("--root", help="Root of the prepared stores; that of RUN by default.")
@click.option(
    "--way",
    type=click.Choice(get_args(Way)),
    default="identify",
    show_default=True,
    help="identify: only new units and sessions learn; unfreeze: these first, then all weights; "
    "finetune: all weights; scratch: all weights, from fresh ones.",
)
@click.option("--labels", metavar="TIME", help="Train on so much behavior only, as 60s or 5min.")
@click.option("--name", help="Name of the new run; made of RUN, way and labels by default.")
@overrides_option
@resume_option
@force_option
@json_option
def adapt(
    base: str,
    sessions: tuple[str, ...],
    root: str | None,
    way: Way,
    labels: str | None,
    name: str | None,
    overrides: tuple[str, ...],
    resume: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Take the decoder in RUN to new sessions, whose units it has never seen.

    Leaves a run of its own, as training does; RUN stays as it is. By `identify`, the default, only
    the embeddings of the new units and sessions learn, which takes a minute on a CPU, and the new
    decoder decodes the sessions of RUN as before.
    """
    from neurobrick_model.adaptation import recipes  # torch is loaded when it is needed

    try:
        recipe = recipes.adapt(
            base, sessions, way=way, labels=labels, root=root, name=name, overrides=overrides
        )
    except RecipeError as error:
        raise click.UsageError(str(error)) from error
    except NeurobrickError as error:
        raise click.ClickException(str(error)) from error
    fit(recipe, resume, force, as_json)


@main.command()
@click.argument("run", metavar="RUN", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--sessions", multiple=True, required=True, metavar="GLOB", help="Sessions to drop, repeatable."
)
def prune(run: Path, out: Path, sessions: tuple[str, ...]) -> None:
    """Write the decoder in RUN to the new folder OUT without some of its sessions and their units.

    What it decodes of the others stays as it is.
    """
    from neurobrick_model.decoding.decoder import Decoder
    from neurobrick_model.files import replacing_folder
    from neurobrick_model.training.output.run_folder import RUN

    try:
        decoder = Decoder.load(run).prune(sessions)
        with replacing_folder(out, (), force=False) as folder:
            decoder.save(folder)
            for name in (RECIPE, RUN):  # what adapting starts from, and whence it is
                if (run / name).exists():
                    shutil.copyfile(run / name, folder / name)
    except NeurobrickError as error:
        raise click.ClickException(str(error)) from error
    vocabulary = decoder.spec.vocabulary
    click.echo(f"{out}: {len(vocabulary.sessions)} sessions, {vocabulary.n_units} units")


@main.command()
@click.argument(
    "runs",
    metavar="RUN…",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option(
    "--out",
    default="comparison.html",
    show_default=True,
    metavar="PAGE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page to write.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was compared as JSON.")
def compare(runs: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Compare finished runs on one page: R² against seconds of labels, by way of adapting, with
    the baselines.

    Runs are held against each other where they were scored on the same sessions.
    """
    try:
        from neurobrick_model.files import to_json
        from neurobrick_model.report.comparison import (
            compare,  # matplotlib is loaded when it is needed
        )

        found = compare(runs, out)
    except NeurobrickError as error:
        raise click.ClickException(str(error)) from error
    click.echo(to_json(found) if as_json else f"comparison: {out}")


def fit(recipe: Recipe, resume: bool, force: bool, as_json: bool) -> None:
    """Train as `recipe` says, and print the scores."""
    console = Console(highlight=False, stderr=as_json)
    try:
        from neurobrick_model.adaptation.recipes import resolve  # torch is loaded when it is needed
        from neurobrick_model.files import to_json
        from neurobrick_model.training.trainer import Trainer

        recipe = resolve(recipe)
        with watching(console, recipe.training.steps) as watch:
            metrics = Trainer(recipe, watch=watch).fit(resume=resume, force=force)
    except NeurobrickError as error:
        raise click.ClickException(str(error)) from error
    if not metrics:  # another rank has them
        return
    if as_json:
        click.echo(to_json(metrics))
    else:
        console.print(scores(metrics))
        console.print(f"report: {recipe.folder / 'report.html'}", markup=False, soft_wrap=True)


@main.command("import")
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--target", required=True, help="Behavior that it decodes, such as cursor_vel.")
@click.option("--unit", required=True, help="SI unit of the behavior, such as m/s.")
@click.option("--rate", required=True, type=float, help="Hz at which it is to be decoded.")
@click.option(
    "--std",
    required=True,
    multiple=True,
    type=float,
    help="What its training divided the behavior by, in SI; once, or once for each axis. The "
    "published models divide velocities by 20 cm/s: 0.2.",
)
@click.option(
    "--mean",
    multiple=True,
    default=(0.0,),
    show_default=True,
    type=float,
    help="What its training subtracted before.",
)
@click.option("--axis", "axes", multiple=True, help="Name of each axis; x, y, z by default.")
@click.option("--window", type=float, help="Seconds of a window, if the checkpoint does not tell.")
@click.option("--latent-step", type=float, help="Seconds between latents, likewise.")
@click.option(
    "--sessions",
    type=click.File(encoding="utf-8"),
    help='JSON: {"our session id": "its id", …}, or {"session": "its id", "units": ["its unit id", '
    "…]} with units in the order of our units table.",
)
@click.option("--force", is_flag=True, help="Replace a decoder that was imported to FOLDER before.")
def import_(checkpoint: Path, folder: Path, force: bool, **supplement: Any) -> None:
    """Make a decoder in FOLDER of CHECKPOINT, a POYO that torch_brain trained.

    The sizes are read off the checkpoint; what it does not tell is asked for. Nothing in the file
    is run: it may hold tensors and plain values only.
    """
    try:
        told = {name: value for name, value in supplement.items() if value is not None}
        if "sessions" in told:
            told["sessions"] = json.load(told["sessions"])
    except ValueError as error:
        raise click.UsageError(f"--sessions is not JSON: {error}") from error
    try:
        from neurobrick_model.exchange import export, torch_brain

        decoder, notes = torch_brain.load(checkpoint, torch_brain.Supplement.of(**told))
        export.write(decoder, folder, folder.resolve().name, notes, force=force)
    except NeurobrickError as error:
        raise click.ClickException(str(error)) from error
    _say_what(decoder, folder)


@main.command("export")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--program", is_flag=True, help="Also for torch alone: a .pt2 file of torch.export.")
@click.option("--force", is_flag=True, help="Replace an earlier export in FOLDER.")
def export_(run: Path, folder: Path, program: bool, force: bool) -> None:
    """Write the decoder of RUN to FOLDER: safetensors, JSON, and a model card."""
    try:
        from neurobrick_model.exchange.export import export

        decoder = export(run, folder, program=program, force=force)
    except NeurobrickError as error:
        raise click.ClickException(str(error)) from error
    _say_what(decoder, folder)


def _say_what(decoder: Decoder, folder: Path) -> None:
    spec = decoder.spec
    click.echo(
        f"{folder}: decodes {spec.target} of {len(spec.sessions)} sessions, "
        f"{spec.vocabulary.n_units:,} units"
    )


if __name__ == "__main__":
    main()
