"""Until when a response is fresh, and how old it is: RFC 9111 §4.2.

Numbers and header lists in, seconds out. `cc` are always the effective directives of the response
(`atoll.cache.targeted.effective`). Wrong dates never raise: an invalid `Expires` is the past, an invalid
`Date` is when the response arrived, an invalid `Age` is none.
"""

from __future__ import annotations

from math import floor
from typing import Final

from atoll.http.fields import MAX_DELTA_S, CacheControl, Headers, get, get_all, parse_http_date

HEURISTIC_STATUS: Final = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""Cacheable without being told so (RFC 9110 §15.1)."""

HEURISTIC_SHARE: Final = 0.1
HEURISTIC_LIMIT_S: Final = 86_400.0


def response_date_s(response: Headers, response_time_s: float) -> float:
    """The response's `Date`, or when it arrived if it has no valid one (RFC 9110 §6.6.1)."""
    date_s = parse_http_date(get(response, b"date") or b"")
    return response_time_s if date_s is None else date_s


def explicit(response: Headers, cc: CacheControl) -> bool:
    """Whether the response says itself how long it is fresh (§4.2.1)."""
    return cc.max_age is not None or cc.s_maxage is not None or bool(_expires(response, cc))


def freshness_lifetime_s(status: int, response: Headers, cc: CacheControl, date_s: float) -> float:
    """How long the response is fresh from `date_s` on (§4.2.1), 0 when it is stale from the start."""
    if cc.s_maxage is not None:
        return float(cc.s_maxage)
    if cc.max_age is not None:
        return float(cc.max_age)
    expires = _expires(response, cc)
    if expires:
        return _until_expires_s(expires, date_s)
    if status in HEURISTIC_STATUS or cc.public:
        return _heuristic_s(response, date_s)
    return 0.0


def _expires(response: Headers, cc: CacheControl) -> list[bytes]:
    """RFC 9213 §2.2: beside a targeted field `Expires` does not count."""
    return [] if cc.targeted else get_all(response, b"expires")


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
    """`corrected_initial_age` of §4.2.3: how old the response was when it arrived.

    Through tiers each adds what it kept the response for: the next one starts from the `Age` it sent.
    """
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


def age_value(age_s: float) -> bytes:
    """`Age` as it is sent: whole seconds from 0 to 2³¹ (§1.2.2)."""
    return b"%d" % min(max(age_s, 0), MAX_DELTA_S)


def ttl_s(lifetime_s: float, age_s: float) -> int:
    """`ttl` of RFC 9211 §2.4: whole seconds left, below zero as soon as the response is stale."""
    return floor(lifetime_s - age_s)
