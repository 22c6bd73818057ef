"""`Cache-Control`: the grammar, and every ambiguity read in the origin's favour."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.http.cache_control import ANY_STALENESS, MAX_DELTA_S, CacheControl, parse_cache_control

CASES: list[tuple[list[bytes], CacheControl]] = [
    ([], CacheControl()),
    ([b""], CacheControl()),
    ([b", ,"], CacheControl()),
    ([b"no-store"], CacheControl(no_store=True)),
    ([b"NO-STORE"], CacheControl(no_store=True)),
    ([b"no-store=1"], CacheControl(no_store=True)),
    ([b'no-store="'], CacheControl(no_store=True)),
    ([b"must-revalidate"], CacheControl(must_revalidate=True)),
    ([b"proxy-revalidate"], CacheControl(proxy_revalidate=True)),
    ([b"must-understand"], CacheControl(must_understand=True)),
    ([b"no-transform"], CacheControl(no_transform=True)),
    ([b"immutable"], CacheControl(immutable=True)),
    ([b"only-if-cached"], CacheControl(only_if_cached=True)),
    ([b"public"], CacheControl(public=True)),
    ([b"public=yes"], CacheControl()),
    ([b"must-understand=1, no-store"], CacheControl(no_store=True)),
    ([b"unknown, public2, x=max-age=5"], CacheControl()),
    ([b"max-age=60"], CacheControl(max_age=60)),
    ([b"Max-Age=60"], CacheControl(max_age=60)),
    ([b"max-age=60\t, \tpublic"], CacheControl(max_age=60, public=True)),
    ([b"s-maxage=60"], CacheControl(s_maxage=60)),
    ([b"stale-while-revalidate=7"], CacheControl(stale_while_revalidate=7)),
    ([b"stale-if-error=8"], CacheControl(stale_if_error=8)),
    ([b"min-fresh=9"], CacheControl(min_fresh=9)),
    ([b"max-stale=9"], CacheControl(max_stale=9)),
    ([b"max-stale"], CacheControl(max_stale=ANY_STALENESS)),
    # numbers: quoted is accepted, what is none is 0, what is too large is the largest
    ([b'max-age="60"'], CacheControl(max_age=60)),
    ([b'max-age="6\\0"'], CacheControl(max_age=60)),
    ([b"max-age"], CacheControl(max_age=0)),
    ([b"max-age="], CacheControl(max_age=0)),
    ([b'max-age="'], CacheControl(max_age=0)),
    ([b"max-age=-60"], CacheControl(max_age=0)),
    ([b"max-age=+60"], CacheControl(max_age=0)),
    ([b"max-age=1.5"], CacheControl(max_age=0)),
    ([b"max-age='60'"], CacheControl(max_age=0)),
    ([b"max-age = 60"], CacheControl(max_age=0)),
    ([b"max-age=60 public"], CacheControl(max_age=0)),
    ([b"max-age=0060"], CacheControl(max_age=60)),
    ([b"max-age=00000000000000000000000060"], CacheControl(max_age=60)),
    ([b"max-age=2147483647"], CacheControl(max_age=MAX_DELTA_S - 1)),
    ([b"max-age=2147483649"], CacheControl(max_age=MAX_DELTA_S)),
    ([b"max-age=" + b"9" * 19], CacheControl(max_age=MAX_DELTA_S)),
    ([b"max-age=" + b"9" * 5000], CacheControl(max_age=MAX_DELTA_S)),
    # of two values the more restrictive
    ([b"max-age=60, max-age=5"], CacheControl(max_age=5)),
    ([b"max-age=5", b"max-age=60"], CacheControl(max_age=5)),
    ([b"max-age=60, max-age=x"], CacheControl(max_age=0)),
    ([b"min-fresh=5, min-fresh=60, min-fresh=7"], CacheControl(min_fresh=60)),
    ([b"max-stale, max-stale=60"], CacheControl(max_stale=60)),
    ([b"max-stale=60, max-stale"], CacheControl(max_stale=60)),
    # field lists
    ([b"no-cache"], CacheControl(no_cache=True)),
    ([b"private"], CacheControl(private=True)),
    ([b'private="Set-Cookie, X-B"'], CacheControl(private_fields=(b"set-cookie", b"x-b"))),
    ([b"no-cache=Set-Cookie"], CacheControl(no_cache_fields=(b"set-cookie",))),
    ([b'no-cache="b,", no-cache=a'], CacheControl(no_cache_fields=(b"a", b"b"))),
    ([b'private=a, no-cache="a"'], CacheControl(private_fields=(b"a",), no_cache_fields=(b"a",))),
    ([b"private, private=a"], CacheControl(private=True, private_fields=(b"a",))),
    ([b'private=""'], CacheControl(private=True)),
    ([b'private=","'], CacheControl(private=True)),
    ([b"private="], CacheControl(private=True)),
    ([b'private="a b"'], CacheControl(private=True)),
    ([b'private="a, (b)"'], CacheControl(private=True)),
    ([b'private="a, max-age=60'], CacheControl(private=True, max_age=60)),
    # quotes hide commas, but only when they close
    ([b'x="no-store, public", max-age=1'], CacheControl(max_age=1)),
    ([b'x="a\\", no-store", max-age=1'], CacheControl(max_age=1)),
    ([b'x="a", y="no-store,b", public'], CacheControl(public=True)),
    ([b'x="a, no-store'], CacheControl(no_store=True)),
    ([b'x=a"b, no-store, y=c"d'], CacheControl(no_store=True)),
]


@pytest.mark.parametrize(("values", "expected"), CASES)
def test_reads(values: list[bytes], expected: CacheControl) -> None:
    assert parse_cache_control(values) == expected


@pytest.mark.parametrize(("values", "expected"), CASES)
def test_long_fields_read_the_same(values: list[bytes], expected: CacheControl) -> None:
    assert parse_cache_control([b"x" * 200, *values]) == expected


def test_unclosed_quotes_take_linear_time() -> None:
    began_s = time.perf_counter()
    parse_cache_control([b'="\\",' * 20_000])
    assert time.perf_counter() - began_s < 1.0


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_restriction_survives_any_company(noise: list[bytes]) -> None:
    """Whatever stands before and after, `no-store` in a line of its own is heard unless it is quoted."""
    quoted = any(b'"' in line for line in noise)
    for values in ([*noise, b"no-store"], [b"no-store", *noise]):
        assert quoted or parse_cache_control(values).no_store


_DIRECTIVE = st.sampled_from([b"max-age=%d" % n for n in (0, 5, 60)] + [b"private", b"no-cache", b"x"])


@given(st.lists(_DIRECTIVE, max_size=6))
def test_order_and_lines_do_not_matter(directives: list[bytes]) -> None:
    assert parse_cache_control([b", ".join(directives)]) == parse_cache_control(sorted(directives))
