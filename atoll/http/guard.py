"""What a worker's listeners watch together: who is connected, how eagerly they ask, what is held for them.

Once a second all connections are looked at. Whoever asks too often is answered with 429 for a while. When
more is held for all of them than memory allows, new connections are answered with 503, and the newest of
those that something is held for are given up, until it is little enough: the oldest are the nearest to their
end. Nothing of this costs a request anything.
"""

from __future__ import annotations

import asyncio
from time import time
from typing import Final, Protocol

from atoll.http.crowd import Crowd, party
from atoll.http.limits import Limits

LOOPBACK: Final = frozenset(("127.0.0.1", "::1"))
"""Addresses of proxies on this machine: who is behind them is not told apart."""

_LOOK_S: Final = 1.0
_RELIEF: Final = 0.8  # of the limit: where shedding ends
TOO_EAGER: Final = 429
OVERLOADED: Final = 503


class Guarded(Protocol):
    """A client's connection."""

    @property
    def served(self) -> int:
        """Requests so far."""

    def held(self) -> int:
        """Bytes that are kept for it here."""

    def turn_away(self, status: int, reason: str) -> None:
        """Answer the next request with `status`, and end."""

    def give_up(self, status: int, reason: str) -> None:
        """End now, with `status` as far as it can still be said."""


class _Seat:
    __slots__ = ("served", "who")

    def __init__(self, who: bytes) -> None:
        self.who = who
        self.served = 0


class Guard:
    """Shared by the listeners of one worker."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._crowd = Crowd(limits.address_connections, limits.address_requests_s, limits.address_slowed_s)
        self._open: dict[Guarded, _Seat] = {}  # the newest last
        self._timer: asyncio.TimerHandle | None = None
        self.overloaded = False
        self.turned_away = 0  # connections that their address had too many of

    def enter(self, ip: str) -> bytes | None:
        """Another connection of an address: what `leave` wants to know, or None if it has too many."""
        who = party(ip)
        if who and not self._crowd.enter(who):
            self.turned_away += 1
            return None
        return who

    def full(self, ip: str) -> bool:
        """Whether an address has as many connections as it may; another attempt counts as turned away."""
        full = self._crowd.full(party(ip))
        self.turned_away += full
        return full

    def leave(self, who: bytes) -> None:
        """It has ended without ever being `opened`."""
        if who:
            self._crowd.leave(who)

    def opened(self, connection: Guarded, who: bytes) -> None:
        """A connection is ready to be asked something."""
        self._open[connection] = _Seat(who)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look_again)
        if self.overloaded:
            connection.turn_away(OVERLOADED, "overloaded")
        elif who and self._crowd.slowed(who, time()):
            connection.turn_away(TOO_EAGER, "too many requests")

    def closed(self, connection: Guarded) -> None:
        """It has ended."""
        seat = self._open.pop(connection, None)
        if seat is not None and seat.who:
            self._crowd.asked(seat.who, connection.served - seat.served)
            self._crowd.leave(seat.who)

    def _look_again(self) -> None:
        self._timer = None
        self.look(time())
        if self._open:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look_again)

    def look(self, now_s: float) -> None:
        """Judge all connections."""
        held = 0
        for connection, seat in self._open.items():
            held += connection.held()
            if seat.who:
                served = connection.served
                self._crowd.asked(seat.who, served - seat.served)
                seat.served = served
        eager = self._crowd.judge(now_s)
        if eager:
            for connection, seat in self._open.items():
                if seat.who in eager:
                    connection.turn_away(TOO_EAGER, "too many requests")
        self._relieve(held)

    def _relieve(self, held: int) -> None:
        most = self._limits.memory
        if held > most:
            self.overloaded = True
            for connection in reversed(list(self._open)):
                if held <= most * _RELIEF:
                    break
                size = connection.held()
                if size:
                    connection.give_up(OVERLOADED, "overloaded")
                    held -= size
        self.overloaded = self.overloaded and held > most * _RELIEF
