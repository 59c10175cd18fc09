"""The report of a run: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any

from markupsafe import Markup

from neurobrick.errors import listed
from neurobrick_model.baselines.fit_all import Baseline
from neurobrick_model.evaluation.decoded import Decoded
from neurobrick_model.evaluation.metrics import CLASSES, METRICS, Metric, Shown, shown
from neurobrick_model.recipe.recipe import Recipe
from neurobrick_model.recipe.settings import EVALUATION
from neurobrick_model.report import figures, html
from neurobrick_model.report.embedding_maps import Map
from neurobrick_model.report.html import duration, r2

SHOWN = 4  # sessions whose traces are drawn
NAMED = 6  # sessions that a note names
TRACE = 15  # length of a drawn trace, in windows of the model
CONFIDENCE = (
    "Below a score its 95 % interval, by trials, or blocks of time, drawn with replacement."
)

Metrics = Mapping[str, Any]  # the content of metrics.json


def render(
    recipe: Recipe,
    metrics: Metrics,
    log: Sequence[Mapping[str, float]],
    decoded: Mapping[str, Decoded],
    baselines: Mapping[str, Baseline],
    maps: Sequence[Map],
) -> str:
    """The page: headline, scores by session, decoded traces and movements, embeddings, training
    curves, recipe, versions. `decoded` and `baselines` hold the headline's samples."""
    names = list(baselines)
    return html.render(
        "run_report.html.j2",
        metrics=metrics,
        metrics_of={
            "sessions": shown(Shown.SESSIONS),
            "details": shown(Shown.DETAILS),
            "axes": shown(Shown.AXES),
            "classes": list(CLASSES),
        },
        headings=lambda metrics_: [metric.heading(metrics["unit"]) for metric in metrics_],
        cards=_cards(metrics),
        left_out=_left_out(metrics),
        baselines=names,
        labels=[figures.LABELS[name] for name in ("decoder", *names)],
        gains=[r2_gain(session) for session in metrics["sessions"]],
        decoders=lambda scored: [(figures.LABELS[name], one) for name, one in _decoders(scored)],
        parts=[{**metrics, "during": EVALUATION}, *metrics["parts"]],
        missing=_missing(metrics),
        missing_of=_missing_of_readout,
        confidence=CONFIDENCE,
        drawn=_figures(recipe, metrics, log, decoded, baselines, maps),
        training_sentence=_training(metrics["training"]),
        recipe=recipe.to_yaml(),
    )


def _figures(
    recipe: Recipe,
    metrics: Metrics,
    log: Sequence[Mapping[str, float]],
    decoded: Mapping[str, Decoded],
    baselines: Mapping[str, Baseline],
    maps: Sequence[Map],
) -> dict[str, Any]:
    """The page's figures as SVG: traces, and movements where there are two axes, of a few sessions
    by their ids."""
    axes, target, unit = metrics["axes"], metrics["target"], metrics["unit"]
    ids = [id for id in decoded if len(decoded[id].time) > 1]
    ids = ids[:: max(1, len(ids) // SHOWN)][:SHOWN]
    best = _best(metrics["mean"]["baselines"])
    seconds = TRACE * recipe.model.window

    def traces(id: str) -> Markup:
        baseline = (best, baselines[best].decoded[id]) if best else None
        return Markup(figures.traces(decoded[id], baseline, axes, target, unit, seconds))

    def movements(id: str) -> Markup:
        return Markup(figures.movements(decoded[id], axes, target, unit))

    return {
        "scores": Markup(figures.scores(metrics["sessions"], list(baselines))),
        "traces": [(id, traces(id)) for id in ids],
        "movements": [(id, movements(id)) for id in ids] if len(axes) == 2 else [],
        "embeddings": Markup(figures.embeddings(maps)) if maps else None,
        "curves": Markup(figures.curves(log)),
    }


def _cards(metrics: Metrics) -> list[dict[str, str]]:
    """The headline: mean R², that of the best baseline, gains, time."""
    mean, training = metrics["mean"], metrics["training"]
    cards = [{"value": r2(mean["decoder"]), "label": "mean test R², decoder"}]
    if best := _best(mean["baselines"]):
        several = len(mean["baselines"]) > 1
        which = f"{figures.LABELS[best]}, the best baseline" if several else f"{best} baseline"
        gains = [gain for s in metrics["sessions"] if (gain := _gain(s)) == gain]
        cards += [
            {"value": r2(mean["baselines"][best]), "label": f"mean test R², {which}"},
            {
                "value": f"{sum(gain > 0 for gain in gains)} of {len(gains)}",
                "label": f"sessions above {'every' if several else 'the'} baseline",
            },
        ]
    seconds, device = duration(training["seconds"]), training["device"]
    return [*cards, {"value": seconds, "label": f"training on {device}"}]


def _left_out(metrics: Metrics) -> list[str]:
    """A line for each baseline that could not be fitted."""
    reasons = metrics.get("baselines_left_out", {})
    return [f"{figures.LABELS[name]} is left out: {reason}" for name, reason in reasons.items()]


def _decoders(scored: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The scores of the decoder, then of each baseline, by name."""
    yield "decoder", scored["decoder"]
    yield from scored["baselines"].items()


def _best(scores: Mapping[str, float]) -> str:
    """The baseline with the highest score; the first if none has a score, "" if there is none."""
    finite = {name: score if score == score else -inf for name, score in scores.items()}
    return max(finite, key=lambda name: finite[name], default="")


def _gain(session: Mapping[str, Any]) -> float:
    """R² of the decoder less that of the session's best baseline; NaN without baselines."""
    best = max((scores["r2"] for scores in session["baselines"].values()), default=float("nan"))
    return session["decoder"]["r2"] - best


def r2_gain(session: Mapping[str, Any]) -> str:
    """The gain as the report writes it: `+0.123`."""
    return f"{gain:+.3f}" if (gain := _gain(session)) == gain else "–"


def _missing(metrics: Metrics) -> list[str]:
    """Why scores and intervals that the report shows as "–" are missing: a line for each metric and
    reason, with the sessions and decoders."""
    lines: dict[tuple[Metric[Any], str], list[str]] = defaultdict(list)
    for session in metrics["sessions"]:
        for name, scores in _decoders(session):
            for metric, reason in _reasons(scores):
                lines[metric, reason].append(f"{session['id']} {figures.LABELS[name]}")
    for name, scores in _decoders(metrics["summary"]):
        for metric, reason in _reasons(scores):
            lines[metric, reason].append(f"mean {figures.LABELS[name]}")
    return [_line(*key, places) for key, places in lines.items()]


def _missing_of_readout(readout: Mapping[str, Any]) -> list[str]:
    """The same for a further readout."""
    lines: dict[tuple[Metric[Any], str], list[str]] = defaultdict(list)
    for id, scores in readout["sessions"].items():
        for metric, reason in _reasons(scores):
            lines[metric, reason].append(id)
    return [_line(*key, places) for key, places in lines.items()]


def _reasons(scores: Mapping[str, Any]) -> Iterator[tuple[Metric[Any], str]]:
    """The metrics that the report shows and that miss a score or an interval, with the reason."""
    for key, reason in scores.get("missing", {}).items():
        metric = METRICS[key]
        hidden = metric.shown is Shown.NOWHERE
        if not hidden and (metric.shown is not Shown.AXES or reason.startswith("no score")):
            yield metric, reason


def _line(metric: Metric[Any], reason: str, places: Sequence[str]) -> str:
    by_axis = " by axis" if metric.shown is Shown.AXES else ""
    return f"– : {metric.label}{by_axis} of {listed(places, NAMED)}: {reason}"


def _training(training: Mapping[str, Any]) -> str:
    """A sentence on how the decoder was trained. Rates that were not measured are left out."""
    ranks = f"{training['ranks']} × " if training["ranks"] > 1 else ""
    windows, tokens = training["windows_per_second"], training["tokens_per_second"]
    facts = [
        f"{training['steps']:,} steps in {duration(training['seconds'])} on {ranks}"
        f"{training['device']}, {training['precision']}, validation included"
    ]
    if windows is not None and tokens is not None:
        rates = f"{windows:,.0f} windows and {tokens:,.0f} tokens a second"
        if (utilization := training["utilization"]) is not None:
            rates += f", {utilization:.0%} of the device's measured rate of matrix products"
        facts.append(rates)
    facts += [f"{training['parameters']:,} parameters", f"seed {training['seed']}"]
    return f"{'; '.join(facts)}."
