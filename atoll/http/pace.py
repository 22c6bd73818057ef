"""Both directions of a client connection, as far as they may have to wait.

`Outflow` judges whether what waits for the client still moves, or the client has stopped reading; `Inflow`
stops reading from it while nobody takes what it sends. No clock and no socket: both are passed in.
"""

from __future__ import annotations

from typing import Final, Protocol

_SLOWEST: Final = 1024  # bytes within the patience: who takes less only means to keep them here


class Outflow:
    """Looked at every few seconds with the bytes that are queued at that moment.

    The same judges a client that sends: something is always waited for, and `taken` is what has come.
    """

    __slots__ = ("_moved_s", "_taken")

    def __init__(self) -> None:
        self._taken = 0
        self._moved_s = 0.0

    def moved(self) -> None:
        """The client has taken a good part since the last look; the queue may have been refilled."""
        self._moved_s = 0.0

    def stuck(self, queued: int, now_s: float, patience_s: float, taken: int | None = None) -> bool:
        """Whether something has been waiting for longer than `patience_s` and next to nothing has left.

        `taken` are the bytes that have left so far, for whoever counts them; else it is the queue that moves.
        """
        if taken is None:
            taken = -queued
        if not queued or not self._moved_s or abs(taken - self._taken) >= _SLOWEST:
            self._taken, self._moved_s = taken, now_s
            return False
        return now_s - self._moved_s > patience_s


class Pausable(Protocol):
    """What is read from: a transport."""

    def pause_reading(self) -> None:
        """Leave what comes where it is."""

    def resume_reading(self) -> None:
        """Take it again."""


class Inflow:
    """Tells a transport of each change, once: transports do not take a second pause."""

    __slots__ = ("paused",)

    def __init__(self) -> None:
        self.paused = False

    def hold(self, transport: Pausable, full: bool) -> None:
        """Read no more while `full`."""
        if full and not self.paused:
            self.paused = True
            transport.pause_reading()
        elif not full and self.paused:
            self.paused = False
            transport.resume_reading()
