"""What changes once a second, kept ready: the date field and the time stamp of log records.

Time is passed in by whoever reads the clock; this only remembers what was made of it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from atoll.http.fields import format_http_date


class Clock:
    """Prepared renderings of the current time."""

    __slots__ = ("date", "from_s", "second", "stamp", "until_s")

    def __init__(self) -> None:
        self.second = -1
        self.date = b""
        self.stamp = b""
        self.from_s = 0.0  # the renderings are those of a time from here
        self.until_s = 0.0  # until here

    def tick(self, now_s: float) -> None:
        """Renew what is older than `now_s` allows: the stamp each 10 ms, the date each second."""
        if self.from_s <= now_s < self.until_s:
            return
        tick = int(now_s * 100)
        self.from_s, self.until_s = tick / 100, (tick + 1) / 100
        moment = datetime.fromtimestamp(now_s, UTC)
        self.stamp = moment.strftime('{"t":"%Y-%m-%dT%H:%M:%S.').encode() + b'%02d0Z"' % (tick % 100)
        second = int(now_s)
        if second != self.second:
            self.second = second
            self.date = format_http_date(now_s)
