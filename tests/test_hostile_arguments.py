"""Whatever the arguments, the files and the stores: only documented exceptions leave a public call.

These are the exceptions of neurobrick's tree, and ValueError, KeyError and TypeError as such, not
those of the libraries below that derive from them.
"""

from __future__ import annotations

import inspect
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pydantic
import pytest

import neurobrick
from neurobrick import (
    Dataset,
    DatasetSpec,
    IntervalRule,
    Intervals,
    Manifest,
    NeurobrickError,
    SplitSpec,
    StoreError,
    Windows,
    catalog,
)
from neurobrick.dataset.windows import Rank

DOCUMENTED = (ValueError, KeyError, TypeError, pydantic.ValidationError)
HOSTILE: dict[str, Any] = {
    "None": None,
    "a number": 5,
    "a negative number": -1,
    "a fraction": 0.3,
    "nan": math.nan,
    "infinity": math.inf,
    "beyond int64": 2**70,
    "nothing": "",
    "a name": "nope",
    "dots": "../../etc",
    "a null byte": "a\0b",
    "half a letter": "\ud800",
    "lines": "a\nb",
    "bytes": b"\xff",
    "a list": [],
    "a list of text": ["a"],
    "a list of lists": [[1.0], [2.0, 3.0]],
    "a mapping": {},
    "a mapping of None": {None: None},
    "an array": np.zeros((2, 3)),
    "an array of NaN": np.full(2, np.nan),
    "a table": pa.table({"a": [1]}),
    "an expression": pc.field("nowhere") > 1,
    "intervals": Intervals([0.0], [1.0]),
    "an object": object(),
    "a class": Dataset,
}


def leaves(call: Callable[[], Any]) -> BaseException | None:
    """The exception that leaves a call, if it is not documented."""
    try:
        call()
    except NeurobrickError as error:
        return error if "\n" in str(error).replace(HOSTILE["lines"], "") else None
    except Exception as error:
        return None if type(error) in DOCUMENTED else error
    return None


NAME = "local/sub-A_ses-regular"
TRIALS = {"trials": pa.table({"start": [0.0, 1.0], "stop": [0.5, 1.5], "x": ["a", "b"]})}
SET = Intervals([0.0, 2.0], [1.0, 3.0])
LAID = Windows.lay({"a": (np.array([0.0]), np.array([9.0]))})

# Every public call: how it is made, from a dataset, with arguments that it takes.
Call = tuple[Callable[[Dataset], Callable[..., Any]], dict[str, Any]]
CALLS: dict[str, Call] = {
    "Dataset": (lambda ds: Dataset, {"root": "data", "cache_bytes": 0}),
    "Dataset.matching": (lambda ds: ds.matching, {"globs": ["*"]}),
    "Dataset.slice": (lambda ds: ds.slice, {"session_id": NAME, "t0": 0.0, "t1": 1.0}),
    "Dataset.slices": (
        lambda ds: ds.slices,
        {"session_ids": [NAME], "starts": [0.0], "length": 1.0},
    ),
    "Dataset.windows": (
        lambda ds: ds.windows,
        {
            "split": "train",
            "length": 0.5,
            "order": "random",
            "step": 0.5,
            "within": {NAME: SET},
            "seed": 0,
            "rank": 0,
            "world_size": 1,
        },
    ),
    "Dataset.select": (
        lambda ds: ds.select,
        dict.fromkeys(("sessions", "units", "trials", "behavior"), None),
    ),
    "Dataset.__getitem__": (lambda ds: ds.__getitem__, {"session_id": NAME}),
    "Dataset.__contains__": (lambda ds: ds.__contains__, {"session_id": NAME}),
    "Catalog.filter": (lambda ds: ds.catalog.filter, {"name": "units", "where": "spikes > 0"}),
    "Catalog.dataset": (lambda ds: ds.catalog.dataset, {"name": "units"}),
    "Session.slice": (lambda ds: ds[NAME].slice, {"t0": 0.0, "t1": 1.0}),
    "Session.behavior_arrays": (lambda ds: ds[NAME].behavior_arrays, {"name": "cursor_pos"}),
    "Session.behavior_rows": (lambda ds: ds[NAME].behavior_rows, {"name": "cursor_pos"}),
    "Session.overlapping": (
        lambda ds: ds[NAME].overlapping,
        {"name": "trials", "t0": 0.0, "t1": 1.0},
    ),
    "Session.behavior": (lambda ds: ds[NAME].behavior.__getitem__, {"name": "cursor_pos"}),
    "Session.intervals": (lambda ds: ds[NAME].intervals.__getitem__, {"name": "trials"}),
    "Session.splits": (lambda ds: ds[NAME].splits.__getitem__, {"name": "train"}),
    "Slice.slice": (lambda ds: ds.slice(NAME, 0, 9).slice, {"t0": 1.0, "t1": 2.0}),
    "Slice.bin": (lambda ds: ds.slice(NAME, 0, 9).bin, {"width": 0.1}),
    "Slice.to_xarray": (lambda ds: ds.slice(NAME, 0, 9).to_xarray, {"bin_width": 0.1}),
    "Slice.behavior": (
        lambda ds: ds.slice(NAME, 0, 9).behavior.__getitem__,
        {"name": "cursor_pos"},
    ),
    "Slice.intervals": (lambda ds: ds.slice(NAME, 0, 9).intervals.__getitem__, {"name": "trials"}),
    "SliceBatch.behavior": (
        lambda ds: ds.slices([NAME], [0.0], 1.0).behavior,
        {"name": "cursor_pos"},
    ),
    "Windows.lay": (
        lambda ds: Windows.lay,
        {
            "stretches": {"a": (np.array([0.0]), np.array([9.0]))},
            "order": "trials",
            "length": 1.0,
            "step": 1.0,
            "seed": 0,
            "rank": Rank(),
        },
    ),
    "Windows.epoch": (lambda ds: LAID.epoch, {"number": 0}),
    "Windows.batches": (
        lambda ds: lambda **keys: list(LAID.batches(**keys)),
        {"size": 4, "epoch": 0, "by_session": False, "first": 0},
    ),
    "Intervals": (lambda ds: Intervals, {"start": [0.0], "stop": [1.0]}),
    "Intervals.from_pairs": (lambda ds: Intervals.from_pairs, {"pairs": [(0.0, 1.0)]}),
    "Intervals.contains": (lambda ds: SET.contains, {"times": [0.0]}),
    "Intervals.covers": (lambda ds: SET.covers, {"start": [0.0], "stop": [1.0]}),
    "Intervals.clip": (lambda ds: SET.clip, {"start": 0.0, "stop": 1.0}),
    "Intervals.dilate": (lambda ds: SET.dilate, {"before": 0.1, "after": 0.1}),
    "Intervals.coalesce": (lambda ds: SET.coalesce, {"gap": 0.1}),
    "Intervals.subdivide": (
        lambda ds: SET.subdivide,
        {"length": 0.5, "step": 0.5, "partial": False},
    ),
    "Intervals.split": (
        lambda ds: SET.split,
        {"fractions": [0.5, 0.5], "seed": 0, "length": 0.5},
    ),
    "Intervals.&": (lambda ds: lambda other: SET & other, {"other": SET}),
    "Intervals.|": (lambda ds: lambda other: SET | other, {"other": SET}),
    "Intervals.-": (lambda ds: lambda other: SET - other, {"other": SET}),
    "Intervals.==": (lambda ds: SET.__eq__, {"other": SET}),
    "IntervalRule": (
        lambda ds: IntervalRule,
        {"table": "trials", "where": {"x": ["a"]}, "start": "start", "stop": "stop"},
    ),
    "IntervalRule.rows": (
        lambda ds: lambda **keys: IntervalRule(**keys).rows(TRIALS),
        {"table": "trials", "where": {"x": ["a"]}, "start": "start", "stop": "stop"},
    ),
    "IntervalRule.where": (
        lambda ds: lambda values: IntervalRule(table="trials", where={"x": values}).rows(TRIALS),
        {"values": ["a"]},
    ),
    "IntervalRule.unmatched": (
        lambda ds: (
            lambda values: IntervalRule(table="trials", where={"x": values}).unmatched(TRIALS)
        ),
        {"values": ["a"]},
    ),
    "SplitSpec": (
        lambda ds: lambda **keys: split(SplitSpec.model_validate(keys)),
        {
            "trials": {"table": "trials"},
            "test": {"x": ["a"]},
            "blocks": None,
            "within": None,
            "fractions": {},
            "seed": 0,
        },
    ),
    "DatasetSpec": (
        lambda ds: lambda **keys: DatasetSpec.model_validate(keys),
        {"id": "a", "title": "A", "source": None, "splits": {}},
    ),
    "Manifest.load": (lambda ds: Manifest.load, {"path": Path("nowhere")}),
    "Manifest.named": (lambda ds: Manifest.load().named, {"names": ["mc_maze"]}),
    "Manifest.for_dataset": (lambda ds: Manifest.load().for_dataset, {"dataset": "000128"}),
    "matching": (
        lambda ds: lambda globs: neurobrick.matching(["a/b"], globs),
        {"globs": ["a/*"]},
    ),
}


NOWHERE = {"Dataset", "Manifest.load"}  # calls whose files are not there


def split(spec: SplitSpec) -> dict[str, Intervals]:
    return neurobrick.split(spec, "a/b", SET, TRIALS)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_any_argument_is_taken_or_refused(
    corpus: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each argument in turn is each hostile value."""
    monkeypatch.chdir(tmp_path)
    make, arguments = CALLS[name]
    call = make(corpus)
    call(**arguments) if name not in NOWHERE else None
    for argument in arguments:
        for kind, value in HOSTILE.items():
            error = leaves(lambda a=argument, v=value: call(**{**arguments, a: v}))
            assert error is None, f"{argument} is {kind}: {type(error).__name__}: {error}"


# What takes no arguments, or is data only.
WITHOUT = {
    *("Dataset.sessions", "Session.spike_arrays", "Session.spike_rows", "Slice.to_pandas"),
    *("Slice.to_pynapple", "Intervals.empty", "DatasetSpec.fingerprint", "DatasetSpec.discovered"),
    *("IntervalRule.intervals", "IntervalRule.unmatched_in"),  # as rows, as unmatched
}
DATA = {"BehaviorInfo", "BehaviorSlice", "Spikes", "WindowBatch", "SessionMetadata", "Progress"}


def test_every_public_call_is_tried() -> None:
    missing = []
    for name in neurobrick.__all__:
        public = getattr(neurobrick, name)
        if name in DATA or (isinstance(public, type) and issubclass(public, Exception)):
            continue
        if not isinstance(public, type):
            missing += [name] * (name not in {*CALLS, "split", "__version__"})
            continue
        for method, value in vars(public).items():
            is_method = inspect.isfunction(value) or isinstance(value, classmethod)
            if is_method and not method.startswith("_"):
                full = f"{name}.{method}"
                missing += [full] * (full not in CALLS and full not in WITHOUT)
    assert missing == []


@pytest.mark.parametrize(
    "name", ["nope", "", "ë", "a\0b", "../..", None, 5, b"x", ("a",)], ids=repr
)
def test_the_message_about_a_wrong_name_lists_the_names(corpus: Dataset, name: Any) -> None:
    session = corpus[NAME]
    for mapping in (session.behavior, session.intervals, session.splits, corpus.slice(NAME, 0, 1)
                    .behavior, corpus.slice(NAME, 0, 1).intervals):  # fmt: skip
        assert name not in mapping
        assert mapping.get(name) is None
        with pytest.raises(KeyError, match=f"{next(iter(mapping))}"):
            mapping[name]


def everything(root: Path) -> None:
    """Open a corpus, and read all of it."""
    ds = Dataset(root)
    for table in ("sessions", "units", "trials", "behavior"):
        ds.catalog.filter(table, "session is not None")
    for name in ds:
        session = ds[name]
        for part in ("metadata", "units", "splits", "evaluation", "n_spikes"):
            getattr(session, part)
        window = session.slice(*session.span)
        window.spikes, dict(window.behavior), dict(window.intervals), window.domain
        session.spike_arrays(), window.bin(0.5)
    for order in ("random", "sequential", "trials"):
        ds.windows("train", length=0.5, order=order)  # type: ignore[arg-type]


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0" * 9),
    "random": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    "null": lambda path: path.write_bytes(b"null"),
    "removed": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a loop": lambda path: (path.unlink(), path.symlink_to(path)),
}


@pytest.fixture(scope="module")
def one_session(corpus: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("one")
    shutil.copytree(Path(corpus.root) / f"{NAME}.zarr", root / f"{NAME}.zarr")
    catalog.build(root)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_a_store_error(one_session: Path, tmp_path: Path, damage: str) -> None:
    """Every file of a store and of its catalogue, one after the other."""
    root = tmp_path / "root"
    shutil.copytree(one_session, root)
    everything(root)
    names = [path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file()]
    assert len(names) > 20
    for name in names:
        whole = (root / name).read_bytes()
        DAMAGES[damage](root / name)
        error = leaves(lambda: everything(root))
        assert error is None, f"{name}: {type(error).__name__}: {error}"
        if (root / name).is_dir():
            (root / name).rmdir()
        (root / name).unlink(missing_ok=True)
        (root / name).write_bytes(whole)
    everything(root)


@pytest.mark.parametrize("place", ["nowhere", "file", "empty", "loop", "file/below", "a\0b"])
def test_a_place_without_a_corpus_is_a_store_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    error = leaves(lambda: Dataset(tmp_path / place))
    assert error is None, f"{type(error).__name__}: {error}"
    with pytest.raises((StoreError, ValueError)):
        Dataset(tmp_path / place)
