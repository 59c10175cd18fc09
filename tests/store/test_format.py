"""Checksums that any tool for crc32c verifies, and stores of the format before, which are read."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobrick import Dataset, StoreError
from neurobrick.schema import FORMAT_VERSION
from neurobrick.storage.checksum import checksum, checksum_of_format_2, matches
from neurobrick.store import SessionStore, damage
from neurobrick.store.inventory import Inventory, Mismatch
from neurobrick.transfer import pull, push
from tests.conftest import prepare_files
from tests.support.buckets import Bucket, Web

FORMAT_2 = Path(__file__).parent / "data" / "format2.zip"  # a corpus, and what is in it
OLD = "old/sub-A_ses-1"


def crc32c(content: bytes) -> int:
    """By its definition (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_the_reference_is_right() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@given(st.binary(max_size=40))
def test_a_checksum_is_the_crc32c_of_a_file_and_what_a_chunk_ends_with(content: bytes) -> None:
    crc = crc32c(content)
    assert checksum(content + crc.to_bytes(4, "little")) == crc
    if len(content) < 4 or crc32c(content[:-4]).to_bytes(4, "little") != content[-4:]:
        assert checksum(content) == crc


@given(st.binary(min_size=1, max_size=40), st.data())
def test_every_flipped_bit_changes_the_checksum(content: bytes, data: st.DataObject) -> None:
    chunk = content + crc32c(content).to_bytes(4, "little")
    for whole in (content, chunk):
        bit = data.draw(st.integers(0, 8 * len(whole) - 1))
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        assert checksum(bytes(flipped)) != checksum(whole)


def test_the_manifest_of_a_store_can_be_verified_by_hand(corpus: Dataset, recording: Path) -> None:
    store = Path(corpus.root) / f"local/{recording.stem}.zarr"
    manifest = (store / "manifest.json").read_bytes()
    for name, (size, listed) in Inventory.parse(manifest).files.items():
        content = (store / name).read_bytes()
        assert len(content) == size
        if size < 20_000:  # crc32c above takes a microsecond a bit
            assert listed == crc32c(content if name.endswith(".json") else content[:-4])
    lines = manifest.splitlines(keepends=True)
    assert lines[-2:] == [b'"checksum":%d\n' % crc32c(b"".join(lines[:-2])), b"}"]


def test_every_flipped_bit_of_a_manifest_is_found() -> None:
    manifest = Inventory({"a/c/0": (10, 123456), "zarr.json": (7, 99)}).dump()
    for bit in range(8 * len(manifest)):
        flipped = bytearray(manifest)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Mismatch):
            Inventory.parse(bytes(flipped))


# Format version 2


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A corpus that was written by format version 2, with its catalogue."""
    with zipfile.ZipFile(FORMAT_2) as packed:
        packed.extractall(tmp_path / "old-corpus")
    return tmp_path / "old-corpus"


def assert_read(dataset: Dataset) -> None:
    """Whether the corpus gives what was once written into it."""
    with zipfile.ZipFile(FORMAT_2) as packed:
        expected = np.load(io.BytesIO(packed.read("expected.npz")))
    session = dataset[OLD]
    assert session.metadata.description == "written by format version 2"
    times, units = session.spike_arrays()
    np.testing.assert_array_equal(times, expected["times"])
    np.testing.assert_array_equal(units, expected["units"])
    for name, stamps in (("hand", "stamps"), ("pupil", "irregular")):
        series = {"hand": "hand_pos"}.get(name, name)
        found = session.behavior_arrays(series)
        np.testing.assert_array_equal(found[0], expected[stamps])
        np.testing.assert_array_equal(found[1], expected[name])
    assert session.units["area"].to_pylist() == ["M1", "PMd", None]
    assert session.units["electrodes"].to_pylist() == [[0, 1], [], [2]]
    assert session.intervals["trials"]["outcome"].to_pylist() == ["hit", "miss"]
    assert {name: split.duration for name, split in session.splits.items()} == {
        "train": 6.0, "valid": 2.0, "test": 2.0,
    }  # fmt: skip


def test_a_corpus_of_format_2_is_read(old: Path) -> None:
    manifest = (old / f"{OLD}.zarr/manifest.json").read_text()
    assert '"format_version":2' in manifest
    assert FORMAT_VERSION == 3
    assert_read(Dataset(old))
    assert damage(old / f"{OLD}.zarr") == []


def test_damage_of_format_2_is_found(old: Path) -> None:
    chunk = old / f"{OLD}.zarr/spikes/time/c/0"
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    assert damage(chunk.parents[3]) == ["spikes/time/c/0 does not match its checksum"]
    with pytest.raises(StoreError, match="damaged"):
        SessionStore.at(chunk.parents[3]).spikes()


def test_a_catalogue_lists_stores_of_both_formats(old: Path, recording: Path) -> None:
    prepare_files(old, recording)
    dataset = Dataset(old)
    assert dataset.sessions == [f"local/{recording.stem}", OLD]
    assert len(dataset[f"local/{recording.stem}"].spike_arrays()[0])
    assert_read(dataset)


@pytest.mark.slow
def test_a_corpus_of_format_2_is_pushed_pulled_and_cached(
    old: Path, s3: Bucket, web: Web, tmp_path: Path
) -> None:
    push(old, s3.url)
    assert_read(Dataset(s3.url))
    pull(s3.url, tmp_path / "back")
    assert_read(Dataset(tmp_path / "back"))
    shutil.copytree(old, web.folder, dirs_exist_ok=True)
    for _ in range(2):
        dataset = Dataset(web.url)
        assert_read(dataset)
        dataset._storage.settle()  # type: ignore[attr-defined]
    chunks = [name for name in web.asked if name.endswith("spikes/time/c/0")]
    assert len(chunks) == 1, "the second time it is in the cache"
    content = (old / f"{OLD}.zarr/spikes/time/c/0").read_bytes()
    assert checksum(content) != checksum_of_format_2(content)
    assert matches(content, checksum(content))
    assert matches(content, checksum_of_format_2(content))
    assert not matches(content, checksum(content) + 1)
