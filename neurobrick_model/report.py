"""The report: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import inf
from typing import Any

from neurobrick_model import figures
from neurobrick_model.baselines import Baseline
from neurobrick_model.evaluate import Decoded
from neurobrick_model.recipe import Recipe
from neurobrick_model.settings import EVALUATION

SHOWN = 4  # sessions whose traces are drawn
CONFIDENCE = "Below each score its 95 % interval, from trials drawn anew with replacement."
TRACE = 15  # windows of trace drawn of each: a window is the length that the behavior changes in

CSS = """
:root { color-scheme: light; --ink: #1f2430; --soft: #5b6475; --line: #e3e7ee; --blue: #2463eb; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f7f9; color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 30px; margin: 0 0 4px; letter-spacing: -.01em; }
h2 { font-size: 19px; margin: 44px 0 10px; }
h3 { font-size: 15px; margin: 26px 0 4px; font-weight: 600; }
p { margin: 6px 0; } .soft { color: var(--soft); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 14px;
  margin: 24px 0; }
.card, figure, details, .table { background: #fff; border: 1px solid var(--line);
  border-radius: 10px; }
.card { padding: 14px 18px; } .card b { display: block; font-size: 28px; line-height: 1.25; }
.card span { color: var(--soft); font-size: 14px; }
.card.first b { color: var(--blue); }
figure { margin: 8px 0; padding: 14px; overflow-x: auto; }
figure svg { display: block; width: 100%; height: auto; min-width: 560px; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 7px 11px; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--line); }
tr + tr td { border-top: 1px solid var(--line); } td { font-variant-numeric: tabular-nums; }
details { padding: 10px 18px; margin: 10px 0; } summary { cursor: pointer; font-weight: 600; }
.ci { color: var(--soft); font-size: 12px; font-weight: 400; display: block; }
.warning { color: #b42318; font-weight: 600; }
pre { overflow-x: auto; font-size: 13px; line-height: 1.45; }
"""


def render(
    recipe: Recipe,
    metrics: Mapping[str, Any],
    log: Sequence[Mapping[str, float]],
    decoded: Mapping[str, Decoded],
    baselines: Mapping[str, Baseline],
) -> str:
    """The page: headline, R² by session, decoded traces, paths, curves, recipe, versions."""
    names, target, unit = metrics["axes"], metrics["target"], metrics["unit"]
    seconds = TRACE * recipe.model.window
    shown = [id for id in decoded if len(decoded[id].time) > 1]
    shown = shown[:: max(1, len(shown) // SHOWN)][:SHOWN]
    best = _best(metrics["mean"]["baselines"])
    parts = [
        _headline(metrics),
        "<h2>R² by session</h2>",
        _figure(figures.scores(metrics["sessions"], list(baselines))),
        _table(metrics["sessions"], list(baselines)),
        f'<p class="soft">{CONFIDENCE}</p>',
        _axes(metrics["sessions"], list(baselines), names),
        _errors(metrics),
        "<h2>Means over sessions</h2>",
        _parts(metrics),
        f"<h2>Decoded {escape(target)}</h2>",
        '<p class="soft">From the middle of each test split, which training never saw.</p>',
    ]
    for id in shown:
        parts += [
            f"<h3>{escape(id)}</h3>",
            _figure(
                figures.traces(
                    decoded[id], best, baselines[best].decoded[id], names, target, unit, seconds
                )
            ),
        ]
    if len(names) == 2:
        parts += ["<h2>Paths</h2>"]
        for id in shown:
            parts += [
                f"<h3>{escape(id)}</h3>",
                _figure(figures.paths(decoded[id], names, target, unit)),
            ]
    if metrics["readouts"]:
        parts += ["<h2>Further readouts</h2>", *map(_readout, metrics["readouts"])]
    parts += ["<h2>Training</h2>", _figure(figures.curves(log)), _training(metrics)]
    parts += [
        f"<details><summary>Recipe</summary><pre>{escape(recipe.to_yaml())}</pre></details>",
        _versions(metrics["versions"]),
    ]
    title = f"{recipe.name}: decoding {target}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _headline(metrics: Mapping[str, Any]) -> str:
    sessions, mean = metrics["sessions"], metrics["mean"]
    gains = [gain for s in sessions if (gain := _gain(s)) == gain]
    best, several = _best(mean["baselines"]), len(mean["baselines"]) > 1
    which = f"{figures.LABELS[best]}, the best baseline" if several else f"{best} baseline"
    cards = [
        (_r2(mean["decoder"]), "mean test R², decoder"),
        (_r2(mean["baselines"][best]), f"mean test R², {which}"),
        (
            f"{sum(gain > 0 for gain in gains)} of {len(gains)}",
            f"sessions above {'every' if several else 'the'} baseline",
        ),
        (_duration(metrics["training"]["seconds"]), f"training on {metrics['training']['device']}"),
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
    return _rows(heads, rows)


def _axes(
    sessions: Sequence[Mapping[str, Any]], baselines: Sequence[str], names: Sequence[str]
) -> str:
    """R² by session and axis, folded away."""
    rows = [
        [
            escape(f"{s['id']}, {axis}"),
            f"<b>{_r2(s['decoder']['axes'][k])}</b>",
            *(_r2(s["baselines"][name]["axes"][k]) for name in baselines),
        ]
        for s in sessions
        for k, axis in enumerate(names)
    ]
    table = _rows(["session, axis", *_labels(baselines)], rows)
    return f"<details><summary>R² by axis</summary>{table}</details>"


def _errors(metrics: Mapping[str, Any]) -> str:
    """RMSE and correlation by session and decoder, folded away."""
    heads = ["session", "decoder", f"RMSE ({metrics['unit']})", "correlation"]
    rows = [
        [escape(s["id"]), label, _score(scores, "rmse"), _score(scores, "correlation")]
        for s in metrics["sessions"]
        for label, scores in _decoders(s)
    ]
    return f"<details><summary>RMSE and correlation</summary>{_rows(heads, rows)}</details>"


def _parts(metrics: Mapping[str, Any]) -> str:
    """Means over sessions of the headline, and of what is scored apart."""
    heads = ["split, during", "sessions", "decoder", "R²", f"RMSE ({metrics['unit']})"]
    rows = [
        [
            escape(f"{part['split']}, {part['during']}"),
            str(sum(one["samples"] > 0 for one in part["sessions"])),
            label,
            *(_score(scores, name) for name in ("r2", "rmse", "correlation")),
        ]
        for part in [{**metrics, "during": EVALUATION}, *metrics["parts"]]
        for label, scores in _decoders(part["summary"])
    ]
    return _rows([*heads, "correlation"], rows)


def _decoders(scored: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The decoder and its baselines, each by its label."""
    named = {"decoder": scored["decoder"], **scored["baselines"]}
    return [(figures.LABELS[name], scores) for name, scores in named.items()]


def _rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; its cells are HTML."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="table"><table><tr>{head}</tr>{body}</table></div>'


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
    names = ["R²", *readout["axes"]] if readout["axes"] else ["accuracy", "most frequent class"]
    rows = [
        [
            escape(id),
            *map(_r2, [one["r2"], *one["axes"]] if readout["axes"] else one.values()),
        ]
        for id, one in readout["sessions"].items()
    ]
    what = escape(readout["unit"]) or f"{len(readout['classes'])} classes"
    return f"<h3>{escape(readout['name'])} ({what})</h3>" + _rows(["session", *names], rows)


def _training(metrics: Mapping[str, Any]) -> str:
    training = metrics["training"]
    ranks = f"{training['ranks']} × " if training["ranks"] > 1 else ""
    warnings = "".join(
        f'<p class="warning">Warning: {escape(line)}.</p>' for line in training["warnings"]
    )
    return warnings + (
        f'<p class="soft">{training["steps"]:,} steps in {_duration(training["seconds"])} on '
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


def _figure(svg: str) -> str:
    return f"<figure>{svg}</figure>"


def _r2(value: float) -> str:
    return f"{value:.3f}" if value == value else "–"


def _score(scores: Mapping[str, Any], name: str) -> str:
    """A score, and below it its interval."""
    shown = _si if name == "rmse" else _r2
    low, high = scores["ci95"][name]
    bounds = f'<span class="ci">{shown(low)} to {shown(high)}</span>' if low == low else ""
    return shown(scores[name]) + bounds


def _si(value: float) -> str:
    return f"{value:.3g}" if value == value else "–"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{seconds:.0f} s"
