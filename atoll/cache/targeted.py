"""Which field decides about a response: targeted ones first, then `Cache-Control` (RFC 9213).

A targeted field is a dictionary of structured fields (RFC 9651 §3.2), stricter than `Cache-Control`: one that
does not parse, or is empty, is as if it were not there, and a directive of a wrong type is ignored by itself.
The first field of `TARGETS` that is left decides alone; `Cache-Control` and `Expires` then say nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import http_sf
import msgspec

from atoll.http.cache_control import (
    FIELD_LISTS,
    MAX_DELTA_S,
    PERMITTING,
    RESTRICTING,
    SECONDS,
    CacheControl,
    field_names,
    parse_cache_control,
)
from atoll.http.fields import Headers, get_all

OWN: Final = b"atoll-cdn-cache-control"
"""For this network's caches alone: nobody behind them can use it."""

TARGETS: Final = (OWN, b"cdn-cache-control")
"""The target list (RFC 9213 §2.2), the most applicable first."""

_REQUEST_ONLY: Final = frozenset({b"only-if-cached", b"min-fresh", b"max-stale"})
_FLAGS: Final = {
    name.decode(): attribute
    for name, attribute in (RESTRICTING | PERMITTING).items()
    if name not in _REQUEST_ONLY
}
_NUMBERS: Final = {
    name.decode(): attribute for name, attribute in SECONDS.items() if name not in _REQUEST_ONLY
}
_LISTS: Final = {name.decode(): attributes for name, attributes in FIELD_LISTS.items()}
_SHORT: Final = 128  # longer fields are parsed anew each time: an origin must not fill memory with them

_Found = dict[str, bool | int | tuple[bytes, ...]]


class Effective(msgspec.Struct, frozen=True):
    """The directives that count for a response, and the targeted field they are from, if any."""

    cc: CacheControl
    targeted: bytes | None


def effective(response: Headers) -> Effective:
    """The directives that decide about `response`. Every rule of this folder takes its `cc`."""
    for name in TARGETS:
        values = get_all(response, name)
        cc = parse_targeted(values) if values else None
        if cc is not None:
            return Effective(cc, name)
    return Effective(parse_cache_control(get_all(response, b"cache-control")), None)


def parse_targeted(values: list[bytes]) -> CacheControl | None:
    """All lines of one targeted field together; None when they are to be ignored.

    A dictionary that holds nothing but unknown directives counts: `none` is how an origin says "no limits".
    """
    field = values[0] if len(values) == 1 else b", ".join(values)
    return _parse_short(field) if len(field) <= _SHORT else _parse(field)


def _parse(field: bytes) -> CacheControl | None:
    try:
        members = http_sf.parse(field, tltype="dictionary")
    except ValueError:
        return None
    if not isinstance(members, dict) or not members:
        return None
    found: _Found = {"targeted": True}
    for name, member in members.items():
        assert isinstance(member, tuple), "a parsed member comes with its parameters"
        _add(found, name, member[0])
    return msgspec.convert(found, CacheControl)


_parse_short = lru_cache(maxsize=1024)(_parse)


def _add(found: _Found, name: str, value: object) -> None:
    """One directive, if its value has the type that RFC 9213 §2.1 infers for it."""
    if name in _FLAGS:
        if value is True:
            found[_FLAGS[name]] = True
    elif name in _NUMBERS:
        if type(value) is int:  # a boolean is an integer to Python, not to the origin
            found[_NUMBERS[name]] = min(max(value, 0), MAX_DELTA_S)  # below zero: stale
    elif name in _LISTS:
        _add_list(found, *_LISTS[name], value)


def _add_list(found: _Found, flag: str, key: str, value: object) -> None:
    """`no-cache` and `private`: true, or the names as a string; a list of one may be a token."""
    if value is True:
        found[flag] = True
    elif isinstance(value, (str, http_sf.Token)):
        names = field_names(str(value).encode("ascii"))
        if names is None:
            found[flag] = True  # what it was to be limited to is unknown: it holds for everything
        else:
            found[key] = tuple(sorted(names))
