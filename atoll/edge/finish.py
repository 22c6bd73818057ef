"""The last step: the fields that say what the edge did. Pure.

`Cache-Status` (RFC 9211) is the edge's verdict and is appended to what came from behind. `X-Cache` is set
only when a function has not set one itself: a function runs before the cache and may have its own opinion.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from atoll.cache.status import appended
from atoll.http.fields import Headers, get

HIT: Final = b"HIT"
MISS: Final = b"MISS"
STALE: Final = b"STALE"
BYPASS: Final = b"BYPASS"

_FOR_US: Final = frozenset((b"cache-tag", b"surrogate-key", b"x-edge-location"))
"""What an origin tells its caches, or nobody but the edge may say; so are fields that begin with `atoll-`."""


class Stamp(NamedTuple):
    """What no two responses share. `date` is for one that has none (RFC 9110 §6.6.1)."""

    date: bytes
    timing: bytes
    trace: bytes


def finish_headers(headers: Headers, pop: bytes, verdict: bytes, cache_status: bytes) -> Headers:
    """`headers` with the edge's own fields; what others put into those is dropped."""
    behind: list[bytes] = []
    fields: Headers = []
    has_cache = False
    for field in headers:
        name = field[0]
        if name == b"cache-status":
            behind.append(field[1])
        elif name not in _FOR_US and not name.startswith(b"atoll-"):
            has_cache = has_cache or name == b"x-cache"
            fields.append(field)
    if not has_cache:
        fields.append((b"x-cache", verdict))
    status = appended(behind, cache_status) if behind else cache_status
    fields += ((b"x-edge-location", pop), (b"cache-status", status))
    return fields


def without_verdict(headers: Headers) -> Headers:
    """`headers` of an origin: what another cache made of it is not this one's `X-Cache`."""
    return [field for field in headers if field[0] != b"x-cache"]


def stamped(headers: Headers, stamp: Stamp) -> Headers:
    """`headers` with what belongs to this one response."""
    fields = [*headers, (b"server-timing", stamp.timing), (b"atoll-trace", stamp.trace)]
    if get(headers, b"date") is None:
        fields.append((b"date", stamp.date))
    return fields
