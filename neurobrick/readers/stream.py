"""A file that is elsewhere, as a stream for HDF5: only the bytes that it asks for are fetched.

HDF5's own metadata (object headers, B-trees, heaps) is small and scattered: it comes in blocks, on
demand. Arrays are large, and where they are is known before they are read: `RangeFile.fetch` is
told, and brings them in few large requests, side by side.
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

PAGE = 1 << 16  # bytes; what is fetched, held and let go of is whole pages of the file
# The others are numbers of pages.
GAP = 4  # what a request costs: ranges that are nearer than this are fetched as one
PART = 128  # the longest range that one request asks for
BLOCK = 16  # what a single read of metadata brings
AHEAD = 64  # what it brings when reads follow each other
WINDOW = 1024  # of what is to be read, so much is fetched ahead
HELD = 2 * WINDOW

Range = tuple[int, int]


@runtime_checkable
class Reader(Protocol):
    """Bytes of a file that is elsewhere."""

    @property
    def size(self) -> int:
        """Of the whole file, in bytes."""
        ...

    def read(self, ranges: Sequence[Range]) -> list[bytes]:
        """The bytes `[start, stop)` of every range, fetched side by side. Raises SourceError."""
        ...


class RangeFile(io.RawIOBase):
    """A file behind a `Reader` as a binary stream; `title` names it in messages.

    It holds `HELD` pages, 128 MiB, however much is read, and two `WINDOW`s more while it fetches.
    Which bytes it fetches depends on what is read in which order, and on nothing else.

    Reading raises what the reader raises, and TooMuchToStream when more than half of a file of more
    than `HELD` pages would be read.
    """

    def __init__(self, reader: Reader, title: str) -> None:
        super().__init__()
        self.title = title
        self._reader = reader
        self._at = 0
        self._pages: dict[int, bytes] = {}  # least recently used first
        self._plans: dict[int, tuple[list[int], int]] = {}  # page → what is read when, and its turn
        self._walks: dict[int, int] = {}  # where reads that follow each other end → their length
        self._fetched = 0
        self._digests: dict[Range, str] = {}

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
        """Bring here what is about to be read, in this order; of more than `WINDOW` pages, the
        first, and the others when reading comes to them."""
        plan = list(dict.fromkeys(n for start, stop in ranges for n in self._numbers(start, stop)))
        missing = _runs(sorted(n for n in plan if n not in self._pages))
        self._afford(sum(b - a for a, b in missing) + GAP * len(missing))
        self._plans.update((number, (plan, turn)) for turn, number in enumerate(plan))
        self._load(plan)

    def read_ranges(self) -> list[tuple[int, int, str]]:
        """Start, stop and sha256 of every range that was fetched so far, by where it starts; where
        bytes were let go of and fetched again, ranges overlap."""
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
        """What to bring for a page that nobody announced: its block, and more where reads follow
        each other, as those of a B-tree do whose nodes lie between the chunks of an array. Where
        the array is too long to be held until it is read, little more than the nodes."""
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
        """Fetch the first pages of `numbers` that are not held."""
        wanted = set(islice((n for n in numbers if n not in self._pages), WINDOW))
        parts = [
            (a, min(a + PART, stop))
            for start, stop in _runs(sorted(wanted))
            for a in range(start, stop, PART)
        ]
        if not parts:
            return
        self._afford(sum(b - a for a, b in parts))
        ranges = [(a * PAGE, min(b * PAGE, self._reader.size)) for a, b in parts]
        found: dict[int, bytes] = {}
        for (start, stop), data in zip(ranges, self._reader.read(ranges), strict=True):
            self._fetched += stop - start
            self._digests[start, stop] = hashlib.sha256(data).hexdigest()
            for at in range(0, len(data), PAGE):
                found[(start + at) // PAGE] = data[at : at + PAGE]
        for number in sorted(found, key=wanted.__contains__):  # what fills gaps is the first to go
            self._pages[number] = found[number]
        for number in list(islice(self._pages, max(len(self._pages) - HELD, 0))):
            del self._pages[number]

    def _afford(self, pages: int) -> None:
        size = self._reader.size
        if size > HELD * PAGE and self._fetched + pages * PAGE > size / 2:
            raise TooMuchToStream(
                f"{self.title}: what is kept takes more than half of its {size:,} bytes: fetch it"
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
    """No garbage is collected meanwhile.

    h5py reads with its lock held. A thread of the reader that came to collect an h5py object would
    wait for that lock, and the holder of the lock for the thread.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
