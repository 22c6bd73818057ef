"""The generic cell rate algorithm, and a bounded table of who has used how much. Pure.

GCRA keeps one time for each client, its theoretical arrival time: when all it has used will have flowed off.
Each request moves it on by one interval; a request that would move it further ahead than the burst allows is
refused and changes nothing. Times are whole nanoseconds, so nothing is lost to rounding.

The table cannot be emptied by filling it. Whoever makes room leaves its time behind in a cell that it
shares with others by hash, and whoever is not in the table starts from its cell. So a client that has been
pushed out never comes back with more than it had; at worst strangers start with less than a whole burst.
Python's hash of bytes is keyed anew in each process, so nobody can choose with whom to share. A Redis or a
peer that counts for the whole network would take the table's place behind `Counter`.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from typing import Final, NamedTuple, Protocol

CAPACITY: Final = 65_536  # clients with something used, about 10 MB
CELLS: Final = 16_384  # a power of two
SECOND_NS: Final = 1_000_000_000


class Quota(NamedTuple):
    """A limit: one request each `interval_ns` on average, `burst` of them at once."""

    interval_ns: int
    burst: int


class Taken(NamedTuple):
    """What became of a request. `arrival_ns` is the client's new theoretical arrival time.

    `retry_ns` is the time until one more would be allowed (0 when this was), `full_ns` until all is unused.
    """

    allowed: bool
    arrival_ns: int
    remaining: int
    retry_ns: int
    full_ns: int


def take(quota: Quota, arrival_ns: int, now_ns: int) -> Taken:
    """One request at `now_ns` by a client whose theoretical arrival time was `arrival_ns`."""
    interval_ns, burst = quota
    most_ns = interval_ns * burst
    # Further ahead than a whole burst means that the clock was set back: nobody waits longer for that.
    used_ns = min(max(arrival_ns - now_ns, 0), most_ns)
    after_ns = used_ns + interval_ns
    if after_ns > most_ns:
        return Taken(False, now_ns + used_ns, 0, after_ns - most_ns, used_ns)
    return Taken(True, now_ns + after_ns, (most_ns - after_ns) // interval_ns, 0, after_ns)


class Counter(Protocol):
    """Who counts a limit's requests: here one worker's own table."""

    def take(self, key: bytes, now_ns: int) -> Taken:
        """One request by `key`."""


class Table:
    """A `Counter` in this worker's memory."""

    __slots__ = ("_arrivals", "_capacity", "_cells", "_quota")

    def __init__(self, quota: Quota, capacity: int = CAPACITY, cells: int = CELLS) -> None:
        assert cells & (cells - 1) == 0, "a power of two"
        self._quota = quota
        self._capacity = capacity
        self._arrivals: OrderedDict[bytes, int] = OrderedDict()
        self._cells = array("q", bytes(8 * cells))

    def __len__(self) -> int:
        return len(self._arrivals)

    def take(self, key: bytes, now_ns: int) -> Taken:
        """See `Counter`."""
        arrivals = self._arrivals
        known_ns = arrivals.get(key)
        before_ns = self._cells[self._cell(key)] if known_ns is None else known_ns
        taken = take(self._quota, before_ns, now_ns)
        arrivals[key] = taken.arrival_ns
        if known_ns is None and len(arrivals) > self._capacity:
            self._make_room()
        return taken

    def _make_room(self) -> None:
        key, arrival_ns = self._arrivals.popitem(last=False)
        cell = self._cell(key)
        self._cells[cell] = max(self._cells[cell], arrival_ns)

    def _cell(self, key: bytes) -> int:
        return hash(key) & (len(self._cells) - 1)
