"""Content codings by weight, and what a coding does to a response's fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.config.compression import CompressionSpec
from atoll.errors import AtollError
from atoll.http.cache_control import CacheControl, parse_cache_control
from atoll.http.fields import Headers, etag_matches, get
from atoll.http.negotiate import (
    CODINGS,
    encoded_fields,
    may_be_encoded,
    preferred,
    terms_of,
    varied,
    varies,
    weakened,
)

TERMS = terms_of(CompressionSpec())
PLAIN = CacheControl()


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        (None, None),  # says nothing: identity is what everybody understands
        (b"", None),
        (b"identity", None),
        (b"gzip", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"GZip", b"gzip"),
        (b"gzip, deflate, br, zstd", b"br"),
        (b"gzip, zstd", b"zstd"),
        (b"br;q=0.1, gzip;q=0.9", b"gzip"),
        (b"br;q=0.123, gzip;q=0.124", b"gzip"),
        (b"br;q=0, *", b"zstd"),
        (b"*", b"br"),
        (b"*;q=0", None),
        (b"*;q=0, gzip", b"gzip"),
        (b"identity;q=1, gzip;q=0.5", None),
        (b"identity;q=0.5, gzip;q=0.5", b"gzip"),
        (b"identity;q=0, gzip;q=0.1", b"gzip"),
        (b"gzip;q=0", None),
        (b"gzip;q=0.000", None),
        (b"gzip;q=2", None),
        (b"gzip;q=0.1234", None),
        (b"gzip;q=", None),
        (b"gzip;level=9", None),
        (b"gzip ; q = 0.5", b"gzip"),
        (b", ,gzip,", b"gzip"),
        (b"deflate, compress", None),
        (b"gzip;q=0, gzip", b"gzip"),
        (b"a" * 300 + b", br", b"br"),
    ],
)
def test_the_coding_that_a_client_wants_most(accept: bytes | None, coding: bytes | None) -> None:
    assert preferred(CODINGS, accept) == coding


@given(st.lists(st.tuples(st.sampled_from(CODINGS), st.integers(0, 1000)), unique_by=lambda each: each[0]))
def test_no_coding_is_chosen_over_one_that_is_wanted_more(wishes: list[tuple[bytes, int]]) -> None:
    field = b", ".join(b"%b;q=%d.%03d" % (name, weight // 1000, weight % 1000) for name, weight in wishes)
    weights = dict(wishes)
    chosen = preferred(CODINGS, field)
    if chosen is None:
        assert not any(weights.values())
    else:
        assert weights[chosen] == max(weights.values()) > 0


@given(st.binary(max_size=40))
def test_any_bytes_can_be_read(field: bytes) -> None:
    assert preferred(CODINGS, field) in (None, *CODINGS)


@pytest.mark.parametrize(
    ("kind", "compressible"),
    [
        (b"text/html; charset=utf-8", True),
        (b"TEXT/CSS", True),
        (b"application/json", True),
        (b"application/problem+json", True),
        (b"image/svg+xml", True),
        (b"text/event-stream", True),
        (b"image/png", False),
        (b"application/octet-stream", False),
        (b"font/woff2", False),
        (b"application/x+jsonp", False),
        (b"texts/html", False),
        (b"", False),
        (None, False),
    ],
)
def test_which_content_shrinks(kind: bytes | None, compressible: bool) -> None:
    assert TERMS.compressible(kind) == compressible


@pytest.mark.parametrize(
    ("stored", "length", "cache_control", "expected"),
    [
        (None, 1024, b"", True),
        (None, 1023, b"", False),
        (None, None, b"", True),
        (b"identity", 5000, b"", True),
        (b"gzip", 5000, b"", False),
        (b"aes128gcm", 5000, b"", False),
        (None, 5000, b"public, no-transform", False),
    ],
)
def test_what_may_be_encoded(
    stored: bytes | None, length: int | None, cache_control: bytes, expected: bool
) -> None:
    assert varies(TERMS, stored, b"text/css", length, parse_cache_control([cache_control])) == expected


def test_only_whole_representations_are_encoded() -> None:
    assert [code for code in (101, 103, 200, 204, 205, 206, 304, 404, 500) if may_be_encoded(code)] == [
        200,
        404,
        500,
    ]


def test_fields_of_an_encoded_response() -> None:
    headers: Headers = [
        (b"content-type", b"text/css"),
        (b"content-length", b"5000"),
        (b"etag", b'"abc"'),
        (b"accept-ranges", b"bytes"),
        (b"content-digest", b"sha-256=:AAAA:"),
        (b"vary", b"Origin"),
    ]
    assert encoded_fields(headers, b"br") == [
        (b"content-type", b"text/css"),
        (b"etag", b'W/"abc"'),
        (b"content-encoding", b"br"),
        (b"vary", b"Origin, Accept-Encoding"),
    ]
    assert varied([(b"vary", b"accept-encoding")]) == [(b"vary", b"accept-encoding")]


def test_a_weak_tag_still_answers_conditions_and_no_longer_joins_ranges() -> None:
    weak = get(weakened([(b"etag", b'"abc"')]), b"etag")
    assert weak is not None
    assert etag_matches(weak, b'"abc"', weak=True)
    assert not etag_matches(weak, b'"abc"', weak=False)
    assert weakened([(b"etag", b'W/"abc"')]) == [(b"etag", b'W/"abc"')]
    assert weakened([(b"etag", b"abc")]) == [(b"etag", b"abc")]  # which is no entity tag


@pytest.mark.parametrize(
    "spec",
    [
        CompressionSpec(codings=()),
        CompressionSpec(codings=("deflate",)),
        CompressionSpec(codings=("br", "br")),
        CompressionSpec(min_bytes=-1),
        CompressionSpec(types=("text",)),
        CompressionSpec(types=("*/*",)),
        CompressionSpec(types=("Text/html",)),
    ],
)
def test_terms_that_make_no_sense_are_refused(spec: CompressionSpec) -> None:
    with pytest.raises(AtollError):
        terms_of(spec)
