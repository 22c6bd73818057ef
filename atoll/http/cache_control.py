"""The `Cache-Control` field as one value (RFC 9111 §5.2; RFC 5861 and RFC 8246 extensions).

Reading errs on the side of the origin: a number that is none makes the response stale (§4.2.1), of two
values the more restrictive counts, a malformed field list restricts the whole response, an unterminated
quote hides no directive behind it. Unknown directives are ignored (§5.2.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import msgspec

MAX_DELTA_S: Final = 2**31
"""What a larger number of seconds is taken for (RFC 9111 §1.2.2)."""

ANY_STALENESS: Final = -1
"""`max-stale` without a value: the client takes a response of any staleness."""


class CacheControl(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Directives of a request or a response. Numbers are seconds; None means absent.

    `no_cache` and `private` are the unqualified forms; the fields a qualified form names (lowercase) are in
    `no_cache_fields` and `private_fields`. `targeted` says that the directives are those of a targeted field,
    beside which `Expires` does not count (RFC 9213 §2.2).
    """

    no_store: bool = False
    no_cache: bool = False
    private: bool = False
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    no_transform: bool = False
    immutable: bool = False
    only_if_cached: bool = False
    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    min_fresh: int | None = None
    max_stale: int | None = None
    no_cache_fields: tuple[bytes, ...] = ()
    private_fields: tuple[bytes, ...] = ()
    targeted: bool = False


NO_DIRECTIVES: Final = CacheControl()

RESTRICTING: Final = {
    b"no-store": "no_store",
    b"must-revalidate": "must_revalidate",
    b"proxy-revalidate": "proxy_revalidate",
    b"no-transform": "no_transform",
    b"only-if-cached": "only_if_cached",
}
"""Flags that only forbid: an argument they should not have does not disarm them."""

PERMITTING: Final = {
    b"public": "public",
    b"immutable": "immutable",
    b"must-understand": "must_understand",
}
"""Flags that allow more: they count only when they are well formed."""

SECONDS: Final = {
    b"max-age": "max_age",
    b"s-maxage": "s_maxage",
    b"stale-while-revalidate": "stale_while_revalidate",
    b"stale-if-error": "stale_if_error",
    b"min-fresh": "min_fresh",
    b"max-stale": "max_stale",
}

FIELD_LISTS: Final = {
    b"no-cache": ("no_cache", "no_cache_fields"),
    b"private": ("private", "private_fields"),
}

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_FIELD_LIST: Final = re.compile(rb"[ \t,]*" + _TOKEN + rb"(?:[ \t]*,[ \t,]*" + _TOKEN + rb")*[ \t,]*")
_STOP: Final = re.compile(rb',|="')  # a quote elsewhere opens no quoted string
_QUOTED_REST: Final = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SHORT: Final = 128  # longer fields are parsed anew each time: a client must not fill memory with them


def parse_cache_control(values: list[bytes]) -> CacheControl:
    """All `Cache-Control` lines of a message together."""
    if not values:
        return NO_DIRECTIVES
    field = values[0] if len(values) == 1 else b", ".join(values)
    return _parse_short(field) if len(field) <= _SHORT else _parse(field)


def _parse(field: bytes) -> CacheControl:
    found: dict[str, bool | int | tuple[bytes, ...]] = {}
    for name, argument in _directives(field):
        if name in SECONDS:
            _add_seconds(found, SECONDS[name], argument)
        elif name in FIELD_LISTS:
            _add_fields(found, *FIELD_LISTS[name], argument)
        elif name in RESTRICTING:
            found[RESTRICTING[name]] = True
        elif name in PERMITTING and argument is None:
            found[PERMITTING[name]] = True
    return msgspec.convert(found, CacheControl) if found else NO_DIRECTIVES


_parse_short = lru_cache(maxsize=1024)(_parse)


def _directives(field: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Lowercase names with their raw arguments (None without `=`)."""
    for member in _members(field):
        name, equals, argument = member.strip(b" \t").partition(b"=")
        # Space around the sign is no grammar at all; the name still restricts, the number is invalid.
        yield name.rstrip(b" \t").lower(), argument if equals else None


def _members(field: bytes) -> list[bytes]:
    """The field split at its commas, those inside quoted strings aside."""
    members: list[bytes] = []
    start = at = 0
    while (stop := _STOP.search(field, at)) is not None:
        at = stop.end()
        if stop[0] == b",":
            members.append(field[start : stop.start()])
            start = at
            continue
        quoted = _QUOTED_REST.match(field, at)
        if quoted is None:  # never closed: whatever follows is read as if there were no quote
            return members + field[start:].split(b",")
        at = quoted.end()
    members.append(field[start:])
    return members


def _add_seconds(found: dict[str, bool | int | tuple[bytes, ...]], key: str, argument: bytes | None) -> None:
    if key == "max_stale" and argument is None:
        found.setdefault(key, ANY_STALENESS)
        return
    seconds = _seconds(argument)
    known = found.get(key)
    if not isinstance(known, int) or known == ANY_STALENESS:
        found[key] = seconds
    elif key == "min_fresh":
        found[key] = max(known, seconds)
    else:
        found[key] = min(known, seconds)


def _seconds(argument: bytes | None) -> int:
    digits = _unquoted(argument or b"")
    if not digits.isdigit():
        return 0
    digits = digits.lstrip(b"0") or b"0"
    return min(int(digits), MAX_DELTA_S) if len(digits) < 20 else MAX_DELTA_S


def _add_fields(
    found: dict[str, bool | int | tuple[bytes, ...]], flag: str, key: str, argument: bytes | None
) -> None:
    listed = field_names(_unquoted(argument or b""))
    if listed is None:
        found[flag] = True
        return
    known = found.get(key, ())
    found[key] = tuple(sorted(listed.union(known if isinstance(known, tuple) else ())))


def field_names(argument: bytes) -> set[bytes] | None:
    """The lowercase names in the argument of a qualified `no-cache` or `private`; None when it is no list."""
    if _FIELD_LIST.fullmatch(argument) is None:
        return None
    return {name.strip(b" \t").lower() for name in argument.split(b",")} - {b""}


def _unquoted(argument: bytes) -> bytes:
    if len(argument) >= 2 and argument[0] == argument[-1] == 0x22:
        return re.sub(rb"\\(.)", rb"\1", argument[1:-1], flags=re.DOTALL)
    return argument
