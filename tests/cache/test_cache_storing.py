"""RFC 9111 §3 as a table: what a shared cache stores, by method, status, directives and fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.freshness import HEURISTIC_STATUS
from atoll.cache.storing import (
    NEVER_STORED_STATUS,
    POST_STATUS,
    UNDERSTOOD_STATUS,
    storability,
    storable_headers,
)
from atoll.cache.targeted import effective
from atoll.http.fields import CacheControl, Headers, format_http_date, parse_cache_control

NOW_S = 1_800_000_000.0


def cc(value: bytes) -> CacheControl:
    return parse_cache_control([value])


def at(offset_s: float) -> bytes:
    return format_http_date(NOW_S + offset_s)


ETAG = (b"etag", b'"1"')
MODIFIED = (b"last-modified", at(-1000))
COOKIE = (b"set-cookie", b"a=b")
AUTHORIZED: Headers = [(b"authorization", b"Basic eDp5")]
KNOWN: Headers = [(b"cookie", b"id=1")]


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
        # what answers somebody known to the origin is for all only if the origin says how long
        (b"max-age=60", KNOWN, 200, [], ""),
        (b"public", KNOWN, 200, [], ""),
        (b"no-cache", KNOWN, 200, [ETAG], ""),
        (b"", KNOWN, 200, [(b"expires", at(60))], ""),
        (b"", KNOWN, 200, [MODIFIED], "cookie"),
        (b"", KNOWN, 404, [ETAG], "cookie"),
        (b"must-revalidate", KNOWN, 200, [ETAG], "cookie"),
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


# --- partial responses (§3.3) and statuses that are never stored

PART = (b"content-range", b"bytes 0-4/10")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([PART], ""),
        ([(b"content-range", b"bytes 0-4/*")], ""),
        ([], "partial"),
        ([PART, PART], "partial"),
        ([(b"content-range", b"bytes */10")], "partial"),
        ([(b"content-range", b"bytes 4-0/10")], "partial"),
        ([(b"content-range", b"lines 0-4/10")], "partial"),
        ([(b"content-type", b"multipart/byteranges; boundary=x")], "partial"),
    ],
)
def test_a_206_is_stored_where_ranges_are_kept(fields: Headers, reason: str) -> None:
    said = cc(b"max-age=60")
    assert storability(b"GET", [], 206, fields, said, partial=True).reason == reason
    assert storability(b"GET", [], 206, fields, said).reason == "partial"


@pytest.mark.parametrize("status", [304, 407, 412, 416, 428, 429, 431, 511])
def test_never_stored(status: int) -> None:
    """RFC 6585 forbids four; others answer one request's conditions, range or hop."""
    verdict = storability(b"GET", [], status, [ETAG, MODIFIED], cc(b"public, max-age=60"), partial=True)
    assert verdict.reason == NEVER_STORED_STATUS[status]
    assert not verdict.store


def test_statuses_with_a_reason_of_their_own() -> None:
    reasons = {"not-modified": {304}, "conditional": {412, 416}, "status": {407, 428, 429, 431, 511}}
    for reason, statuses in reasons.items():
        assert {status for status, why in NEVER_STORED_STATUS.items() if why == reason} == statuses


# --- POST (RFC 9110 §9.3.3)

TARGET = b"https://a.example/dir/page?x=1"


@pytest.mark.parametrize(
    ("fields", "status", "directives", "stored"),
    [
        ([(b"content-location", b"/dir/page?x=1")], 200, b"max-age=60", True),
        ([(b"content-location", b"page?x=1")], 200, b"s-maxage=60", True),
        ([(b"content-location", TARGET)], 203, b"max-age=60", True),
        ([(b"content-location", b"https://A.example:443/dir/page?x=1")], 200, b"max-age=60", True),
        ([(b"content-location", TARGET), (b"expires", at(60))], 200, b"", True),
        # no explicit freshness
        ([(b"content-location", TARGET), MODIFIED], 200, b"", False),
        ([(b"content-location", TARGET), ETAG], 200, b"public", False),
        # it does not represent the target
        ([], 200, b"max-age=60", False),
        ([(b"content-location", b"/dir/page")], 200, b"max-age=60", False),
        ([(b"content-location", b"https://b.example/dir/page?x=1")], 200, b"max-age=60", False),
        ([(b"content-location", b"http://a.example/dir/page?x=1")], 200, b"max-age=60", False),
        ([(b"content-location", TARGET), (b"content-location", TARGET)], 200, b"max-age=60", False),
        ([(b"content-location", b"http://[broken")], 200, b"max-age=60", False),
        ([(b"location", TARGET)], 200, b"max-age=60", False),
        # a status that is about the exchange, not about the resource
        ([(b"content-location", TARGET)], 201, b"max-age=60", False),
        ([(b"content-location", TARGET)], 204, b"max-age=60", False),
        ([(b"content-location", TARGET)], 404, b"max-age=60", False),
    ],
)
def test_post(fields: Headers, status: int, directives: bytes, stored: bool) -> None:
    verdict = storability(b"POST", [], status, fields, cc(directives), target=TARGET)
    assert verdict.store is stored
    assert verdict.reason == ("" if stored else "method")


def test_post_obeys_every_other_rule_too() -> None:
    fields: Headers = [(b"content-location", TARGET)]
    for directives, request, reason in (
        (b"private, max-age=60", [], "private"),
        (b"no-store, max-age=60", [], "no-store"),
        (b"max-age=60", AUTHORIZED, "authorization"),
        (b"max-age=60", [(b"cache-control", b"no-store")], "request-no-store"),
    ):
        said = cc(directives)
        assert storability(b"POST", request, 200, fields, said, target=TARGET).reason == reason


def test_post_needs_to_know_its_target() -> None:
    fields = [(b"content-location", TARGET)]
    assert storability(b"POST", [], 200, fields, cc(b"max-age=60")).reason == "method"
    assert storability(b"PUT", [], 200, fields, cc(b"max-age=60"), target=TARGET).reason == "method"
    assert storability(b"HEAD", [], 200, fields, cc(b"max-age=60"), target=TARGET).reason == "method"


def test_only_answers_that_represent_the_target_are_taken_from_a_post() -> None:
    assert frozenset({200, 203}) == POST_STATUS


# --- targeted fields (RFC 9213 §2.2)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ([(b"cdn-cache-control", b"max-age=60"), (b"cache-control", b"no-store")], ""),
        ([(b"cdn-cache-control", b"max-age=60"), (b"cache-control", b"private")], ""),
        ([(b"cdn-cache-control", b"no-store"), (b"cache-control", b"max-age=60")], "no-store"),
        ([(b"cdn-cache-control", b"private"), (b"cache-control", b"public, max-age=60")], "private"),
        ([(b"cdn-cache-control", b"no-cache"), (b"cache-control", b"max-age=60")], "no-cache"),
        ([(b"cdn-cache-control", b"none"), (b"expires", at(60))], "no-freshness"),
        ([(b"cdn-cache-control", b"none"), (b"cache-control", b"no-store"), ETAG], ""),
        ([(b"cdn-cache-control", b"max-age=60, &&"), (b"cache-control", b"no-store")], "no-store"),
        ([(b"cdn-cache-control", b""), (b"cache-control", b"no-store")], "no-store"),
        ([(b"cdn-cache-control", b'private="x"'), COOKIE, ETAG], "set-cookie"),
    ],
)
def test_targeted_fields_decide(response: Headers, reason: str) -> None:
    assert storability(b"GET", [], 200, response, effective(response).cc).reason == reason


def test_authorization_needs_a_targeted_word_too() -> None:
    response: Headers = [(b"cdn-cache-control", b"max-age=60"), (b"cache-control", b"public")]
    assert storability(b"GET", AUTHORIZED, 200, response, effective(response).cc).reason == "authorization"
    response = [(b"cdn-cache-control", b"max-age=60, must-revalidate")]
    assert storability(b"GET", AUTHORIZED, 200, response, effective(response).cc).store


# --- properties

_names = st.sampled_from(
    [b"etag", b"last-modified", b"expires", b"vary", b"set-cookie", b"content-range", b"content-location"]
)
_fields = st.lists(st.tuples(_names, st.binary(max_size=30)), max_size=6)
_directives = st.lists(
    st.sampled_from(
        [
            *[b"no-store", b"private", b"public", b"no-cache", b"max-age=5", b"s-maxage=5"],
            *[b"must-revalidate", b"must-understand", b'private="set-cookie"', b"proxy-revalidate"],
        ]
    ),
    max_size=4,
)


@given(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT"]),
    st.integers(100, 599),
    _fields,
    _directives,
    st.booleans(),
)
def test_what_is_stored_may_be(
    method: bytes, status: int, fields: Headers, directives: list[bytes], partial: bool
) -> None:
    said = cc(b", ".join(directives))
    verdict = storability(method, [], status, fields, said, target=TARGET, partial=partial)
    assert verdict.store is (verdict.reason == "")
    if verdict.store:
        assert method in (b"GET", b"POST")
        assert status >= 200
        assert status not in NEVER_STORED_STATUS
        assert status != 206 or partial
        assert not said.private
        assert not said.no_store or said.must_understand
        names = {name for name, _ in storable_headers(fields, said)}
        assert b"set-cookie" not in names or said.public or said.s_maxage is not None


@given(st.integers(100, 599), _fields, _directives)
def test_credentials_never_make_storable(status: int, fields: Headers, directives: list[bytes]) -> None:
    said = cc(b", ".join(directives))
    if not storability(b"GET", [], status, fields, said).store:
        assert not storability(b"GET", AUTHORIZED, status, fields, said).store
