"""May a stored response answer this request: RFC 9111 §4 and §5.2.1, RFC 5861, RFC 8246.

What clients ask for counts unless the caller says that it does not (`honour_client`): whoever runs a site may
decide that a client's reload is no reason to ask its origin. `only-if-cached` counts always, it costs nobody
anything. A fresh `immutable` response is not asked about because of `max-age`, which is how browsers reload a
page; `no-cache` is a client's word that it wants a validation, and gets one (RFC 8246 §2).
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from atoll.http.cache_control import NO_DIRECTIVES
from atoll.http.fields import ANY_STALENESS, CacheControl, Headers, get_all, parse_cache_control

ERROR_STATUS: Final = frozenset({500, 502, 503, 504})
"""What `stale-if-error` calls an error (RFC 5861 §4)."""

_NO_CACHE: Final = CacheControl(no_cache=True)
_ONLY_IF_CACHED: Final = CacheControl(only_if_cached=True)


class Decision(Enum):
    """What to do with a request, given what is stored."""

    FRESH = auto()  # serve it
    STALE = auto()  # serve it although stale: the client said it would take it (max-stale)
    STALE_WHILE_REVALIDATE = auto()  # serve it, revalidate behind (RFC 5861 §3)
    MUST_REVALIDATE = auto()  # ask the origin first
    MISS = auto()  # nothing is stored
    ONLY_IF_CACHED = auto()  # the client forbids asking the origin: 504 (§5.2.1.7)


def request_directives(request: Headers) -> CacheControl:
    """What a request says; `Pragma: no-cache` counts where there is no `Cache-Control` (§5.4)."""
    values = get_all(request, b"cache-control")
    if values:
        return parse_cache_control(values)
    for value in get_all(request, b"pragma"):
        if any(member.strip(b" \t").lower() == b"no-cache" for member in value.split(b",")):
            return _NO_CACHE
    return NO_DIRECTIVES


def decide(
    cc: CacheControl,
    lifetime_s: float,
    age_s: float,
    request_cc: CacheControl,
    *,
    honour_client: bool = True,
    route_stale_while_revalidate_s: float = 0.0,
) -> Decision:
    """What a stored response may do for a request. `cc` are the response's effective directives.

    `no-store` of a request says nothing about answering it from the cache (§5.2.1.5).
    """
    asked = request_cc if honour_client else _what_always_counts(request_cc)
    decision = _reuse(cc, lifetime_s, age_s, asked, route_stale_while_revalidate_s)
    if asked.only_if_cached and decision is Decision.MUST_REVALIDATE:
        return Decision.ONLY_IF_CACHED
    return decision


def decide_absent(request_cc: CacheControl) -> Decision:
    """What to do with a request for which nothing is stored."""
    return Decision.ONLY_IF_CACHED if request_cc.only_if_cached else Decision.MISS


def _what_always_counts(request_cc: CacheControl) -> CacheControl:
    return _ONLY_IF_CACHED if request_cc.only_if_cached else NO_DIRECTIVES


def _reuse(
    cc: CacheControl, lifetime_s: float, age_s: float, request_cc: CacheControl, route_s: float
) -> Decision:
    if cc.no_cache or request_cc.no_cache:
        return Decision.MUST_REVALIDATE
    left_s = lifetime_s - age_s
    if _too_old(cc, left_s, age_s, request_cc):
        return Decision.MUST_REVALIDATE
    if request_cc.min_fresh is not None and left_s < request_cc.min_fresh:
        return Decision.MUST_REVALIDATE
    if left_s > 0:
        return Decision.FRESH
    if _max_stale_covers(cc, -left_s, request_cc):
        return Decision.STALE
    if _behind_covers(cc, lifetime_s, -left_s, request_cc, route_s):
        return Decision.STALE_WHILE_REVALIDATE
    return Decision.MUST_REVALIDATE


def _too_old(cc: CacheControl, left_s: float, age_s: float, request_cc: CacheControl) -> bool:
    """§5.2.1.1. What never changes while it is fresh is as good as new (RFC 8246 §2)."""
    if request_cc.max_age is None or (cc.immutable and left_s > 0):
        return False
    return age_s >= request_cc.max_age


def _max_stale_covers(cc: CacheControl, staleness_s: float, request_cc: CacheControl) -> bool:
    """§5.2.1.2, unless the response forbids it; `s-maxage` has `proxy-revalidate` in it (§5.2.2.10)."""
    limit = request_cc.max_stale
    if limit is None or _forbids_stale(cc) or cc.s_maxage is not None:
        return False
    return limit == ANY_STALENESS or staleness_s <= limit


def _behind_covers(
    cc: CacheControl, lifetime_s: float, staleness_s: float, request_cc: CacheControl, route_s: float
) -> bool:
    """RFC 5861 §3. A client that limits age takes no stale response (§5.2.1.1).

    Asked for explicitly it holds beside `s-maxage` too: that pair is how origins speak to shared caches. The
    route's own limit is for responses that say nothing.
    """
    if _forbids_stale(cc) or request_cc.max_age is not None:
        return False
    if cc.stale_while_revalidate is not None:
        return staleness_s <= cc.stale_while_revalidate
    return _route_may(cc, lifetime_s) and route_s > 0 and staleness_s <= route_s


def _forbids_stale(cc: CacheControl) -> bool:
    return cc.must_revalidate or cc.proxy_revalidate


def _route_may(cc: CacheControl, lifetime_s: float) -> bool:
    """Whether a route may have a stale response served of which the origin does not say that it may be.

    `s-maxage` forbids it; and a response that never was fresh may be one user's.
    """
    return cc.s_maxage is None and (lifetime_s > 0 or cc.public)


def usable_on_error(
    cc: CacheControl,
    lifetime_s: float,
    age_s: float,
    route_stale_if_error_s: float,
    request_cc: CacheControl = NO_DIRECTIVES,
) -> bool:
    """Whether a stored response may stand in for an origin that fails (§4.2.4, RFC 5861 §4).

    The response's own `stale-if-error` comes before the client's and the route's, of which the longer counts;
    `s-maxage` without it allows none. A response that never was fresh may be one user's: neither hands it to
    others.
    """
    staleness_s = age_s - lifetime_s
    if cc.no_cache or staleness_s < 0:
        return not cc.no_cache
    if _forbids_stale(cc):
        return False
    if cc.stale_if_error is not None:
        return staleness_s <= cc.stale_if_error
    if not _route_may(cc, lifetime_s):
        return False
    return staleness_s <= max(route_stale_if_error_s, request_cc.stale_if_error or 0)
