"""RFC 9111 §4 and §5.2.1, RFC 5861 and RFC 8246 as tables: may what is stored answer this request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.serving import (
    ERROR_STATUS,
    Decision,
    decide,
    decide_absent,
    request_directives,
    usable_on_error,
)
from atoll.http.fields import CacheControl, Headers, parse_cache_control


def cc(value: bytes) -> CacheControl:
    return parse_cache_control([value])


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


# --- what a request says


@pytest.mark.parametrize(
    ("request_headers", "expected"),
    [
        ([], CacheControl()),
        ([(b"cache-control", b"max-age=5")], CacheControl(max_age=5)),
        ([(b"cache-control", b"max-age=5"), (b"cache-control", b"no-cache")], cc(b"max-age=5, no-cache")),
        # §5.4
        ([(b"pragma", b"no-cache")], CacheControl(no_cache=True)),
        ([(b"pragma", b"x, No-Cache\t")], CacheControl(no_cache=True)),
        ([(b"pragma", b"x,no-cache")], CacheControl(no_cache=True)),
        ([(b"pragma", b"x no-cache")], CacheControl()),
        ([(b"pragma", b"x"), (b"pragma", b"no-cache")], CacheControl(no_cache=True)),
        ([(b"pragma", b"no-cache2")], CacheControl()),
        ([(b"pragma", b"no-cache"), (b"cache-control", b"max-age=5")], CacheControl(max_age=5)),
        ([(b"pragma", b"no-cache"), (b"cache-control", b"")], CacheControl()),
    ],
)
def test_request_directives(request_headers: Headers, expected: CacheControl) -> None:
    assert request_directives(request_headers) == expected


# --- RFC 8246


@pytest.mark.parametrize(
    ("directives", "age_s", "asked", "decision"),
    [
        (b"immutable", 10, b"max-age=0", FRESH),
        (b"immutable", 10, b"max-age=5", FRESH),
        (b"immutable", 10, b"no-cache", ASK),
        (b"immutable", 10, b"max-age=0, no-cache", ASK),
        (b"immutable", 10, b"min-fresh=55", ASK),
        (b"immutable, no-cache", 10, b"", ASK),
        # only as long as it is fresh
        (b"immutable", 60, b"max-age=0", ASK),
        (b"immutable", 61, b"max-age=0", ASK),
        (b"immutable", 61, b"", ASK),
        (b"immutable, stale-while-revalidate=10", 61, b"max-age=0", ASK),
        (b"immutable", 61, b"max-age=100", ASK),
    ],
)
def test_immutable(directives: bytes, age_s: float, asked: bytes, decision: Decision) -> None:
    assert decide(cc(directives), 60.0, age_s, cc(asked)) is decision


# --- clients whose wishes do not count


@pytest.mark.parametrize(
    ("age_s", "asked", "decision"),
    [
        (10, b"no-cache", FRESH),
        (10, b"max-age=0", FRESH),
        (10, b"min-fresh=55", FRESH),
        (10, b"no-cache, only-if-cached", FRESH),
        (61, b"max-stale", ASK),
        (61, b"only-if-cached", GATEWAY_TIMEOUT),
        (61, b"only-if-cached, max-stale", GATEWAY_TIMEOUT),
    ],
)
def test_clients_that_are_not_honoured(age_s: float, asked: bytes, decision: Decision) -> None:
    assert decide(cc(b""), 60.0, age_s, cc(asked), honour_client=False) is decision


def test_a_client_that_is_not_honoured_still_gets_what_the_response_allows() -> None:
    said = cc(b"stale-while-revalidate=10")
    assert decide(said, 60.0, 61, cc(b"max-age=0"), honour_client=False) is BEHIND
    assert decide(cc(b"no-cache"), 60.0, 1, cc(b""), honour_client=False) is ASK


# --- the route's own stale-while-revalidate


@pytest.mark.parametrize(
    ("directives", "lifetime_s", "age_s", "asked", "route_s", "decision"),
    [
        (b"", 60, 70, b"", 10, BEHIND),
        (b"", 60, 60, b"", 10, BEHIND),
        (b"", 60, 70.5, b"", 10, ASK),
        (b"", 60, 60, b"", 0, ASK),
        (b"", 60, 59, b"", 10, FRESH),
        (b"", 60, 65, b"max-age=100", 10, ASK),
        (b"", 60, 65, b"no-cache", 10, ASK),
        (b"", 60, 65, b"max-stale", 10, STALE),
        # the response's own word comes first
        (b"stale-while-revalidate=5", 60, 66, b"", 100, ASK),
        (b"stale-while-revalidate=0", 60, 61, b"", 100, ASK),
        (b"stale-while-revalidate=100", 60, 100, b"", 5, BEHIND),
        (b"must-revalidate", 60, 61, b"", 100, ASK),
        (b"proxy-revalidate", 60, 61, b"", 100, ASK),
        (b"no-cache", 60, 61, b"", 100, ASK),
        (b"s-maxage=60", 60, 61, b"", 100, ASK),
        # never fresh: perhaps one user's
        (b"", 0, 1, b"", 100, ASK),
        (b"public", 0, 1, b"", 100, BEHIND),
        (b"stale-while-revalidate=5", 0, 1, b"", 0, BEHIND),
    ],
)
def test_route_stale_while_revalidate(
    directives: bytes, lifetime_s: float, age_s: float, asked: bytes, route_s: float, decision: Decision
) -> None:
    found = decide(cc(directives), lifetime_s, age_s, cc(asked), route_stale_while_revalidate_s=route_s)
    assert found is decision


# --- a client's stale-if-error (RFC 5861 §4)


@pytest.mark.parametrize(
    ("directives", "lifetime_s", "age_s", "asked", "route_s", "usable"),
    [
        (b"", 60, 65, b"stale-if-error=5", 0, True),
        (b"", 60, 65.5, b"stale-if-error=5", 0, False),
        (b"", 60, 65, b"stale-if-error=1", 5, True),
        (b"", 60, 65, b"", 0, False),
        (b"stale-if-error=1", 60, 65, b"stale-if-error=100", 100, False),
        (b"must-revalidate", 60, 65, b"stale-if-error=100", 0, False),
        (b"s-maxage=60", 60, 65, b"stale-if-error=100", 0, False),
        (b"", 0, 1, b"stale-if-error=100", 0, False),
        (b"no-cache", 60, 1, b"stale-if-error=100", 0, False),
    ],
)
def test_stale_if_error_of_a_request(
    directives: bytes, lifetime_s: float, age_s: float, asked: bytes, route_s: float, usable: bool
) -> None:
    assert usable_on_error(cc(directives), lifetime_s, age_s, route_s, cc(asked)) is usable


def test_errors_are_the_rfcs() -> None:
    assert frozenset({500, 502, 503, 504}) == ERROR_STATUS


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


@given(_controls, _times, _times, _asked, _times)
def test_not_honouring_never_serves_what_the_response_forbids(
    response_cc: CacheControl, lifetime_s: float, age_s: float, asked: CacheControl, route_s: float
) -> None:
    decision = decide(
        response_cc, lifetime_s, age_s, asked, honour_client=False, route_stale_while_revalidate_s=route_s
    )
    assert decision is not STALE
    if decision in SERVED:
        assert not response_cc.no_cache
        assert lifetime_s > age_s or not (response_cc.must_revalidate or response_cc.proxy_revalidate)
