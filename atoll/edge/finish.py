"""The last step: the fields that say what the edge did. Pure.

`Cache-Status` (RFC 9211) is the edge's verdict and is appended to what came from behind. `X-Cache` is set
only when a function has not set one itself: a function runs before the cache and may have its own opinion.
"""

from __future__ import annotations

from typing import Final

from atoll.http.fields import Headers

HIT: Final = b"HIT"
MISS: Final = b"MISS"
STALE: Final = b"STALE"
BYPASS: Final = b"BYPASS"


def finish_headers(
    headers: Headers,
    pop: bytes,
    verdict: bytes,
    cache_status: bytes,
    timing: bytes,
    trace: bytes,
    date: bytes,
) -> Headers:
    """`headers` with the edge's own fields; `X-Edge-Location` of anybody else is replaced.

    `date` is for a response that has none (RFC 9110 §6.6.1).
    """
    status = cache_status
    fields: Headers = []
    has_cache = has_date = False
    for field in headers:
        name = field[0]
        if name == b"cache-status":
            status = field[1] + b", " + status
        elif name == b"x-edge-location":
            continue
        else:
            has_cache = has_cache or name == b"x-cache"
            has_date = has_date or name == b"date"
            fields.append(field)
    if not has_date:
        fields.append((b"date", date))
    if not has_cache:
        fields.append((b"x-cache", verdict))
    fields += (
        (b"x-edge-location", pop),
        (b"cache-status", status),
        (b"server-timing", timing),
        (b"atoll-trace", trace),
    )
    return fields
