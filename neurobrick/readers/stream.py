"""A file that is elsewhere, as a stream for HDF5: only the bytes that HDF5 reads are fetched.

HDF5's own metadata (object headers, B-trees, heaps) is small and scattered: it comes in blocks, on
demand. Arrays are large, and their places are known before they are read: `RangeFile.fetch` is
given the places, and fetches them in few large requests, side by side.

Four names belong together. From the network to the reader of NWB they are:

    sources.web.ranges.RangeReader   asks a server for ranges of one file; the only `Reader` in use
    Reader                       what this module needs of it: `size`, and `read` of several ranges
    RangeFile                    a Reader as a binary stream for h5py; it holds pages
    storage.zarr_files.Files     the same for a Zarr store: many whole files by key, no ranges

remfile (https://github.com/magland/remfile) and fsspec's caches were considered. They fetch when
HDF5 reads, one chunk after another, and keep no record. Here the chunks of an array are fetched
together before it is read, and `read_ranges` says which bytes a session was made of, with digests.
"""

from __future__ import annotations

import gc
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from neurobrick.errors import TooMuchToStream

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PAGE = 1 << 16  # bytes; pages of the file are fetched, held and dropped whole
# All others are numbers of pages.
GAP = 4  # ranges with a smaller gap between them are fetched as one: a request costs as much
PART = 128  # the longest range of one request
BLOCK = 16  # fetched for a single read of metadata
AHEAD = 64  # the most that is fetched when reads follow each other
WINDOW = 1024  # fetched ahead of reading, of the ranges that `fetch` was given
HELD = 2 * WINDOW  # held in memory

Range = tuple[int, int]


@runtime_checkable
class Reader(Protocol):
    """Ranges of a file that is elsewhere. `sources.web.ranges.RangeReader` is one."""

    @property
    def size(self) -> int:
        """Size of the whole file, in bytes."""
        ...

    def read(self, ranges: Sequence[Range]) -> list[bytes]:
        """The bytes `[start, stop)` of every range, fetched side by side. Raises SourceError."""
        ...


class RangeFile(io.RawIOBase):
    """A file behind a `Reader`, as a binary stream. `title` is its name in messages.

    It holds at most `HELD` pages (128 MiB), and two `WINDOW`s more while it fetches. The bytes that
    it fetches depend on the reads and their order only.

    Reading raises what the reader raises. It raises TooMuchToStream when more than half of the file
    would be fetched, if the file has more than `HELD` pages.
    """

    def __init__(self, reader: Reader, title: str) -> None:
        super().__init__()
        self.title = title
        self._reader = reader
        self._at = 0
        self._pages: dict[int, bytes] = {}  # by number, the least recently used first
        # The announced reads that a page belongs to, as pages in order, and its place among them.
        self._plans: dict[int, tuple[list[int], int]] = {}
        self._walks: dict[int, int] = {}  # end of a walk (see `_block`) → its length in pages
        self._fetched = 0  # bytes
        self._digests: dict[Range, str] = {}  # sha256 of every range that was fetched

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._reader.size}
        self._at = origin[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        start, stop = self._at, min(self._at + len(view), self._reader.size)
        while self._at < stop:
            number, first = divmod(self._at, PAGE)
            piece = memoryview(self._page(number))[first : first + stop - self._at]
            view[self._at - start :][: len(piece)] = piece
            self._at += len(piece)
        return max(self._at - start, 0)

    def fetch(self, ranges: Iterable[Range]) -> None:
        """Fetch `ranges`, which are about to be read in this order.

        Of more than `WINDOW` pages, the first are fetched now, and the others as reading reaches
        them.
        """
        plan = list(dict.fromkeys(n for start, stop in ranges for n in self._numbers(start, stop)))
        missing = _runs(sorted(n for n in plan if n not in self._pages))
        self._afford(sum(b - a for a, b in missing) + GAP * len(missing))
        self._plans.update((number, (plan, turn)) for turn, number in enumerate(plan))
        self._load(plan)

    def read_ranges(self) -> list[tuple[int, int, str]]:
        """Start, stop and sha256 of every range that was fetched so far, sorted by start.

        Ranges overlap where bytes were dropped and fetched again.
        """
        return [(start, stop, digest) for (start, stop), digest in sorted(self._digests.items())]

    def _numbers(self, start: int, stop: int) -> range:
        """The pages that hold the bytes `[start, stop)` of the file."""
        return range(start // PAGE, -(-min(stop, self._reader.size) // PAGE))

    def _page(self, number: int) -> bytes:
        if number not in self._pages:
            plan, turn = self._plans.get(number, ([], 0))
            with _no_collection():
                self._load(islice(plan, turn, None) if plan else self._block(number))
        page = self._pages[number] = self._pages.pop(number)
        return page

    def _block(self, number: int) -> range:
        """The pages to fetch when page `number` is read and no `fetch` announced it.

        A single read brings its block. Blocks begin at multiples of `BLOCK`:

            pages    0               16              32              48
                     |---------------|-------r-------|---------------|
            fetched                  [16 ......... 32)

        A walk is a run of reads, each less than `AHEAD` pages after the end of what the last one
        fetched. The nodes of a B-tree are read like this when they lie between the chunks of their
        array. Each step fetches twice what the walk has fetched so far, up to `AHEAD` pages, and so
        covers chunks that will be read anyway:

            read 1           r
            read 2                            r
            read 3                                                            r
            fetched          [16 pages ......)[32 pages ....................)[64 pages …

        A walk of more than half a `WINDOW` that skips pages means an array too long to be held
        until it is read. Then only `GAP` pages are fetched: the node and little more.

        Pages that are held already bound the range on both sides.
        """
        start = number - number % BLOCK
        end = next((n for n in range(start, start - AHEAD, -1) if n in self._walks), None)
        walked = 0 if end is None else self._walks.pop(end)
        length = min(2 * walked, AHEAD) or BLOCK
        if walked > WINDOW // 2 and end != start:
            start, length = number, GAP
        self._walks[start + length] = walked + length
        stop = min(start + length, -(-self._reader.size // PAGE))
        held = [n for n in range(start, stop) if n in self._pages]
        first = max((n + 1 for n in held if n < number), default=start)
        return range(first, min((n for n in held if n > number), default=stop))

    def _load(self, numbers: Iterable[int]) -> None:
        """Fetch those pages of `numbers` that are not held, at most `WINDOW`."""
        missing = set(islice((n for n in numbers if n not in self._pages), WINDOW))
        parts = [
            (a, min(a + PART, stop))
            for start, stop in _runs(sorted(missing))
            for a in range(start, stop, PART)
        ]
        if not parts:
            return
        self._afford(sum(b - a for a, b in parts))
        ranges = [(a * PAGE, min(b * PAGE, self._reader.size)) for a, b in parts]
        pages: dict[int, bytes] = {}
        for (start, stop), data in zip(ranges, self._reader.read(ranges), strict=True):
            self._fetched += stop - start
            self._digests[start, stop] = hashlib.sha256(data).hexdigest()
            for at in range(0, len(data), PAGE):
                pages[(start + at) // PAGE] = data[at : at + PAGE]
        # Pages that only filled gaps come first, so that they are dropped first.
        for number in sorted(pages, key=missing.__contains__):
            self._pages[number] = pages[number]
        for number in list(islice(self._pages, max(len(self._pages) - HELD, 0))):
            del self._pages[number]

    def _afford(self, pages: int) -> None:
        size = self._reader.size
        if size > HELD * PAGE and self._fetched + pages * PAGE > size / 2:
            raise TooMuchToStream(
                f"{self.title}: this would read more than half of its {size:,} bytes: fetch it"
                " whole"
            )


def _runs(numbers: Sequence[int]) -> list[Range]:
    """Sorted numbers as `[start, stop)` runs, over gaps of at most `GAP`."""
    if not numbers:
        return []
    breaks = [(a + 1, b) for a, b in pairwise(numbers) if b - a - 1 > GAP]
    starts = [numbers[0], *(start for _, start in breaks)]
    stops = [*(stop for stop, _ in breaks), numbers[-1] + 1]
    return list(zip(starts, stops, strict=True))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Garbage collection is off.

    h5py holds its lock while it reads. If a thread of the reader collected an h5py object, it would
    wait for that lock, and the holder of the lock would wait for the thread.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
