"""Live decoding: a decoder is fed spikes as they are recorded, and decodes the behavior now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from neurobrick_model.data.timeline import TICKS, ticks
from neurobrick_model.decoding.sliding_window import SlidingWindow
from neurobrick_model.errors import StreamError

ROOM = 4  # spikes that new memory has room for, per spike that is kept when it is made
LEAST_ROOM = 1024  # spikes
FAR = 2.0**38  # s; ticks of later times do not fit 64 bits


class Stream:
    """Decodes a session while it is recorded. `Decoder.stream` makes one.

        stream = decoder.stream(session_id)
        stream.feed(times, units)  # as spikes are recorded
        values = stream.decode(t)  # for example every 20 ms

    Its values are those of `Decoder.predict` with the same `lag`. It keeps the spikes of one
    window, in `recent`.
    """

    def __init__(
        self,
        sliding: SlidingWindow,
        window: float,
        n_units: int,
        start: float,
        restore: Callable[[Tensor], NDArray[np.float64]],
    ) -> None:
        self._sliding, self._n_units, self._restore = sliding, n_units, restore
        self._window = round(window * TICKS)
        self._start = self._now = int(_ticks(np.array([start]))[0])
        self.recent = Recent(sliding)

    def feed(self, times: ArrayLike, units: ArrayLike) -> None:
        """Add spikes: `times` (n,) s on the session's clock, `units` (n,) rows of its units table.

        Raises StreamError when times are no seconds, not in order, or before a time that was fed or
        decoded already, and when there is no such unit. Then none of the spikes is added.
        """
        time, unit = np.asarray(times, dtype=np.float64), np.asarray(units)
        if time.ndim != 1 or time.shape != unit.shape:
            raise StreamError(
                f"times {time.shape} and units {unit.shape} must be of one shape (n,)"
            )
        if not len(time):
            return
        self._check_units(unit)
        tick = _ticks(time)
        self._check_order(tick)
        self._now = int(tick[-1])
        oldest = self._now - self._window
        kept = tick >= oldest
        self.recent.drop(oldest)
        self.recent.add(tick[kept], unit[kept])

    def decode(self, t: float) -> NDArray[np.float64]:
        """The values (d,) `lag` before `t` seconds: in SI, or, of a discrete readout, the
        probability of each class.

        They are decoded from the spikes that were fed, within the window that ends at `t`, which is
        half-open: a spike at `t` is not in it. A window does not reach back beyond the start, so
        that the first ones are shorter. Values of the first quarter of a second mean little.

        Raises StreamError for a `t` that is no time in seconds, or is before a time that was fed or
        decoded already.
        """
        tick = _ticks(np.array([t]))
        self._check_order(tick)
        now = self._now = int(tick[0])
        start = max(now - self._window, self._start)
        self.recent.drop(start)
        output = self._sliding.decode(
            self.recent.before(now), start - self.recent.origin, now - start
        )
        return self._restore(output[None])[0]

    def _check_units(self, unit: NDArray[Any]) -> None:
        if not np.issubdtype(unit.dtype, np.integer):
            raise StreamError(f"units are of {unit.dtype}; they must be rows of the units table")
        unknown = unit[(unit < 0) | (unit >= self._n_units)]
        if len(unknown):
            raise StreamError(
                f"there is no unit {unknown[0]}: the session has {self._n_units}, which are rows 0 "
                f"to {self._n_units - 1} of its units table"
            )

    def _check_order(self, tick: NDArray[np.int64]) -> None:
        order = np.concatenate([[self._now], tick])
        back = np.flatnonzero(np.diff(order) < 0)
        if len(back):
            after, before = order[back[0]] / TICKS, order[back[0] + 1] / TICKS
            raise StreamError(
                f"time goes back, from {after:.6f} s to {before:.6f} s: feed spikes in order, "
                "before the times that you decode, and none before the stream's start"
            )


class Recent:
    """The last spikes, embedded, in order of time.

    They are a stretch of arrays that are filled from front to end. When the arrays are full, new
    ones are made. Times in them count from `origin`, which moves along, so that their rotations
    stay exact however long the recording is.
    """

    origin: int  # tick
    _tick: NDArray[np.int64]  # (room,)
    _unit: NDArray[np.int64]  # (room,) rows of the units table
    _embedded: Tensor  # (2 * heads, room, head_dim), keys and values
    _first: int  # place of the first spike that is kept
    _last: int  # place after the last spike

    def __init__(self, sliding: SlidingWindow) -> None:
        self._sliding = sliding
        self._make(0, LEAST_ROOM)

    def __len__(self) -> int:
        return self._last - self._first

    @property
    def room(self) -> int:
        """The number of spikes that the memory has room for."""
        return len(self._tick)

    def add(self, tick: NDArray[np.int64], unit: NDArray[np.integer]) -> None:
        """Append spikes (n,), at ticks that are no earlier than the last one's."""
        if self._last + len(tick) > self.room:
            kept = slice(self._first, self._last)
            tick = np.concatenate([self._tick[kept], tick])
            unit = np.concatenate([self._unit[kept], unit])
            self._make(int(tick[0]), max(ROOM * len(tick), LEAST_ROOM))
        elif not len(self):
            self._first = self._last = 0
            self.origin = int(tick[0])
        new = slice(self._last, self._last + len(tick))
        self._tick[new], self._unit[new] = tick, unit
        device = self._sliding.device
        self._embedded[:, new] = self._sliding.embed(
            torch.from_numpy(self._unit[new]).to(device),
            torch.from_numpy(tick - self.origin).to(device),
        )
        self._last = new.stop

    def drop(self, tick: int) -> None:
        """Forget the spikes before `tick`."""
        self._first += int(np.searchsorted(self._tick[self._first : self._last], tick))

    def before(self, tick: int) -> Tensor:
        """The spikes before `tick`, embedded: (2 * heads, n, head_dim)."""
        n = int(np.searchsorted(self._tick[self._first : self._last], tick))
        return self._embedded[:, self._first : self._first + n]

    def _make(self, origin: int, room: int) -> None:
        self.origin = origin
        self._first = self._last = 0
        self._tick = np.empty(room, dtype=np.int64)
        self._unit = np.empty(room, dtype=np.int64)
        self._embedded = self._sliding.room(room)


def _ticks(time: NDArray[np.float64]) -> NDArray[np.int64]:
    """Seconds (n,) as ticks (n,). Raises StreamError for NaN, infinity, and times that are FAR."""
    bad = ~(np.abs(time) < FAR)  # True for NaN, too
    if bad.any():
        raise StreamError(f"{time[bad][0]} is no time in seconds")
    return ticks(time)
