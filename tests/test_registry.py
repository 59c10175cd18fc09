"""The registry: its entries, and the messages about wrong ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neurobrick import DatasetSpec, Manifest, RecipeError
from neurobrick.sources.dandi import DandiSpec
from neurobrick.sources.zenodo import ZenodoSpec

PINNED = {
    "000127": "0.220113.0359",
    "000128": "0.220113.0400",
    "000129": "0.241017.1444",
    "000130": "0.241017.1448",
    "000138": "0.220113.0407",
    "000139": "0.220113.0408",
    "000140": "0.220113.0408",
    "000688": "0.250122.1735",
    "000070": "0.251218.1714",
}


@pytest.mark.parametrize("spec", Manifest.load().datasets, ids=lambda spec: spec.id)
def test_every_entry_is_pinned_and_cited(spec: DatasetSpec) -> None:
    if isinstance(spec.source, DandiSpec):
        assert spec.source.version == PINNED[spec.source.dandiset]
    else:  # a record of Zenodo never changes
        assert spec.source == ZenodoSpec(zenodo="3854034")
    assert spec.citation
    assert spec.licence
    assert spec.areas
    assert spec.target or spec.id == "dmfc_rsg"


def test_every_dataset_is_listed() -> None:
    sources = [spec.source for spec in Manifest.load().datasets]
    assert {s.dandiset for s in sources if isinstance(s, DandiSpec)} == set(PINNED)
    assert [s.zenodo for s in sources if isinstance(s, ZenodoSpec)] == ["3854034"]


def test_a_dandiset_that_is_not_listed_is_discovered() -> None:
    (spec,) = Manifest.load().for_dataset("000999")
    assert spec.id == "discovered"


def test_the_message_about_an_unknown_name_lists_those_that_there_are() -> None:
    with pytest.raises(RecipeError, match="mc_maze_small"):
        Manifest.load().named(["mc_mase"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("datasets: [{id: a, title: A, targte: x}]", "entry a: targte: extra inputs"),
        ("datasets: [{id: a, title: A}, {id: a, title: B}]", "more than one entry is called a"),
        ("datasets: [{id: a, title: A, source: {dandiset: 128, version: x}}]", "entry a: source"),
        ("datasets: [{id: a", "is not YAML"),
        ("- a", "mapping with the key datasets"),
    ],
)
def test_a_wrong_entry_is_one_line_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        Manifest.load(path)
    message = str(caught.value)
    assert said in message
    assert "\n" not in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe datasets: []", "is not UTF-8 text (at byte 0)"),
        ("datasets: [{id: a, title: Zoë}]".encode("latin-1"), "is not UTF-8 text (at byte 28)"),
        (b"datasets: [{id: a, title: 2024-99-99}]", "is not YAML"),
        (b"[" * 5000, "is not YAML"),
        (b"datasets: {1: 2, [1]: 3}", "is not YAML"),
        (b"a: &a [*a]", "datasets: field required"),
        (b"\x00", "is not YAML"),
        (b"", "mapping with the key datasets"),
        (b"null", "mapping with the key datasets"),
        (b"datasets: 5", "datasets: input should be a valid tuple"),
        (b"datasets: [5]", "entry 1: input should be"),
    ],
)
def test_any_bytes_are_a_registry_or_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        Manifest.load(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_registry_is_utf_8_whatever_the_locale(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes("datasets: [{id: a, title: Läufer ∆x}]".encode(encoding))
    program = "import sys, neurobrick.registry as r, pathlib; \
sys.stdout.buffer.write(r.Manifest.load(pathlib.Path(sys.argv[1])).datasets[0].title.encode())"
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", program, path],
        env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == "Läufer ∆x"


@pytest.mark.parametrize("place", ["nowhere.yaml", ""])
def test_a_registry_that_is_not_there_is_one_line(tmp_path: Path, place: str) -> None:
    with pytest.raises(RecipeError, match="cannot read the registry"):
        Manifest.load(tmp_path / place)


def test_a_spec_that_changes_what_is_stored_changes_its_fingerprint() -> None:
    spec = DatasetSpec(id="a", title="A")
    assert spec.fingerprint() == spec.model_copy(update={"title": "B"}).fingerprint()
    assert spec.fingerprint() != spec.model_copy(update={"target": "x"}).fingerprint()
