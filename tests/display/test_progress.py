"""What a preparation shows while it runs: lines in a pipe, bars on a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from neurobrick import Progress
from neurobrick.display.progress import closing, not_chosen, preparing
from neurobrick.prepare.conduct import prepare
from neurobrick.prepare.plan import Outcome, PassedOver, plan
from neurobrick.registry import DatasetSpec
from neurobrick.sources.local import LocalSource

DONE = Outcome("a.nwb", "local/a", "prepared", units=3, spikes=1_000, seconds=12.0, size=2_000)
BAD = Outcome("b[1].nwb", "local/b[1]", "failed", "it breaks off")


def shown(*, terminal: bool, downloads: bool = True) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200, highlight=False)
    with preparing(console, downloads=downloads) as progress:
        progress.total("fetching", 1_000_000)
        progress.total("preparing", 2)
        progress.advance("fetching", 400_000)
        progress.advance("preparing")
        progress.finished(DONE)
        progress.finished(BAD)
        progress.finished("something else")
        progress.say("not in the catalogue: local/c")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_pipe_gets_a_line_a_session() -> None:
    assert shown(terminal=False).splitlines() == [
        "✓ local/a  3 units, 1,000 spikes, 12.0 s, 2.0 kB",
        "✗ local/b[1]  failed: it breaks off",
        "⚠ not in the catalogue: local/c",
    ]


def test_a_terminal_gets_bars_too() -> None:
    with_bytes, without = shown(terminal=True), shown(terminal=True, downloads=False)
    for said in (with_bytes, without):
        assert "local/a" in said
        assert "1/2" in said
    assert "0.4/1.0 MB" in with_bytes
    assert "fetching" not in without


def test_a_preparation_tells_its_progress_in_stages(recording: Path, tmp_path: Path) -> None:
    calls: list[tuple[object, ...]] = []

    class Recorded(Progress):
        def total(self, stage: str, amount: int) -> None:
            calls.append(("total", stage, amount))

        def advance(self, stage: str, amount: int = 1, state: str = "") -> None:
            calls.append(("advance", stage, amount))

        def finished(self, item: object) -> None:
            calls.append(("finished", item))

    made = plan(LocalSource([recording]), DatasetSpec.discovered("local"), tmp_path)
    (outcome,) = prepare([made], tmp_path, progress=Recorded())
    assert calls == [
        ("total", "fetching", 0),  # nothing is on another machine
        ("total", "preparing", 1),
        ("advance", "fetching", recording.stat().st_size),
        ("advance", "preparing", 1),
        ("finished", outcome),
    ]


def test_a_store_that_the_catalogue_leaves_out_is_said(recording: Path, tmp_path: Path) -> None:
    lines: list[str] = []

    class Recorded(Progress):
        def say(self, line: str) -> None:
            lines.append(line)

    broken = tmp_path / "local/broken.zarr"
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text("{")
    made = plan(LocalSource([recording]), DatasetSpec.discovered("local"), tmp_path)
    prepare([made], tmp_path, progress=Recorded())
    (line,) = lines
    assert line.startswith("not in the catalogue: ")
    assert "broken" in line


def test_the_summary_counts_by_rule() -> None:
    groups = [PassedOver("exclude *x*", ("x1", "x2")), PassedOver("exclude *x*", ("x3",))]
    assert not_chosen(groups) == ["3 not chosen, by exclude *x*: the first is x1"]
    lines = closing([DONE, BAD], groups).splitlines()
    assert lines[0].startswith("1 prepared, 1 failed: 3 units")
    assert lines[1] == "3 not chosen, by exclude *x*: the first is x1"
    assert lines[-1] == "b[1].nwb: failed: it breaks off"


@pytest.mark.parametrize("outcomes", [[], [BAD]])
def test_a_summary_without_sessions(outcomes: list[Outcome]) -> None:
    assert closing(outcomes).splitlines()[0] in ("nothing to prepare", "1 failed")
