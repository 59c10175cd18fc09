"""Which series of a file are kept as behavior, and which of them is the decoding target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from math import prod

from neurobrick.errors import CorruptFile, HarmonizeError, UnsupportedFile, listed
from neurobrick.harmonize.ledger import Ledger
from neurobrick.harmonize.names import distinct_names
from neurobrick.readers.raw import RawSeries
from neurobrick.readers.tree import too_long
from neurobrick.registry import BehaviorSpec

# Discovery takes a faster or larger series for a raw signal, and leaves it. A spec can keep it.
MAX_RATE = 5000.0  # Hz
MAX_BYTES = 2**30
MAX_COLUMNS = 4096  # values of one sample; a behavior has fewer

# The usual decoding targets, the most usual first. A name that ends in one of them is meant.
USUAL_TARGETS = ("hand_vel", "finger_vel", "cursor_vel", "velocity", "hand_pos", "position")

# A series that is kept, its spec, and its name in the store.
Chosen = tuple[RawSeries, BehaviorSpec, str]


def choose(
    in_file: Sequence[RawSeries], in_spec: Sequence[BehaviorSpec], ledger: Ledger
) -> list[Chosen]:
    """The series that are kept: those that the spec lists, or without a list, all but raw signals.

    Raises HarmonizeError when the spec lists a series that the file does not have, or gives one
    name twice.
    """
    specs = {spec.path: spec for spec in in_spec}
    missing = specs.keys() - {series.path for series in in_file}
    if missing:
        paths = listed(series.path for series in in_file)
        raise HarmonizeError(f"the spec keeps {listed(sorted(missing))}; the file has: {paths}")
    kept = []
    for series in in_file:
        if not in_spec:
            reason = _left_by_discovery(series)
        else:
            reason = None if series.path in specs else "not listed in the spec"
        reason = reason or _too_wide(series, specs.get(series.path))
        if reason is None:
            kept.append(series)
        else:
            ledger.leave(series.path, reason)
    own_names = distinct_names([series.path for series in kept])
    chosen = []
    for series, own_name in zip(kept, own_names, strict=True):
        spec = specs.get(series.path, BehaviorSpec(path=series.path))
        name = spec.name or own_name
        if too_long(name):
            ledger.leave(
                series.path, f"its name would have {len(name)} letters; name it in the spec"
            )
        else:
            chosen.append((series, spec, name))
    repeated = [name for name, n in Counter(name for _, _, name in chosen).items() if n > 1]
    if repeated:
        raise HarmonizeError(f"two behaviors would be called {repeated[0]!r}: name one in the spec")
    return chosen


def _left_by_discovery(series: RawSeries) -> str | None:
    """Why a series is not kept unless a spec lists it; None if it is kept."""
    if series.rate is not None and series.rate > MAX_RATE:
        return f"sampled at {series.rate:g} Hz, as raw signals are; name it in the spec to keep it"
    size = 8 * prod(series.shape)
    if size > MAX_BYTES:
        return f"{size / 1e9:.1f} GB, as raw signals are; name it in the spec to keep it"
    try:
        for array in series.arrays:
            array.check()
    except (CorruptFile, UnsupportedFile) as error:
        return str(error)
    return None


def _too_wide(series: RawSeries, spec: BehaviorSpec | None) -> str | None:
    """Why a series with very many values a sample is not kept; None if it has fewer."""
    turned = spec is not None and "transpose" in spec.repairs
    shape = series.shape[::-1] if turned else series.shape
    width = prod(shape[1:])
    if width <= MAX_COLUMNS:
        return None
    hint = "" if turned else "; if its time lies along the last axis: repairs: [transpose]"
    return f"{width:,} values a sample{hint}"


def target(
    in_spec: str | None,
    kept: Collection[str],
    beside: Collection[str] = (),
    doubtful: Collection[str] = (),
) -> str | None:
    """The behavior that decoders predict by default: the spec's, or a usual one.

    A series that stands `beside` the data of another, such as its confidence, is the target only if
    the spec says so. So is a `doubtful` one: nothing takes its place but another usual target.

    Raises HarmonizeError when the spec's target is not among the behaviors that are `kept`.
    """
    if in_spec is not None:
        if in_spec not in kept:
            there = listed(kept)
            raise HarmonizeError(f"the spec's target {in_spec!r} is not kept; there is: {there}")
        return in_spec
    names = [name for name in kept if name not in beside and name not in doubtful]
    return _most_usual(names) if doubtful else usual_target(names)


def usual_target(names: Collection[str]) -> str | None:
    """The most usual decoding target among `names`. If none is usual: the only name, if there is
    only one."""
    only = next(iter(names)) if len(names) == 1 else None
    return _most_usual(names) or only


def _most_usual(names: Collection[str]) -> str | None:
    for usual in USUAL_TARGETS:
        for name in names:
            if name.casefold().endswith(usual):
                return name
    return None
