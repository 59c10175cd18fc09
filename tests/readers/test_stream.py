"""Reading a file that is elsewhere: the same session, out of few of its bytes, in few requests."""

from __future__ import annotations

import gc
import hashlib
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
import requests

from benchmarks.streaming import LAYOUTS as VOLTAGE
from benchmarks.streaming import ORDERS
from benchmarks.streaming import write as write_voltage
from demo.archive import LoopbackArchive
from demo.loopback import Faults, Loopback
from neurobrick.errors import (
    CorruptFile,
    RangesIgnored,
    SourceError,
    TooMuchToStream,
    UnsupportedFile,
)
from neurobrick.harmonize import harmonize
from neurobrick.readers.formats import open_recording
from neurobrick.readers.hdf5 import open_hdf5
from neurobrick.readers.raw import Recording
from neurobrick.readers.stream import HELD, PAGE, WINDOW, RangeFile
from neurobrick.registry import DatasetSpec
from neurobrick.schema import Provenance, SessionData
from neurobrick.sources.dandi import DandiSource
from neurobrick.sources.web.ranges import RangeReader
from neurobrick.sources.web.transport import Patience, Web, patient
from tests.support.layouts import LAYOUTS

pytestmark = pytest.mark.slow

MIB = 1 << 20


class FileReader:
    """Ranges of a file on this machine, counted; from the call `fails_at` on, none."""

    def __init__(self, path: Path, fails_at: int | None = None) -> None:
        self.path, self.fails_at = path, fails_at
        self.size = path.stat().st_size
        self.calls = self.requests = self.bytes = 0

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        if self.calls == self.fails_at:
            raise SourceError("the archive went away")
        self.calls += 1
        self.requests += len(ranges)
        self.bytes += sum(stop - start for start, stop in ranges)
        with self.path.open("rb") as file:
            return [file.seek(start) * b"" + file.read(stop - start) for start, stop in ranges]


class Zeros:
    """A file of nothing but zeros."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.calls = 0

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        self.calls += 1
        return [bytes(stop - start) for start, stop in ranges]


def session(recording: Recording) -> SessionData:
    provenance = Provenance(path="x", size=0, digest="", neurobrick="", spec_hash="")
    spec = DatasetSpec.discovered("local")
    return harmonize(recording, spec, session_id="local/x", dataset="local", provenance=provenance)


def streamed(file: RangeFile) -> SessionData:
    with open_recording(file, "x.nwb") as recording:
        return session(recording)


def local(path: Path) -> SessionData:
    with open_recording(path, "x.nwb") as recording:
        return session(recording)


def bits(value: Any) -> Any:
    """Everything in `value`, in a form in which every bit and every NaN compares."""
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if isinstance(value, pa.Table):
        return f"{value.schema} {value.to_pydict()}"
    if isinstance(value, Mapping):
        return [(key, bits(item)) for key, item in value.items()]
    if isinstance(value, tuple):
        return [bits(item) for item in value]
    if is_dataclass(value):
        return [(field.name, bits(getattr(value, field.name))) for field in fields(value)]
    return value


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_streamed_session_is_the_local_one(files: dict[str, Path], layout: str) -> None:
    assert bits(streamed(RangeFile(FileReader(files[layout]), "x"))) == bits(local(files[layout]))


def test_a_streamed_session_of_an_archive_that_falters_is_the_local_one(
    files: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "000001" / "draft"
    folder.mkdir(parents=True)
    for name in LAYOUTS:
        (folder / f"{name}.nwb").symlink_to(files[name])
    with LoopbackArchive(tmp_path, Faults(every_nth_503=4, cut_every_nth_body=3)) as archive:
        patience = Patience(stall=5, first_wait=0.01, longest_wait=0.02)
        source = DandiSource("000001", instance=archive.api_url, patience=patience)
        for asset in source.assets():
            file = RangeFile(source.ranges(asset), asset.path)
            assert bits(streamed(file)) == bits(local(folder / asset.path))
    assert len(source.assets()) == len(LAYOUTS)


@pytest.fixture(scope="module", params=VOLTAGE, ids=lambda p: f"{p[0]}, chunks={p[1]}")
def voltage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """100 MB, most of it raw voltage."""
    order, chunks = request.param
    path = tmp_path_factory.mktemp("voltage") / "sub-A.nwb"
    yield write_voltage(path, 100, ORDERS[order], chunks)
    path.unlink()


def test_of_a_file_of_voltage_little_is_fetched(voltage: Path) -> None:
    reader = FileReader(voltage)
    found = streamed(RangeFile(reader, "x"))
    assert bits(found) == bits(local(voltage))
    velocity = found.behavior["cursor_vel"]
    kept = sum(a.nbytes for a in (found.spike_times, velocity.values, velocity.timestamps))
    assert reader.bytes < kept + 5 * MIB
    assert reader.requests <= 12
    assert ("acquisition/voltage", "voltage traces") in [
        (left.path, left.reason) for left in found.metadata.left
    ]


def test_an_array_that_grew_chunk_by_chunk_takes_few_requests(tmp_path: Path) -> None:
    """The nodes of its index lie between its chunks, 40 of them, and each says where more are."""
    values = np.arange(2_560_000.0)
    with h5py.File(tmp_path / "a.h5", "w") as made:
        grown = made.create_dataset("grown", (0,), "f8", maxshape=(None,), chunks=(1024,))
        for stop in range(64_000, len(values) + 1, 64_000):
            grown.resize(stop, 0)
            grown[stop - 64_000 :] = values[stop - 64_000 : stop]
    reader = FileReader(tmp_path / "a.h5")
    file = RangeFile(reader, "a.h5")
    with open_hdf5(file, "a.h5", file.fetch) as tree:
        array = tree.root.array("grown")
        assert array is not None
        tree.prefetch([array])
        assert np.array_equal(array.read(), values)
    assert reader.requests < 15
    assert reader.bytes < values.nbytes + 5 * MIB


def test_what_was_read_is_told_the_same_each_time(voltage: Path) -> None:
    told = []
    for _ in range(2):
        reader = FileReader(voltage)
        file = RangeFile(reader, "x")
        streamed(file)
        told.append(file.read_ranges())
        assert sum(stop - start for start, stop, _ in told[-1]) == reader.bytes
    assert told[0] == told[1]
    edges = [edge for start, stop, _ in told[0] for edge in (start, stop)]
    assert edges == sorted(edges)
    data = voltage.read_bytes()
    for start, stop, digest in told[0]:
        assert hashlib.sha256(data[start:stop]).hexdigest() == digest


def test_a_source_that_fails_is_no_corrupt_file(voltage: Path) -> None:
    reader = FileReader(voltage)
    streamed(RangeFile(reader, "x"))
    for call in range(reader.calls):
        with pytest.raises(SourceError, match="the archive went away"):
            streamed(RangeFile(FileReader(voltage, fails_at=call), "x"))


@pytest.fixture
def served(voltage: Path) -> Callable[..., AbstractContextManager[RangeReader]]:
    """A reader of the file behind a server with faults."""

    @contextmanager
    def serve(**faults: Any) -> Iterator[RangeReader]:
        site = Loopback(Faults(**faults))
        url = site.listen(lambda request: request.send_file(voltage, "etag"))
        patience = Patience(stall=5, first_wait=0.01, longest_wait=0.02)
        with site, requests.Session() as session:
            web = Web(patient(session, patience), patience, "the server", "is shut", "ask")
            yield RangeReader("a.nwb", url, voltage.stat().st_size, web, web, "it is gone")

    return serve


def test_a_server_that_falters_changes_nothing(
    voltage: Path, served: Callable[..., AbstractContextManager[RangeReader]]
) -> None:
    told = []
    for faults in ({}, {"every_nth_503": 3, "cut_every_nth_body": 2}):
        with served(**faults) as reader:
            file = RangeFile(reader, "a.nwb")
            assert bits(streamed(file)) == bits(local(voltage))
            told.append(file.read_ranges())
    assert told[0] == told[1]


def test_a_server_without_ranges_is_no_corrupt_file(
    served: Callable[..., AbstractContextManager[RangeReader]],
) -> None:
    with served(ignore_ranges=True) as reader, pytest.raises(RangesIgnored):
        streamed(RangeFile(reader, "a.nwb"))


def test_what_is_no_nwb_file_is_said_as_of_a_local_one(tmp_path: Path, recording: Path) -> None:
    text = tmp_path / "text.nwb"
    text.write_text("not HDF5")
    with pytest.raises(UnsupportedFile, match=r"x\.nwb is not an NWB file"):
        streamed(RangeFile(FileReader(text), text.name))
    half = tmp_path / "half.nwb"
    half.write_bytes(recording.read_bytes()[: recording.stat().st_size // 2])
    with pytest.raises(CorruptFile, match=r"x\.nwb breaks off"):
        streamed(RangeFile(FileReader(half), half.name))


def test_the_bytes_of_a_stream_are_the_files(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3 * MIB + 12345)
    path = tmp_path / "bytes"
    path.write_bytes(data)
    file = RangeFile(FileReader(path), "x")
    file.fetch([(2 * MIB + 1, 2 * MIB + 70_000), (5, 6)])
    for start, size in [(0, 10), (MIB - 5, 10), (PAGE - 1, 3 * PAGE), (len(data) - 7, 100)]:
        file.seek(start)
        assert file.read(size) == data[start : start + size]
        assert file.tell() == min(start + size, len(data))
    assert file.seek(-3, 2) == len(data) - 3
    assert file.read() == data[-3:]
    assert file.read(1) == b""


def test_near_ranges_are_fetched_as_one_and_far_ones_apart(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(bytes(40 * MIB))
    reader = FileReader(path)
    file = RangeFile(reader, "x")
    file.fetch([(start, start + 1000) for start in range(0, 4 * MIB, MIB // 8)])
    assert reader.requests == 1
    file.fetch([(10 * MIB, 10 * MIB + 1), (30 * MIB, 30 * MIB + 1), (0, 1000)])
    assert (reader.calls, reader.requests) == (2, 3)
    assert reader.bytes < 4 * MIB + 2 * PAGE


def test_an_array_costs_its_own_memory_and_a_constant() -> None:
    size, constant = 750 * 10**6, (HELD + 2 * WINDOW) * PAGE + 32 * MIB
    file = RangeFile(Zeros(4 * size), "x")
    tracemalloc.start()
    try:
        kept = np.empty(size, np.uint8)
        file.seek(PAGE)
        file.fetch([(PAGE, PAGE + size)])
        assert file.readinto(kept.data) == size
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size + constant < 1.5 * size
    assert sum(stop - start for start, stop, _ in file.read_ranges()) < size + 2 * PAGE


def test_a_file_that_would_be_read_by_half_is_to_be_fetched_whole() -> None:
    reader = Zeros(1 << 30)
    file = RangeFile(reader, "sub-A.nwb")
    file.fetch([(0, 400 * MIB)])
    calls = reader.calls
    with pytest.raises(TooMuchToStream, match=r"sub-A\.nwb: .* more than half .* fetch it whole"):
        file.fetch([(500 * MIB, 1000 * MIB)])
    with pytest.raises(TooMuchToStream):  # few bytes, in more pieces than a download is worth
        file.fetch([(at, at + 8) for at in range(0, 1 << 30, MIB // 2)])
    assert reader.calls == calls


def test_a_small_file_may_be_read_whole() -> None:
    file = RangeFile(Zeros(50 * MIB), "x")
    file.fetch([(0, 50 * MIB)])
    assert len(file.read()) == 50 * MIB


def test_a_readers_threads_never_wait_for_the_lock_of_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as made:
        made["far"], made["near"] = np.zeros(5 * MIB, np.uint8), 1.0
    stuck: list[bool] = []

    class Threaded(FileReader):
        """As one that fetches in threads, which make objects, so that garbage is collected."""

        def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
            keep: list[list[int]] = []
            work: Callable[[], None] = lambda: keep.extend([] for _ in range(100_000))  # noqa: E731
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            thread.join(timeout=10)
            stuck.append(thread.is_alive())
            return super().read(ranges)

    with h5py.File(RangeFile(Threaded(tmp_path / "a.h5"), "x")) as file:
        gc.collect()
        cycle: list[object] = [h5py.File(tmp_path / "a.h5")["far"]]
        cycle.append(cycle)
        del cycle
        stuck.clear()
        assert not file["far"][()].any()
    assert stuck
    assert not any(stuck)
    gc.collect()
