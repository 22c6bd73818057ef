"""RFC 9111 §4.2 as a table: lifetimes, ages, and what becomes of dates and numbers that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.freshness import (
    HEURISTIC_STATUS,
    age_value,
    current_age_s,
    explicit,
    freshness_lifetime_s,
    initial_age_s,
    response_date_s,
    ttl_s,
)
from atoll.cache.targeted import effective
from atoll.http.fields import MAX_DELTA_S, CacheControl, Headers, format_http_date, parse_cache_control

NOW_S = 1_800_000_000.0


def cc(value: bytes) -> CacheControl:
    return parse_cache_control([value])


def at(offset_s: float) -> bytes:
    return format_http_date(NOW_S + offset_s)


ETAG = (b"etag", b'"1"')
MODIFIED = (b"last-modified", at(-1000))


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


@pytest.mark.parametrize("status", range(200, 600))
def test_heuristics_are_for_statuses_that_are_cacheable_by_default(status: int) -> None:
    """RFC 9110 §15.1 has the list; anything else only when it is `public` (§4.2.2)."""
    by_default = status in {200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501}
    assert (status in HEURISTIC_STATUS) is by_default
    assert freshness_lifetime_s(status, [MODIFIED], cc(b""), NOW_S) == (100.0 if by_default else 0.0)
    assert freshness_lifetime_s(status, [MODIFIED], cc(b"public"), NOW_S) == 100.0
    assert freshness_lifetime_s(status, [MODIFIED], cc(b"max-age=7"), NOW_S) == 7.0


@pytest.mark.parametrize(
    ("response", "lifetime_s", "says"),
    [
        ([(b"cache-control", b"max-age=5")], 5, True),
        ([(b"cache-control", b"s-maxage=0")], 0, True),
        ([(b"expires", at(5))], 5, True),
        ([(b"expires", b"0")], 0, True),
        ([MODIFIED], 100, False),
        ([], 0, False),
        # RFC 9213 §2.2: a targeted field silences Cache-Control and Expires
        ([(b"cdn-cache-control", b"max-age=60"), (b"cache-control", b"max-age=5")], 60, True),
        ([(b"cdn-cache-control", b"max-age=5"), (b"cache-control", b"s-maxage=60")], 5, True),
        ([(b"cdn-cache-control", b"max-age=60"), (b"expires", at(5))], 60, True),
        ([(b"cdn-cache-control", b"none"), (b"expires", at(5))], 0, False),
        ([(b"cdn-cache-control", b"none"), (b"expires", at(5)), MODIFIED], 100, False),
        ([(b"cdn-cache-control", b"none"), (b"cache-control", b"max-age=5"), MODIFIED], 100, False),
        ([(b"cdn-cache-control", b'max-age="60"'), (b"expires", at(5))], 0, False),
        ([(b"cdn-cache-control", b"max-age=60, &"), (b"expires", at(5))], 5, True),
        ([(b"atoll-cdn-cache-control", b"max-age=9"), (b"cdn-cache-control", b"max-age=60")], 9, True),
    ],
)
def test_which_field_says_how_long(response: Headers, lifetime_s: float, says: bool) -> None:
    said = effective(response).cc
    assert freshness_lifetime_s(200, response, said, NOW_S) == lifetime_s
    assert explicit(response, said) is says


def test_what_age_is_sent_as() -> None:
    assert age_value(0.0) == b"0"
    assert age_value(5.99) == b"5"
    assert age_value(-3.0) == b"0"
    assert age_value(1e30) == b"2147483648"


def test_what_is_left_is_below_zero_as_soon_as_it_is_stale() -> None:
    assert ttl_s(60.0, 59.5) == 0
    assert ttl_s(60.0, 0.0) == 60
    assert ttl_s(60.0, 60.0) == 0
    assert ttl_s(60.0, 60.1) == -1
    assert ttl_s(60.0, 100.0) == -40


# --- properties

_delays = st.lists(st.tuples(st.floats(0, 50), st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=4)


@given(_delays, st.booleans())
def test_a_response_never_gets_younger_through_tiers(
    tiers: list[tuple[float, float, float]], dated: bool
) -> None:
    """Each tier keeps it for a while and takes a while to ask and to answer: ages add up (§4.2.3).

    `Age` has whole seconds, so without a `Date` a tier may lose less than one.
    """
    now_s = made_s = NOW_S
    headers: Headers = [(b"date", at(0))] if dated else []
    age_s = 0.0
    for kept_s, asking_s, answering_s in tiers:
        asked_s = now_s
        now_s += answering_s
        headers = [field for field in headers if field[0] != b"age"] + [(b"age", age_value(age_s))]
        initial_s = initial_age_s(headers, asked_s - asking_s, now_s, response_date_s(headers, now_s))
        assert initial_s >= (now_s - made_s) - (0 if dated else len(tiers)) - 1e-6
        arrived_s, now_s = now_s, now_s + kept_s
        age_s = current_age_s(initial_s, arrived_s, now_s)
        assert age_s >= initial_s
    assert age_s <= (now_s - made_s) + sum(asking_s for _, asking_s, _ in tiers) + 1e-6


_values = st.one_of(st.binary(max_size=40), st.integers(-(10**12), 10**12).map(lambda n: b"%d" % n))
_names = st.sampled_from([b"age", b"date", b"expires", b"last-modified", b"cache-control"])


@given(
    st.lists(st.tuples(_names, _values), max_size=8),
    st.floats(0, 1e11),
    st.floats(0, 1e11),
    st.integers(100, 999),
)
def test_numbers_and_dates_that_are_none_survive(
    headers: Headers, request_s: float, response_s: float, status: int
) -> None:
    date_s = response_date_s(headers, response_s)
    lifetime_s = freshness_lifetime_s(status, headers, effective(headers).cc, date_s)
    assert lifetime_s >= 0.0
    initial_s = initial_age_s(headers, request_s, response_s, date_s)
    assert initial_s >= max(0.0, response_s - date_s)
    assert int(age_value(initial_s)) <= MAX_DELTA_S
