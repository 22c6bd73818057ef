"""Validators as tables: what is asked, what the answer changes, what a client's conditions come to.

RFC 9111 §4.3 and §4.4, RFC 9110 §8.8 and §13.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.validation import (
    MAX_TAGS,
    MAX_TAGS_LENGTH,
    SAFE_METHODS,
    HeadEffect,
    Precondition,
    conditional_request,
    head_update,
    headers_for_304,
    if_range_holds,
    invalidated_by,
    not_modified,
    preconditions,
    select_for_update,
    strong_validator,
    update_stored,
)
from atoll.http.fields import Headers, etag_matches, format_http_date

NOW_S = 1_800_000_000.0


def at(offset_s: float) -> bytes:
    return format_http_date(NOW_S + offset_s)


ETAG = (b"etag", b'"1"')
WEAK = (b"etag", b'W/"1"')
MODIFIED = (b"last-modified", at(-1000))
DATE = (b"date", at(0))

# --- strong validators (RFC 9110 §8.8)


@pytest.mark.parametrize(
    ("stored", "validator"),
    [
        ([ETAG], b'"1"'),
        ([ETAG, MODIFIED, DATE], b'"1"'),
        ([WEAK], None),
        ([WEAK, MODIFIED, DATE], None),  # the origin says it cannot tell them apart
        ([(b"etag", b"unquoted")], None),
        ([(b"etag", b"")], None),
        ([MODIFIED, DATE], MODIFIED[1]),
        ([MODIFIED], None),
        ([MODIFIED, (b"date", b"x")], None),
        ([(b"last-modified", b"x"), DATE], None),
        ([(b"last-modified", at(-1)), DATE], at(-1)),
        ([(b"last-modified", at(0)), DATE], None),
        ([(b"last-modified", at(5)), DATE], None),
        ([DATE], None),
    ],
)
def test_strong_validator(stored: Headers, validator: bytes | None) -> None:
    assert strong_validator(stored) == validator


# --- asking the origin (§4.3.1)


def test_conditional_request() -> None:
    both = [ETAG, (b"content-type", b"text/plain"), MODIFIED]
    assert conditional_request(both) == [(b"if-none-match", b'"1"'), (b"if-modified-since", MODIFIED[1])]
    assert conditional_request([ETAG]) == [(b"if-none-match", b'"1"')]
    assert conditional_request([WEAK]) == [(b"if-none-match", b'W/"1"')]
    assert conditional_request([MODIFIED]) == [(b"if-modified-since", MODIFIED[1])]
    assert conditional_request([DATE]) == []
    assert conditional_request() == []


def tagged(*tags: bytes) -> list[Headers]:
    return [[(b"etag", tag)] for tag in tags]


@pytest.mark.parametrize(
    ("stored", "condition"),
    [
        (tagged(b'"1"', b'W/"2"', b'"3"'), b'"1", W/"2", "3"'),
        (tagged(b'"2"', b'"1"', b'"2"'), b'"2", "1"'),
        (tagged(b'"1"', b"unquoted", b'"a,b"'), b'"1", "a,b"'),
        ([[ETAG, MODIFIED], [MODIFIED]], b'"1"'),
        ([[MODIFIED], [MODIFIED]], None),
        ([[MODIFIED], []], None),
        (tagged(b"unquoted", b'"', b""), None),
    ],
)
def test_several_are_asked_about_by_entity_tag(stored: list[Headers], condition: bytes | None) -> None:
    expected = [] if condition is None else [(b"if-none-match", condition)]
    assert conditional_request(*stored) == expected


def test_no_more_is_asked_about_than_an_origin_reads() -> None:
    many = [b'"%d"' % number for number in range(MAX_TAGS + 1)]
    assert conditional_request(*tagged(*many)) == [(b"if-none-match", b", ".join(many[:MAX_TAGS]))]
    length = MAX_TAGS_LENGTH // 2 - 2
    exact, long = (b'"%b"' % (b"x" * (n - 2)) for n in (length, length + 1))
    two = tagged(exact, b'"y%b' % exact[2:])
    assert conditional_request(*two)[0][1].count(b",") == 1
    assert conditional_request(*tagged(exact, long)) == [(b"if-none-match", exact)]


@given(st.lists(st.lists(st.tuples(st.just(b"etag"), st.binary(max_size=20)), max_size=2), min_size=2))
def test_every_tag_asked_about_is_one_of_them(stored: list[Headers]) -> None:
    for _, value in conditional_request(*stored):
        assert any(etag_matches(value, headers[0][1], weak=True) for headers in stored if headers)


# --- which a 304 updates (§4.3.4)

OTHER = (b"etag", b'"2"')


@pytest.mark.parametrize(
    ("stored", "fresh", "selected"),
    [
        # a strong entity tag: all that have it, and only they
        ([[ETAG], [OTHER]], [ETAG], [0]),
        ([[ETAG], [OTHER], [ETAG]], [ETAG], [0, 2]),
        ([[OTHER]], [ETAG], []),
        ([[WEAK]], [ETAG], []),
        ([[MODIFIED]], [ETAG, MODIFIED], []),
        ([[]], [ETAG], []),
        ([], [ETAG], []),
        # a weak one: the most recent that corresponds
        ([[WEAK], [OTHER]], [WEAK], [0]),
        ([[ETAG], [OTHER]], [WEAK], [0]),
        ([[WEAK, (b"date", at(-5))], [WEAK, (b"date", at(-9))]], [WEAK], [0]),
        ([[WEAK, (b"date", at(-9))], [WEAK, (b"date", at(-5))]], [WEAK], [1]),
        ([[WEAK], [WEAK, (b"date", at(-9))], [WEAK]], [WEAK], [1]),
        ([[WEAK, DATE], [WEAK, DATE]], [WEAK], [1]),
        ([[WEAK], [OTHER, DATE]], [WEAK], [0]),
        ([[OTHER]], [WEAK], []),
        ([[]], [(b"etag", b"W/")], []),
        ([[]], [WEAK], []),
        # a date: strong when it is old enough
        ([[MODIFIED], [MODIFIED], []], [MODIFIED, DATE], [0, 1]),
        ([[MODIFIED], [(b"last-modified", at(-9))]], [MODIFIED, DATE], [0]),
        ([[MODIFIED, (b"date", at(-5))], [MODIFIED, (b"date", at(-9))]], [MODIFIED], [0]),
        ([[(b"last-modified", at(-9))]], [MODIFIED, DATE], []),
        ([[]], [MODIFIED], []),
        # none: the only one asked about
        ([[]], [DATE], [0]),
        ([[ETAG]], [DATE], [0]),
        ([[ETAG], [OTHER]], [DATE], []),
        ([[], []], [DATE], []),
        ([], [DATE], []),
    ],
)
def test_select_for_update(stored: list[Headers], fresh: Headers, selected: list[int]) -> None:
    assert select_for_update(stored, fresh) == selected


# --- what it changes (§3.2)


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


# --- what a response to HEAD changes (§4.3.5)

STORED: Headers = [ETAG, MODIFIED, (b"cache-control", b"max-age=1"), (b"x", b"old")]
GONE, NOTHING = HeadEffect.INVALIDATE, HeadEffect.NOTHING


@pytest.mark.parametrize(
    ("head", "length", "effect"),
    [
        ([ETAG], 5, None),
        ([ETAG, MODIFIED, (b"content-length", b"5")], 5, None),
        ([(b"content-length", b"5")], 5, None),
        ([(b"content-length", b"6")], 5, GONE),
        ([ETAG, (b"content-length", b"6")], 5, GONE),
        ([ETAG, (b"content-length", b"5"), (b"content-length", b"6")], 5, GONE),
        ([ETAG, (b"content-length", b"x")], 5, GONE),
        ([ETAG, (b"content-length", b"6")], None, None),
        ([], 5, None),
        ([OTHER], 5, GONE),
        ([WEAK], 5, GONE),
        ([ETAG, (b"last-modified", at(-999))], 5, GONE),
        ([(b"last-modified", at(-999))], 5, GONE),
        ([OTHER, MODIFIED], 5, GONE),
    ],
)
def test_head_update(head: Headers, length: int | None, effect: HeadEffect | None) -> None:
    fresh = [*head, (b"cache-control", b"max-age=9"), DATE]
    expected = update_stored(STORED, fresh) if effect is None else effect
    assert head_update(STORED, length, 200, fresh) == expected
    if effect is None:
        assert (b"cache-control", b"max-age=9") in update_stored(STORED, fresh)


def test_a_validator_that_is_not_stored_does_not_match() -> None:
    assert head_update([], 5, 200, [ETAG]) is GONE
    assert head_update([ETAG], 5, 200, [MODIFIED]) is GONE


@pytest.mark.parametrize("status", [100, 199, 201, 204, 206, 301, 304, 404, 410, 500])
def test_only_a_200_to_head_says_anything(status: int) -> None:
    assert head_update(STORED, 5, status, [OTHER]) is NOTHING
    assert head_update(STORED, 5, status, [ETAG]) is NOTHING


# --- a client's conditions (RFC 9110 §13.2.2)


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


GO, SAME, FAIL = Precondition.PROCEED, Precondition.NOT_MODIFIED, Precondition.FAILED
LATER = (b"if-unmodified-since", at(-999))
EARLIER = (b"if-unmodified-since", at(-1001))
TAG_1, TAG_2 = (b"if-match", b'"1"'), (b"if-match", b'"2"')
NONE_1, NONE_2 = (b"if-none-match", b'"1"'), (b"if-none-match", b'"2"')


@pytest.mark.parametrize(
    ("request_headers", "stored", "read", "write"),
    [
        ([], [ETAG, MODIFIED], GO, GO),
        # step 1: If-Match, strong
        ([TAG_1], [ETAG], GO, GO),
        ([TAG_2], [ETAG], FAIL, FAIL),
        ([(b"if-match", b'"2", "1"')], [ETAG], GO, GO),
        ([TAG_2, TAG_1], [ETAG], GO, GO),
        ([(b"if-match", b"*")], [ETAG], GO, GO),
        ([(b"if-match", b"*")], [], GO, GO),
        ([TAG_1], [], FAIL, FAIL),
        ([TAG_1], [WEAK], FAIL, FAIL),
        ([(b"if-match", b'W/"1"')], [WEAK], FAIL, FAIL),
        ([(b"if-match", b'W/"1"')], [ETAG], FAIL, FAIL),
        # step 2: If-Unmodified-Since, without If-Match
        ([LATER], [MODIFIED], GO, GO),
        ([(b"if-unmodified-since", at(-1000))], [MODIFIED], GO, GO),
        ([EARLIER], [MODIFIED], FAIL, FAIL),
        ([EARLIER, TAG_1], [ETAG, MODIFIED], GO, GO),
        ([LATER, TAG_2], [ETAG, MODIFIED], FAIL, FAIL),
        ([(b"if-unmodified-since", b"x")], [MODIFIED], GO, GO),
        ([EARLIER, EARLIER], [MODIFIED], GO, GO),
        ([EARLIER], [DATE], GO, GO),
        # step 3: If-None-Match, weak
        ([NONE_1], [ETAG], SAME, FAIL),
        ([NONE_2], [ETAG], GO, GO),
        ([(b"if-none-match", b'W/"1"')], [ETAG], SAME, FAIL),
        ([(b"if-none-match", b"*")], [], SAME, FAIL),
        ([TAG_1, NONE_1], [ETAG], SAME, FAIL),
        ([TAG_2, NONE_1], [ETAG], FAIL, FAIL),
        ([LATER, NONE_1], [ETAG, MODIFIED], SAME, FAIL),
        ([EARLIER, NONE_1], [ETAG, MODIFIED], FAIL, FAIL),
        # step 4: If-Modified-Since, of reads without If-None-Match
        ([(b"if-modified-since", at(-1000))], [MODIFIED], SAME, GO),
        ([(b"if-modified-since", at(-1001))], [MODIFIED], GO, GO),
        ([(b"if-modified-since", at(0)), NONE_2], [ETAG, MODIFIED], GO, GO),
        ([(b"if-modified-since", at(-2000)), NONE_1], [ETAG, MODIFIED], SAME, FAIL),
    ],
)
def test_preconditions(
    request_headers: Headers, stored: Headers, read: Precondition, write: Precondition
) -> None:
    assert preconditions(b"GET", request_headers, stored, 200) is read
    assert preconditions(b"HEAD", request_headers, stored, 200) is read
    assert preconditions(b"PUT", request_headers, stored, 200) is write


@pytest.mark.parametrize("status", [199, 300, 404, 500])
def test_a_failure_stays_what_it_is(status: int) -> None:
    """§13.2.1: only what would be a success has preconditions."""
    assert preconditions(b"GET", [TAG_2], [ETAG], status) is GO
    assert preconditions(b"GET", [NONE_1], [ETAG], status) is GO


@pytest.mark.parametrize("status", [200, 299])
def test_every_success_has_preconditions(status: int) -> None:
    assert preconditions(b"GET", [TAG_2], [ETAG], status) is FAIL
    assert preconditions(b"GET", [NONE_1], [ETAG], status) is SAME


@pytest.mark.parametrize(
    ("value", "stored", "holds"),
    [
        (b'"1"', [ETAG], True),
        (b'"2"', [ETAG], False),
        (b'W/"1"', [ETAG], False),
        (b'W/"1"', [WEAK], False),
        (b'"1"', [WEAK], False),
        (b'"1"', [MODIFIED, DATE], False),
        (b'"1", "2"', [ETAG], False),
        (b"*", [ETAG], False),
        (b"unquoted", [(b"etag", b"unquoted")], False),
        (b"", [ETAG], False),
        (MODIFIED[1], [MODIFIED, DATE], True),
        (MODIFIED[1], [MODIFIED, DATE, ETAG], True),
        (MODIFIED[1], [MODIFIED], False),
        (at(-999), [MODIFIED, DATE], False),
        (at(-1001), [MODIFIED, DATE], False),
        (at(0), [(b"last-modified", at(0)), DATE], False),
        (MODIFIED[1].lower(), [MODIFIED, DATE], False),
    ],
)
def test_if_range(value: bytes, stored: Headers, holds: bool) -> None:
    assert if_range_holds([(b"if-range", value)], stored) is holds
    assert not if_range_holds([(b"if-range", value), (b"if-range", value)], stored)
    assert if_range_holds([], stored)


# --- a 304's fields, and invalidation


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


def test_safe_methods_are_the_rfcs() -> None:
    assert frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"}) == SAFE_METHODS


# --- properties

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


_tags = st.sampled_from([b'"1"', b'W/"1"', b'"2"', b"unquoted", b""])
_stored = st.lists(st.lists(st.tuples(st.just(b"etag"), _tags), max_size=1), max_size=4)


@given(_stored, _tags)
def test_a_304_updates_only_what_has_its_entity_tag(stored: list[Headers], tag: bytes) -> None:
    selected = select_for_update(stored, [(b"etag", tag)])
    assert selected == sorted(set(selected))
    for index in selected:
        assert etag_matches(tag, stored[index][0][1], weak=True)
    if tag.startswith(b"W/"):
        assert len(selected) <= 1


@given(_headers)
def test_a_head_of_what_is_stored_renews_it(stored: Headers) -> None:
    seen = [field for field in stored if field[0] not in (b"content-length", b"etag")]
    assert head_update(seen, 5, 200, seen) == update_stored(seen, seen)
