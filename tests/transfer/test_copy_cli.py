"""push, pull, and what looks at a corpus elsewhere, as people type them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from neurobrick import Dataset
from neurobrick.cli import main
from tests.support.buckets import Bucket, Web

REGULAR = "local/sub-A_ses-regular"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_there_and_back(s3: Bucket, corpus: Dataset, tmp_path: Path) -> None:
    first = run("push", s3.url, "--root", corpus.root)
    assert first.exit_code == 0, first.output
    assert f"✓ {REGULAR}" in first.output
    assert f"{len(corpus)} pushed" in first.output
    again = run("push", s3.url, "--root", corpus.root)
    assert f"0 pushed, 0 B, {len(corpus)} unchanged" in again.output
    listed = run("list", "--root", s3.url)
    assert all(name in listed.output for name in corpus)
    assert run("info", REGULAR, "--root", s3.url).output.startswith(REGULAR)
    assert run("plot", REGULAR, "2", "4", "--root", s3.url, "-o", tmp_path / "x.png").exit_code == 0
    verified = run("verify", "--root", s3.url)
    assert verified.exit_code == 0, verified.output
    back = run("pull", s3.url, REGULAR, "--root", tmp_path / "back", "--json")
    assert [row["status"] for row in json.loads(back.stdout)] == ["copied"]
    assert Dataset(tmp_path / "back").sessions == [REGULAR]


@pytest.mark.slow
def test_verify_finds_what_is_wrong_elsewhere(s3: Bucket, corpus: Dataset) -> None:
    run("push", s3.url, "--root", corpus.root)
    chunk, other = (
        next(k for k in s3.keys() if "ses-regular" in k and k.endswith(end))  # noqa: SIM118
        for end in ("spikes/time/c/0", "spikes/unit/c/0")
    )
    s3.client.put_object(Bucket=s3.name, Key=chunk, Body=b"x")
    s3.client.delete_object(Bucket=s3.name, Key=other)
    found = run("verify", "--root", s3.url)
    assert found.exit_code == 1
    assert "spikes/time/c/0 has 1 bytes" in found.output
    assert "spikes/unit/c/0 is missing" in found.output


def test_lists_of_what_matches(corpus: Dataset) -> None:
    ids = corpus.select(units="rate_hz > 8", behavior='unit == "m"').sessions
    found = run(
        *("list", "--root", corpus.root, "--units", "rate_hz > 8"),
        *("--behavior", 'unit == "m"', "--json"),
    )
    assert [row["session"] for row in json.loads(found.stdout)] == ids
    wrong = run("list", "--root", corpus.root, "--where", "subjekt == 'A'")
    assert wrong.exit_code == 1
    assert "subject" in wrong.output


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("push", "somewhere"), 2, "neurobrick pull"),
        (("push", "s3://no-such-bucket/x"), 1, "no-such-bucket"),
        (("pull", "s3://no-such-bucket/x"), 1, "no-such-bucket"),
        (("pull", "ftp://host/x"), 1, "no kind of storage"),
        (("list", "--root", "s3://no-such-bucket/x"), 1, "no-such-bucket"),
    ],
)
def test_what_cannot_be_says_why(
    s3: Bucket,
    corpus: Dataset,
    tmp_path: Path,
    arguments: tuple[str, ...],
    status: int,
    says: str,
) -> None:
    roots = {"push": corpus.root, "pull": tmp_path / "x"}
    more = ("--root", roots[arguments[0]]) if arguments[0] in roots else ()
    found = run(*arguments, *more)
    assert found.exit_code == status, found.output
    assert says in found.output


@pytest.mark.slow
def test_a_session_that_is_not_there_says_so(s3: Bucket, corpus: Dataset, tmp_path: Path) -> None:
    run("push", s3.url, "--root", corpus.root)
    found = run("pull", s3.url, "nobody/*", "--root", tmp_path / "x")
    assert found.exit_code == 1
    assert "no session matches 'nobody/*'" in found.output
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_web_server_is_read_and_not_written(web: Web, corpus: Dataset) -> None:
    shutil.copytree(corpus.root, web.folder, dirs_exist_ok=True)
    assert run("list", "--root", web.url).exit_code == 0
    assert run("verify", "--root", web.url).exit_code == 0
    refused = run("push", f"{web.url}/new", "--root", corpus.root)
    assert refused.exit_code == 1
    assert "Traceback" not in refused.output
