"""The command line: parse, call, print.

Exit status: 0 after success; 1 when something failed, and when the trained decoder has no score;
2 for wrong usage, and for a recipe that does not validate. The last line says why.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from rich.console import Console

from neurobrick import NeurobrickError, RecipeError, __version__
from neurobrick_model.console import progress_on, replace_what_cannot_be_encoded, scores
from neurobrick_model.recipe import shipped
from neurobrick_model.recipe.recipe import RECIPE, Recipe
from neurobrick_model.recipe.settings import Way

if TYPE_CHECKING:
    from neurobrick_model.decoding.decoder import Decoder

# Set before torch is loaded. By default, OpenMP's threads wait by spinning. On a machine with other
# work, training is then more than ten times slower, and so is the other work. Sleeping threads cost
# about a fifth of the speed on an idle machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class Commands(click.Group):
    """A group of commands in which `train` is the default: a first argument that is no command is a
    recipe."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = next((arg for arg in args if not arg.startswith("-")), None)
        if first is not None and first not in self.commands:
            args = ["train", *args]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["RECIPE [OPTIONS] | COMMAND …"]


class RecipeFile(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    """A recipe's path, or the name of a shipped recipe."""

    name = "recipe"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        try:
            return shipped.find(str(value))
        except RecipeError as error:
            self.fail(str(error), param, ctx)


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
    """Train spike decoders, and adapt them to new recordings.

    neurobrick-train RECIPE trains the decoder that a recipe describes. A recipe is a YAML file, or
    the name of a shipped one: neurobrick-train recipes lists them. adapt, prune, compare and export
    start from a trained decoder.
    """
    replace_what_cannot_be_encoded()


@main.command()
@click.argument("recipe", type=RecipeFile())
@overrides_option
@resume_option
@force_option
@json_option
def train(
    recipe: Path, overrides: tuple[str, ...], resume: bool, force: bool, as_json: bool
) -> None:
    """Train the decoder that RECIPE describes, and score it on held-out data.

    RECIPE is a YAML file, or the name of a shipped recipe, such as own; a file of that name wins.
    The run's folder, runs/NAME, gets the decoder, its metrics, the log, and the page report.html.

    On several GPUs, and on several machines that share their folders, start it by torchrun:

    \b
        torchrun --nproc-per-node 8 -m neurobrick_model.cli RECIPE

    A run that was stopped or killed goes on with --resume, and ends with the weights that it would
    have had: on a CPU, bit for bit. Its curves: tensorboard --logdir runs
    """
    try:
        settings = Recipe.from_yaml(recipe, overrides)
    except RecipeError as error:
        raise click.UsageError(str(error)) from error
    fit(settings, resume, force, as_json)


@main.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the shipped recipes, or print the one called NAME, as a start for one of your own:

    \b
        neurobrick-train recipes own > mine.yaml
    """
    if name is None:
        files = shipped.shipped()
        width = max(map(len, files), default=0)
        for stem, path in files.items():
            click.echo(f"{stem:<{width}}  {shipped.headline(path)}")
        return
    try:
        path = shipped.find(name)
    except RecipeError as error:
        raise click.UsageError(str(error)) from error
    click.echo(path.read_text(encoding="utf-8"), nl=False)


@main.command()
@click.argument("base", metavar="RUN", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--sessions",
    multiple=True,
    default=["*"],
    show_default=True,
    metavar="GLOB",
    help="Sessions to adapt to, repeatable. RUN must not have been trained on them.",
)
@click.option("--root", help="Root of the prepared stores; that of RUN by default.")
@click.option(
    "--way",
    type=click.Choice(get_args(Way)),
    default="identify",
    show_default=True,
    help="identify: train only the embeddings of the new units and sessions; unfreeze: train these "
    "first, then all weights; finetune: train all weights; scratch: train all from fresh weights.",
)
@click.option(
    "--labels",
    metavar="TIME",
    help="Train on at most this much labelled behavior of each session: 60s, 5min.",
)
@click.option("--name", help="Name of the new run; by default it consists of RUN, way and labels.")
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
    """Adapt the decoder in RUN to new sessions, whose units it has never seen.

    This makes a new run, as training does. RUN is not changed. With `identify`, the default, only
    the embeddings of the new units and sessions are trained. This takes a minute on a CPU, and the
    new decoder decodes the sessions of RUN as before.
    """
    from neurobrick_model.adaptation import recipes as adaptation  # loads torch

    try:
        recipe = adaptation.adapt(
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
    """Write the decoder in RUN to the new folder OUT, without some sessions and their units.

    The other sessions are decoded as before.
    """
    from neurobrick_model.decoding.decoder import Decoder
    from neurobrick_model.files import replacing_folder
    from neurobrick_model.training.output.run_folder import RUN

    try:
        decoder = Decoder.load(run).prune(sessions)
        with replacing_folder(out, (), force=False) as folder:
            decoder.save(folder)
            for name in (RECIPE, RUN):  # adapting reads the recipe; run.json says where it is from
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
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def compare(runs: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Compare finished runs on one page: R² against seconds of labels, for each way of adapting,
    with the baselines.

    Runs are compared with each other if they were scored on the same sessions.
    """
    try:
        from neurobrick_model.files import to_json
        from neurobrick_model.report import comparison  # loads matplotlib

        compared = comparison.compare(runs, out)
    except NeurobrickError as error:
        raise click.ClickException(str(error)) from error
    click.echo(to_json(compared) if as_json else f"comparison: {out}")


def fit(recipe: Recipe, resume: bool, force: bool, as_json: bool) -> None:
    """Train `recipe`, and print the scores. Raises ClickException when that fails, and when the
    decoder has no score."""
    console = Console(highlight=False, stderr=as_json)
    try:
        from neurobrick_model.files import to_json  # loads torch
        from neurobrick_model.training.trainer import Trainer

        with progress_on(console) as progress:
            trainer = Trainer(recipe, progress=progress)
            metrics = trainer.fit(resume=resume, force=force)
    except NeurobrickError as error:
        raise click.ClickException(str(error)) from error
    if not metrics:  # on all ranks but the first
        return
    if as_json:
        click.echo(to_json(metrics))
    else:
        console.print(scores(metrics))
        report = trainer.recipe.folder / "report.html"
        console.print(f"report: {report}", markup=False, soft_wrap=True)
    if not math.isfinite(metrics["mean"]["decoder"]):
        reasons = [line for line in metrics["training"]["warnings"] if "has no test R²" in line]
        raise click.ClickException("no session has a test R²: " + "; ".join(reasons))


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
    help="Its training divided the behavior by this, in SI units: one value, or one for each axis. "
    "The published models divide velocities by 20 cm/s: 0.2.",
)
@click.option(
    "--mean",
    multiple=True,
    default=(0.0,),
    show_default=True,
    type=float,
    help="Its training subtracted this from the behavior first, in SI units.",
)
@click.option("--axis", "axes", multiple=True, help="Name of each axis; x, y, z by default.")
@click.option(
    "--window",
    type=float,
    help="Length of a window in seconds, if the checkpoint does not hold it.",
)
@click.option(
    "--latent-step", type=float, help="Seconds between latents, if the checkpoint does not hold it."
)
@click.option(
    "--sessions",
    type=click.File(encoding="utf-8"),
    help='JSON: {"our session id": "its id", …}, or {"session": "its id", "units": ["its unit id", '
    "…]} with units in the order of our units table.",
)
@click.option("--force", is_flag=True, help="Replace a decoder that was imported to FOLDER before.")
def import_(checkpoint: Path, folder: Path, force: bool, **supplement: Any) -> None:
    """Convert CHECKPOINT, a POYO that torch_brain trained, to a decoder in FOLDER.

    Sizes are read from the checkpoint; the options give the rest. Nothing in the file is executed:
    it may hold tensors and plain values only.
    """
    try:
        given = {name: value for name, value in supplement.items() if value is not None}
        if "sessions" in given:
            given["sessions"] = json.load(given["sessions"])
    except ValueError as error:
        raise click.UsageError(f"--sessions is not JSON: {error}") from error
    try:
        from neurobrick_model.exchange import export, torch_brain

        decoder, notes = torch_brain.load(checkpoint, torch_brain.Supplement.of(**given))
        export.write(decoder, folder, folder.resolve().name, notes, force=force)
    except NeurobrickError as error:
        raise click.ClickException(str(error)) from error
    _print_decoder(decoder, folder)


@main.command("export")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--program",
    is_flag=True,
    help="Also write a .pt2 file of torch.export, which needs torch alone.",
)
@click.option("--force", is_flag=True, help="Replace an earlier export in FOLDER.")
def export_(run: Path, folder: Path, program: bool, force: bool) -> None:
    """Write the decoder in RUN to FOLDER: safetensors, JSON, and a model card."""
    try:
        from neurobrick_model.exchange.export import export

        decoder = export(run, folder, program=program, force=force)
    except NeurobrickError as error:
        raise click.ClickException(str(error)) from error
    _print_decoder(decoder, folder)


def _print_decoder(decoder: Decoder, folder: Path) -> None:
    spec = decoder.spec
    click.echo(
        f"{folder}: decodes {spec.target} of {len(spec.sessions)} sessions, "
        f"{spec.vocabulary.n_units:,} units"
    )


if __name__ == "__main__":
    main()
