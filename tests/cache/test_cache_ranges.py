"""RFC 9110 §14 and §15.3.7 as tables: ranges asked for, answered and put together; and their limits."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.partial import Partial, Span
from atoll.cache.ranges import (
    COALESCED_GAP,
    MAX_FIELD,
    MAX_PARTS,
    MAX_RANGES,
    MAX_UNORDERED,
    ContentRange,
    Spec,
    Unmet,
    begin,
    combinable,
    combined_headers,
    completing_request,
    format_content_range,
    format_range,
    headers_for_206,
    multipart,
    parse_content_range,
    parse_range,
    part_of,
    requested,
    satisfiable,
    slice_span,
    slices,
    whole_headers,
)
from atoll.http.fields import Headers, format_http_date

NOW_S = 1_800_000_000.0
IGNORE, UNSATISFIABLE = Unmet.IGNORE, Unmet.UNSATISFIABLE
LARGEST = 2**63 - 1

# --- asking (§14.1.2)


@pytest.mark.parametrize(
    ("value", "specs"),
    [
        (b"bytes=0-499", (Spec(0, 499),)),
        (b"bytes=500-", (Spec(500, None),)),
        (b"bytes=-500", (Spec(None, 500),)),
        (b"bytes=0-0", (Spec(0, 0),)),
        (b"bytes=-0", (Spec(None, 0),)),
        (b"Bytes=0-1", (Spec(0, 1),)),
        (b"bytes=0-0,-1", (Spec(0, 0), Spec(None, 1))),
        (b"bytes= 0-0 ,\t-1 ", (Spec(0, 0), Spec(None, 1))),
        (b"bytes=,0-0,,1-1,", (Spec(0, 0), Spec(1, 1))),
        (b"bytes=007-0010", (Spec(7, 10),)),
        (b"bytes=0-9223372036854775807", (Spec(0, LARGEST),)),
        (b"bytes=0-9223372036854775808", (Spec(0, LARGEST),)),
        (b"bytes=" + b"9" * 500 + b"-", (Spec(LARGEST, None),)),
        (b"bytes=0-" + b"0" * 500 + b"5", (Spec(0, 5),)),
        # another unit, or no grammar: as if there were none
        (b"lines=0-1", None),
        (b"bytes", None),
        (b"bytes=", None),
        (b"bytes=,", None),
        (b"bytes=-", None),
        (b"bytes=5", None),
        (b"bytes=5-4", None),
        (b"bytes=0-1,5-4", None),
        (b"bytes=a-b", None),
        (b"bytes=0-1-2", None),
        (b"bytes=--1", None),
        (b"bytes=0 -1", None),
        (b"bytes=+0-1", None),
        (b"bytes=0x0-1", None),
        (b"bytes =0-1", None),
        (b" bytes=0-1", None),
        (b"bytes=0-1;", None),
        (b"bytes=0-1\n", None),
        (b"", None),
        # limits
        (b"bytes=" + b"0-0," * MAX_RANGES, (Spec(0, 0),) * MAX_RANGES),
        (b"bytes=" + b"0-0," * (MAX_RANGES + 1), None),
        (b"bytes=0-0".ljust(MAX_FIELD), (Spec(0, 0),)),
        (b"bytes=0-0".ljust(MAX_FIELD + 1), None),
    ],
)
def test_parse_range(value: bytes, specs: tuple[Spec, ...] | None) -> None:
    assert parse_range(value) == specs


def every(step: int, count: int) -> bytes:
    return b",".join(b"%d-%d" % (at * step, at * step) for at in range(count))


GAP = COALESCED_GAP


@pytest.mark.parametrize(
    ("asked", "length", "answer"),
    [
        (b"0-499", 10_000, [(0, 500)]),
        (b"500-999", 10_000, [(500, 1000)]),
        (b"-500", 10_000, [(9500, 10_000)]),
        (b"9500-", 10_000, [(9500, 10_000)]),
        (b"0-0,-1", 10_000, [(0, 1), (9999, 10_000)]),
        (b"0-", 10, [(0, 10)]),
        (b"0-99", 10, [(0, 10)]),
        (b"9-9", 10, [(9, 10)]),
        (b"-99", 10, [(0, 10)]),
        (b"-10", 10, [(0, 10)]),
        # what lies beyond is left out, and when nothing is left there is nothing to send
        (b"10-", 10, UNSATISFIABLE),
        (b"10-10,11-", 10, UNSATISFIABLE),
        (b"-0", 10, UNSATISFIABLE),
        (b"10-,0-0", 10, [(0, 1)]),
        (b"-0,0-0", 10, [(0, 1)]),
        (b"0-", 0, UNSATISFIABLE),
        (b"-0", 0, UNSATISFIABLE),
        (b"-5", 0, IGNORE),
        (b"0-0,-5", 0, IGNORE),
        # in the order asked for
        (b"500-500,0-0", 1000, [(500, 501), (0, 1)]),
        (b"-1,0-0,500-500", 1000, [(999, 1000), (0, 1), (500, 501)]),
        # coalesced: overlapping, touching, nearly touching; in the place of the first
        (b"0-9,5-19", 1000, [(0, 20)]),
        (b"5-19,0-9", 1000, [(0, 20)]),
        (b"0-9,10-19", 1000, [(0, 20)]),
        (b"0-19,5-9", 1000, [(0, 20)]),
        (b"0-0,%d-200" % GAP, 1000, [(0, 201)]),
        (b"0-0,%d-200" % (GAP + 1), 1000, [(0, 1), (GAP + 1, 201)]),
        (b"500-500,0-0,20-29", 1000, [(500, 501), (0, 30)]),
        (b"20-29,500-500,0-0", 1000, [(0, 30), (500, 501)]),
        # more than two that overlap
        (b"0-9,5-19,15-29", 1000, IGNORE),
        (b"0-9,0-9,0-9", 1000, IGNORE),
        (b"0-,0-", 1000, [(0, 1000)]),
        (b"0-,0-,0-", 1000, IGNORE),
        (b"0-9,5-19,200-209,205-219", 1000, IGNORE),
        (b"0-99,10-19,50-59", 1000, IGNORE),
        # many, and not in order
        (every(1000, MAX_UNORDERED), 10**6, [(at * 1000, at * 1000 + 1) for at in range(MAX_UNORDERED)]),
        (b"9000-9000," + every(1000, MAX_UNORDERED - 1), 10**6, None),
        (b"9000-9000," + every(1000, MAX_UNORDERED), 10**6, IGNORE),
        # too many parts, unless they become few
        (every(1000, MAX_PARTS), 10**6, [(at * 1000, at * 1000 + 1) for at in range(MAX_PARTS)]),
        (every(1000, MAX_PARTS + 1), 10**6, IGNORE),
        (every(2, 60), 10**6, [(0, 119)]),
    ],
)
def test_satisfiable(asked: bytes, length: int, answer: list[tuple[int, int]] | Unmet | None) -> None:
    specs = parse_range(b"bytes=" + asked)
    assert specs is not None
    found = satisfiable(specs, length)
    if answer is None:
        assert isinstance(found, list)
    else:
        assert found == answer


_specs = st.lists(
    st.one_of(
        st.builds(Spec, st.integers(0, 300), st.none()),
        st.builds(Spec, st.none(), st.integers(0, 300)),
        st.tuples(st.integers(0, 300), st.integers(0, 300)).map(lambda pair: Spec(min(pair), max(pair))),
    ),
    min_size=1,
    max_size=20,
)


def wanted(specs: list[Spec], length: int) -> set[int]:
    """The bytes that are asked for, one by one."""
    found: set[int] = set()
    for spec in specs:
        if spec.first is None:
            found.update(range(max(0, length - (spec.last or 0)), length))
        else:
            found.update(range(spec.first, length if spec.last is None else min(spec.last + 1, length)))
    return found


@given(_specs, st.integers(0, 250))
def test_an_answer_is_what_was_asked_for_and_little_more(specs: list[Spec], length: int) -> None:
    answer = satisfiable(specs, length)
    asked = wanted(specs, length)
    if not asked:
        assert isinstance(answer, Unmet)
    if isinstance(answer, list):
        sent = [at for span in answer for at in range(span.start, span.end)]
        assert len(sent) == len(set(sent))
        assert asked <= set(sent) <= set(range(length))
        assert len(answer) <= MAX_PARTS
        assert len(sent) <= len(asked) + COALESCED_GAP * len(specs)


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(lambda rest: b"bytes=" + rest)))
def test_any_bytes_are_read(value: bytes) -> None:
    specs = parse_range(value)
    if specs is not None:
        assert 0 < len(specs) <= MAX_RANGES
        satisfiable(specs, 1000)
    parse_content_range(value)
    parse_content_range(value.replace(b"=", b" "))


# --- with the rest of the request (§13.2.2 step 5, §14.2)

ETAG = (b"etag", b'"1"')
RANGE = (b"range", b"bytes=0-4")


@pytest.mark.parametrize(
    ("method", "request_headers", "status", "answer"),
    [
        (b"GET", [RANGE], 200, [Span(0, 5)]),
        (b"GET", [], 200, IGNORE),
        (b"HEAD", [RANGE], 200, IGNORE),
        (b"POST", [RANGE], 200, IGNORE),
        (b"GET", [RANGE], 404, IGNORE),
        (b"GET", [RANGE], 206, IGNORE),
        (b"GET", [RANGE, RANGE], 200, IGNORE),
        (b"GET", [(b"range", b"lines=0-4")], 200, IGNORE),
        (b"GET", [(b"range", b"bytes=10-")], 200, UNSATISFIABLE),
        (b"GET", [RANGE, (b"if-range", b'"1"')], 200, [Span(0, 5)]),
        (b"GET", [RANGE, (b"if-range", b'"2"')], 200, IGNORE),
        (b"GET", [RANGE, (b"if-range", b'W/"1"')], 200, IGNORE),
        (b"GET", [(b"range", b"bytes=10-"), (b"if-range", b'"2"')], 200, IGNORE),
    ],
)
def test_requested(method: bytes, request_headers: Headers, status: int, answer: list[Span] | Unmet) -> None:
    assert requested(method, request_headers, [ETAG], status, 10) == answer


# --- Content-Range (§14.4)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bytes 0-4/10", ContentRange(0, 5, 10)),
        (b"bytes 0-9/10", ContentRange(0, 10, 10)),
        (b"bytes 5-5/6", ContentRange(5, 6, 6)),
        (b"Bytes 0-4/*", ContentRange(0, 5, None)),
        (b"bytes */10", ContentRange(None, None, 10)),
        (b"bytes */0", ContentRange(None, None, 0)),
        (b"bytes 0-10/10", None),
        (b"bytes 4-3/10", None),
        (b"bytes */*", None),
        (b"bytes 0-/10", None),
        (b"bytes -4/10", None),
        (b"bytes 0-4", None),
        (b"bytes=0-4/10", None),
        (b"bytes  0-4/10", None),
        (b"bytes 0-4/10 ", None),
        (b"bytes 0-4/10\n", None),
        (b"lines 0-4/10", None),
        (b"bytes 0-" + b"9" * 20 + b"/*", None),
        (b"", None),
    ],
)
def test_parse_content_range(value: bytes, expected: ContentRange | None) -> None:
    assert parse_content_range(value) == expected


def test_format_content_range() -> None:
    assert format_content_range(Span(0, 5), 10) == b"bytes 0-4/10"
    assert format_content_range(Span(0, 5), None) == b"bytes 0-4/*"
    assert format_content_range(None, 10) == b"bytes */10"
    assert format_content_range(None, 0) == b"bytes */0"


def test_format_range() -> None:
    assert format_range([Span(0, 5)]) == b"bytes=0-4"
    assert format_range([Span(0, 5), Span(9, 10)]) == b"bytes=0-4, 9-9"


@given(st.integers(0, 10**15), st.integers(1, 10**15), st.one_of(st.none(), st.integers(0, 10**15)))
def test_what_is_formatted_is_read_again(start: int, size: int, more: int | None) -> None:
    span, length = Span(start, start + size), None if more is None else start + size + more
    part = ContentRange(span.start, span.end, length)
    assert parse_content_range(format_content_range(span, length)) == part
    assert parse_range(format_range([span, Span(0, 1)])) == (Spec(span.start, span.end - 1), Spec(0, 0))


# --- answering (§15.3.7)

STORED: Headers = [ETAG, (b"content-type", b"text/plain"), (b"content-length", b"1000"), (b"x", b"y")]


def test_one_range_is_sent_as_it_is() -> None:
    assert headers_for_206([*STORED, (b"content-range", b"bytes 5-9/10")], [Span(0, 5)], 1000, b"B") == [
        ETAG,
        (b"content-type", b"text/plain"),
        (b"x", b"y"),
        (b"content-range", b"bytes 0-4/1000"),
    ]


def test_several_ranges_are_sent_in_parts() -> None:
    assert headers_for_206(STORED, [Span(0, 5), Span(900, 905)], 1000, b"B") == [
        ETAG,
        (b"x", b"y"),
        (b"content-type", b'multipart/byteranges; boundary="B"'),
    ]


def test_multipart() -> None:
    content = bytes(range(256)) * 4
    spans = [Span(900, 905), Span(0, 5)]
    frame = multipart(spans, 1024, STORED, b"B")
    body = b"".join(
        head + content[span.start : span.end] for head, span in zip(frame.heads, spans, strict=True)
    )
    assert body + frame.tail == (
        b"--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 900-904/1024\r\n\r\n"
        + content[900:905]
        + b"\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-4/1024\r\n\r\n"
        + content[:5]
        + b"\r\n--B--\r\n"
    )
    assert frame.total == len(body + frame.tail)


def test_parts_have_no_type_where_the_whole_has_none() -> None:
    frame = multipart([Span(0, 5), Span(7, 8)], 10, [ETAG], b"B")
    assert frame.heads == (
        b"--B\r\nContent-Range: bytes 0-4/10\r\n\r\n",
        b"\r\n--B\r\nContent-Range: bytes 7-7/10\r\n\r\n",
    )


@pytest.mark.parametrize("boundary", [b"", b"a b", b"x" * 71, b'a"', b"a\r\n"])
def test_a_boundary_needs_no_escape(boundary: bytes) -> None:
    with pytest.raises(AssertionError, match="boundary"):
        multipart([Span(0, 1), Span(2, 3)], 10, [], boundary)


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(1, 10)), min_size=2, max_size=5))
def test_the_length_is_known_before_the_first_byte(pairs: list[tuple[int, int]]) -> None:
    content = bytes(range(100))
    spans = [Span(start, start + size) for start, size in pairs]
    frame = multipart(spans, 100, STORED, b"0123456789abcdef")
    parts = [head + content[span.start : span.end] for head, span in zip(frame.heads, spans, strict=True)]
    body = b"".join(parts) + frame.tail
    assert frame.total == len(body)
    read = re.findall(rb"Content-Range: bytes (\d+)-(\d+)/100\r\n\r\n", body)
    assert [(int(first), int(last) + 1) for first, last in read] == spans


# --- combining (§15.3.7.3, RFC 9111 §3.4)

MODIFIED = (b"last-modified", format_http_date(NOW_S - 1000))
DATE = (b"date", format_http_date(NOW_S))


def part(value: bytes, *fields: tuple[bytes, bytes]) -> Headers:
    return [(b"content-range", value), *fields]


@pytest.mark.parametrize(
    ("stored", "fresh", "together"),
    [
        ([ETAG], [ETAG], True),
        ([ETAG], [(b"etag", b'"2"')], False),
        ([ETAG], [], False),
        ([], [ETAG], False),
        ([], [], False),
        ([(b"etag", b'W/"1"')], [(b"etag", b'W/"1"')], False),
        ([MODIFIED, DATE], [MODIFIED, DATE], True),
        ([MODIFIED, DATE], [MODIFIED], False),
        ([MODIFIED], [MODIFIED], False),
        ([ETAG, MODIFIED, DATE], [MODIFIED, DATE], False),
        ([ETAG, MODIFIED, DATE], [ETAG], True),
    ],
)
def test_only_the_same_strong_validator_combines(stored: Headers, fresh: Headers, together: bool) -> None:
    first = part(b"bytes 0-4/10", *stored)
    partial = begin(first)
    assert partial is not None
    assert combinable(first, partial, part(b"bytes 5-9/10", *fresh)) is together


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (b"bytes 0-4/10", b"bytes 5-9/10", True),
        (b"bytes 0-4/10", b"bytes 5-9/*", True),
        (b"bytes 0-4/*", b"bytes 5-9/10", True),
        (b"bytes 0-4/10", b"bytes 5-9/11", False),
        (b"bytes 0-4/10", b"bytes */10", False),
        (b"bytes 0-4/10", b"lines 5-9/10", False),
    ],
)
def test_lengths_that_contradict_do_not_combine(first: bytes, second: bytes, together: bool) -> None:
    stored = part(first, ETAG)
    partial = begin(stored)
    assert partial is not None
    assert combinable(stored, partial, part(second, ETAG)) is together


def test_the_validator_is_of_the_parts_that_are_there() -> None:
    stored, fresh = part(b"bytes 0-4/10", ETAG), part(b"bytes 5-9/10", ETAG)
    assert combinable(stored, Partial(10, b'"1"'), fresh)
    assert not combinable(stored, Partial(10, b'"0"'), fresh)
    assert not combinable(stored, Partial(10, None), fresh)


def test_begin() -> None:
    assert begin(part(b"bytes 0-4/10", ETAG)) == Partial(10, b'"1"')
    assert begin(part(b"bytes 0-4/*", MODIFIED, DATE)) == Partial(None, MODIFIED[1])
    assert begin(part(b"bytes 0-4/10", (b"etag", b'W/"1"'))) == Partial(10, None)
    assert begin([ETAG]) is None
    assert begin(part(b"bytes */10", ETAG)) is None
    assert part_of(part(b"bytes 0-4/10", (b"content-range", b"bytes 0-4/10"))) is None
    assert part_of(part(b"bytes 0-4/10")) == ContentRange(0, 5, 10)


def test_the_fields_of_a_whole_made_of_parts() -> None:
    stored = part(b"bytes 0-4/10", ETAG, (b"content-length", b"5"), (b"x", b"old"))
    fresh = part(b"bytes 5-9/10", ETAG, (b"content-length", b"5"), (b"x", b"new"))
    both = combined_headers(stored, fresh)
    assert (b"content-range", b"bytes 0-4/10") in both
    assert sorted(whole_headers(both)) == [ETAG, (b"x", b"new")]


def test_completing() -> None:
    partial = Partial(100, b'"1"').add(0, b"x" * 10).add(40, b"x" * 10)
    assert completing_request(partial, 0, 10) == []
    assert completing_request(partial, 0, 100) == [(b"range", b"bytes=10-"), (b"if-range", b'"1"')]
    assert completing_request(partial, 5, 45) == [(b"range", b"bytes=10-39"), (b"if-range", b'"1"')]
    assert completing_request(partial, 5, 60) == [(b"range", b"bytes=10-59"), (b"if-range", b'"1"')]
    assert completing_request(partial, 60, 500) == [(b"range", b"bytes=60-"), (b"if-range", b'"1"')]
    unknown = Partial(None, b'"1"').add(0, b"x")
    assert completing_request(unknown, 0, 100) == [(b"range", b"bytes=1-99"), (b"if-range", b'"1"')]
    assert completing_request(Partial(100, None), 0, 100) == []


# --- slices


@pytest.mark.parametrize(
    ("start", "end", "size", "indexes"),
    [
        (0, 1, 10, [0]),
        (0, 10, 10, [0]),
        (0, 11, 10, [0, 1]),
        (9, 11, 10, [0, 1]),
        (10, 20, 10, [1]),
        (25, 41, 10, [2, 3, 4]),
        (5, 5, 10, []),
        (7, 5, 10, []),
    ],
)
def test_slices(start: int, end: int, size: int, indexes: list[int]) -> None:
    assert list(slices(start, end, size)) == indexes


def test_slice_spans() -> None:
    assert slice_span(0, 10) == Span(0, 10)
    assert slice_span(3, 10) == Span(30, 40)
    assert slice_span(3, 10, 35) == Span(30, 35)
    assert slice_span(3, 10, 40) == Span(30, 40)
    assert slice_span(4, 10, 40) == Span(40, 40)
    assert slice_span(5, 10, 40) == Span(50, 50)


@given(st.integers(0, 10**12), st.integers(1, 10**4), st.integers(1, 10**3))
def test_slices_cover_the_range_and_no_more(start: int, count: int, size: int) -> None:
    indexes = slices(start, start + count, size)
    assert slice_span(indexes[0], size).start <= start < slice_span(indexes[0], size).end
    assert slice_span(indexes[-1], size).start < start + count <= slice_span(indexes[-1], size).end
