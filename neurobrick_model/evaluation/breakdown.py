"""The breakdown of scores: by part of a session or readout, by session, by decoder."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.readouts import Readout
from neurobrick_model.data.scored_parts import Part
from neurobrick_model.evaluation.decoded import Classified, Decoded, of_part
from neurobrick_model.evaluation.metrics import (
    Assessed,
    Scores,
    assess,
    assess_classes,
    mean,
    trial_groups,
)

DECODER = "decoder"  # what is trained, beside baselines, which have names of their own


def break_down(
    corpus: Corpus,
    decoders: Mapping[str, Mapping[str, Decoded]],
    part: Part,
    block: float,
    seed: int,
) -> dict[str, Any]:
    """What `metrics.json` says of one part, from what each of the `decoders` made of the reported
    samples: the scores of each by session, and as `summary` their means over sessions. All but the
    DECODER are baselines.

    `checksum` is one of the samples' times, by which runs that score the same are known. `trials`
    counts what is resampled: trials, and blocks of `block` s outside them. All decoders of a
    session are given the same resamples.
    """
    held = {name: of_part(corpus, decoded, part) for name, decoded in decoders.items()}
    found, sessions = [], []
    for row, id in enumerate(corpus.vocabulary.sessions):
        samples = next(iter(held.values()))[id].time
        groups = trial_groups(samples, corpus.trials[row], block)
        scores = {
            name: assess(decoded[id].truth, decoded[id].guess, groups, [seed, row])
            for name, decoded in held.items()
        }
        trials = int(groups.max(initial=-1)) + 1
        sessions.append({
            "id": id, "samples": len(samples), "checksum": zlib.crc32(samples.tobytes()),
            "trials": trials, **_records(scores),
        })  # fmt: skip
        found.append(scores)
    return {
        "split": part.split,
        "during": part.during,
        "summary": _records({name: mean([one[name] for one in found]) for name in decoders}),
        "sessions": sessions,
    }


def break_down_readout(
    corpus: Corpus,
    readout: Readout,
    decoded: Mapping[str, Decoded | Classified],
    block: float,
    seed: int,
) -> dict[str, Any]:
    """The same of what the decoder alone tells beside the target: of a behavior its scores, of
    what is discrete its accuracy, and what `guessing` the most frequent class would reach. Sessions
    that have no samples of it are left out."""
    found: list[Assessed[Any]] = []
    sessions = {}
    for row, id in enumerate(corpus.vocabulary.sessions):
        one = decoded[id]
        if not len(one.time):
            continue
        groups = trial_groups(one.time, corpus.trials[row], block)
        more: dict[str, Any] = {}
        scores: Assessed[Any]
        if isinstance(one, Classified):
            scores = assess_classes(one.right, groups, [seed, row])
            more = {"guessing": one.guessing}
        else:
            scores = assess(one.truth, one.guess, groups, [seed, row])
        sessions[id] = {"samples": len(one.time), **scores.record(), **more}
        found.append(scores)
    return {
        **readout.model_dump(mode="json"),
        "summary": mean(found).record() if found else None,
        "sessions": sessions,
    }


def _records(scores: Mapping[str, Assessed[Scores]]) -> dict[str, Any]:
    records = {name: one.record() for name, one in scores.items()}
    return {DECODER: records.pop(DECODER), "baselines": records}
