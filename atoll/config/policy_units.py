"""Durations and sizes as people write them in a policy file and on the command line. Pure.

duration  "500ms", "30s", "5m", "1h30m", "7d"   a bare number is seconds
size      "64KB", "256MB", "1GB"                 a bare number is bytes; a KB is 1024 bytes, as in nginx
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

_DURATION_S: Final = {
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86_400.0,
    "w": 604_800.0,
}
_SIZE: Final = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_PART: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ms|s|min|m|h|d|w)", re.ASCII)
_WHOLE_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,9})?) ?([kmgt]?)(i?b)?", re.IGNORECASE | re.ASCII)

DURATION: Final = 'a duration, such as "500ms", "30s", "5m", "1h30m", "7d", or a number of seconds'
SIZE: Final = 'a size, such as "64KB", "256MB", "1GB", or a number of bytes'


def parse_duration_s(text: str) -> float | None:
    """Seconds; None when `text` is no duration. Units go from large to small, each once."""
    found = _PART.findall(text)
    if not found or "".join(number + unit for number, unit in found) != text:
        return None
    units = [_DURATION_S[unit] for _, unit in found]
    if any(unit >= before for before, unit in pairwise(units)):
        return None
    return round(sum(float(number) * _DURATION_S[unit] for number, unit in found), 9)


def parse_size(text: str) -> int | None:
    """Bytes; None when `text` is no size, or none of whole bytes."""
    found = _WHOLE_SIZE.fullmatch(text)
    if found is None or (found[3] and found[3].lower() == "ib" and not found[2]):
        return None
    size = float(found[1]) * _SIZE[found[2].lower()]
    return int(size) if size == int(size) else None


def say_duration(duration_s: float) -> str:
    """`duration_s` as it may stand in a file."""
    if 0 < duration_s < 1:
        return f"{_plain(duration_s * 1000)}ms"
    for unit in ("w", "d", "h", "m"):
        if duration_s >= _DURATION_S[unit] and duration_s % _DURATION_S[unit] == 0:
            return f"{_plain(duration_s / _DURATION_S[unit])}{unit}"
    return f"{_plain(duration_s)}s"


def say_size(size: int) -> str:
    """`size` as it may stand in a file."""
    for unit in ("t", "g", "m", "k"):
        if size >= _SIZE[unit] and size % _SIZE[unit] == 0:
            return f"{size // _SIZE[unit]}{unit.upper()}B"
    return f"{size}B"


def _plain(number: float) -> str:
    return f"{number:.9f}".rstrip("0").rstrip(".")
