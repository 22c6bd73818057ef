"""The rules in one place: what is importable, and that no bytes whatever make any of them fail."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atoll.cache import freshness, keys, ranges, rules, serving, storing, targeted, validation
from atoll.cache.preferences import normalised
from atoll.http.fields import Headers, get_all, parse_vary

MODULES = (targeted, storing, freshness, serving, validation)


def test_the_facade_gives_the_same_things() -> None:
    for name in rules.__all__:
        homes = [module for module in MODULES if name in vars(module)]
        assert any(vars(home)[name] is getattr(rules, name) for home in homes), name


def test_the_facade_gives_every_rule() -> None:
    """Every public function of the modules behind it, but the steps that only they need."""
    steps = {"parse_targeted", "explicit"}
    public = {
        name
        for module in MODULES
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__ and name[0] != "_"
    }
    assert public - steps <= set(rules.__all__)


_names = st.sampled_from(
    [
        *[b"cache-control", b"cdn-cache-control", b"atoll-cdn-cache-control", b"pragma", b"expires", b"age"],
        *[b"date", b"last-modified", b"etag", b"vary", b"set-cookie", b"authorization", b"connection"],
        *[b"content-range", b"content-length", b"content-location", b"location", b"content-type"],
        *[b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"],
        *[b"range", b"accept-encoding", b"accept-language"],
    ]
)
_pieces = st.sampled_from(
    [
        *[
            b"max-age=",
            b"no-cache",
            b"private=",
            b'"',
            b",",
            b"=",
            b";q=",
            b"*",
            b"W/",
            b"bytes=",
            b"-",
            b"/",
        ],
        *[b"0", b"9" * 40, b"Thu, 01 Jan 1970 00:00:00 GMT", b"gzip", b"http://", b"\\", b" ", b"\xff", b"("],
    ]
)
_values = st.one_of(st.binary(max_size=40), st.lists(_pieces, max_size=8).map(b"".join))
_headers = st.lists(st.tuples(_names, _values), max_size=10)
_methods = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"\xff"])
_TARGET = b"https://a.example/x"


@given(_methods, _headers, st.integers(100, 999), _headers, st.floats(0, 1e10), st.floats(-1e6, 1e10))
def test_no_exchange_makes_a_rule_fail(
    method: bytes, request: Headers, status: int, response: Headers, now_s: float, route_s: float
) -> None:
    cc = rules.effective(response).cc
    request_cc = rules.request_directives(request)
    parse_vary(get_all(response, b"vary"))
    rules.storability(method, request, status, response, cc, target=_TARGET, partial=True)
    kept = rules.storable_headers(response, cc)
    date_s = rules.response_date_s(response, now_s)
    lifetime_s = rules.freshness_lifetime_s(status, response, cc, date_s)
    age_s = rules.initial_age_s(response, now_s, now_s, date_s)
    rules.ttl_s(lifetime_s, age_s)
    rules.decide(cc, lifetime_s, age_s, request_cc, route_stale_while_revalidate_s=route_s)
    rules.decide_absent(request_cc)
    rules.usable_on_error(cc, lifetime_s, age_s, route_s, request_cc)
    rules.conditional_request(kept)
    rules.conditional_request(kept, response)
    rules.head_update(kept, 5, 200, response)
    rules.headers_for_304(rules.update_stored(kept, response))
    rules.select_for_update([kept, request], response)
    assert rules.preconditions(method, request, kept, status) in rules.Precondition
    assert ranges.requested(method, request, kept, 200, 100) is not None
    keys.related_keys(b"https", b"a.example", b"/x", response)
    keys.vary_key((b"accept-encoding", b"range"), normalised(request))
