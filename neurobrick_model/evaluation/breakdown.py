"""The breakdown of scores in `metrics.json`: by part of the recording, session and decoder."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from neurobrick_model.data.corpus import Corpus
from neurobrick_model.data.readouts import Readout
from neurobrick_model.data.scored_parts import Part
from neurobrick_model.evaluation.bootstrap import (
    Assessed,
    assess,
    assess_classes,
    mean,
    trial_groups,
)
from neurobrick_model.evaluation.decoded import Classified, Decoded, of_part

DECODER = "decoder"  # the name of the trained decoder; baselines have names of their own


def break_down(
    corpus: Corpus,
    decoders: Mapping[str, Mapping[str, Decoded]],
    part: Part,
    block: float,
    seed: int,
) -> dict[str, Any]:
    """The scores of one part: by session those of every decoder, and their means over sessions
    (`summary`). `decoders` maps a decoder's name to its decoded samples by session id; all but
    DECODER are baselines.

    `checksum` is that of the times of the samples. Runs with the same checksum score the same
    samples. `trials` is the number of groups that are resampled: trials, and blocks of `block` s
    outside them. All decoders of a session get the same resamples.
    """
    inside = {name: of_part(corpus, decoded, part) for name, decoded in decoders.items()}
    assessed, sessions = [], []
    for row, id in enumerate(corpus.vocabulary.sessions):
        time = next(iter(inside.values()))[id].time
        groups = trial_groups(time, corpus.trials[row], block)
        scores = {
            name: assess(decoded[id].truth, decoded[id].guess, groups, [seed, row])
            for name, decoded in inside.items()
        }
        sessions.append({
            "id": id,
            "samples": len(time),
            "checksum": zlib.crc32(time.tobytes()),
            "trials": int(groups.max(initial=-1)) + 1,
            **_records(scores),
        })  # fmt: skip
        assessed.append(scores)
    return {
        "split": part.split,
        "during": part.during,
        "summary": _records({name: mean([scores[name] for scores in assessed]) for name in inside}),
        "sessions": sessions,
    }


def break_down_readout(
    corpus: Corpus,
    readout: Readout,
    decoded: Mapping[str, Decoded | Classified],
    block: float,
    seed: int,
) -> dict[str, Any]:
    """The scores of a further readout, which only the trained decoder has: by session, and their
    means. Sessions without samples of it are left out."""
    assessed: list[Assessed] = []
    sessions = {}
    for row, id in enumerate(corpus.vocabulary.sessions):
        samples = decoded[id]
        if not len(samples.time):
            continue
        groups = trial_groups(samples.time, corpus.trials[row], block)
        if isinstance(samples, Classified):
            scores = assess_classes(samples.truth, samples.right, groups, [seed, row])
        else:
            scores = assess(samples.truth, samples.guess, groups, [seed, row])
        sessions[id] = {"samples": len(samples.time), **scores.record()}
        assessed.append(scores)
    return {
        **readout.model_dump(mode="json"),
        "summary": mean(assessed).record() if assessed else None,
        "sessions": sessions,
    }


def _records(scores: Mapping[str, Assessed]) -> dict[str, Any]:
    records = {name: assessed.record() for name, assessed in scores.items()}
    return {DECODER: records.pop(DECODER), "baselines": records}
