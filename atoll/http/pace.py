"""Both directions of a client connection, as far as they may have to wait.

`Outflow` judges whether what waits for the client still moves, or the client has stopped reading; `Inflow`
stops reading from it while nobody takes what it sends. No clock and no socket: both are passed in.
"""

from __future__ import annotations

from typing import Protocol


class Outflow:
    """Looked at every few seconds with the bytes that are queued at that moment."""

    __slots__ = ("_moved_s", "_queued")

    def __init__(self) -> None:
        self._queued = 0
        self._moved_s = 0.0

    def moved(self) -> None:
        """The client has taken something since the last look; the queue may have been refilled."""
        self._queued = -1

    def stuck(self, queued: int, now_s: float, patience_s: float) -> bool:
        """Whether the same bytes have been waiting for longer than `patience_s`."""
        if not queued or queued != self._queued:
            self._queued, self._moved_s = queued, now_s
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
