"""How few labels does a decoder need on a new session, by each way of adapting?

Simulates subjects with different tuning, and trains one decoder on all sessions but the last
subject and the last day of each subject. Each held-out session is then learned separately, by each
way and from few to all labels of its training split. Compared: test R², beside a decoder from
scratch and the baselines with the same labels. Checks the claims of docs/adapting.md, writes the
figure that is shown there, and prints the tables.

    python benchmarks/adaptation.py [--subjects 5] [--days 5] [--minutes 10] [--steps 6000]
                                    [--seed 0] [--label-seeds 1] [--jobs 2] [--folder DIR]

A benchmark that was killed continues with the runs that are in its folder.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import date
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import click
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.progress import track

from neurobrick.simulate import LAYOUTS
from neurobrick.simulate.sessions import Simulation
from neurobrick_model import Recipe, Trainer, adapt
from neurobrick_model.report import figures, label_efficiency
from neurobrick_model.report.figures import BASELINE, COLORS, STYLE

TOP = Path(__file__).resolve().parents[1]
RECIPE = TOP / "recipes" / "multisession.yaml"
PICTURE = TOP / "docs" / "images" / "adaptation.svg"
DANDISET, UNITS = "000128", 60

WAYS = ("identify", "unfreeze", "finetune", "scratch")
BASELINES = ("ridge", "kalman", "mlp", "gru")
NAMES = {**label_efficiency.WAYS, **figures.LABELS}
DASHES: tuple[Any, ...] = ("--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))
LABELS = (15.0, 60.0, 300.0, None)  # s; None is all
FEW, SOME = 60.0, 300.0  # s of labels that the claims are about
CLOSE = 0.05  # R²
NEW_DAY, NEW_SUBJECT = "a new day of a known subject", "a new subject"
Score = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """The simulated corpus, the training on it, and the folder of both, below `place`."""

    place: Path
    subjects: int
    days: int
    minutes: float
    steps: int
    seed: int

    @property
    def folder(self) -> Path:
        """The files of these sizes."""
        corpus = f"{self.subjects}-subjects-{self.days}-days-{self.minutes:g}-min"
        return self.place / f"{corpus}-{self.steps}-steps-seed-{self.seed}"

    @property
    def root(self) -> Path:
        """The corpus."""
        return self.folder / "corpus"

    @property
    def runs(self) -> Path:
        """The decoders."""
        return self.folder / "runs"

    @property
    def base(self) -> Path:
        """The pretrained decoder."""
        return self.runs / "base"

    @property
    def simulation(self) -> Simulation:
        """The sessions."""
        return Simulation(
            layout=LAYOUTS[DANDISET],
            subjects=self.subjects,
            units=[UNITS] * self.subjects * self.days,
            minutes=self.minutes,
            seed=self.seed,
        )

    def sessions(self) -> tuple[list[str], dict[str, str]]:
        """The sessions to pretrain on; and the held-out ones, each with its group."""
        simulation = self.simulation
        known, held_out = [], {}
        for number in range(len(simulation.units)):
            subject, day = simulation.subject_and_day(number)
            name = simulation.name(number)
            if subject == self.subjects - 1:
                held_out[name] = NEW_SUBJECT
            elif day == self.days - 1:
                held_out[name] = NEW_DAY
            else:
                known.append(name)
        return known, held_out


@dataclass(frozen=True)
class Case:
    """One adaptation."""

    session: str
    way: str
    labels: float | None
    seed: int

    @property
    def name(self) -> str:
        """The name of its run."""
        amount = "all" if self.labels is None else f"{self.labels:g}s"
        return f"{self.session.rpartition('/')[2]}-{self.way}-{amount}-{self.seed}"


def make_corpus(work: Work) -> None:
    """Simulate and prepare, unless that was done."""
    if (work.root / "catalog").exists():
        return
    files = work.folder / "nwb"
    run("neurobrick", "simulate", files, "--layout", DANDISET, "--units", UNITS,
        "--subjects", work.subjects, "--sessions", work.subjects * work.days,
        "--minutes", work.minutes, "--seed", work.seed)  # fmt: skip
    run("neurobrick", "prepare", "nwb", files, "--dataset", DANDISET, "--root", work.root)


def run(*command: object) -> None:
    """Run a program of this environment."""
    program = Path(sys.executable).with_name(str(command[0]))
    subprocess.run([program, *map(str, command[1:])], check=True)


def pretrain(work: Work, known: Sequence[str]) -> None:
    """Train the decoder that is adapted, unless that was done."""
    if (work.base / "metrics.json").exists():
        return
    settings = {
        "name": work.base.name,
        "runs": work.runs,
        "data.root": work.root,
        "data.sessions": json.dumps(known),
        "training.steps": work.steps,
        "training.seed": work.seed,
    }
    recipe = Recipe.from_yaml(RECIPE, [f"{key}={value}" for key, value in settings.items()])
    Trainer(recipe).fit(resume=True)


def learn(work: Work, case: Case) -> None:
    """Adapt one `case`, and keep its score."""
    torch.set_num_threads(1)
    overrides = [f"runs={work.runs}", f"training.seed={case.seed}"]
    if case.way == "scratch":  # once for all ways, as the labels are the same
        overrides.append(f"baseline.which=[{', '.join(BASELINES)}]")
    recipe = adapt(
        work.base,
        [case.session],
        way=case.way,
        labels=case.labels,
        name=case.name,
        overrides=overrides,
    )
    began = time.process_time()
    metrics = Trainer(recipe).fit(resume=True)
    score = {
        **asdict(case),
        "r2": metrics["mean"]["decoder"],
        "baselines": metrics["mean"]["baselines"],
        "best_step": metrics["training"]["best_step"],
        "steps": metrics["training"]["steps"],
        "cpu_s": time.process_time() - began,
    }
    partial = recipe.folder / ".score.json"
    partial.write_text(json.dumps(score))
    partial.replace(score_file(work, case))


def score_file(work: Work, case: Case) -> Path:
    """The file with the score of a finished run."""
    return work.runs / case.name / "score.json"


def learn_all(work: Work, cases: Sequence[Case], jobs: int) -> list[Score]:
    """Run the adaptations that are missing, `jobs` at a time. Returns all scores."""
    missing = [case for case in cases if not score_file(work, case).exists()]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        learned = [pool.submit(learn, work, case) for case in missing]
        for future in track(as_completed(learned), "adaptations", len(learned)):
            future.result()
    return [json.loads(score_file(work, case).read_text()) for case in cases]


def by_session(scores: Iterable[Score], way: str, labels: float | None) -> dict[str, float]:
    """R² of each session by a way or a baseline and seconds of labels: the mean over seeds."""
    of = "scratch" if way in BASELINES else way
    found: dict[str, list[float]] = {}
    for score in scores:
        if score["way"] == of and score["labels"] == labels:
            r2 = score["baselines"][way] if way in BASELINES else score["r2"]
            found.setdefault(score["session"], []).append(r2)
    return {session: mean(values) for session, values in found.items()}


def claims(scores: Sequence[Score]) -> list[Score]:
    """The claims, and for each session the R² by which a claim holds or fails."""
    identified = {labels: by_session(scores, "identify", labels) for labels in (FEW, SOME)}
    few, everything = (by_session(scores, "scratch", labels) for labels in (FEW, None))
    beats = {name: identified[FEW][name] - few[name] for name in few}
    reaches = {name: identified[SOME][name] - everything[name] for name in everything}
    return [
        {
            "claim": f"identify with {FEW:g} s of labels is above scratch with the same labels",
            "held": {name: difference > 0 for name, difference in beats.items()},
            "difference": beats,
        },
        {
            "claim": f"identify with {SOME:g} s of labels is within {CLOSE} R² of scratch with all",
            "held": {name: difference > -CLOSE for name, difference in reaches.items()},
            "difference": reaches,
        },
    ]


def verdict(claim: Score) -> str:
    """One line on a claim."""
    held, difference = claim["held"].values(), claim["difference"].values()
    return (
        f"{claim['claim']}: held on {sum(held)} of {len(held)} sessions "
        f"(R² difference {min(difference):+.3f} to {max(difference):+.3f}, "
        f"mean {mean(difference):+.3f})"
    )


def grouped(scores: Sequence[Score], held_out: Mapping[str, str]) -> dict[str, list[Score]]:
    """Scores by group of sessions: a new day, or a new subject."""
    return {
        what: [score for score in scores if held_out[score["session"]] == what]
        for what in (NEW_DAY, NEW_SUBJECT)
    }


def markdown(scores: Sequence[Score], held_out: Mapping[str, str]) -> str:
    """A table for each group of sessions: R² by way and labels, mean and worst session, and the
    processor time of a run."""
    lines = []
    for what, own in grouped(scores, held_out).items():
        sessions = len({score["session"] for score in own})
        amounts = [f"{labels:g} s" if labels else "all" for labels in LABELS]
        lines += [f"Sessions of {what} ({sessions}):", ""]
        lines += ["| " + " | ".join(["way", *amounts, f"run, {FEW:g} s"]) + " |"]
        lines += ["|" + "---|" * (len(LABELS) + 2)]
        for way in (*WAYS, *BASELINES):
            found = [by_session(own, way, labels).values() for labels in LABELS]
            cells = [f"{mean(r2):.3f} ({min(r2):.3f})" for r2 in found]
            spent = [s["cpu_s"] for s in own if s["way"] == way and s["labels"] == FEW]
            cells.append(f"{mean(spent):.0f} s" if spent else "")
            lines.append("| " + " | ".join([f"`{way}`" if spent else way, *cells]) + " |")
        lines.append("")
    return "\n".join(lines)


@rc_context(STYLE)
def draw(scores: Sequence[Score], held_out: Mapping[str, str]) -> None:
    """R² against seconds of labels: one line a way, its sessions faint, and one gray line a
    baseline."""
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (what, own) in zip(panels, grouped(scores, held_out).items(), strict=True):
        for name, dashes in zip(BASELINES, DASHES, strict=True):
            _line(panel, own, name, color=BASELINE, ls=dashes, lw=1.3)
        for order, (way, color) in enumerate(zip(WAYS, COLORS, strict=False)):
            style: dict[str, Any] = {"color": color, "zorder": 9 - order}
            for session in by_session(own, way, FEW):
                alone = [score for score in own if score["session"] == session]
                _line(panel, alone, way, **style, lw=0.7, alpha=0.3, label=None)
            _line(panel, own, way, **style, marker="o", ms=4)
        panel.set_xticks(
            range(len(LABELS)), [f"{labels:g}" if labels else "all" for labels in LABELS]
        )
        panel.set_title(f"sessions of {what}", fontsize=10)
        panel.set_xlabel("seconds of labels")
    panels[0].set_ylabel("test R² of hand velocity")
    lines = {line.get_label(): line for line in panels[0].get_lines()}
    names = [NAMES[name] for pair in zip(WAYS, BASELINES, strict=True) for name in pair]
    figure.legend([lines[name] for name in names], names, loc="outside upper center",
                  ncols=len(WAYS), frameon=False)  # fmt: skip
    figure.savefig(PICTURE, metadata={"Date": None})


def _line(panel: Axes, scores: Sequence[Score], way: str, **style: Any) -> None:
    r2 = [mean(by_session(scores, way, labels).values()) for labels in LABELS]
    panel.plot(range(len(LABELS)), r2, **{"label": NAMES[way], **style})


def oracle(work: Work, held_out: Iterable[str]) -> float:
    """Mean R² of an oracle that knows how every unit is tuned."""
    told = json.loads((work.folder / "nwb" / DANDISET / "draft" / "simulation.json").read_text())
    by_name = {one["session"]: one["oracle_r2_reaching"] for one in told["sessions"]}
    return mean(mean(by_name[name].values()) for name in held_out)


@click.command()
@click.option("--subjects", default=5, show_default=True, help="Of which the last is held out.")
@click.option("--days", default=5, show_default=True, help="Sessions of each; so is the last.")
@click.option("--minutes", default=10.0, show_default=True, help="Length of a session.")
@click.option("--steps", default=6000, show_default=True, help="Of pretraining, 32 windows each.")
@click.option("--seed", default=0, show_default=True, help="Of simulation and pretraining.")
@click.option("--label-seeds", default=1, show_default=True, help="Choices of labels, each tried.")
@click.option("--jobs", default=2, show_default=True, help="Adaptations at a time, a core each.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("data/adaptation"),
    show_default=True,
    help="Where corpus and runs are kept.",
)
def main(
    subjects: int,
    days: int,
    minutes: float,
    steps: int,
    seed: int,
    label_seeds: int,
    jobs: int,
    folder: Path,
) -> None:
    """Simulate, pretrain, adapt, print tables and claims."""
    work = Work(folder, subjects, days, minutes, steps, seed)
    known, held_out = work.sessions()
    make_corpus(work)
    pretrain(work, known)
    cases = [Case(*of) for of in product(held_out, WAYS, LABELS, range(label_seeds))]
    scores = learn_all(work, cases, jobs)
    base = json.loads((work.base / "metrics.json").read_text())
    result = {
        "date": str(date.today()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "corpus": {"subjects": subjects, "days": days, "minutes": minutes, "units": UNITS},
        "seed": seed,
        "label_seeds": list(range(label_seeds)),
        "pretraining": {"sessions": len(known), "steps": steps, "r2": base["mean"]["decoder"],
                        "seconds": base["training"]["seconds"]},
        "oracle": oracle(work, held_out),
        "held_out": held_out,
        "claims": claims(scores),
        "scores": scores,
    }  # fmt: skip
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    draw(scores, held_out)
    click.echo(markdown(scores, held_out))
    click.echo(f"{result['date']}, seed {seed}, labels by seeds {result['label_seeds']}; an oracle"
               f" that knows the tuning: {result['oracle']:.3f}")  # fmt: skip
    for claim in result["claims"]:
        click.echo(verdict(claim))


if __name__ == "__main__":
    main()
