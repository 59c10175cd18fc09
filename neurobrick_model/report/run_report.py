"""The report: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from math import inf
from typing import Any

from neurobrick_model.baselines.fit_all import Baseline
from neurobrick_model.evaluation.decoded import Decoded
from neurobrick_model.recipe.recipe import Recipe
from neurobrick_model.recipe.settings import EVALUATION
from neurobrick_model.report import figures
from neurobrick_model.report.embedding_maps import Map
from neurobrick_model.report.html import duration, figure, page, r2, table

SHOWN = 4  # sessions whose traces are drawn
CONFIDENCE = (
    "Below a score its 95 % interval, by trials, or blocks of time, drawn with replacement."
)
TRACE = 15  # windows of trace drawn of each: a window is the length that the behavior changes in


def render(
    recipe: Recipe,
    metrics: Mapping[str, Any],
    log: Sequence[Mapping[str, float]],
    decoded: Mapping[str, Decoded],
    baselines: Mapping[str, Baseline],
    maps: Sequence[Map],
) -> str:
    """The page: headline, R² by session, decoded traces and movements, embeddings, curves, recipe,
    versions."""
    parts = [
        _headline(metrics),
        "<h2>R² by session</h2>",
        figure(figures.scores(metrics["sessions"], list(baselines))),
        _table(metrics["sessions"], list(baselines)),
        f'<p class="soft">{CONFIDENCE}</p>',
        _axes(metrics["sessions"], list(baselines), metrics["axes"]),
        _errors(metrics),
        "<h2>Means over sessions</h2>",
        _parts(metrics),
        *_decoded(metrics, decoded, baselines, TRACE * recipe.model.window),
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
    return page(f"{recipe.name}: decoding {metrics['target']}", parts)


def _decoded(
    metrics: Mapping[str, Any],
    decoded: Mapping[str, Decoded],
    baselines: Mapping[str, Baseline],
    seconds: float,
) -> Iterator[str]:
    """Traces of `seconds`, and movements where there are two axes, of a few sessions."""
    names, target, unit = metrics["axes"], metrics["target"], metrics["unit"]
    shown = [id for id in decoded if len(decoded[id].time) > 1]
    shown = shown[:: max(1, len(shown) // SHOWN)][:SHOWN]
    best = _best(metrics["mean"]["baselines"])
    yield f"<h2>Decoded {escape(target)}</h2>"
    yield '<p class="soft">From the middle of each test split, which training never saw.</p>'
    for id in shown:
        baseline = baselines[best].decoded[id]
        yield f"<h3>{escape(id)}</h3>"
        yield figure(figures.traces(decoded[id], best, baseline, names, target, unit, seconds))
    if len(names) != 2:
        return
    yield "<h2>Movements</h2>"
    yield (
        '<p class="soft">Each from where the recorded speed rises to where it falls, such as a '
        "reach; put to one start, and colored by where it was headed.</p>"
    )
    for id in shown:
        yield f"<h3>{escape(id)}</h3>"
        yield figure(figures.movements(decoded[id], names, target, unit))


def _headline(metrics: Mapping[str, Any]) -> str:
    sessions, mean = metrics["sessions"], metrics["mean"]
    gains = [gain for s in sessions if (gain := _gain(s)) == gain]
    best, several = _best(mean["baselines"]), len(mean["baselines"]) > 1
    which = f"{figures.LABELS[best]}, the best baseline" if several else f"{best} baseline"
    cards = [
        (r2(mean["decoder"]), "mean test R², decoder"),
        (r2(mean["baselines"][best]), f"mean test R², {which}"),
        (
            f"{sum(gain > 0 for gain in gains)} of {len(gains)}",
            f"sessions above {'every' if several else 'the'} baseline",
        ),
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


def _table(sessions: Sequence[Mapping[str, Any]], baselines: Sequence[str]) -> str:
    """R² by session, and how far the decoder is above the best baseline of each."""
    heads = ["session", "units", "samples", "trials", *_labels(baselines), "gain"]
    rows = [
        [
            escape(s["id"]),
            f"{s['units']:,}",
            f"{s['samples']:,}",
            f"{s['trials']:,}",
            f"<b>{_score(s['decoder'], 'r2')}</b>",
            *(_score(s["baselines"][name], "r2") for name in baselines),
            f"{gain:+.3f}" if (gain := _gain(s)) == gain else "–",
        ]
        for s in sessions
    ]
    return table(heads, rows)


def _axes(
    sessions: Sequence[Mapping[str, Any]], baselines: Sequence[str], names: Sequence[str]
) -> str:
    """R² by session and axis, folded away."""
    rows = [
        [
            escape(f"{s['id']}, {axis}"),
            f"<b>{r2(s['decoder']['axes'][k])}</b>",
            *(r2(s["baselines"][name]["axes"][k]) for name in baselines),
        ]
        for s in sessions
        for k, axis in enumerate(names)
    ]
    shown = table(["session, axis", *_labels(baselines)], rows)
    return f"<details><summary>R² by axis</summary>{shown}</details>"


def _errors(metrics: Mapping[str, Any]) -> str:
    """RMSE and correlation by session and decoder, folded away."""
    heads = ["session", "decoder", f"RMSE ({metrics['unit']})", "correlation"]
    rows = [
        [name, label, _score(scores, "rmse"), _score(scores, "correlation")]
        for s in metrics["sessions"]
        for name, label, scores in _decoders(s["id"], s)
    ]
    return f"<details><summary>RMSE and correlation</summary>{table(heads, rows)}</details>"


def _parts(metrics: Mapping[str, Any]) -> str:
    """Means over sessions of the headline, and of what is scored apart."""
    heads = ["split, during", "sessions", "decoder", "R²", f"RMSE ({metrics['unit']})"]
    rows = [
        [
            name,
            str(sum(one["samples"] > 0 for one in part["sessions"])) if name else "",
            label,
            *(_score(scores, what) for what in ("r2", "rmse", "correlation")),
        ]
        for part in [{**metrics, "during": EVALUATION}, *metrics["parts"]]
        for name, label, scores in _decoders(f"{part['split']}, {part['during']}", part["summary"])
    ]
    return table([*heads, "correlation"], rows)


def _decoders(name: str, scored: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The decoder's and each baseline's row of a table: `name` in the first one only, the label,
    and the scores."""
    own = {"decoder": scored["decoder"], **scored["baselines"]}
    for row, (decoder, scores) in enumerate(own.items()):
        yield "" if row else escape(name), figures.LABELS[decoder], scores


def _labels(baselines: Sequence[str]) -> list[str]:
    return [figures.LABELS[name] for name in ("decoder", *baselines)]


def _best(scores: Mapping[str, float]) -> str:
    """The baseline that decodes best; of baselines without scores, the first."""
    return max(scores, key=lambda name: scores[name] if scores[name] == scores[name] else -inf)


def _gain(session: Mapping[str, Any]) -> float:
    """How far the decoder is above the best baseline of a session."""
    return session["decoder"]["r2"] - max(one["r2"] for one in session["baselines"].values())


def _readout(readout: Mapping[str, Any]) -> str:
    """One row a session: R² of a behavior, or accuracy of what is discrete, beside guessing."""
    if readout["axes"]:
        names = ["R²", *readout["axes"]]
        rows = [
            [escape(id), _score(one, "r2"), *map(r2, one["axes"])]
            for id, one in readout["sessions"].items()
        ]
    else:
        names = ["accuracy", "most frequent class"]
        rows = [
            [escape(id), _score(one, "accuracy"), r2(one["guessing"])]
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


def _score(scores: Mapping[str, Any], name: str) -> str:
    """A score, and below it its interval."""
    shown = _si if name == "rmse" else r2
    low, high = scores["ci95"][name]
    bounds = f'<span class="ci">{shown(low)} to {shown(high)}</span>' if low == low else ""
    return shown(scores[name]) + bounds


def _si(value: float) -> str:
    return f"{value:#.3g}" if value == value else "–"
