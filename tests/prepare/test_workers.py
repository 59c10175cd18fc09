"""Where jobs are carried out: what a crash, a loop, a kill or Ctrl-C does, and does not do.

And what a system does that lets no worker start."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from demo.archive import Faults, LoopbackArchive
from demo.loopback import Handler
from neurobrick import Dataset, NeurobrickError
from neurobrick.prepare.conduct import prepare
from neurobrick.prepare.plan import Job, Outcome, plan
from neurobrick.prepare.workers import dask_cluster, processes
from neurobrick.registry import DatasetSpec
from neurobrick.sources.local import LocalSource
from neurobrick.store import damage
from tests.support.layouts import regular, write

pytestmark = pytest.mark.slow

N_SESSIONS = 12
N_KILLS = 40


def crash(job: Job) -> Outcome:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def loop(job: Job) -> Outcome:
    while True:
        pass


def answer(job: Job) -> Outcome:
    return job.outcome("prepared")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that prepare."""
    folder = tmp_path_factory.mktemp("recordings")
    for k in range(N_SESSIONS):
        write(folder / f"sub-A_ses-{k}.nwb", regular, seed=k)
    return folder


@pytest.fixture
def job(recordings: Path, tmp_path: Path) -> Job:
    source = LocalSource([recordings / "sub-A_ses-0.nwb"])
    (job,) = plan(source, DatasetSpec.discovered("local"), tmp_path / "corpus").jobs
    return job


def test_a_crash_and_a_loop_cost_one_job_each(job: Job) -> None:
    small = replace(job, asset=replace(job.asset, size=0))
    with processes(2) as submit:
        futures = [submit(f, small) for f in (answer, crash, answer, loop, answer)]
        errors = [future.exception(timeout=60) for future in futures]
    assert [error is None for error in errors] == [True, False, True, False, True]


def test_files_that_crash_a_worker_are_said_and_the_others_prepared(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(LocalSource([recordings]), DatasetSpec.discovered("local"), tmp_path)

    with processes(2) as submit:
        outcomes = prepare(
            [made],
            tmp_path,
            submit=lambda function, job, *more: (
                submit(crash, job)
                if job.session_id.endswith("-3")
                else submit(function, job, *more)
            ),
        )
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    assert [outcome.session_id for outcome in failed] == ["local/sub-A_ses-3"]
    assert "crash" in failed[0].reason
    assert len(Dataset(tmp_path)) == N_SESSIONS - 1


def refuse(error: Exception) -> Callable[..., None]:
    def refused(*_: object, **__: object) -> None:
        raise error

    return refused


NO_PROCESS = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ("multiprocessing.context.SpawnContext.Lock", READ_ONLY, "/dev/shm: Read-only file system"),
        ("multiprocessing.context.SpawnContext.Lock", ImportError("no sem_open"), "no sem_open"),
        ("multiprocessing.context.SpawnProcess.start", NO_PROCESS, "temporarily unavailable"),
        ("multiprocessing.context.SpawnContext.Pipe", READ_ONLY, "Read-only file system"),
        ("threading.Thread.start", RuntimeError("can't start new thread"), "new thread"),
    ],
)
def test_workers_that_cannot_start_end_in_one_line(
    call: str,
    error: Exception,
    said: str,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = plan(LocalSource([recordings]), DatasetSpec.discovered("local"), tmp_path)
    monkeypatch.setattr(call, refuse(error))
    with pytest.raises(NeurobrickError) as caught, processes(2) as submit:
        prepare([made], tmp_path, submit=submit)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "cannot write" not in str(caught.value)  # the root is not to blame


def shut(path: Path) -> None:
    path.write_text("#!/bin/sh\n")


def not_a_program(path: Path) -> None:
    path.write_bytes(b"\x00\x01")
    path.chmod(0o755)


def ends_at_once(path: Path) -> None:
    path.write_text("#!/bin/sh\nexit 3\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "No such file or directory"),
        (shut, "Permission denied"),
        (not_a_program, "Exec format error"),
        (ends_at_once, "ends with status 3"),
    ],
    ids=["absent", "shut", "no-program", "ends"],
)
def test_an_interpreter_that_cannot_be_run_is_named(
    make: Callable[[Path], None],
    said: str,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    python = tmp_path / "python"
    make(python)
    made = plan(LocalSource([recordings]), DatasetSpec.discovered("local"), tmp_path / "root")
    monkeypatch.setattr("multiprocessing.spawn._python_exe", os.fsencode(python))
    with pytest.raises(NeurobrickError) as caught, processes(2) as submit:
        prepare([made], tmp_path / "root", submit=submit)
    assert f"{python}" in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pool_that_breaks_later_ends_all_that_wait(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    with processes(1) as submit:
        assert submit(answer, job).result(timeout=60)
        monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", refuse(NO_PROCESS))
        futures = [submit(f, job) for f in (crash, answer, answer)]
        errors = [future.exception(timeout=60) for future in futures]
    assert all(error is not None for error in errors)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "neurobrick", *map(str, arguments)]


def tree(root: Path) -> dict[str, bytes]:
    """Every file of every store under `root`."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.glob("*/*.zarr/**/*"))
        if path.is_file()
    }


def assert_whole_and_nothing_stale(root: Path, n_sessions: int) -> None:
    ds = Dataset(root)
    assert len(ds) == n_sessions
    for session in ds:
        assert damage(root / f"{session}.zarr") == []
    stores = {root / f"{session}.zarr" for session in ds}
    (dataset,) = {store.parent for store in stores}
    assert set(dataset.iterdir()) == stores
    there = {path.name for path in root.iterdir()} - {"downloads", ".lock"}
    assert there == {"catalog", dataset.name}
    assert {path.name for path in (root / "catalog").iterdir()} == {
        "manifest.json",
        *(f"{name}.parquet" for name in ("sessions", "units", "trials", "behavior")),
    }
    assert not list((root / "downloads").rglob("*.part"))


@pytest.fixture(scope="module")
def archive_folder(tmp_path_factory: pytest.TempPathFactory, recordings: Path) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    shutil.copytree(recordings, folder / "000999" / "draft" / "sub-A")
    return folder


def test_after_kills_at_any_moment_the_same_command_completes(
    archive_folder: Path, tmp_path: Path
) -> None:
    rng = random.Random(0)
    root = tmp_path / "corpus"
    with LoopbackArchive(archive_folder) as archive:
        prepare = ("prepare", "dandiset", "000999", "--instance", archive.api_url, "--jobs", 2)
        for attempt in range(N_KILLS):
            if attempt % 8 == 0:  # the beginning, too, is worth interrupting
                shutil.rmtree(root, ignore_errors=True)
            with subprocess.Popen(
                command(*prepare, "--root", root, "--force"),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as run:
                assert run.stdout is not None
                n_finished = rng.randrange(N_SESSIONS)
                for _ in range(n_finished):
                    run.stdout.readline()
                time.sleep(rng.uniform(0, 0.05 if n_finished else 2.0))
                run.kill()
            assert run.returncode == -signal.SIGKILL
            for store in root.glob("*/*.zarr"):
                assert damage(store) == []
        for folder in (root, tmp_path / "whole"):
            last = subprocess.run(
                command(*prepare, "--root", folder), check=False, capture_output=True, text=True
            )
            assert last.returncode == 0, last.stdout + last.stderr
    assert_whole_and_nothing_stale(root, N_SESSIONS)
    assert tree(root) == tree(tmp_path / "whole")


class HalfWay(LoopbackArchive):
    """Hands out half of the files, and the others when it may."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.may, self._handed = threading.Event(), count(1)

    def _hand_out(self, request: Handler) -> None:
        if next(self._handed) > N_SESSIONS // 2:
            self.may.wait(60)
        super()._hand_out(request)


def _hear_ctrl_c() -> None:
    """What a shell starts in the background is deaf to it, and so is all that this starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_leaves_whole_stores_only_and_ends_soon(
    archive_folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "corpus"
    with HalfWay(archive_folder) as archive:
        prepare = ("prepare", "dandiset", "000999", "--instance", archive.api_url, "--jobs", 2)
        run = subprocess.Popen(
            command(*prepare, "--root", root),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_hear_ctrl_c,
        )
        assert run.stdout is not None
        run.stdout.readline()  # the first session is there
        os.killpg(run.pid, signal.SIGINT)
        archive.may.set()
        said, complained = run.communicate(timeout=20)
        assert run.returncode == 1, said
        assert "Aborted" in complained
        assert "Traceback" not in complained
        for store in root.glob("*/*.zarr"):
            assert damage(store) == []
        subprocess.run(command(*prepare, "--root", root), check=True, capture_output=True)
    assert_whole_and_nothing_stale(root, N_SESSIONS)


def test_two_runs_on_one_root_do_not_collide(archive_folder: Path, tmp_path: Path) -> None:
    with LoopbackArchive(archive_folder) as archive:
        prepare = ("prepare", "dandiset", "000999", "--instance", archive.api_url, "--root")
        runs = [
            subprocess.Popen(
                command(*prepare, tmp_path / "corpus"),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for _ in range(2)
        ]
        said = {run.communicate(timeout=60)[0]: run.returncode for run in runs}
    (refused,) = [text for text, status in said.items() if status]
    assert "another neurobrick is at work" in refused
    assert_whole_and_nothing_stale(tmp_path / "corpus", N_SESSIONS)


def test_an_archive_that_fails_and_breaks_off_gives_the_same_stores(
    archive_folder: Path, tmp_path: Path
) -> None:
    faults = {
        "whole": Faults(),
        "failing": Faults(every_nth_503=3, cut_every_nth_body=5),
    }
    for name, fault in faults.items():
        with LoopbackArchive(archive_folder, fault) as archive:
            prepare = ("prepare", "dandiset", "000999", "--instance", archive.api_url)
            run = subprocess.run(
                command(*prepare, "--root", tmp_path / name, "--json"),
                check=True,
                capture_output=True,
                text=True,
            )
        assert {outcome["status"] for outcome in json.loads(run.stdout)} == {"prepared"}
    assert tree(tmp_path / "failing") == tree(tmp_path / "whole")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a local Dask cluster with two worker processes."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_makes_the_same_stores(
    cluster: str, recordings: Path, tmp_path: Path
) -> None:
    run = subprocess.run(
        command("prepare", "nwb", recordings, "--root", tmp_path / "a", "--scheduler", cluster),
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    made = plan(LocalSource([recordings]), DatasetSpec.discovered("local"), tmp_path / "b")
    prepare([made], tmp_path / "b")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert_whole_and_nothing_stale(tmp_path / "a", N_SESSIONS)


@pytest.mark.filterwarnings("ignore")
def test_a_scheduler_that_does_not_answer_is_said() -> None:
    pytest.importorskip("distributed")
    with (
        pytest.raises(NeurobrickError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9"),
        dask_cluster("tcp://127.0.0.1:9"),
    ):
        pass
