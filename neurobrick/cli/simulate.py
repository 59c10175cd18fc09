"""`neurobrick simulate`: dandisets with known ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--layout",
    type=click.Choice(["000128", "000688"]),
    default="000128",
    show_default=True,
    help="Dandiset with the layout of the files.",
)
@click.option(
    "--sessions",
    type=click.IntRange(1, 1000),
    default=4,
    show_default=True,
    help="Of all subjects.",
)
@click.option(
    "--subjects",
    type=click.IntRange(1, 8),
    default=1,
    show_default=True,
    help="Monkeys among which the sessions are divided; each is tuned in its own way.",
)
@click.option(
    "--units", type=click.IntRange(1, 500), default=60, show_default=True, help="Units a session."
)
@click.option(
    "--minutes",
    type=click.FloatRange(0.5, 240),
    default=5.0,
    show_default=True,
    help="Length of a session.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same data."
)
def simulate(
    folder: Path,
    layout: Any,
    sessions: int,
    subjects: int,
    units: int,
    minutes: float,
    seed: int,
) -> None:
    """Write simulated motor-cortex sessions to FOLDER, as a dandiset of NWB files.

    \b
    neurobrick simulate simulated
    neurobrick simulate simulated --sessions 2 --units 30 --minutes 10

    The ground truth is known: for each session, the R² is printed with which an oracle decodes
    velocity. The oracle knows the tuning of every unit.
    """
    from neurobrick.display.console import console, duration
    from neurobrick.simulate import SimulatedSession
    from neurobrick.simulate import simulate as write

    show = console()

    def done(session: SimulatedSession) -> None:
        show.print(
            f"{session.session}  {session.n_units} units, {session.n_spikes:,} spikes,"
            f" {duration(session.duration_s)}; oracle R² {session.oracle_r2.mean:.3f}"
        )

    try:
        written = write(
            folder,
            layout=layout,
            sessions=sessions,
            subjects=subjects,
            units=units,
            minutes=minutes,
            seed=seed,
            progress=done,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"cannot write {error.filename or folder}: {error.strerror or error}"
        ) from error
    mean = sum(session.oracle_r2.mean for session in written) / len(written)
    show.print(
        f"an oracle that knows the tuning of every unit decodes hand velocity with R² {mean:.3f};"
        f" wrote {folder}/{layout}"
    )
