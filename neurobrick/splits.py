"""Train, valid and test, without leakage.

Splits are disjoint stretches of the recording. A window belongs to a split when it lies wholly
inside one of its stretches. No window of train then holds a sample of valid or test.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from neurobrick.errors import HarmonizeError
from neurobrick.interval_rule import IntervalRule
from neurobrick.intervals import Intervals
from neurobrick.registry import Fractions, SplitSpec

DEFAULT_TRIALS = IntervalRule(table="trials")
DEFAULT_BLOCKS = 5
FEWEST_TRIALS = 10  # of fewer trials, a share of 10 % may be no trial at all


def split(
    spec: SplitSpec, session_id: str, domain: Intervals, tables: Mapping[str, pa.Table]
) -> dict[str, Intervals]:
    """Divide `domain` into `train`, `valid` and `test` as `spec` says.

    The division is drawn from the seed of `spec` and the session's id. It is the same whatever
    other sessions there are.

    A session in which no trial matches `spec.trials` becomes train as a whole: `unmatched` tells
    it. A session in which no trial is test by `spec.test` is an error.

    Raises HarmonizeError if `spec` names a table, column or kind of value that is not there, and
    ValueError if `domain` is unbounded.
    """
    if not np.isfinite(domain.span).all():
        raise ValueError(f"a recording has a start and a stop, unlike {domain.span}")
    within = domain & spec.within.intervals(tables) if spec.within else domain
    rule = _trial_rule(spec, tables)
    if rule is None:
        return by_blocks(within, spec.blocks or DEFAULT_BLOCKS, spec.fractions)
    seed = [spec.seed, zlib.crc32(session_id.encode())]
    return _by_trials(spec, rule, within, tables, np.random.default_rng(seed))


def unmatched(spec: SplitSpec, tables: Mapping[str, pa.Table]) -> str:
    """Which rule of `spec` matches no row of a session, and why; empty if every rule matches.

    Raises HarmonizeError as `split` does.
    """
    rules = [spec.within, _trial_rule(spec, tables)]
    return next((reason for rule in rules if rule and (reason := rule.unmatched(tables))), "")


def _trial_rule(spec: SplitSpec, tables: Mapping[str, pa.Table]) -> IntervalRule | None:
    """The trials that are drawn from; None for blocks instead."""
    if spec.blocks is not None:
        return None
    enough = "trials" in tables and tables["trials"].num_rows >= FEWEST_TRIALS
    return (spec.trials or DEFAULT_TRIALS) if spec.trials or spec.test or enough else None


def by_blocks(within: Intervals, blocks: int, fractions: Fractions) -> dict[str, Intervals]:
    """Cut the span of `within` into `blocks` equal stretches, each into train, valid, test."""
    start, stop = within.span
    edges = np.linspace(start, stop, blocks + 1)
    length = np.diff(edges)
    valid = edges[:-1] + fractions.train * length
    test = edges[:-1] + (fractions.train + fractions.valid) * length
    return {
        "train": within & Intervals(edges[:-1], valid),
        "valid": within & Intervals(valid, test),
        "test": within & Intervals(test, edges[1:]),
    }


def _by_trials(
    spec: SplitSpec,
    rule: IntervalRule,
    within: Intervals,
    tables: Mapping[str, pa.Table],
    rng: np.random.Generator,
) -> dict[str, Intervals]:
    """Draw trials for valid and test, or take the trials that `spec.test` names."""
    start, stop = rule.rows(tables)
    if spec.test:
        named = IntervalRule(
            table=rule.table,
            where={**rule.where, **spec.test},
            start=rule.start,
            stop=rule.stop,
        )
        test_start, test_stop = named.rows(tables)
        if not len(test_start):
            raise HarmonizeError(f"no trial is test: {named.unmatched(tables)}")
        test = Intervals(test_start, test_stop)
        drawn = np.flatnonzero(~np.isin(start, test_start))
        rest = 1 - spec.fractions.test  # where test has all, train has every other trial
        share = spec.fractions.valid / rest if rest > 0 else 0.0
        valid_rows = rng.permutation(drawn)[: round(share * len(drawn))]
    else:
        order = rng.permutation(len(start))
        n_test = round(spec.fractions.test * len(order))
        n_valid = round(spec.fractions.valid * len(order))
        test = Intervals(start[order[:n_test]], stop[order[:n_test]])
        valid_rows = order[n_test : n_test + n_valid]
    # Where trials overlap, the time they share is test rather than valid, valid rather than train.
    test = test & within
    valid = (Intervals(start[valid_rows], stop[valid_rows]) & within) - test
    return {"train": within - test - valid, "valid": valid, "test": test}
