"""Is damage noticed? Single bits flipped in every file of a store, and writers that are killed.

For each flip, everything is read, and `damage` is run, which `verify` is made of. Beside it: the
same arrays in Zarr without checksums, and in HDF5. Then a process that writes stores without end is
killed at random moments, and every store that opens is read. Beside it: a process that writes the
same arrays with zarr-python, in place.

    python benchmarks/integrity.py [--tries 200] [--kills 40]
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import click
import h5py
import numpy as np
import zarr
from corpora import TARGET, session
from rich.console import Console
from rich.table import Table

from neurobrick.errors import StoreError
from neurobrick.store import SessionStore, damage, write_store

SECONDS = 120.0  # of each session
Content = list[np.ndarray]


def by_neurobrick(path: Path) -> Content:
    """All arrays of a store."""
    store = SessionStore.at(path)
    sets = [edge for times in store.times().values() for edge in (times.start, times.stop)]
    units = [column.to_numpy() for column in store.units().columns]
    return [*store.spikes(), *store.behavior(TARGET), *units, store.spike_counts(), *sets]


def by_zarr(path: Path) -> Content:
    """The arrays, read by zarr-python."""
    group = zarr.open_group(path, mode="r")
    return [group[name][:] for name in ("times", "units", "velocity")]


def by_h5py(path: Path) -> Content:
    """The arrays, read by h5py."""
    with h5py.File(path) as file:
        return [file[name][:] for name in ("times", "units", "velocity")]


def write_zarr(path: Path, rng: np.random.Generator) -> None:
    """The same arrays by zarr-python, compressed, without checksums."""
    data = session("s", SECONDS, rng)
    group = zarr.open_group(path, mode="w")
    codec = zarr.codecs.BloscCodec(cname="zstd", clevel=3)
    for name, array in (
        ("times", data.spike_times),
        ("units", data.spike_units),
        ("velocity", data.behavior[TARGET].values),
    ):
        group.create_array(name, data=array, chunks=(2**16, *array.shape[1:]), compressors=[codec])


def write_hdf5(path: Path, rng: np.random.Generator) -> None:
    """The same arrays by h5py, with the defaults of NWB files."""
    data = session("s", SECONDS, rng)
    with h5py.File(path, "w") as file:
        for name, array in (
            ("times", data.spike_times),
            ("units", data.spike_units),
            ("velocity", data.behavior[TARGET].values),
        ):
            file.create_dataset(name, data=array, chunks=True)


def flipped(path: Path, choose: random.Random) -> Path:
    """Flip one bit of one file below `path`, or of the file itself; files are chosen by their
    bytes."""
    files = [path] if path.is_file() else [p for p in sorted(path.rglob("*")) if p.is_file()]
    file = choose.choices(files, [p.stat().st_size for p in files])[0]
    if choose.random() < 0.5:  # small files, such as metadata, are hit as often as chunks
        file = choose.choice(files)
    content = bytearray(file.read_bytes())
    content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
    file.write_bytes(content)
    return file


def same(found: Content, expected: Content) -> bool:
    """Whether two readings are equal."""
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


def flips(
    tries: int,
    path: Path,
    read: Callable[[Path], Content],
    verify: Callable[[Path], bool],
) -> dict[str, int]:
    """Count `tries` flips: caught on reading, caught by verifying, wrong and unnoticed."""
    choose = random.Random(0)
    expected = read(path)
    counts = {"on reading": 0, "by verifying": 0, "wrong, and read": 0, "never caught": 0}
    for _ in range(tries):
        kept = {p: p.read_bytes() for p in (path, *path.rglob("*")) if p.is_file()}
        file = flipped(path, choose)
        try:
            found = read(path)
        except Exception:
            caught = True
        else:
            caught = False
            counts["wrong, and read"] += not same(found, expected)
        verified = verify(path)
        counts["on reading"] += caught
        counts["by verifying"] += verified
        counts["never caught"] += not caught and not verified
        file.write_bytes(kept[file])
    return counts


def verified(path: Path) -> bool:
    """Whether `neurobrick verify` finds a fault."""
    try:
        return bool(damage(path))
    except StoreError:
        return True


STAGED = """
import sys; sys.path.insert(0, sys.argv[2])
import numpy as np
from itertools import count
from pathlib import Path
from corpora import session
from neurobrick.store import write_store
data = session("s", 120.0, np.random.default_rng(0))
print("ready", flush=True)
for k in count():
    write_store(data, Path(sys.argv[1]) / f"{k % 5}.zarr")
"""
IN_PLACE = """
import sys; sys.path.insert(0, sys.argv[2])
import numpy as np
from itertools import count
from pathlib import Path
from integrity import write_zarr
print("ready", flush=True)
for k in count():
    write_zarr(Path(sys.argv[1]) / f"{k % 5}.zarr", np.random.default_rng(0))
"""


def kills(n: int, program: str, read: Callable[[Path], Content], root: Path) -> dict[str, int]:
    """Kill a writer `n` times, and count the stores that exist: whole, or not."""
    choose = random.Random(1)
    counts = {"whole": 0, "open, and incomplete": 0, "do not open": 0}
    expected = None
    for _ in range(n):
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        here = str(Path(__file__).parent)
        command = [sys.executable, "-c", program, str(root), here]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            writer.stdout.readline()
            time.sleep(choose.uniform(0.02, 0.4))
            os.kill(writer.pid, signal.SIGKILL)
        for path in sorted(root.glob("*.zarr")):
            try:
                found = read(path)
            except Exception:
                counts["do not open"] += 1
                continue
            if expected is None:
                with tempfile.TemporaryDirectory() as folder:
                    expected = reference(read, Path(folder) / "s.zarr")
            counts["whole" if same(found, expected) else "open, and incomplete"] += 1
    return counts


def reference(read: Callable[[Path], Content], path: Path) -> Content:
    """The arrays of a store that was written undisturbed."""
    if read is by_neurobrick:
        write_store(session("s", SECONDS, np.random.default_rng(0)), path)
    else:
        write_zarr(path, np.random.default_rng(0))
    return read(path)


def show(title: str, rows: dict[str, dict[str, int]]) -> None:
    """A table of counts."""
    table = Table("", title=title)
    for name in next(iter(rows.values())):
        table.add_column(name, justify="right")
    for name, counts in rows.items():
        table.add_row(name, *map(str, counts.values()))
    Console(width=110).print(table)


@click.command()
@click.option("--tries", default=200, show_default=True, help="Bits that are flipped.")
@click.option("--kills", "n_kills", default=40, show_default=True, help="Writers that are killed.")
def main(tries: int, n_kills: int) -> None:
    """Flip bits, kill writers, and count what is noticed."""
    nothing = lambda path: False  # noqa: E731
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store, plain, file = root / "s.zarr", root / "plain.zarr", root / "s.h5"
        write_store(session("s", SECONDS, np.random.default_rng(0)), store)
        write_zarr(plain, np.random.default_rng(0))
        write_hdf5(file, np.random.default_rng(0))
        flip_rows = {
            "neurobrick": flips(tries, store, by_neurobrick, verified),
            "Zarr, blosc without checksums": flips(tries, plain, by_zarr, nothing),
            "HDF5, as pynwb writes it": flips(tries, file, by_h5py, nothing),
        }
        show(f"{tries} single-bit flips, {date.today()}", flip_rows)
        kill_rows = {
            "neurobrick, staged": kills(n_kills, STAGED, by_neurobrick, root / "killed"),
            "zarr-python, in place": kills(n_kills, IN_PLACE, by_zarr, root / "killed"),
        }
        show(f"stores after {n_kills} kills", kill_rows)
    result: dict[str, Any] = {
        "date": str(date.today()),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "flips": flip_rows,
        "kills": kill_rows,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
