"""Trailer fields that are passed on, and those that must not be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.http.fields import HOP_BY_HOP, Headers, is_token, valid_field_value
from atoll.http.trailers import FORBIDDEN, allowed_trailers, takes_trailers


@pytest.mark.parametrize(
    "name", [b"grpc-status", b"grpc-message", b"server-timing", b"digest", b"etag", b"x-checksum"]
)
def test_what_speaks_of_the_message_is_passed_on(name: bytes) -> None:
    assert allowed_trailers([(name, b"1")]) == [(name, b"1")]


@pytest.mark.parametrize(
    "name",
    [
        b"transfer-encoding",
        b"content-length",
        b"host",
        b"trailer",
        b"te",
        b"connection",
        b"authorization",
        b"proxy-authorization",
        b"set-cookie",
        b"cookie",
        b"cache-control",
        b"content-encoding",
        b"content-type",
        b"content-range",
        b"age",
        b"vary",
        b"location",
        b"atoll-trace",
        b"x-forwarded-for",
        b"access-control-allow-origin",
        b":status",
        b"x y",
        b"",
    ],
)
def test_what_must_be_known_before_the_content_is_dropped(name: bytes) -> None:
    assert allowed_trailers([(name, b"1"), (b"x", b"2")]) == [(b"x", b"2")]


@pytest.mark.parametrize("value", [b"a\r\nb", b"a\0b", b"a\nb", b" a"])
def test_a_value_that_is_none_is_dropped(value: bytes) -> None:
    assert allowed_trailers([(b"x", value)]) == []


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12))))
def test_only_fields_come_out(fields: Headers) -> None:
    kept = allowed_trailers(fields)
    assert all(is_token(name) and valid_field_value(value) for name, value in kept)
    assert not {name for name, _ in kept} & (FORBIDDEN | HOP_BY_HOP)
    assert allowed_trailers(kept) == kept


@pytest.mark.parametrize(
    ("values", "takes"),
    [
        ([b"trailers"], True),
        ([b"gzip;q=0.5, Trailers"], True),
        ([b"gzip", b"trailers"], True),
        ([b"trailers;q=0.5"], False),
        ([b"gzip"], False),
        ([b""], False),
        ([], False),
    ],
)
def test_who_takes_trailers_says_so(values: list[bytes], takes: bool) -> None:
    assert takes_trailers([(b"te", value) for value in values]) is takes
