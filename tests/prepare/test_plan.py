"""Which files become which sessions: ids, globs, files that are named, and what is passed over."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from demo.archive import LoopbackArchive
from neurobrick import Dataset, DatasetSpec, HarmonizeError
from neurobrick.cli import main
from neurobrick.prepare.conduct import prepare
from neurobrick.prepare.plan import Filters, plan, plan_all, session_id
from neurobrick.sources.asset import Asset, select
from neurobrick.sources.local import LocalSource
from neurobrick.sources.source import Gained, uncounted
from neurobrick.sources.web.download import place
from tests.support.archives import on_loopback_only
from tests.support.layouts import regular, write

COMPOSED = unicodedata.normalize("NFC", "sub-Zoë")
DECOMPOSED = unicodedata.normalize("NFD", "sub-Zoë")
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`neurobrick ARGUMENTS --root …`, in this process, without a terminal."""
    on_loopback_only(monkeypatch)

    def run(*arguments: str | Path) -> Result:
        command = [*map(str, arguments), "--root", str(tmp_path / "corpus")]
        return CliRunner().invoke(main, command, catch_exceptions=False)

    return run


def entry(name: str, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> DatasetSpec:
    return DatasetSpec(id=name, title=name, include=include, exclude=exclude)


def touched(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


# Ids


@pytest.mark.parametrize("ending", ["nwb", "mat", "h5", "hdf5", "zarr", "nwb.zarr"])
def test_endings_are_known_in_any_case(ending: str) -> None:
    for cased in (ending, ending.upper(), ending.title()):
        assert session_id("local", f"REC2.{cased}") == "local/REC2"


def test_ids_are_composed_unicode() -> None:
    assert session_id("local", f"{DECOMPOSED}_ses-1.nwb") == f"local/{COMPOSED}_ses-1"
    assert session_id(DECOMPOSED, "a.nwb") == f"{COMPOSED}/a"


def test_globs_match_composed_and_decomposed_names(tmp_path: Path) -> None:
    source = LocalSource([touched(tmp_path / "src", f"{DECOMPOSED}.nwb", "b.nwb")])
    for glob in (f"*{COMPOSED}*", f"*{DECOMPOSED}*"):
        (asset,) = select(source.assets(), [glob], ())
        assert DECOMPOSED in asset.path
    filters = Filters(subjects=[COMPOSED.removeprefix("sub-")])
    assert len(plan(source, entry("x"), tmp_path, filters).jobs) == 1


def test_names_that_look_the_same_are_one_session_and_an_error(tmp_path: Path) -> None:
    folder = touched(tmp_path / "src", f"{DECOMPOSED}.nwb", f"{COMPOSED}.nwb")
    if len(list(folder.iterdir())) < 2:
        pytest.skip("this file system takes them for one name")
    with pytest.raises(HarmonizeError, match="both become session"):
        plan(LocalSource([folder]), entry("x"), tmp_path)


@pytest.mark.slow
def test_a_file_of_any_name_is_prepared_under_a_name_that_is_text(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    try:
        write(tmp_path / "a.nwb", regular).rename(source / os.fsdecode(b"sub-\xe9.nwb"))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    result = run("prepare", "nwb", source)
    assert result.exit_code == 0, result.output
    session = Dataset(tmp_path / "corpus")["local/sub-%E9"]
    assert session.metadata.provenance.path == "sub-%E9.nwb"
    assert run("verify").exit_code == 0
    assert "1 unchanged" in run("prepare", "nwb", source).output


class Odd:
    """A source of an archive whose listing holds one odd path."""

    dataset = "odd"
    spec = None
    title = licence = citation = ""

    def __init__(self, path: str, folder: Path) -> None:
        self.asset = Asset(path, 1, "http://127.0.0.1:9/x", sha256="0" * 64)
        self.folder = folder

    def assets(self) -> list[Asset]:
        return [self.asset]

    def others(self) -> list[Asset]:
        return []

    def fetch(self, asset: Asset, folder: Path, gained: Gained = uncounted) -> Path:
        file = place(folder, asset.path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
        return file

    def remote(self, asset: Asset) -> None:
        return None


@pytest.mark.parametrize(
    "path",
    [
        "\ud800.nwb",
        "a\x00b.nwb",
        "a\nb.nwb",
        "a\\b.nwb",
        "../b.nwb",
        "..",
        "/etc/x.nwb",
        "a" * 300 + ".nwb",
        "[red]x.nwb",
    ],
)
def test_odd_paths_of_an_archive_fail_in_one_line(path: str, tmp_path: Path) -> None:
    root = tmp_path / "top" / "root"
    (outcome,) = prepare([plan(Odd(path, root), entry("odd"), root)], root)
    assert outcome.status in ("failed", "skipped")
    assert "should not be" not in outcome.reason
    assert "\n" not in outcome.reason + outcome.session_id
    assert outcome.session_id.encode()
    assert list((tmp_path / "top").iterdir()) == [root]


# Entries of one dataset


def test_two_entries_that_take_one_file_are_an_error_before_anything_is_done(
    tmp_path: Path,
) -> None:
    source = LocalSource([touched(tmp_path / "src", "a.nwb", "b.nwb")])
    work = [(source, entry("all")), (source, entry("only_a", include=("a*",)))]
    with pytest.raises(HarmonizeError, match=r"entries all and only_a both take a\.nwb"):
        plan_all(work, tmp_path / "root")
    plans = [plan(source, spec, tmp_path / "root") for _, spec in work]
    with pytest.raises(HarmonizeError, match="both take"):
        prepare(plans, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_files_of_two_sources_that_become_one_session_are_named(tmp_path: Path) -> None:
    sources = [LocalSource([touched(tmp_path / name, "a.nwb")]) for name in ("x", "y")]
    with pytest.raises(HarmonizeError, match="both take"):
        plan_all([(source, entry("e")) for source in sources], tmp_path)
    sources[1] = LocalSource([touched(tmp_path / "z", "a.mat")])
    with pytest.raises(HarmonizeError, match=r"a\.nwb and a\.mat would both become"):
        plan_all([(source, entry("e")) for source in sources], tmp_path)


@pytest.mark.slow
def test_entries_that_share_a_dandiset_prepare_each_session_once(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        path = tmp_path / "archive/000999/draft" / f"sub-{name}.nwb"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, regular)
    source = {"dandiset": "000999", "version": "draft"}
    entries = [{"id": f"d{n}", "title": "x", "source": source} for n in "ab"]
    registry = tmp_path / "mine.yaml"
    registry.write_text(json.dumps({"datasets": entries}))
    with LoopbackArchive(tmp_path / "archive") as archive:
        options = ("--manifest", registry, "--instance", archive.api_url)
        for command in (("dandiset", "000999"), ("manifest",), ("manifest", "da", "db")):
            refused = run("prepare", *command, *options)
            assert refused.exit_code == 1
            assert "entries da and db both take sub-a.nwb" in refused.output
            assert not (tmp_path / "corpus").exists()
        twice = run("prepare", "manifest", "da", "da", *options, "--dry-run")
        assert twice.exit_code == 0
        assert "2 assets" in twice.output
        for given, name in zip(entries, "ab", strict=True):
            given["include"] = [f"*sub-{name}*"]  # type: ignore[assignment]
        registry.write_text(json.dumps({"datasets": entries}))
        result = run("prepare", "manifest", *options)
        assert result.exit_code == 0
        assert "2 prepared" in result.output
        assert "not chosen" not in result.output
        assert "2 unchanged" in run("prepare", "dandiset", "000999", *options).output


# Globs, and files that are named


def test_a_file_that_is_named_is_prepared_whatever_the_globs_say(tmp_path: Path) -> None:
    folder = touched(tmp_path / "src", "a_desc-test.nwb", "a_desc-train.nwb")
    train = entry("train", exclude=("*desc-test*",))
    by_folder = plan(LocalSource([folder]), train, tmp_path)
    assert [job.asset.path for job in by_folder.jobs] == ["a_desc-train.nwb"]
    by_name = plan(LocalSource([folder / "a_desc-test.nwb"]), train, tmp_path)
    assert [job.asset.path for job in by_name.jobs] == ["a_desc-test.nwb"]
    assert by_name.passed_over == ()
    filtered = plan(
        LocalSource([folder / "a_desc-test.nwb"]), train, tmp_path, Filters(exclude=["*test*"])
    )
    assert filtered.jobs == ()


def test_a_named_file_goes_to_the_entry_that_takes_it_else_to_the_first(tmp_path: Path) -> None:
    folder = touched(tmp_path / "src", "a.nwb", "b.nwb", "c.nwb")
    source = LocalSource([folder / name for name in ("a.nwb", "b.nwb", "c.nwb")])
    entries = [entry("one", include=("a*",)), entry("two", include=("b*",))]
    plans = plan_all([(source, spec) for spec in entries], tmp_path)
    taken = {job.asset.path: job.spec.id for made in plans for job in made.jobs}
    assert taken == {"a.nwb": "one", "b.nwb": "two", "c.nwb": "one"}


def test_files_that_no_entry_takes_are_counted_once_with_the_rule(tmp_path: Path) -> None:
    source = LocalSource([touched(tmp_path / "src", "a.nwb", "b.nwb", "c.nwb", "d.nwb")])
    entries = [entry("one", include=("a*",)), entry("two", include=("b*",), exclude=("d*",))]
    plans = plan_all([(source, spec) for spec in entries], tmp_path)
    assert [len(made.jobs) for made in plans] == [1, 1]
    groups = [(group.rule, group.paths) for made in plans for group in made.passed_over]
    assert groups == [("include a* of the registry's entry one", ("c.nwb", "d.nwb"))]


@pytest.mark.slow
def test_the_summary_counts_what_each_rule_leaves_out(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "src"
    folder.mkdir()
    for name in ("sub-A_desc-train", "sub-A_desc-test", "sub-B_desc-test", "sub-C_desc-train"):
        write(folder / f"{name}.nwb", regular)
    registry = tmp_path / "mine.yaml"
    mine = {"id": "mine", "title": "x", "exclude": ["*desc-test*"]}
    registry.write_text(json.dumps({"datasets": [mine]}))
    options = ("--dataset", "mine", "--manifest", registry)
    for extra in ((), ("--dry-run",)):
        result = run("prepare", "nwb", folder, *options, "--subject", "A", *extra)
        assert result.exit_code == 0
        lines = result.output.splitlines()
        assert (
            "2 not chosen, by exclude *desc-test* of the registry's entry mine: the first is"
            " sub-A_desc-test.nwb"
        ) in lines
        assert "1 not chosen, by --subject A: the first is sub-C_desc-train.nwb" in lines
    nothing = run("prepare", "nwb", folder, *options, "--subject", "B")
    assert nothing.exit_code == 1
    assert "exclude *desc-test*" in nothing.output
    named = run("prepare", "nwb", folder / "sub-B_desc-test.nwb", *options)
    assert named.exit_code == 0
    assert "1 prepared" in named.output
