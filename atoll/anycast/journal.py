"""What happened lately, in words, for people: a bounded list of stamped lines."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import Final

KEPT: Final = 100


class Journal:
    """The last lines, oldest first."""

    def __init__(self, kept: int = KEPT) -> None:
        self._lines: deque[str] = deque(maxlen=kept)

    def add(self, now_s: float, text: str) -> str:
        """Remember `text` as of `now_s` (seconds since the epoch); returns the line."""
        stamp = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds")
        line = f"{stamp.replace('+00:00', 'Z')} {text}"
        self._lines.append(line)
        return line

    @property
    def lines(self) -> tuple[str, ...]:
        """All that is remembered."""
        return tuple(self._lines)
