"""HTTP dates: the RFC's three examples, leniency in case, strictness in all else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.http.dates import format_http_date, parse_http_date

EXAMPLE_S = 784111777.0  # RFC 9110 §5.6.7: Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    "value",
    [
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"Sun Nov 06 08:49:37 1994",
        b"sun, 06 nov 1994 08:49:37 gmt",
        b"SUNDAY, 06-NOV-94 08:49:37 GMT",
    ],
)
def test_reads_every_form(value: bytes) -> None:
    assert parse_http_date(value) == EXAMPLE_S


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"0",
        b"-1",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 94 08:49:37 GMT",
        b"Sun, 06-Nov-1994 08:49:37 GMT",
        b"Sun 06 Nov 1994 08:49:37 GMT",
        b"Sun,  06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 8:49:37 GMT",
        b"Sun, 06 Nov 1994 08.49.37 GMT",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:00:00 GMT",
        b"Sun, 06 Nov 1994 08:60:37 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Xxx, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Xxx 1994 08:49:37 GMT",
        b" Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT ",
        b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_anything_else_is_invalid(value: bytes) -> None:
    assert parse_http_date(value) is None


def test_two_digit_years_and_leap_seconds() -> None:
    assert parse_http_date(b"Friday, 31-Dec-99 23:59:59 GMT") == 946684799.0
    assert parse_http_date(b"Thursday, 01-Jan-70 00:00:00 GMT") == 0.0
    assert parse_http_date(b"Tuesday, 01-Jan-69 00:00:00 GMT") == 3124224000.0
    assert parse_http_date(b"Fri, 31 Dec 1999 23:59:60 GMT") == 946684799.0


@given(st.floats(0, 253402300799))
def test_formats_what_it_reads(now_s: float) -> None:
    assert parse_http_date(format_http_date(now_s)) == int(now_s)


def test_formats_the_example() -> None:
    assert format_http_date(EXAMPLE_S + 0.999) == b"Sun, 06 Nov 1994 08:49:37 GMT"


@given(st.binary(max_size=40))
def test_never_fails(value: bytes) -> None:
    parsed = parse_http_date(value)
    assert parsed is None or isinstance(parsed, float)
