"""Placeholders of the conformance table, filled in. Dates are written here in all three forms of RFC 9110
§5.6.7, and in one that is none, without the code under test."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import msgspec

_PLACE: Final = re.compile(r"\{(?P<what>now|start|base|url|host)(?P<shift>[+-]\d+)?(?:\|(?P<form>\w+))?\}")
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Places(msgspec.Struct, frozen=True):
    """What the placeholders of one case stand for."""

    start_s: float
    base: str
    host: str

    def fill(self, text: str, now_s: float) -> str:
        """`text` with its placeholders replaced."""
        return _PLACE.sub(lambda match: self._value(match, now_s), text) if "{" in text else text

    def _value(self, match: re.Match[str], now_s: float) -> str:
        what = match["what"]
        if what in ("now", "start"):
            at_s = (now_s if what == "now" else self.start_s) + int(match["shift"] or 0)
            return http_date(at_s, match["form"] or "")
        value = {"base": self.base, "host": self.host, "url": f"http://{self.host}{self.base}"}[what]
        return value.upper() if match["form"] == "upper" else value


def http_date(at_s: float, form: str = "") -> str:
    """An HTTP date; `form` is "" (IMF-fixdate), "rfc850", "asctime", "zone" (not in GMT) or "lower"."""
    at = datetime.fromtimestamp(int(at_s), UTC)
    day, month = at.weekday(), _MONTHS[at.month - 1]
    clock = f"{at.hour:02}:{at.minute:02}:{at.second:02}"
    if form == "rfc850":
        return f"{_LONG[day]}, {at.day:02}-{month}-{at.year % 100:02} {clock} GMT"
    if form == "asctime":
        return f"{_DAYS[day]} {month} {at.day:2} {clock} {at.year}"
    fixed = f"{_DAYS[day]}, {at.day:02} {month} {at.year} {clock}"
    if form == "zone":
        return f"{fixed} EST"
    return f"{fixed} GMT".lower() if form == "lower" else f"{fixed} GMT"
