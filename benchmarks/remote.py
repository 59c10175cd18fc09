"""How long does a window take from a remote corpus? Every request takes 20 ms.

A web server on loopback delays every request by 20 ms, then sends as fast as it can. neurobrick
opens the corpus, reads a first window of spikes and velocity, and more windows of the same session.
Beside it: zarr-python with obstore, window by window. Every round is a fresh process without a disk
cache; requests and bytes are counted by the server.

    python benchmarks/remote.py [--sessions 4] [--rounds 7] [--delay 20]
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import click
import numpy as np
from corpora import TARGET, write_corpus
from rich.console import Console
from rich.table import Table

from neurobrick import Dataset

SECONDS = 1000.0
LATER = 200  # windows


async def serve(root: Path, delay: float) -> None:
    """Serve the files below `root`, each answer `delay` s late; prints its port, and, for every
    line that it is sent, how many requests and bytes there were."""
    counts = [0, 0]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await asyncio.sleep(delay)
            path = root / head.split(b" ", 2)[1].decode().lstrip("/")
            found = path.is_file()
            content = path.read_bytes() if found else b""
            counts[0] += 1
            counts[1] += len(content)
            status = b"200 OK" if found else b"404 Not Found"
            writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(content)))
            writer.write(content)
            await writer.drain()

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(*counts, flush=True)
        counts[:] = [0, 0]


class Server:
    """The server, in a process of its own."""

    def __init__(self, root: Path, delay: float) -> None:
        command = [sys.executable, __file__, "--serve", str(root), "--delay", str(1e3 * delay)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self.url = f"http://127.0.0.1:{self._process.stdout.readline().strip()}"

    def counted(self) -> tuple[int, int]:
        """Requests and bytes since the last call."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        requests, n_bytes = map(int, self._process.stdout.readline().split())
        return requests, n_bytes

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of `work`."""
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def all_told(opened: float, window: Callable[[float], object], n: int) -> dict[str, float]:
    """Milliseconds for opening, for a first window, and for `n` later windows."""
    first = timed(lambda: window(500.0))
    starts = np.random.default_rng(0).uniform(0, SECONDS - 1, n)
    later = [timed(lambda start=start: window(start)) for start in starts]
    return {
        "open": opened,
        "first window": first,
        "open and first window": opened + first,
        "later windows": float(np.median(later)),
        "slowest later window": max(later),
    }


def by_neurobrick(url: str, warm: bool) -> dict[str, float]:
    """One round: ms to open, to a first window, and to later ones, after imports."""
    if warm:  # imports and threads that a process needs once
        Dataset(url)
    found: list[Dataset] = []
    opened = timed(lambda: found.append(Dataset(url)))
    (ds,) = found

    def window(start: float) -> None:
        cut = ds.slice(ds.sessions[0], start, start + 1)
        assert len(cut.spikes)
        assert len(cut.behavior[TARGET])

    return all_told(opened, window, LATER)


def by_zarr(url: str, session_id: str, rate: float) -> dict[str, float]:
    """The same by zarr-python, of one store."""
    import zarr
    from obstore.store import HTTPStore

    options = {"allow_http": True}
    found = []

    def open_store() -> None:
        place = HTTPStore.from_url(f"{url}/{session_id}.zarr", client_options=options)
        store = zarr.storage.ObjectStore(place, read_only=True)
        group = zarr.open_group(store, mode="r", use_consolidated=True)
        found.extend(
            [group, group["spikes/time"][:]]
        )  # zarr-python reads them anew for every window

    opened = timed(open_store)
    group, ticks = found

    def window(start: float) -> None:
        edges = np.rint([start * rate, (start + 1) * rate]).astype(np.int32)
        a, b = np.searchsorted(ticks, edges)
        group["spikes/time"][a:b], group["spikes/unit"][a:b]
        group[f"behavior/{TARGET}/values"][int(start * 100) : int(start * 100) + 100]

    return all_told(opened, window, 10)


def rounds(n: int, server: Server, way: str) -> tuple[dict[str, float], tuple[int, int]]:
    """Medians over `n` fresh processes, and the requests and bytes of the last."""
    found = []
    for _ in range(n):
        server.counted()
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "NEUROBRICK_CACHE_DIR": cache}
            command = [sys.executable, __file__, "--round", way, "--url", server.url]
            said = subprocess.check_output(command, env=environment, text=True)
        found.append(json.loads(said))
        counted = server.counted()
    return {name: float(np.median([one[name] for one in found])) for name in found[0]}, counted


@click.command()
@click.option("--sessions", default=4, show_default=True, help="How many sessions.")
@click.option("--rounds", "n_rounds", default=7, show_default=True, help="Fresh processes of each.")
@click.option("--delay", default=20.0, show_default=True, help="Milliseconds a request.")
@click.option("--serve", "served", type=Path, hidden=True)
@click.option("--round", "way", hidden=True)
@click.option("--url", hidden=True)
def main(
    sessions: int, n_rounds: int, delay: float, served: Path | None, way: str | None, url: str
) -> None:
    """Write a corpus, serve it slowly, and read windows of it."""
    if served is not None:
        asyncio.run(serve(served, delay / 1e3))
        return
    if way is not None:
        done = (
            by_zarr(url, "bench/s000", 30000.0)
            if way == "zarr"
            else by_neurobrick(url, way == "warm")
        )
        click.echo(json.dumps(done))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_corpus(root, sessions, SECONDS)
        server = Server(root, delay / 1e3)
        try:
            titles = {
                "warm": "neurobrick, after another Dataset",
                "cold": "neurobrick, from nothing",
                "zarr": "zarr-python with obstore, the same store",
            }
            found = {title: rounds(n_rounds, server, way) for way, title in titles.items()}
        finally:
            server.close()
    table = Table("ms", title=f"{delay:g} ms a request, {sessions} sessions, {date.today()}")
    for title in found:
        table.add_column(title, justify="right")
    for name in next(iter(found.values()))[0]:
        cells = [
            f"{ms[name]:,.1f}" if ms[name] >= 1 else f"{ms[name]:.3f}" for ms, _ in found.values()
        ]
        table.add_row(name, *cells)
    table.add_row("requests", *(str(n) for _, (n, _) in found.values()))
    table.add_row("MB", *(f"{n / 1e6:.1f}" for _, (_, n) in found.values()))
    Console(width=120).print(table)
    result = {
        "date": str(date.today()),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "ms": {title: ms for title, (ms, _) in found.items()},
        "requests": {title: n for title, (_, (n, _)) in found.items()},
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
