"""Fetches under way, and who may wait for them.

One request per key goes to the origin; others that come meanwhile wait until its head is there, and are then
served from what arrives, if that is for others too. A key whose answers are for one user each is marked for
a while, so that nobody waits for what will not be his.
"""

from __future__ import annotations

import asyncio
from typing import Final

from atoll.edge.keeping import Draft
from atoll.edge.spool import Spool

MARK_S: Final = 10.0
"""How long requests for what could not be stored go to the origin side by side."""

MAX_MARKS: Final = 65_536


class Flight:
    """A fetch for a key. Who waits for `settled` finds a `draft` and its `spool`, or `stored`, or neither."""

    __slots__ = ("draft", "key", "selection", "settled", "spool", "stored")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.draft: Draft | None = None
        self.spool: Spool | None = None
        self.selection = b""  # what its request holds in the fields that the response varies by
        self.stored = False

    def share(self, draft: Draft, spool: Spool, selection: bytes) -> None:
        """Its response is for everybody who makes the same selection."""
        self.draft, self.spool, self.selection = draft, spool, selection
        self.settle()

    def settle(self) -> None:
        """No more is going to be known than now."""
        if not self.settled.done():
            self.settled.set_result(None)


class Flights:
    """Those of one worker, by key."""

    def __init__(self) -> None:
        self._under_way: dict[bytes, Flight] = {}
        self._marks: dict[bytes, float] = {}  # key → until when (seconds); the oldest mark first

    def find(self, key: bytes, now_s: float) -> Flight | None:
        """A fetch that is worth waiting for."""
        flight = self._under_way.get(key)
        return None if flight is None or self.marked(key, now_s) else flight

    def begin(self, key: bytes) -> Flight:
        """A new fetch; the first one for its key is the one that others find."""
        flight = Flight(key)
        self._under_way.setdefault(key, flight)
        return flight

    def under_way(self, key: bytes) -> bool:
        """Whether there is one for `key`."""
        return key in self._under_way

    def land(self, flight: Flight) -> None:
        """It is over."""
        if self._under_way.get(flight.key) is flight:
            del self._under_way[flight.key]
        flight.settle()

    def mark(self, key: bytes, now_s: float) -> None:
        """What is fetched for `key` is for nobody else."""
        self._marks.pop(key, None)
        self._marks[key] = now_s + MARK_S
        if len(self._marks) > MAX_MARKS:
            del self._marks[next(iter(self._marks))]

    def unmark(self, key: bytes) -> None:
        """It is for others too."""
        self._marks.pop(key, None)

    def marked(self, key: bytes, now_s: float) -> bool:
        """Whether it was not for others a moment ago."""
        until_s = self._marks.get(key)
        if until_s is None:
            return False
        if until_s > now_s:
            return True
        del self._marks[key]
        return False
