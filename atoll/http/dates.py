"""HTTP dates: the three forms of RFC 9110 §5.6.7, read leniently in case and strictly in all else.

RFC 9111 §4.2 asks a cache to match dates without regard to case and to take any zone but GMT as invalid; an
invalid date is None, and what that means (stale, ignored) is the caller's rule. Never touches the clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_DAYS: Final = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS: Final = (
    *(b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun"),
    *(b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"),
)
_MONTH_NUMBER: Final = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}

_DAY = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_LONG_DAY = rb"(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)"
_MONTH = rb"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_CLOCK = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"

_FORMS: Final = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        _DAY + rb", (?P<day>[0-9]{2}) " + _MONTH + rb" (?P<year>[0-9]{4}) " + _CLOCK + rb" GMT",
        _LONG_DAY + rb", (?P<day>[0-9]{2})-" + _MONTH + rb"-(?P<year>[0-9]{2}) " + _CLOCK + rb" GMT",
        _DAY + rb" " + _MONTH + rb" (?P<day>[0-9]{2}| [0-9]) " + _CLOCK + rb" (?P<year>[0-9]{4})",
    )
)
_LONGEST: Final = len(b"Wednesday, 09-Nov-94 08:49:37 GMT")


def parse_http_date(value: bytes) -> float | None:
    """Seconds since the epoch, or None when `value` is no valid HTTP date."""
    if len(value) > _LONGEST:
        return None
    return _parse(value)


@lru_cache(maxsize=1024)
def _parse(value: bytes) -> float | None:
    for form in _FORMS:
        match = form.fullmatch(value)
        if match is not None:
            return _timestamp(match)
    return None


def _timestamp(match: re.Match[bytes]) -> float | None:
    # A two-digit year counts from 1970: the rule's "more than 50 years ahead" without asking the clock.
    digits = match["year"]
    year = int(digits)
    if len(digits) == 2:
        year += 2000 if year < 70 else 1900
    second = int(match["second"])
    try:
        moment = datetime(
            year,
            _MONTH_NUMBER[match["month"].lower()],
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            59 if second == 60 else second,  # the grammar allows a leap second, POSIX time has none
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return moment.timestamp()


def format_http_date(now_s: float) -> bytes:
    """`now_s` as an IMF-fixdate; made once per second however often it is asked for."""
    return _format(int(now_s))


@lru_cache(maxsize=8)
def _format(second: int) -> bytes:
    moment = datetime.fromtimestamp(second, UTC)
    return b"%s, %02d %s %04d %02d:%02d:%02d GMT" % (
        _DAYS[moment.weekday()],
        moment.day,
        _MONTHS[moment.month - 1],
        moment.year,
        moment.hour,
        moment.minute,
        moment.second,
    )
