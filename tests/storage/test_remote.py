"""A corpus in the cloud is the one that was pushed, slice for slice, whatever befalls it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from neurobrick import Dataset, FilterError, StoreError
from neurobrick.dataset import loading
from neurobrick.store import damage
from neurobrick.transfer import pull, push
from tests.conftest import prepare_files
from tests.support.buckets import Bucket, Web

REGULAR = "local/sub-A_ses-regular"


@pytest.fixture
def root(tmp_path: Path, corpus: Dataset) -> Path:
    """A copy of the corpus, to change."""
    shutil.copytree(corpus.root, tmp_path / "corpus", ignore=shutil.ignore_patterns(".lock"))
    return tmp_path / "corpus"


def keys_of(bucket: Bucket) -> list[str]:
    return bucket.keys()


def assert_same(ds: Dataset, local: Dataset) -> None:
    assert ds.sessions == local.sessions
    for name in local:
        there, here = ds[name], local[name]
        assert there.metadata == here.metadata
        assert there.units.equals(here.units)
        assert (there.domain, there.splits) == (here.domain, here.splits)
        for t0, t1 in ((-1.0, 5.0), (3.25, 3.5), (0.0, 1e6)):
            mine, theirs = there.slice(t0, t1), here.slice(t0, t1)
            np.testing.assert_array_equal(mine.spikes.times, theirs.spikes.times)
            np.testing.assert_array_equal(mine.spikes.units, theirs.spikes.units)
            assert list(mine.behavior) == list(theirs.behavior)
            for series in mine.behavior:
                for part in ("timestamps", "values"):
                    np.testing.assert_array_equal(
                        getattr(mine.behavior[series], part), getattr(theirs.behavior[series], part)
                    )
            for table in theirs.intervals:
                # As text, where NaN is NaN.
                there_is, here_is = mine.intervals[table], theirs.intervals[table]
                assert str(there_is.to_pylist()) == str(here_is.to_pylist())


@pytest.mark.slow
def test_a_pushed_corpus_is_the_local_one(s3: Bucket, root: Path) -> None:
    copies = push(root, s3.url)
    assert {copy.status for copy in copies} == {"copied"}
    assert_same(Dataset(s3.url), Dataset(root))
    assert {copy.status for copy in push(root, s3.url)} == {"unchanged"}


@pytest.mark.slow
def test_large_sessions_are_read_in_parts(
    s3: Bucket, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(root, s3.url)
    monkeypatch.setattr(loading, "FETCHED_WHOLE", 0)
    assert_same(Dataset(s3.url), Dataset(root))
    # The same where a session would fill the cache.
    assert_same(Dataset(root, cache_bytes=1000), Dataset(root))


@pytest.mark.slow
def test_a_corpus_on_a_web_server_opens_with_one_request(
    root: Path, web: Web, tmp_path: Path
) -> None:
    shutil.copytree(root, web.folder, dirs_exist_ok=True)
    ds = Dataset(web.url)
    assert len(web.asked) == 1
    windows = {name: split.duration for name, split in ds[REGULAR].splits.items()}
    assert len(web.asked) == 1, "splits are in the catalogue"
    assert windows == {n: s.duration for n, s in Dataset(root)[REGULAR].splits.items()}
    assert_same(ds, Dataset(root))


@pytest.mark.slow
def test_a_pulled_part_is_that_part(s3: Bucket, root: Path, tmp_path: Path) -> None:
    push(root, s3.url)
    copies = pull(s3.url, tmp_path / "part", ["local/sub-A_ses-*r*"])
    part = Dataset(tmp_path / "part")
    assert part.sessions == [copy.session_id for copy in copies]
    assert 0 < len(part) < len(Dataset(root))
    for name in part:
        assert damage(tmp_path / "part" / f"{name}.zarr") == []
    assert {c.status for c in pull(s3.url, tmp_path / "part", part.sessions)} == {"unchanged"}
    pull(s3.url, tmp_path / "part")
    assert_same(Dataset(tmp_path / "part"), Dataset(root))
    for copy in (pull, push):
        with pytest.raises(FilterError, match=r"no session matches '000000/\*'"):
            copy(*((s3.url, tmp_path / "part") if copy is pull else (root, s3.url)), ["000000/*"])


@pytest.mark.slow
def test_pushes_of_parts_add_up(s3: Bucket, root: Path) -> None:
    ids = Dataset(root).sessions
    for one in ids:
        push(root, s3.url, [one])
    ds = Dataset(s3.url)
    assert_same(ds, Dataset(root))
    assert ds.catalog.units.num_rows == Dataset(root).catalog.units.num_rows
    tables = [key for key in keys_of(s3) if "/catalog/" in key]
    assert len(tables) == 4, "no table of an older catalogue is left"


@pytest.mark.slow
def test_two_pushes_at_once_both_arrive(s3: Bucket, root: Path) -> None:
    ids = Dataset(root).sessions
    halves = [ids[::2], ids[1::2]]
    threads = [threading.Thread(target=push, args=(root, s3.url, half)) for half in halves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same(Dataset(s3.url), Dataset(root))


@pytest.mark.slow
def test_a_killed_push_leaves_nothing_that_opens_and_goes_on(s3: Bucket, root: Path) -> None:
    push(root, s3.url, [REGULAR])
    program = textwrap.dedent(
        """
        import os, signal, sys, itertools
        from pathlib import Path
        from neurobrick.storage.remote.objects import ObjectStorage
        from neurobrick.transfer import push
        left, write = itertools.count(60, -1), ObjectStorage.write
        def written(self, name, content):
            if next(left) < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            write(self, name, content)
        ObjectStorage.write = written
        push(Path(sys.argv[1]), sys.argv[2])
        """
    )
    command = [sys.executable, "-c", program, str(root), s3.url]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert Dataset(s3.url).sessions == [REGULAR]
    before = len(keys_of(s3))
    copies = push(root, s3.url)
    sent = sum(copy.files for copy in copies)
    assert sent < len(keys_of(s3)), "what had arrived was not sent again"
    assert len(keys_of(s3)) > before
    assert_same(Dataset(s3.url), Dataset(root))


@pytest.mark.slow
def test_a_pull_that_was_broken_off_goes_on(
    root: Path, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root, web.folder, dirs_exist_ok=True)
    here = tmp_path / "here"
    chunk = web.folder / f"{REGULAR}.zarr/spikes/unit/c/0"
    aside = chunk.read_bytes()
    chunk.unlink()
    (failed,) = pull(web.url, here, [REGULAR])
    assert failed.status == "failed"
    assert "spikes/unit/c/0" in failed.reason
    assert Dataset(here).sessions == []
    chunk.write_bytes(aside)
    before = len(web.asked)
    (copied,) = pull(web.url, here, [REGULAR])
    assert copied.status == "copied"
    assert len(web.asked) - before < 10
    assert damage(here / f"{REGULAR}.zarr") == []
    assert [p.name for p in (here / "local").iterdir()] == [f"{REGULAR.partition('/')[2]}.zarr"]


@pytest.mark.slow
def test_a_damaged_file_is_neither_sent_nor_kept(s3: Bucket, root: Path, tmp_path: Path) -> None:
    push(root, s3.url)
    chunk = root / f"{REGULAR}.zarr/spikes/time/c/0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"?")
    (failed,) = push(root, f"{s3.url}-two", [REGULAR])
    assert failed.status == "failed"
    assert "spikes/time/c/0" in failed.reason
    with pytest.raises(StoreError, match="no corpus"):
        Dataset(f"{s3.url}-two")
    key = next(key for key in keys_of(s3) if "ses-regular" in key and key.endswith("time/c/0"))
    s3.client.put_object(Bucket=s3.name, Key=key, Body=chunk.read_bytes())
    (failed,) = pull(s3.url, tmp_path / "here", [REGULAR])
    assert failed.status == "failed"
    assert "does not match its checksum" in failed.reason
    with pytest.raises(StoreError, match="verify"):
        Dataset(s3.url)[REGULAR].spike_arrays()


@pytest.mark.slow
def test_a_session_that_is_replaced_is_the_old_one_or_the_new_one(
    s3: Bucket, root: Path, recording: Path
) -> None:
    push(root, s3.url)
    untouched, touched = Dataset(s3.url), Dataset(s3.url)
    assert touched[REGULAR].intervals["trials"].num_rows
    replace_session(root, recording)
    push(root, s3.url, [REGULAR])
    # One that has read nothing of it reads the new one; one that has is told, and mixes nothing.
    new = untouched[REGULAR].spike_arrays()[0]
    np.testing.assert_array_equal(new, Dataset(root)[REGULAR].spike_arrays()[0])
    with pytest.raises(StoreError, match="open the Dataset again"):
        touched[REGULAR].spike_arrays()
    assert sum("ses-regular" in key and key.endswith("manifest.json") for key in keys_of(s3)) == 1


def replace_session(root: Path, recording: Path) -> None:
    """Prepare the same session of a file whose last unit is silent."""
    changed = root.parent / recording.name
    shutil.copy(recording, changed)
    with h5py.File(changed, "r+") as file:
        ends = file["units/spike_times_index"][:]
        times = file["units/spike_times"][: ends[-2]]
        attributes = dict(file["units/spike_times"].attrs)
        del file["units/spike_times"]
        file["units/spike_times"] = times
        file["units/spike_times"].attrs.update(attributes)
        file["units/spike_times_index"][-1] = ends[-2]
    (outcome,) = prepare_files(root, changed)
    assert outcome.status == "prepared", outcome
