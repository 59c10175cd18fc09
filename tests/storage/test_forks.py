"""Forked children: nothing is shared that hangs, and what would hang is refused."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from neurobrick import Dataset, StoreError
from neurobrick.storage import Storage, open_storage
from neurobrick.storage.per_process import PerProcess
from neurobrick.storage.remote.objects import ObjectStorage
from neurobrick.store import SessionStore
from neurobrick.store.pool import run_all
from tests.support.buckets import Bucket, Web

HANGS_AFTER = 60  # seconds

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork:DeprecationWarning",
)


def in_process(context: str, work: Callable[..., Any], *args: Any) -> Any:
    """What `work` returns, or the exception it raises, in another process; a hang fails."""
    processes = multiprocessing.get_context(context)
    answers, answer = processes.Pipe(duplex=False)
    process = processes.Process(target=_work, args=(answer, work, args), daemon=True)
    process.start()
    try:
        assert answers.poll(HANGS_AFTER), "it hangs"
        result = answers.recv()
        process.join(HANGS_AFTER)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
        process.close()
        answers.close()
        answer.close()
    return result


def _work(answer: Any, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        answer.send(work(*args))
    except Exception as error:
        answer.send(error)


# One object in each process


def test_each_process_has_its_own_and_threads_share_it() -> None:
    own = PerProcess(object)
    first = own.get()
    others: list[object] = []
    threads = [threading.Thread(target=lambda: others.append(own.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {id(other) for other in others} == {id(first)}
    assert in_process("fork", lambda: own.get() is not first)
    assert own.get() is first


def test_a_grandchild_with_the_id_of_a_dead_ancestor_has_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 4242)  # in this process and all below it
    own = PerProcess(object)
    first = own.get()

    def grandchild() -> bool:
        child_object = own.get()
        return bool(
            in_process("fork", lambda: own.get() is not first and own.get() is not child_object)
        )

    # A daemonic process may not have children by multiprocessing, so this fork is a plain one.
    assert forked(grandchild)


def forked(work: Callable[[], bool]) -> bool:
    """What `work` gives in a plain fork; False when it raises or hangs."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(HANGS_AFTER)
        status = 1
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_threads_decode_in_a_fork_of_a_fork() -> None:
    squares = [partial(pow, k, 2) for k in range(20)]
    assert run_all(squares) == [k**2 for k in range(20)]
    assert forked(lambda: forked(lambda: run_all(squares) == [k**2 for k in range(20)]))


@pytest.fixture
def store(corpus: Dataset, recording: Path) -> SessionStore:
    return SessionStore.at(Path(corpus.root) / f"local/{recording.stem}.zarr")


def test_a_lock_that_a_thread_holds_at_the_fork_is_free_in_the_child(store: SessionStore) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store._lock.get():
            held.set()
            done.wait(HANGS_AFTER)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        n_units = in_process("fork", lambda: store.units().num_rows)
    finally:
        done.set()
        thread.join()
    assert n_units == store.units().num_rows


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_folder_is_read_in_every_kind_of_process(corpus: Dataset, context: str) -> None:
    name = corpus.sessions[0]
    expected = corpus[name].spike_arrays()[0].tolist()
    for dataset in (corpus, Dataset(corpus.root)):  # decoded here, and not
        assert in_process(context, spikes_of, dataset, name) == expected


def spikes_of(dataset: Dataset, name: str) -> list[float]:
    return dataset[name].spike_arrays()[0].tolist()


LOADS_IN_WORKERS = """
import pickle, sys, warnings
from torch.utils.data import DataLoader
from neurobrick import Dataset
warnings.simplefilter("ignore", DeprecationWarning)
dataset = Dataset(sys.argv[1])
expected = [len(dataset[name].spike_arrays()[0]) for name in dataset]

class Sessions:
    def __init__(self, dataset):
        self.dataset = dataset
    def __len__(self):
        return len(self.dataset)
    def __getitem__(self, k):
        return len(self.dataset[self.dataset.sessions[k]].spike_arrays()[0])

for again in (dataset, Dataset(sys.argv[1])):
    loader = DataLoader(
        Sessions(again), 2, num_workers=2, collate_fn=list, timeout=30,
        multiprocessing_context="fork",
    )
    for _ in range(2):
        assert [n for batch in loader for n in batch] == expected
"""


@pytest.mark.slow
def test_forked_workers_of_torch_read_a_folder(corpus: Dataset) -> None:
    pytest.importorskip("torch")
    process = subprocess.Popen(
        [sys.executable, "-c", LOADS_IN_WORKERS, str(corpus.root)],
        start_new_session=True,  # so that workers that hang can be ended with it
    )
    try:
        process.wait(HANGS_AFTER)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == 0


# A remote corpus


@pytest.fixture
def remote(s3: Bucket) -> ObjectStorage:
    """A storage with one file, which this process has read."""
    storage = ObjectStorage(s3.url)
    storage.write("a", b"content")
    assert storage.read("a") == b"content"
    return storage


USES: dict[str, Callable[[Any], object]] = {
    "read": lambda storage: storage.read("a"),
    "read_many": lambda storage: storage.read_many(["a"]),
    "fetch": lambda storage: storage.fetch(["a"], [0]),
    "read_ahead": lambda storage: storage.read_ahead(["a"], [0]),
    "files": lambda storage: storage.files(),
    "write": lambda storage: storage.write("a", b""),
    "delete": lambda storage: storage.delete(["a"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", ["as it was", "with a disk cache", "opened in the child"])
def test_a_fork_is_refused_what_would_hang(remote: ObjectStorage, use: str, kind: str) -> None:
    cached = open_storage(remote.url)
    cached.read("a")

    def work() -> object:
        storage: Storage = {"as it was": remote, "with a disk cache": cached}.get(
            kind
        ) or ObjectStorage(remote.url)
        return USES[use](storage)

    refused = in_process("fork", work)
    assert isinstance(refused, StoreError)
    assert "spawn or forkserver" in str(refused)
    assert remote.url in str(refused)
    assert remote.read("a") == b"content", "this process can still use it"


def test_a_fork_of_a_fork_is_refused_too(remote: ObjectStorage) -> None:
    def work() -> bool:
        with pytest.raises(StoreError, match="spawn or forkserver"):
            remote.read("a")
        return True

    assert forked(lambda: forked(work))


def test_a_fork_is_refused_while_this_process_reads(web: Web) -> None:
    web.write("a", b"content")
    web.delay = 0.2
    storage = ObjectStorage(web.url)
    storage.read_ahead(["a"], [0])
    assert isinstance(in_process("fork", storage.read, "a"), StoreError)
    assert storage.fetch(["a"], [0])[0]() == b"content"


@pytest.mark.slow
def test_a_dataset_says_so_too(web: Web, corpus: Dataset) -> None:
    shutil.copytree(corpus.root, web.folder, dirs_exist_ok=True)
    dataset = Dataset(web.url)
    first, second = dataset.sessions[:2]
    expected = spikes_of(dataset, first)
    assert in_process("fork", spikes_of, dataset, first) == expected, "decoded by the parent"
    assert "spawn or forkserver" in str(in_process("fork", spikes_of, dataset, second))
    assert in_process("spawn", spikes_of, dataset, second) == spikes_of(dataset, second)


def reads(storage: Storage) -> bytes:
    return storage.read("a")


@pytest.mark.slow
@pytest.mark.parametrize("context", ["spawn", "forkserver"])
@pytest.mark.parametrize("cached", [False, True])
def test_processes_of_other_kinds_read(remote: ObjectStorage, context: str, cached: bool) -> None:
    storage = open_storage(remote.url) if cached else remote
    assert in_process(context, reads, pickle.loads(pickle.dumps(storage))) == b"content"


FORKS_BY_ITSELF = """
import os, signal, sys, warnings
from neurobrick import StoreError
from neurobrick.storage.remote.objects import ObjectStorage
warnings.simplefilter("ignore", DeprecationWarning)
storage = ObjectStorage(sys.argv[1])
if sys.argv[2] == "read":
    storage.read("a")
elif sys.argv[2] == "obstore was loaded":
    import obstore
pid = os.fork()
signal.alarm(50)
if pid == 0:
    try:
        assert storage.read("a") == b"content"
    except StoreError as error:
        assert "spawn or forkserver" in str(error)
        sys.exit(8)
    sys.exit(7)  # as a program ends, with all that is done at its exit
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
assert storage.read("a") == b"content"
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "status"), [("read", "8"), ("obstore was loaded", "8"), ("nothing", "7")]
)
def test_a_plain_fork_is_refused_only_if_obstore_was_loaded_before_it(
    remote: ObjectStorage, before: str, status: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKS_BY_ITSELF, remote.url, before],
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, status, "")
