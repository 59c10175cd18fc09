"""The report: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from neurobrick_model import figures
from neurobrick_model.embeddings import Map
from neurobrick_model.evaluate import Decoded
from neurobrick_model.page import duration, figure, page, r2, table
from neurobrick_model.recipe import Recipe

SHOWN = 4  # sessions whose traces are drawn
TRACE = 15  # windows of trace drawn of each: a window is the length that the behavior changes in


def render(
    recipe: Recipe,
    metrics: Mapping[str, Any],
    log: Sequence[Mapping[str, float]],
    decoded: Mapping[str, Decoded],
    baseline: Mapping[str, Decoded],
    maps: Sequence[Map],
) -> str:
    """The page: headline, R² by session, decoded traces and movements, embeddings, curves, recipe,
    versions."""
    names, target, unit = metrics["axes"], metrics["target"], metrics["unit"]
    seconds = TRACE * recipe.model.window
    shown = [id for id in decoded if len(decoded[id].time) > 1]
    shown = shown[:: max(1, len(shown) // SHOWN)][:SHOWN]
    parts = [
        _headline(metrics),
        "<h2>R² by session</h2>",
        figure(figures.scores(metrics["sessions"])),
        _table(metrics["sessions"], names),
        f"<h2>Decoded {escape(target)}</h2>",
        '<p class="soft">From the middle of each test split, which training never saw.</p>',
    ]
    for id in shown:
        parts += [
            f"<h3>{escape(id)}</h3>",
            figure(figures.traces(decoded[id], baseline[id], names, target, unit, seconds)),
        ]
    if len(names) == 2:
        parts += [
            "<h2>Movements</h2>",
            '<p class="soft">Each from where the recorded speed rises to where it falls, such as a '
            "reach; put to one start, and colored by where it was headed.</p>",
        ]
        for id in shown:
            parts += [
                f"<h3>{escape(id)}</h3>",
                figure(figures.movements(decoded[id], names, target, unit)),
            ]
    if metrics["readouts"]:
        parts += ["<h2>Further readouts</h2>", *map(_readout, metrics["readouts"])]
    if maps:
        parts += [
            "<h2>Embeddings</h2>",
            '<p class="soft">Units and sessions; the first two principal components.</p>',
            figure(figures.embeddings(maps)),
        ]
    parts += ["<h2>Training</h2>", figure(figures.curves(log)), _training(metrics)]
    parts += [
        f"<details><summary>Recipe</summary><pre>{escape(recipe.to_yaml())}</pre></details>",
        _versions(metrics["versions"]),
    ]
    return page(f"{recipe.name}: decoding {target}", parts)


def _headline(metrics: Mapping[str, Any]) -> str:
    sessions = metrics["sessions"]
    scored = [s for s in sessions if s["decoder"]["r2"] == s["decoder"]["r2"]]
    above = sum(s["decoder"]["r2"] > s["ridge"]["r2"] for s in scored)
    cards = [
        (r2(metrics["mean"]["decoder"]), "mean test R², decoder"),
        (r2(metrics["mean"]["ridge"]), "mean test R², ridge baseline"),
        (f"{above} of {len(scored)}", "sessions above the baseline"),
        (duration(metrics["training"]["seconds"]), f"training on {metrics['training']['device']}"),
    ]
    shown = "".join(
        f'<div class="card{" first" if first else ""}"><b>{value}</b><span>{label}</span></div>'
        for (value, label), first in zip(cards, [True, False, False, False], strict=True)
    )
    units = sum(s["units"] for s in sessions)
    return (
        f"<h1>{escape(metrics['run'])}</h1>"
        f'<p class="soft">{escape(metrics["target"])} ({escape(metrics["unit"])}) decoded from '
        f"{metrics['training']['spikes']:,} spikes of {units:,} units in {len(sessions)} "
        f"session{'s' if len(sessions) != 1 else ''}</p>"
        f'<div class="cards">{shown}</div>'
    )


def _table(sessions: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    heads = [
        "session",
        "units",
        "samples",
        "decoder R²",
        *(f"{name}" for name in names),
        "ridge R²",
        *(f"{name}" for name in names),
        "gain",
    ]
    rows = [
        [
            escape(s["id"]),
            f"{s['units']:,}",
            f"{s['samples']:,}",
            f"<b>{r2(s['decoder']['r2'])}</b>",
            *map(r2, s["decoder"]["axes"]),
            r2(s["ridge"]["r2"]),
            *map(r2, s["ridge"]["axes"]),
            f"{s['decoder']['r2'] - s['ridge']['r2']:+.3f}",
        ]
        for s in sessions
    ]
    return table(heads, rows)


def _readout(readout: Mapping[str, Any]) -> str:
    """One row a session: R² of a behavior, or accuracy of what is discrete, beside guessing."""
    names = ["R²", *readout["axes"]] if readout["axes"] else ["accuracy", "most frequent class"]
    rows = [
        [
            escape(id),
            *map(r2, [one["r2"], *one["axes"]] if readout["axes"] else one.values()),
        ]
        for id, one in readout["sessions"].items()
    ]
    what = escape(readout["unit"]) or f"{len(readout['classes'])} classes"
    return f"<h3>{escape(readout['name'])} ({what})</h3>" + table(["session", *names], rows)


def _training(metrics: Mapping[str, Any]) -> str:
    training = metrics["training"]
    ranks = f"{training['ranks']} × " if training["ranks"] > 1 else ""
    warnings = "".join(
        f'<p class="warning">Warning: {escape(line)}.</p>' for line in training["warnings"]
    )
    return warnings + (
        f'<p class="soft">{training["steps"]:,} steps in {duration(training["seconds"])} on '
        f"{ranks}{training['device']}, {training['precision']}, validation included; "
        f"{training['windows_per_second']:,.0f} windows and "
        f"{training['tokens_per_second']:,.0f} tokens a second, "
        f"{training['utilization']:.0%} of the device's measured rate of matrix products; "
        f"{training['parameters']:,} parameters; seed {training['seed']}. "
        f"The weights of step {training['best_step']:,} validated best and are those kept.</p>"
    )


def _versions(versions: Mapping[str, str]) -> str:
    listed = ", ".join(f"{escape(name)} {escape(version)}" for name, version in versions.items())
    return f'<p class="soft">Made with {listed}.</p>'
