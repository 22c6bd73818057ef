"""Header fields: reading lists of `(name, value)` and judging names and values (RFC 9110 §5).

Names are lowercase bytes, values are bytes without surrounding white space; the engines guarantee both. What
several readers need of one field lives here too: hop-by-hop fields, entity tags, `Vary`, and by re-export
dates and `Cache-Control`. Everything is pure; nothing here knows what a cache or an origin is.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from atoll.http.cache_control import ANY_STALENESS, MAX_DELTA_S, CacheControl, parse_cache_control
from atoll.http.dates import format_http_date, parse_http_date

__all__ = [
    "ANY_STALENESS",
    "GOOD_TARGET",
    "HOP_BY_HOP",
    "MAX_DELTA_S",
    "CacheControl",
    "Headers",
    "combined",
    "etag_matches",
    "format_http_date",
    "get",
    "get_all",
    "h2_fields",
    "is_entity_tag",
    "is_token",
    "parse_cache_control",
    "parse_http_date",
    "parse_vary",
    "strip_hop_by_hop",
    "valid_field_value",
    "valid_host",
]

Headers = list[tuple[bytes, bytes]]

GOOD_TARGET: Final = bytes(range(0x21, 0x7F)).replace(b"#", b"")
"""What a request target may consist of (RFC 9112 §3.2): no space, no fragment, nothing beyond ASCII."""

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields for the next hop alone (RFC 9110 §7.6.1), and those a proxy answers for itself (RFC 9111 §3.1)."""

_END_TO_END: Final = frozenset(
    {
        b"age",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"expires",
        b"host",
        b"set-cookie",
        b"vary",
    }
)
"""Never a connection option, whoever names them: a peer could strip what makes a response private."""

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_FIELD_VALUE: Final = re.compile(rb"(?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")
_HOST_NAME: Final = re.compile(rb"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9_.-])?")
_AUTHORITY: Final = re.compile(
    rb"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]{0,5}))?"
)
_ENTITY_TAG: Final = re.compile(rb'(?:W/)?"[!#-~\x80-\xff]*"')


def get(headers: Headers, name: bytes) -> bytes | None:
    """The first value of `name`."""
    for field, value in headers:
        if field == name:
            return value
    return None


def get_all(headers: Headers, name: bytes) -> list[bytes]:
    """Every value of `name`, in order."""
    return [value for field, value in headers if field == name]


def combined(headers: Headers, name: bytes) -> bytes | None:
    """All values of `name` as one list value (RFC 9110 §5.3)."""
    values = get_all(headers, name)
    return b", ".join(values) if values else None


def strip_hop_by_hop(headers: Headers) -> Headers:
    """`headers` without hop-by-hop fields and those that `Connection` names."""
    named: set[bytes] = set()
    for value in get_all(headers, b"connection"):
        named.update(option.strip(b" \t").lower() for option in value.split(b","))
    drop = HOP_BY_HOP | (named - _END_TO_END) if named else HOP_BY_HOP
    return [field for field in headers if field[0] not in drop]


def h2_fields(headers: Headers) -> Headers:
    """`headers` as HTTP/2 takes them: none for a connection (RFC 9113 §8.2.2), a space for each tab."""
    return [
        (name, value.replace(b"\t", b" ") if b"\t" in value else value)
        for name, value in headers
        if name not in HOP_BY_HOP
    ]


def is_token(value: bytes) -> bool:
    """Whether `value` is a token (RFC 9110 §5.6.2): a field name, a method."""
    return _TOKEN.fullmatch(value) is not None


def valid_field_value(value: bytes) -> bool:
    """Whether `value` may stand in a field: no control characters, no space at its ends."""
    return _FIELD_VALUE.fullmatch(value) is not None


def valid_host(host: bytes) -> bool:
    """Whether `host` is a name, an IPv4 address or a bracketed IPv6 one, with or without a port.

    Narrower than RFC 3986's reg-name on purpose: what is no DNS name would only ever poison a key or a log.
    """
    match = _AUTHORITY.fullmatch(host)
    if match is None or int(match["port"] or 0) > 65535:
        return False
    if match["v6"] is None:
        return _HOST_NAME.fullmatch(match["name"]) is not None
    try:
        ipaddress.IPv6Address(match["v6"].decode("ascii"))
    except ValueError:
        return False
    return True


def is_entity_tag(value: bytes) -> bool:
    """Whether `value` is one entity tag (RFC 9110 §8.8.3), weak or strong."""
    return _ENTITY_TAG.fullmatch(value) is not None


def etag_matches(if_none_match: bytes, etag: bytes, weak: bool) -> bool:
    """Whether a list of entity tags (or `*`) contains `etag`, by weak or strong comparison (§8.8.3.2).

    An origin's unquoted tag is no entity tag, but it equals itself when a client sends it back alone.
    """
    if if_none_match == b"*":
        return True
    if not weak and etag.startswith(b"W/"):
        return False
    if if_none_match == etag:
        return True
    wanted = etag.removeprefix(b"W/")
    for candidate in _ENTITY_TAG.findall(if_none_match):
        if (candidate.removeprefix(b"W/") if weak else candidate) == wanted:
            return True
    return False


def parse_vary(values: list[bytes]) -> tuple[bytes, ...] | None:
    """The lowercase, sorted, unique names of `Vary`; None when no request can ever match.

    That is `*` (RFC 9110 §12.5.5), and also a member that is no field name: nobody knows what it selects.
    """
    names = {name.strip(b" \t").lower() for value in values for name in value.split(b",")}
    names.discard(b"")
    if b"*" in names or not all(map(is_token, names)):
        return None
    return tuple(sorted(names))
