"""RFC 9213 as a table: which field decides, what its dictionary may hold, and what is ignored."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.targeted import OWN, TARGETS, effective, parse_targeted
from atoll.http.fields import MAX_DELTA_S, CacheControl, Headers, parse_cache_control

CDN = b"cdn-cache-control"
PLAIN = b"cache-control"


def said(**directives: bool | int | tuple[bytes, ...]) -> CacheControl:
    return CacheControl(targeted=True, **directives)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("response", "cc", "targeted"),
    [
        ([], CacheControl(), None),
        ([(PLAIN, b"max-age=5")], CacheControl(max_age=5), None),
        ([(CDN, b"max-age=5")], said(max_age=5), CDN),
        ([(OWN, b"max-age=5")], said(max_age=5), OWN),
        # in the order of the target list, wherever they stand
        ([(PLAIN, b"no-store"), (CDN, b"max-age=5")], said(max_age=5), CDN),
        ([(CDN, b"max-age=5"), (OWN, b"max-age=7"), (PLAIN, b"private")], said(max_age=7), OWN),
        # alone: directives are not merged
        ([(OWN, b"max-age=7"), (CDN, b"no-store"), (PLAIN, b"must-revalidate")], said(max_age=7), OWN),
        # empty, or no dictionary: as if it were not there
        ([(CDN, b""), (PLAIN, b"no-store")], CacheControl(no_store=True), None),
        ([(CDN, b"  "), (PLAIN, b"no-store")], CacheControl(no_store=True), None),
        ([(CDN, b"max-age=5,"), (PLAIN, b"no-store")], CacheControl(no_store=True), None),
        ([(OWN, b"&"), (CDN, b"max-age=5"), (PLAIN, b"no-store")], said(max_age=5), CDN),
        ([(OWN, b""), (CDN, b"")], CacheControl(), None),
        # a dictionary of unknown directives is one
        ([(CDN, b"none"), (PLAIN, b"no-store")], said(), CDN),
        ([(CDN, b'max-age="5"'), (PLAIN, b"no-store")], said(), CDN),
        # lines are one field
        ([(CDN, b"max-age=5"), (CDN, b"must-revalidate")], said(max_age=5, must_revalidate=True), CDN),
        ([(CDN, b"max-age=5"), (CDN, b"&"), (PLAIN, b"no-store")], CacheControl(no_store=True), None),
        # not on the list
        ([(b"other-cdn-cache-control", b"no-store"), (PLAIN, b"max-age=5")], CacheControl(max_age=5), None),
    ],
)
def test_which_field_decides(response: Headers, cc: CacheControl, targeted: bytes | None) -> None:
    found = effective(response)
    assert found.cc == cc
    assert found.targeted == targeted


CASES: list[tuple[bytes, CacheControl | None]] = [
    # every directive of a response
    (b"no-store", said(no_store=True)),
    (b"no-cache", said(no_cache=True)),
    (b"private", said(private=True)),
    (b"public", said(public=True)),
    (b"must-revalidate", said(must_revalidate=True)),
    (b"proxy-revalidate", said(proxy_revalidate=True)),
    (b"must-understand", said(must_understand=True)),
    (b"no-transform", said(no_transform=True)),
    (b"immutable", said(immutable=True)),
    (b"max-age=60", said(max_age=60)),
    (b"s-maxage=60", said(s_maxage=60)),
    (b"stale-while-revalidate=60", said(stale_while_revalidate=60)),
    (b"stale-if-error=60", said(stale_if_error=60)),
    (b"max-age=60, stale-if-error=5,\tpublic", said(max_age=60, stale_if_error=5, public=True)),
    # a request's mean nothing here
    (b"only-if-cached, min-fresh=5, max-stale=5", said()),
    # numbers: integers only, within what a cache remembers
    (b"max-age=0", said(max_age=0)),
    (b"max-age=-1", said(max_age=0)),
    (b"max-age=2147483649", said(max_age=MAX_DELTA_S)),
    (b"max-age=999999999999999", said(max_age=MAX_DELTA_S)),
    (b"max-age=9999999999999999", None),
    (b"max-age", said()),
    (b"max-age=?1", said()),
    (b"max-age=1.5", said()),
    (b'max-age="60"', said()),
    (b"max-age=sixty", said()),
    (b"max-age=(60)", said()),
    (b"max-age=:NjA=:", said()),
    (b"max-age=@60", said()),
    (b'max-age=%"60"', said()),
    (b"max-age= 60", None),
    (b"max-age =60", None),
    (b"max-age=60 public", None),
    # flags: true and nothing else
    (b"no-store=?1", said(no_store=True)),
    (b"no-store=?0", said()),
    (b"no-store=1", said()),
    (b'no-store="yes"', said()),
    (b"public=()", said()),
    # field lists: true, or names in a string; one name may be a token
    (b'private="Set-Cookie, X-B"', said(private_fields=(b"set-cookie", b"x-b"))),
    (b"no-cache=Set-Cookie", said(no_cache_fields=(b"set-cookie",))),
    (b'private="a b"', said(private=True)),
    (b'private=""', said(private=True)),
    (b"private=a/b", said(private=True)),
    (b"private=?0", said()),
    (b"private=1", said()),
    (b"private=(a b)", said()),
    (b'private="a", no-cache="b"', said(private_fields=(b"a",), no_cache_fields=(b"b",))),
    # parameters are ignored, of a name given twice the last counts (RFC 9651 §3.2)
    (b"max-age=60;x=1;y", said(max_age=60)),
    (b"no-store;private", said(no_store=True)),
    (b"max-age=60, max-age=5", said(max_age=5)),
    (b"max-age=5, max-age=60", said(max_age=60)),
    (b"max-age=60, max-age=x", said()),
    # keys are lowercase
    (b"Max-Age=60", None),
    (b"NO-STORE", None),
    (b"max-age=60, &&&&&", None),
    (b"\xff", None),
    (b"", None),
]


@pytest.mark.parametrize(("value", "expected"), CASES)
def test_reads(value: bytes, expected: CacheControl | None) -> None:
    assert parse_targeted([value]) == expected


@pytest.mark.parametrize(("value", "expected"), [case for case in CASES if case[0].strip()])
def test_long_fields_read_the_same(value: bytes, expected: CacheControl | None) -> None:
    assert parse_targeted([b"x" * 200, value]) == expected


def test_the_target_list() -> None:
    assert TARGETS == (b"atoll-cdn-cache-control", b"cdn-cache-control")


def test_reading_takes_linear_time() -> None:
    began_s = time.perf_counter()
    for value in (b"a=(" * 20_000, b"a," * 30_000, b'a="' + b"\\\\" * 30_000, b"a;" * 30_000, b"," * 60_000):
        parse_targeted([value])
    assert time.perf_counter() - began_s < 3.0


@given(st.lists(st.tuples(st.sampled_from([*TARGETS, PLAIN]), st.binary(max_size=60)), max_size=5))
def test_any_bytes_are_read(response: Headers) -> None:
    found = effective(response)
    assert found.cc.targeted is (found.targeted is not None)
    if found.targeted is None:
        assert found.cc == parse_cache_control([value for name, value in response if name == PLAIN])


_member = st.sampled_from([b"no-store", b"private", b"max-age=5", b"x", b'x="a, b"', b"x;y=1", b"x=(a b)"])


@given(st.lists(_member, min_size=1, max_size=6))
def test_a_valid_field_silences_cache_control(members: list[bytes]) -> None:
    field = b", ".join(members)
    for plain in (b"no-store", b"max-age=9", b"public, s-maxage=7"):
        assert effective([(CDN, field), (PLAIN, plain)]) == effective([(CDN, field)])
    cc = effective([(CDN, field)]).cc
    assert cc.no_store is (b"no-store" in members)
    assert cc.max_age == (5 if b"max-age=5" in members else None)
