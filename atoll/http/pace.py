"""Whether what waits for a client still moves, or the client has stopped reading. Pure."""

from __future__ import annotations


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
