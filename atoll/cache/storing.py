"""May a shared cache store this response, and which fields of it: RFC 9111 §3.

Where the RFC leaves a choice the careful one is taken: what might belong to one user is not stored for all,
and what answers one request's conditions or range is not stored for requests without them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from atoll.cache.freshness import HEURISTIC_STATUS, explicit
from atoll.cache.keys import resolved
from atoll.cache.ranges import part_of
from atoll.http.fields import (
    CacheControl,
    Headers,
    get,
    get_all,
    parse_cache_control,
    parse_vary,
    strip_hop_by_hop,
)

UNDERSTOOD_STATUS: Final = frozenset(
    {200, 203, 204, 206, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 406, 410, 414, 421, 451}
    | {500, 501, 502, 503, 504}
)
"""Statuses whose caching requirements are implemented here: what `must-understand` asks about."""

NEVER_STORED_STATUS: Final = {
    304: "not-modified",  # an update of what is stored, nothing by itself
    407: "status",  # between one client and one proxy
    412: "conditional",  # says that one request's precondition failed
    416: "conditional",  # says that one request's range does not exist
    428: "status",  # RFC 6585 §3
    429: "status",  # RFC 6585 §4
    431: "status",  # RFC 6585 §5
    511: "status",  # RFC 6585 §6
}
"""Final statuses that no directive makes storable, and why."""

POST_STATUS: Final = frozenset({200, 203})
"""Answers to a POST that are what a GET of the same URL would get (RFC 9110 §8.7, §9.3.3)."""


class Verdict(msgspec.Struct, frozen=True):
    """Whether a response is stored, and the reason in `Cache-Status` terms when it is not."""

    store: bool
    reason: str


def storability(
    method: bytes,
    request: Headers,
    status: int,
    response: Headers,
    cc: CacheControl,
    *,
    target: bytes = b"",
    partial: bool = False,
) -> Verdict:
    """Whether a shared cache may store `response`; `cc` are its effective directives.

    `target` is the primary key of the request's URL; without it no response to a POST is stored. `partial`
    says that the caller keeps ranges apart from whole responses, so that a 206 may be stored.

    HEAD is refused because an entry answers GETs too and a HEAD response has no content to give them: what
    it does to stored responses is `atoll.cache.validation.head_update`'s to say.
    """
    reason = (
        _refused_by_method(method, status, response, cc, target)
        or _refused_by_request(request, response, cc)
        or _refused_by_status(status, response, cc, partial)
        or _refused_by_response(response, cc)
        or _refused_as_useless(status, response, cc)
    )
    return Verdict(not reason, reason)


def _refused_by_method(method: bytes, status: int, response: Headers, cc: CacheControl, target: bytes) -> str:
    """RFC 9110 §9.3.3: a POST's response if it is explicitly fresh and represents the target itself."""
    if method == b"GET":
        return ""
    if method != b"POST" or not target or status not in POST_STATUS or not explicit(response, cc):
        return "method"
    location = get_all(response, b"content-location")
    return "" if len(location) == 1 and resolved(target, location[0]) == target else "method"


def _refused_by_request(request: Headers, response: Headers, cc: CacheControl) -> str:
    if parse_cache_control(get_all(request, b"cache-control")).no_store:
        return "request-no-store"
    shared = cc.public or cc.must_revalidate or cc.s_maxage is not None
    if get(request, b"authorization") is not None and not shared:  # §3.5
        return "authorization"
    if get(request, b"cookie") is not None and not (explicit(response, cc) or cc.public or cc.no_cache):
        return "cookie"  # nothing says that it is for others: how long it is theirs is not guessed
    return ""


def _refused_by_status(status: int, response: Headers, cc: CacheControl, partial: bool) -> str:
    if status < 200:
        return "not-final"
    if status in NEVER_STORED_STATUS:
        return NEVER_STORED_STATUS[status]
    if status == 206 and not (partial and part_of(response) is not None):
        return "partial"
    if cc.must_understand and status not in UNDERSTOOD_STATUS:
        return "must-understand"
    return ""


def _refused_by_response(response: Headers, cc: CacheControl) -> str:
    if cc.no_store and not cc.must_understand:  # §5.2.2.3: a cache that understands ignores no-store
        return "no-store"
    if cc.private:
        return "private"
    if parse_vary(get_all(response, b"vary")) is None:
        return "vary"
    if get(response, b"set-cookie") is not None and not _cookie_allowed(cc):
        return "set-cookie"
    return ""


def _cookie_allowed(cc: CacheControl) -> bool:
    """The origin meant everybody, or the cookie is not stored with the rest."""
    named = cc.private_fields + cc.no_cache_fields
    return cc.public or cc.s_maxage is not None or b"set-cookie" in named


def _refused_as_useless(status: int, response: Headers, cc: CacheControl) -> str:
    validators = get(response, b"etag") is not None or get(response, b"last-modified") is not None
    if cc.no_cache:
        return "" if validators else "no-cache"
    if explicit(response, cc) or cc.public:
        return ""
    if status not in HEURISTIC_STATUS:
        return "status"
    return "" if validators else "no-freshness"


def storable_headers(response: Headers, cc: CacheControl) -> Headers:
    """The fields that are stored (§3.1): none for one hop, one user or one validation, and no `Age`."""
    drop = {b"age", *cc.private_fields, *cc.no_cache_fields}
    return [field for field in strip_hop_by_hop(response) if field[0] not in drop]
