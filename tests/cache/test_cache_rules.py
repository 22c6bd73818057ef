"""RFC 9111 and RFC 5861 as tables: storing, freshness, serving, validation, invalidation.

Each row names the rule it stands for; the properties below them hold for any response.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.rules import (
    HEURISTIC_STATUS,
    UNDERSTOOD_STATUS,
    Decision,
    conditional_request,
    current_age_s,
    decide,
    decide_absent,
    freshness_lifetime_s,
    headers_for_304,
    initial_age_s,
    invalidated_by,
    not_modified,
    response_date_s,
    storability,
    storable_headers,
    update_stored,
    usable_on_error,
)
from atoll.http.fields import CacheControl, Headers, format_http_date, parse_cache_control

NOW_S = 1_800_000_000.0


def cc(value: bytes) -> CacheControl:
    return parse_cache_control([value])


def at(offset_s: float) -> bytes:
    return format_http_date(NOW_S + offset_s)


# --- storing

ETAG = (b"etag", b'"1"')
MODIFIED = (b"last-modified", at(-1000))
COOKIE = (b"set-cookie", b"a=b")
AUTHORIZED: Headers = [(b"authorization", b"Basic eDp5")]


@pytest.mark.parametrize(
    ("directives", "request_headers", "status", "headers", "reason"),
    [
        # explicit freshness makes any final status storable
        (b"max-age=60", [], 200, [], ""),
        (b"max-age=60", [], 302, [], ""),
        (b"max-age=60", [], 503, [], ""),
        (b"max-age=60", [], 599, [], ""),
        (b"s-maxage=60", [], 302, [], ""),
        (b"public", [], 302, [], ""),
        (b"", [], 302, [(b"expires", at(60))], ""),
        (b"", [], 302, [ETAG], "status"),
        (b"", [], 302, [MODIFIED], "status"),
        # without it: statuses that are cacheable by default, if anything can be asked or guessed about them
        (b"", [], 200, [ETAG], ""),
        (b"", [], 200, [MODIFIED], ""),
        (b"", [], 404, [MODIFIED], ""),
        (b"", [], 200, [], "no-freshness"),
        # §3: not final, partial, not modified
        (b"max-age=60", [], 100, [], "not-final"),
        (b"max-age=60", [], 199, [], "not-final"),
        (b"max-age=60", [], 206, [ETAG], "partial"),
        (b"max-age=60", [], 304, [ETAG], "not-modified"),
        # §5.2.2
        (b"no-store, max-age=60", [], 200, [], "no-store"),
        (b"private, max-age=60", [], 200, [], "private"),
        (b'private="x-user", max-age=60', [], 200, [], ""),
        (b"no-cache", [], 200, [ETAG], ""),
        (b"no-cache", [], 200, [MODIFIED], ""),
        (b"no-cache, max-age=60, public", [], 200, [], "no-cache"),
        (b"must-understand, no-store, max-age=60", [], 200, [], ""),
        (b"must-understand, no-store, max-age=60", [], 299, [], "must-understand"),
        (b"must-understand, max-age=60", [], 299, [], "must-understand"),
        # §5.2.1.5
        (b"max-age=60", [(b"cache-control", b"no-store")], 200, [], "request-no-store"),
        (
            b"max-age=60",
            [(b"cache-control", b"x"), (b"cache-control", b"no-store")],
            200,
            [],
            "request-no-store",
        ),
        (b"max-age=60", [(b"cache-control", b"no-cache")], 200, [], ""),
        # §3.5
        (b"max-age=60", AUTHORIZED, 200, [], "authorization"),
        (b"max-age=60, public", AUTHORIZED, 200, [], ""),
        (b"max-age=60, must-revalidate", AUTHORIZED, 200, [], ""),
        (b"s-maxage=60", AUTHORIZED, 200, [], ""),
        (b"s-maxage=0", AUTHORIZED, 200, [], ""),
        (b"max-age=60, proxy-revalidate", AUTHORIZED, 200, [], "authorization"),
        # Vary
        (b"max-age=60", [], 200, [(b"vary", b"*")], "vary"),
        (b"max-age=60", [], 200, [(b"vary", b"a"), (b"vary", b"b, *")], "vary"),
        (b"max-age=60", [], 200, [(b"vary", b"accept-encoding")], ""),
        # Set-Cookie: only when the origin meant everybody, or the cookie is left out
        (b"max-age=60", [], 200, [COOKIE], "set-cookie"),
        (b"max-age=60, public", [], 200, [COOKIE], ""),
        (b"s-maxage=60", [], 200, [COOKIE], ""),
        (b's-maxage=0, max-age="0"', [], 200, [COOKIE], ""),
        (b'max-age=60, no-cache="Set-Cookie"', [], 200, [COOKIE], ""),
        (b'max-age=60, private="x, set-cookie"', [], 200, [COOKIE], ""),
        (b'max-age=60, private="x"', [], 200, [COOKIE], "set-cookie"),
    ],
)
def test_storability(
    directives: bytes, request_headers: Headers, status: int, headers: Headers, reason: str
) -> None:
    verdict = storability(b"GET", request_headers, status, headers, cc(directives))
    assert verdict.reason == reason
    assert verdict.store is (reason == "")


@pytest.mark.parametrize("method", [b"HEAD", b"POST", b"PUT", b"OPTIONS", b"get"])
def test_only_get_is_stored(method: bytes) -> None:
    assert storability(method, [], 200, [], cc(b"max-age=60")).reason == "method"


@pytest.mark.parametrize("status", range(200, 600))
def test_status_tables(status: int) -> None:
    """RFC 9110 §15.1: exactly these are cacheable by default; 206 needs what is not implemented."""
    by_default = {200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501}
    assert storability(b"GET", [], status, [ETAG], cc(b"")).store is (status in by_default)
    part = [(b"content-range", b"bytes 0-1/9")]
    said = cc(b"must-understand, no-store, max-age=1")
    understood = storability(b"GET", [], status, part, said, partial=True).store
    assert understood is (status in UNDERSTOOD_STATUS)


def test_tables_agree() -> None:
    assert HEURISTIC_STATUS <= UNDERSTOOD_STATUS
    assert 304 not in UNDERSTOOD_STATUS


def test_stored_fields() -> None:
    response = [
        *[(b"connection", b"x-hop"), (b"x-hop", b"1"), (b"keep-alive", b"5"), (b"age", b"5")],
        *[(b"x-user", b"1"), COOKIE, (b"content-type", b"text/plain"), ETAG],
    ]
    kept = [(b"content-type", b"text/plain"), ETAG]
    assert storable_headers(response, cc(b'private="X-User", no-cache="Set-Cookie"')) == kept
    assert storable_headers(response, cc(b"")) == [(b"x-user", b"1"), COOKIE, *kept]


# --- freshness


@pytest.mark.parametrize(
    ("status", "directives", "headers", "lifetime_s"),
    [
        (200, b"max-age=60", [], 60),
        (200, b"max-age=0", [MODIFIED], 0),
        (200, b"s-maxage=10, max-age=60", [], 10),
        (200, b"s-maxage=0, max-age=60", [], 0),
        (200, b"s-maxage=10, max-age=5", [(b"expires", at(70))], 10),
        (200, b"max-age=60", [(b"expires", at(10))], 60),
        (200, b"max-age=oops", [(b"expires", at(10)), MODIFIED], 0),
        (599, b"max-age=60", [], 60),
        # Expires − Date; an invalid one is the past, of several the earliest counts
        (200, b"", [(b"expires", at(10)), MODIFIED], 10),
        (599, b"", [(b"expires", at(10))], 10),
        (200, b"", [(b"expires", at(0)), MODIFIED], 0),
        (200, b"", [(b"expires", at(-10)), MODIFIED], 0),
        (200, b"", [(b"expires", b"0"), MODIFIED], 0),
        (200, b"", [(b"expires", b""), MODIFIED], 0),
        (200, b"", [(b"expires", at(10)), (b"expires", at(20))], 10),
        (200, b"", [(b"expires", at(20)), (b"expires", b"x")], 0),
        (200, b"public", [(b"expires", at(-10)), MODIFIED], 0),
        # §4.2.2: a tenth of the age, a day at most, for statuses cacheable by default or public
        (200, b"", [MODIFIED], 100),
        (404, b"", [MODIFIED], 100),
        (302, b"", [MODIFIED], 0),
        (302, b"public", [MODIFIED], 100),
        (200, b"", [(b"last-modified", at(-863_990))], 86_399),
        (200, b"", [(b"last-modified", at(-864_010))], 86_400),
        (200, b"", [(b"last-modified", at(-10_000_000))], 86_400),
        (200, b"", [(b"last-modified", at(0))], 0),
        (200, b"", [(b"last-modified", at(100))], 0),
        (200, b"", [(b"last-modified", b"yesterday")], 0),
        (200, b"", [ETAG], 0),
    ],
)
def test_freshness_lifetime(status: int, directives: bytes, headers: Headers, lifetime_s: float) -> None:
    assert freshness_lifetime_s(status, headers, cc(directives), NOW_S) == pytest.approx(lifetime_s)


@pytest.mark.parametrize(
    ("age", "request_s", "response_s", "date_s", "initial_s"),
    [
        (None, 0, 0, 0, 0),
        (b"10", 0, 0, 0, 10),
        (b"10", -2, 0, 0, 12),  # corrected by the delay of the response
        (b"10", -2, 0, -20, 20),  # the apparent age is larger
        (None, -2, 0, -20, 20),
        (None, -2, 0, 5, 2),  # Date ahead of our clock
        (None, 2, 0, 0, 0),  # our clock was set back in between
        (b"10", 2, 0, 0, 10),
        (b"10, 500", 0, 0, 0, 10),  # §5.1: the first member
        (b"10 , 500", 0, 0, 0, 10),
        (b"-10", 0, 0, 0, 0),
        (b"1.5", 0, 0, 0, 0),
        (b"ten, 10", 0, 0, 0, 0),
        (b"", 0, 0, 0, 0),
        (b"9999999999", 0, 0, 0, 2**31),
        (b"9" * 5000, 0, 0, 0, 2**31),
    ],
)
def test_initial_age(
    age: bytes | None, request_s: float, response_s: float, date_s: float, initial_s: float
) -> None:
    headers = [] if age is None else [(b"age", age)]
    assert initial_age_s(headers, NOW_S + request_s, NOW_S + response_s, NOW_S + date_s) == initial_s


def test_only_the_first_age_counts() -> None:
    assert initial_age_s([(b"age", b"3"), (b"age", b"50")], NOW_S, NOW_S, NOW_S) == 3


def test_current_age() -> None:
    assert current_age_s(5.0, NOW_S, NOW_S + 7.5) == 12.5
    assert current_age_s(5.0, NOW_S, NOW_S) == 5.0
    assert current_age_s(5.0, NOW_S, NOW_S - 7.5) == 5.0


def test_response_date() -> None:
    assert response_date_s([(b"date", at(-5))], NOW_S) == NOW_S - 5
    assert response_date_s([(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")], NOW_S) == 0.0
    assert response_date_s([(b"date", b"now")], NOW_S) == NOW_S
    assert response_date_s([], NOW_S) == NOW_S


# --- serving

FRESH, STALE, BEHIND = Decision.FRESH, Decision.STALE, Decision.STALE_WHILE_REVALIDATE
ASK, GATEWAY_TIMEOUT = Decision.MUST_REVALIDATE, Decision.ONLY_IF_CACHED


@pytest.mark.parametrize(
    ("directives", "age_s", "asked", "decision"),
    [
        # a lifetime of 60 s throughout; fresh means strictly younger
        (b"", 0, b"", FRESH),
        (b"", 59.9, b"", FRESH),
        (b"", 60, b"", ASK),
        (b"", 61, b"", ASK),
        (b"must-revalidate", 59, b"", FRESH),
        (b"no-cache", 0, b"", ASK),
        (b"no-cache, stale-while-revalidate=100", 61, b"max-stale", ASK),
        (b'no-cache="x"', 0, b"", FRESH),
        # §5.2.1.4
        (b"", 0, b"no-cache", ASK),
        (b"stale-while-revalidate=100", 61, b"no-cache", ASK),
        (b"", 0, b"no-store", FRESH),
        # §5.2.1.1
        (b"", 10, b"max-age=11", FRESH),
        (b"", 10, b"max-age=10", ASK),
        (b"", 10, b"max-age=9", ASK),
        (b"", 0, b"max-age=0", ASK),
        (b"", 61, b"max-age=100", ASK),
        # §5.2.1.3
        (b"", 40, b"min-fresh=20", FRESH),
        (b"", 40.5, b"min-fresh=20", ASK),
        (b"", 61, b"min-fresh=0, max-stale", ASK),
        (b"stale-while-revalidate=100", 61, b"min-fresh=0", ASK),
        # §5.2.1.2
        (b"", 61, b"max-stale", STALE),
        (b"", 10_000, b"max-stale", STALE),
        (b"", 70, b"max-stale=10", STALE),
        (b"", 70.5, b"max-stale=10", ASK),
        (b"", 60, b"max-stale=0", STALE),
        (b"", 61, b"max-stale=0", ASK),
        (b"", 61, b"max-stale=1", STALE),
        (b"must-revalidate", 61, b"max-stale", ASK),
        (b"proxy-revalidate", 61, b"max-stale", ASK),
        (b"s-maxage=60", 61, b"max-stale", ASK),
        (b"", 59, b"max-stale", FRESH),
        (b"", 61, b"max-stale, max-age=62", STALE),
        (b"", 61, b"max-stale, max-age=61", ASK),
        # RFC 5861 §3
        (b"stale-while-revalidate=10", 59, b"", FRESH),
        (b"stale-while-revalidate=10", 60, b"", BEHIND),
        (b"stale-while-revalidate=10", 70, b"", BEHIND),
        (b"stale-while-revalidate=10", 70.5, b"", ASK),
        (b"stale-while-revalidate=0", 61, b"", ASK),
        (b"stale-while-revalidate=10, must-revalidate", 65, b"", ASK),
        (b"stale-while-revalidate=10, proxy-revalidate", 65, b"", ASK),
        (b"stale-while-revalidate=10, s-maxage=60", 65, b"", BEHIND),
        (b"stale-while-revalidate=10", 65, b"max-age=100", ASK),
        (b"stale-while-revalidate=10", 65, b"max-stale=5", STALE),
        (b"stale-while-revalidate=10", 65, b"max-stale=4", BEHIND),
        # §5.2.1.7
        (b"", 0, b"only-if-cached", FRESH),
        (b"", 61, b"only-if-cached", GATEWAY_TIMEOUT),
        (b"", 61, b"only-if-cached, max-stale", STALE),
        (b"stale-while-revalidate=10", 61, b"only-if-cached", BEHIND),
        (b"no-cache", 0, b"only-if-cached", GATEWAY_TIMEOUT),
    ],
)
def test_decide(directives: bytes, age_s: float, asked: bytes, decision: Decision) -> None:
    assert decide(cc(directives), 60.0, age_s, cc(asked)) is decision


def test_decide_absent() -> None:
    assert decide_absent(cc(b"")) is Decision.MISS
    assert decide_absent(cc(b"only-if-cached")) is Decision.ONLY_IF_CACHED


@pytest.mark.parametrize(
    ("directives", "lifetime_s", "age_s", "route_s", "usable"),
    [
        (b"", 60, 65, 10, True),
        (b"", 60, 70, 10, True),
        (b"", 60, 70.5, 10, False),
        (b"", 60, 61, 0, False),
        (b"", 60, 60, 0, True),
        (b"", 60, 30, 0, True),
        (b"no-cache", 60, 30, 1000, False),
        (b"must-revalidate", 60, 61, 1000, False),
        (b"must-revalidate", 60, 59, 1000, True),
        (b"proxy-revalidate", 60, 60, 1000, False),
        (b"proxy-revalidate", 60, 61, 1000, False),
        (b"must-revalidate, stale-if-error=100", 60, 61, 1000, False),
        # the response's own limit comes first
        (b"stale-if-error=5", 60, 65, 1000, True),
        (b"stale-if-error=5", 60, 65.5, 1000, False),
        (b"stale-if-error=1000", 60, 100, 0, True),
        (b"stale-if-error=0", 60, 61, 1000, False),
        (b"stale-if-error=100", 0, 61, 0, True),
        # s-maxage has proxy-revalidate in it, unless stale-if-error stands beside it
        (b"s-maxage=60", 60, 61, 1000, False),
        (b"s-maxage=60", 60, 60, 1000, False),
        (b"s-maxage=60", 60, 59, 1000, True),
        (b"s-maxage=60, stale-if-error=10", 60, 70, 0, True),
        # never fresh: perhaps one user's
        (b"", 0, 1, 1000, False),
        (b"", 0, 0, 1000, False),
        (b"public", 0, 1, 1000, True),
        (b"", 1, 500, 1000, True),
        (b"", 0.5, 500, 1000, True),
    ],
)
def test_usable_on_error(
    directives: bytes, lifetime_s: float, age_s: float, route_s: float, usable: bool
) -> None:
    assert usable_on_error(cc(directives), lifetime_s, age_s, route_s) is usable


# --- validation and invalidation


def test_conditional_request() -> None:
    both = [ETAG, (b"content-type", b"text/plain"), MODIFIED]
    assert conditional_request(both) == [(b"if-none-match", b'"1"'), (b"if-modified-since", MODIFIED[1])]
    assert conditional_request([ETAG]) == [(b"if-none-match", b'"1"')]
    assert conditional_request([MODIFIED]) == [(b"if-modified-since", MODIFIED[1])]
    assert conditional_request([(b"date", at(0))]) == []


def test_a_304_replaces_what_it_names() -> None:
    stored = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"c", b"4")]
    fresh = [(b"a", b"5"), (b"d", b"6"), (b"d", b"7")]
    assert update_stored(stored, fresh) == [
        (b"b", b"2"),
        (b"c", b"4"),
        (b"a", b"5"),
        (b"d", b"6"),
        (b"d", b"7"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        *[b"content-length", b"content-encoding", b"content-range", b"set-cookie", b"age", b"connection"],
        *[b"transfer-encoding", b"keep-alive", b"te", b"trailer", b"upgrade", b"proxy-authenticate"],
    ],
)
def test_a_304_does_not_change(name: bytes) -> None:
    assert update_stored([(name, b"old")], [(name, b"new")]) == [(name, b"old")]
    assert update_stored([], [(name, b"new")]) == []


def test_a_304_does_not_change_what_its_connection_names() -> None:
    fresh = [(b"connection", b"x-hop"), (b"x-hop", b"new"), (b"etag", b'"2"')]
    assert update_stored([(b"x-hop", b"old")], fresh) == [(b"x-hop", b"old"), (b"etag", b'"2"')]


@pytest.mark.parametrize(
    ("request_headers", "stored", "expected"),
    [
        ([], [ETAG, MODIFIED], False),
        ([(b"if-none-match", b'"1"')], [ETAG], True),
        ([(b"if-none-match", b'W/"1"')], [ETAG], True),
        ([(b"if-none-match", b'"1"')], [(b"etag", b'W/"1"')], True),
        ([(b"if-none-match", b'"2"')], [ETAG], False),
        ([(b"if-none-match", b'"2"'), (b"if-none-match", b'"1"')], [ETAG], True),
        ([(b"if-none-match", b"*")], [ETAG], True),
        ([(b"if-none-match", b"*")], [], True),
        ([(b"if-none-match", b'"1"')], [MODIFIED], False),
        # If-None-Match silences If-Modified-Since
        ([(b"if-none-match", b'"2"'), (b"if-modified-since", at(0))], [ETAG, MODIFIED], False),
        ([(b"if-modified-since", at(-1000))], [MODIFIED], True),
        ([(b"if-modified-since", at(-1001))], [MODIFIED], False),
        ([(b"if-modified-since", at(-999))], [MODIFIED], True),
        ([(b"if-modified-since", at(-1000))], [ETAG, MODIFIED], True),
        ([(b"if-modified-since", b"yesterday")], [MODIFIED], False),
        ([(b"if-modified-since", at(0)), (b"if-modified-since", at(0))], [MODIFIED], False),
        # without Last-Modified, Date
        ([(b"if-modified-since", at(0))], [(b"date", at(0))], True),
        ([(b"if-modified-since", at(-1))], [(b"date", at(0))], False),
        ([(b"if-modified-since", at(-500))], [MODIFIED, (b"date", at(0))], True),
        ([(b"if-modified-since", at(0))], [(b"last-modified", b"x"), (b"date", at(0))], False),
        ([(b"if-modified-since", at(0))], [], False),
    ],
)
def test_not_modified(request_headers: Headers, stored: Headers, expected: bool) -> None:
    assert not_modified(request_headers, stored, 200) is expected


@pytest.mark.parametrize(
    ("status", "expected"), [(199, False), (200, True), (204, True), (299, True), (300, False), (404, False)]
)
def test_only_successes_have_preconditions(status: int, expected: bool) -> None:
    assert not_modified([(b"if-none-match", b'"1"')], [ETAG], status) is expected


def test_fields_of_a_304() -> None:
    kept = [(b"cache-control", b"max-age=1"), (b"vary", b"a"), (b"date", at(0)), (b"content-location", b"/x")]
    dropped = [
        *[(b"content-type", b"text/plain"), (b"content-length", b"5"), (b"content-encoding", b"gzip")],
        *[(b"content-language", b"en"), (b"content-range", b"bytes 0-1/2")],
    ]
    assert headers_for_304([*kept, *dropped, MODIFIED]) == [*kept, MODIFIED]
    assert headers_for_304([*kept, *dropped, MODIFIED, ETAG]) == [*kept, ETAG]


@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        *[(method, 200, True) for method in (b"POST", b"PUT", b"DELETE", b"PATCH", b"M-SEARCH", b"post")],
        *[(method, 200, False) for method in (b"GET", b"HEAD", b"OPTIONS", b"TRACE")],
        *[(b"POST", status, True) for status in (201, 204, 299, 300, 303, 399)],
        *[(b"POST", status, False) for status in (100, 199, 400, 404, 500, 503)],
    ],
)
def test_invalidated_by(method: bytes, status: int, expected: bool) -> None:
    assert invalidated_by(method, status) is expected


# --- properties

_seconds = st.one_of(st.none(), st.integers(0, 200))
_controls = st.builds(
    CacheControl,
    no_cache=st.booleans(),
    must_revalidate=st.booleans(),
    proxy_revalidate=st.booleans(),
    public=st.booleans(),
    s_maxage=_seconds,
    stale_while_revalidate=_seconds,
    stale_if_error=_seconds,
)
_asked = st.builds(
    CacheControl,
    no_cache=st.booleans(),
    only_if_cached=st.booleans(),
    max_age=_seconds,
    min_fresh=_seconds,
    max_stale=st.one_of(_seconds, st.just(-1)),
)
_times = st.floats(0, 1000)
SERVED = {FRESH, STALE, BEHIND}


@given(_controls, _times, _times, _asked)
def test_what_is_served_is_allowed(
    response_cc: CacheControl, lifetime_s: float, age_s: float, asked: CacheControl
) -> None:
    decision = decide(response_cc, lifetime_s, age_s, asked)
    fresh = lifetime_s > age_s
    if decision is FRESH:
        assert fresh
    if decision in SERVED:
        assert not response_cc.no_cache
        assert not asked.no_cache
        assert asked.max_age is None or age_s < asked.max_age
        assert fresh or not (response_cc.must_revalidate or response_cc.proxy_revalidate)
        assert fresh or asked.max_stale is not None or response_cc.stale_while_revalidate is not None
    if decision is GATEWAY_TIMEOUT:
        assert asked.only_if_cached
    assert decision is not Decision.MISS


@given(_controls, _times, _times, _times, _asked)
def test_ageing_never_makes_servable(
    response_cc: CacheControl, lifetime_s: float, age_s: float, more_s: float, asked: CacheControl
) -> None:
    if decide(response_cc, lifetime_s, age_s, asked) not in SERVED:
        assert decide(response_cc, lifetime_s, age_s + more_s, asked) not in SERVED
    if not usable_on_error(response_cc, lifetime_s, age_s, 50):
        assert not usable_on_error(response_cc, lifetime_s, age_s + more_s, 50)


@given(_controls, _times, _times)
def test_what_may_be_served_may_stand_in_for_an_error(
    response_cc: CacheControl, lifetime_s: float, age_s: float
) -> None:
    fresh = decide(response_cc, lifetime_s, age_s, CacheControl()) is FRESH
    assert not fresh or usable_on_error(response_cc, lifetime_s, age_s, 0)


_names = st.sampled_from([b"a", b"b", b"etag", b"age", b"content-length", b"set-cookie", b"connection"])
_headers = st.lists(st.tuples(_names, st.sampled_from([b"1", b"2", b"a"])), max_size=8)


@given(_headers, _headers)
def test_updating_twice_is_updating_once(stored: Headers, fresh: Headers) -> None:
    once = update_stored(stored, fresh)
    assert update_stored(once, fresh) == once


@given(_headers)
def test_a_304_of_what_is_stored_says_so(stored: Headers) -> None:
    condition = conditional_request(stored)
    assert not_modified(condition, stored, 200) is any(name == b"etag" for name, _ in stored)
