"""Train, valid and test, without leakage.

Splits are disjoint stretches of the recording. A window belongs to a split when it lies wholly
inside one of its stretches, so no training window ever holds a sample of a held-out one.
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
FEWEST_TRIALS = 10  # below which a share of 10 % may be no trial at all


def split(
    spec: SplitSpec, session_id: str, domain: Intervals, tables: Mapping[str, pa.Table]
) -> dict[str, Intervals]:
    """Divide `domain` as `spec` says; drawn from its seed and the session's id, so that a session
    is divided the same way whatever else is prepared with it.

    Raises HarmonizeError if the spec names a table, column or value that is not there.
    """
    within = domain & spec.within.intervals(tables) if spec.within else domain
    if spec.blocks is None:
        rule = spec.trials or DEFAULT_TRIALS
        has_trials = "trials" in tables and tables["trials"].num_rows >= FEWEST_TRIALS
        if spec.trials or spec.test or has_trials:
            seed = [spec.seed, zlib.crc32(session_id.encode())]
            return _by_trials(spec, rule, within, tables, np.random.default_rng(seed))
    return by_blocks(within, spec.blocks or DEFAULT_BLOCKS, spec.fractions)


def by_blocks(within: Intervals, blocks: int, fractions: Fractions) -> dict[str, Intervals]:
    """Cut the span of `within` into `blocks` stretches, and each into train, valid, test."""
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
            raise HarmonizeError(f"no row of {rule.table!r} is test by {spec.test}")
        test = Intervals(test_start, test_stop)
        drawn = np.flatnonzero(~np.isin(start, test_start))
        share = spec.fractions.valid / (1 - spec.fractions.test)
        valid_rows = rng.permutation(drawn)[: round(share * len(drawn))]
    else:
        order = rng.permutation(len(start))
        n_test = round(spec.fractions.test * len(order))
        n_valid = round(spec.fractions.valid * len(order))
        test = Intervals(start[order[:n_test]], stop[order[:n_test]])
        valid_rows = order[n_test : n_test + n_valid]
    # Trials may overlap: what is test is test, and valid gives way.
    test = test & within
    valid = (Intervals(start[valid_rows], stop[valid_rows]) & within) - test
    return {"train": within - test - valid, "valid": valid, "test": test}
