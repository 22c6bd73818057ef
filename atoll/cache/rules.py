"""What a shared cache may store, serve and change: RFC 9111, with RFC 5861's stale extensions, as values.

Four questions: may this response be stored (§3), until when is it fresh (§4.2), may this request be answered
with it (§4, §5.2.1), and what does a 304 or an unsafe method do to it (§4.3, §4.4). Bytes, numbers and header
lists in, verdicts out; it never touches a clock, a socket or the store. Where the RFC leaves a choice the
careful one is taken: what might belong to one user is not stored for all.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

import msgspec

from atoll.http.fields import (
    ANY_STALENESS,
    HOP_BY_HOP,
    MAX_DELTA_S,
    CacheControl,
    Headers,
    combined,
    etag_matches,
    get,
    get_all,
    parse_cache_control,
    parse_http_date,
    parse_vary,
    strip_hop_by_hop,
)

HEURISTIC_STATUS: Final = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""Cacheable without being told so (RFC 9110 §15.1)."""

UNDERSTOOD_STATUS: Final = frozenset(
    {200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 406, 410, 414, 421, 451}
    | {500, 501, 502, 503, 504}
)
"""Statuses whose caching requirements are implemented here: what `must-understand` asks about."""

SAFE_METHODS: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"""Safe methods (RFC 9110 §9.2.1) that never invalidate; an unknown method counts as unsafe."""

HEURISTIC_SHARE: Final = 0.1
HEURISTIC_LIMIT_S: Final = 86_400.0

_NOT_UPDATED: Final = frozenset(
    {b"age", b"content-encoding", b"content-length", b"content-range", b"set-cookie", *HOP_BY_HOP}
)
"""What a 304 does not change: §3.2's exceptions, what the stored bytes depend on, and one user's cookie."""

_NOT_IN_304: Final = frozenset(
    {b"content-encoding", b"content-language", b"content-length", b"content-range", b"content-type"}
)
"""Metadata of a representation that a 304 does not carry (RFC 9110 §15.4.5)."""


class Verdict(msgspec.Struct, frozen=True):
    """Whether a response is stored, and the reason in `Cache-Status` terms when it is not."""

    store: bool
    reason: str


class Decision(Enum):
    """What to do with a request, given what is stored."""

    FRESH = auto()  # serve it
    STALE = auto()  # serve it although stale: the client said it would take it (max-stale)
    STALE_WHILE_REVALIDATE = auto()  # serve it, revalidate behind (RFC 5861 §3)
    MUST_REVALIDATE = auto()  # ask the origin first
    MISS = auto()  # nothing is stored
    ONLY_IF_CACHED = auto()  # the client forbids asking the origin: 504 (§5.2.1.7)


# --- storing (§3)


def storability(method: bytes, request: Headers, status: int, response: Headers, cc: CacheControl) -> Verdict:
    """Whether a shared cache may store `response`; `cc` are its `Cache-Control` directives.

    HEAD is refused because an entry answers GETs too and a HEAD response has no content to give them.
    """
    reason = (
        _refused_by_request(method, request, cc)
        or _refused_by_status(status, cc)
        or _refused_by_response(response, cc)
        or _refused_as_useless(status, response, cc)
    )
    return Verdict(not reason, reason)


def _refused_by_request(method: bytes, request: Headers, cc: CacheControl) -> str:
    if method != b"GET":
        return "method"
    if parse_cache_control(get_all(request, b"cache-control")).no_store:
        return "request-no-store"
    shared = cc.public or cc.must_revalidate or cc.s_maxage is not None
    if get(request, b"authorization") is not None and not shared:  # §3.5
        return "authorization"
    return ""


def _refused_by_status(status: int, cc: CacheControl) -> str:
    if status < 200:
        return "not-final"
    if status in (206, 304):
        return "partial" if status == 206 else "not-modified"
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
    explicit = cc.max_age is not None or cc.s_maxage is not None or get(response, b"expires") is not None
    if explicit or cc.public:
        return ""
    if status not in HEURISTIC_STATUS:
        return "status"
    return "" if validators else "no-freshness"


def storable_headers(response: Headers, cc: CacheControl) -> Headers:
    """The fields that are stored (§3.1): none for one hop, one user or one validation, and no `Age`."""
    drop = {b"age", *cc.private_fields, *cc.no_cache_fields}
    return [field for field in strip_hop_by_hop(response) if field[0] not in drop]


# --- freshness (§4.2)


def response_date_s(response: Headers, response_time_s: float) -> float:
    """The response's `Date`, or when it arrived if it has no valid one (RFC 9110 §6.6.1)."""
    date_s = parse_http_date(get(response, b"date") or b"")
    return response_time_s if date_s is None else date_s


def freshness_lifetime_s(status: int, response: Headers, cc: CacheControl, date_s: float) -> float:
    """How long the response is fresh from `date_s` on (§4.2.1), 0 when it is stale from the start."""
    if cc.s_maxage is not None:
        return float(cc.s_maxage)
    if cc.max_age is not None:
        return float(cc.max_age)
    expires = get_all(response, b"expires")
    if expires:
        return _until_expires_s(expires, date_s)
    if status in HEURISTIC_STATUS or cc.public:
        return _heuristic_s(response, date_s)
    return 0.0


def _until_expires_s(expires: list[bytes], date_s: float) -> float:
    """§5.3: an invalid date is the past. Of contradicting ones the earliest counts."""
    dates = [parse_http_date(value) for value in expires]
    return max(0.0, min(date_s if at_s is None else at_s for at_s in dates) - date_s)


def _heuristic_s(response: Headers, date_s: float) -> float:
    """§4.2.2: a tenth of the time it had not changed for, a day at most."""
    modified_s = parse_http_date(get(response, b"last-modified") or b"")
    if modified_s is None or modified_s >= date_s:
        return 0.0
    return min((date_s - modified_s) * HEURISTIC_SHARE, HEURISTIC_LIMIT_S)


def initial_age_s(response: Headers, request_time_s: float, response_time_s: float, date_s: float) -> float:
    """`corrected_initial_age` of §4.2.3: how old the response was when it arrived."""
    apparent_age_s = max(0.0, response_time_s - date_s)
    response_delay_s = max(0.0, response_time_s - request_time_s)
    return max(apparent_age_s, _age_value_s(response) + response_delay_s)


def _age_value_s(response: Headers) -> float:
    """§5.1: the first member of `Age`; one that is no number is ignored."""
    digits = (get(response, b"age") or b"").partition(b",")[0].strip(b" \t")
    if not digits.isdigit():
        return 0.0
    return float(min(int(digits[:20]), MAX_DELTA_S))


def current_age_s(initial_s: float, response_time_s: float, now_s: float) -> float:
    """`current_age` of §4.2.3. A clock set back does not make a response younger than it came."""
    return initial_s + max(0.0, now_s - response_time_s)


# --- serving (§4, §5.2)


def decide(cc: CacheControl, lifetime_s: float, age_s: float, request_cc: CacheControl) -> Decision:
    """What a stored response may do for a request. `cc` are the response's directives.

    `no-store` of a request says nothing about answering it from the cache (§5.2.1.5).
    """
    decision = _reuse(cc, lifetime_s, age_s, request_cc)
    if request_cc.only_if_cached and decision is Decision.MUST_REVALIDATE:
        return Decision.ONLY_IF_CACHED
    return decision


def decide_absent(request_cc: CacheControl) -> Decision:
    """What to do with a request for which nothing is stored."""
    return Decision.ONLY_IF_CACHED if request_cc.only_if_cached else Decision.MISS


def _reuse(cc: CacheControl, lifetime_s: float, age_s: float, request_cc: CacheControl) -> Decision:
    if cc.no_cache or request_cc.no_cache:
        return Decision.MUST_REVALIDATE
    if request_cc.max_age is not None and age_s >= request_cc.max_age:
        return Decision.MUST_REVALIDATE
    left_s = lifetime_s - age_s
    if request_cc.min_fresh is not None and left_s < request_cc.min_fresh:
        return Decision.MUST_REVALIDATE
    if left_s > 0:
        return Decision.FRESH
    if _max_stale_covers(cc, -left_s, request_cc):
        return Decision.STALE
    if _behind_covers(cc, -left_s, request_cc):
        return Decision.STALE_WHILE_REVALIDATE
    return Decision.MUST_REVALIDATE


def _max_stale_covers(cc: CacheControl, staleness_s: float, request_cc: CacheControl) -> bool:
    """§5.2.1.2, unless the response forbids it; `s-maxage` has `proxy-revalidate` in it (§5.2.2.10)."""
    limit = request_cc.max_stale
    if limit is None or _forbids_stale(cc) or cc.s_maxage is not None:
        return False
    return limit == ANY_STALENESS or staleness_s <= limit


def _behind_covers(cc: CacheControl, staleness_s: float, request_cc: CacheControl) -> bool:
    """RFC 5861 §3. A client that limits age takes no stale response (§5.2.1.1).

    Asked for explicitly it holds beside `s-maxage` too: that pair is how origins speak to shared caches.
    """
    limit = cc.stale_while_revalidate
    if limit is None or _forbids_stale(cc) or request_cc.max_age is not None:
        return False
    return staleness_s <= limit


def _forbids_stale(cc: CacheControl) -> bool:
    return cc.must_revalidate or cc.proxy_revalidate


def usable_on_error(cc: CacheControl, lifetime_s: float, age_s: float, route_stale_if_error_s: float) -> bool:
    """Whether a stored response may stand in for an origin that fails (§4.2.4, RFC 5861 §4).

    The response's own `stale-if-error` comes before the route's; `s-maxage` without it allows none. A
    response that never was fresh may be one user's: the route does not hand it to others.
    """
    staleness_s = age_s - lifetime_s
    if cc.no_cache or staleness_s < 0:
        return not cc.no_cache
    if _forbids_stale(cc):
        return False
    if cc.stale_if_error is not None:
        return staleness_s <= cc.stale_if_error
    if cc.s_maxage is not None or not (lifetime_s > 0 or cc.public):
        return False
    return staleness_s <= route_stale_if_error_s


# --- validation (§4.3) and invalidation (§4.4)


def conditional_request(stored: Headers) -> Headers:
    """The fields that make a request ask whether `stored` still holds (§4.3.1)."""
    condition: Headers = []
    etag, modified = get(stored, b"etag"), get(stored, b"last-modified")
    if etag is not None:
        condition.append((b"if-none-match", etag))
    if modified is not None:
        condition.append((b"if-modified-since", modified))
    return condition


def update_stored(stored: Headers, fresh304: Headers) -> Headers:
    """`stored` with the fields of a 304 that validated it (§3.2): its names replace, all others stay."""
    fresh = [field for field in strip_hop_by_hop(fresh304) if field[0] not in _NOT_UPDATED]
    replaced = {name for name, _ in fresh}
    return [field for field in stored if field[0] not in replaced] + fresh


def not_modified(request: Headers, stored: Headers, status: int) -> bool:
    """Whether the client already has what `stored` describes: answer 304 (RFC 9110 §13.2.2).

    Preconditions count only where the answer would be a success; `If-None-Match` silences
    `If-Modified-Since`. Without `Last-Modified` the stored `Date` is compared (RFC 9111 §4.3.2).
    """
    if not 200 <= status < 300:
        return False
    wanted = combined(request, b"if-none-match")
    if wanted is not None:
        etag = get(stored, b"etag")
        return wanted == b"*" if etag is None else etag_matches(wanted, etag, weak=True)
    since_s = parse_http_date(combined(request, b"if-modified-since") or b"")
    modified_s = parse_http_date(get(stored, b"last-modified") or get(stored, b"date") or b"")
    return since_s is not None and modified_s is not None and modified_s <= since_s


def headers_for_304(stored: Headers) -> Headers:
    """The stored fields that a 304 carries; `Last-Modified` only when there is no `ETag`."""
    tagged = get(stored, b"etag") is not None
    drop = _NOT_IN_304 | {b"last-modified"} if tagged else _NOT_IN_304
    return [field for field in stored if field[0] not in drop]


def invalidated_by(method: bytes, status: int) -> bool:
    """Whether an exchange makes what is stored for its target invalid: unsafe, and it did not fail."""
    return method not in SAFE_METHODS and 200 <= status < 400
