"""What changes once a second, kept ready: the date field and the time stamp of log records.

Time is passed in by whoever reads the clock; this only remembers what was made of it.
"""

from __future__ import annotations

from datetime import UTC, datetime

from atoll.http.fields import format_http_date


class Clock:
    """Prepared renderings of the current time."""

    __slots__ = ("_stamp_tick", "date", "second", "stamp")

    def __init__(self) -> None:
        self.second = -1
        self.date = b""
        self.stamp = b""
        self._stamp_tick = -1

    def tick(self, now_s: float) -> None:
        """Renew what is older than `now_s` allows: the stamp each 10 ms, the date each second."""
        tick = int(now_s * 100)
        if tick == self._stamp_tick:
            return
        self._stamp_tick = tick
        moment = datetime.fromtimestamp(now_s, UTC)
        self.stamp = moment.strftime('{"t":"%Y-%m-%dT%H:%M:%S.').encode() + b'%02d0Z"' % (tick % 100)
        second = int(now_s)
        if second != self.second:
            self.second = second
            self.date = format_http_date(now_s)
