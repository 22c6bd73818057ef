"""Field sections of HTTP/3 read as requests: a table of what is refused, and no input that breaks it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.http.fields import Headers
from atoll.http.h3_request import H3Request, Refusal, read_request
from atoll.http.limits import Limits

LIMITS = Limits()
GOOD: Headers = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"Shop.test"),
    (b":path", b"/a?b"),
]


def without(name: bytes) -> Headers:
    return [field for field in GOOD if field[0] != name]


def having(name: bytes, value: bytes) -> Headers:
    return [(key, value if key == name else old) for key, old in GOOD]


def test_a_request() -> None:
    more = [(b"accept", b"*/*"), (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"te", b"trailers")]
    request = read_request([*GOOD, *more, (b"content-length", b"12")], LIMITS)
    assert request == H3Request(
        method=b"GET",
        authority=b"shop.test",
        target=b"/a?b",
        fields=[
            (b"accept", b"*/*"),
            (b"te", b"trailers"),
            (b"content-length", b"12"),
            (b"cookie", b"a=1; b=2"),
        ],
        length=12,
    )


@pytest.mark.parametrize("host", [b"shop.test", b"shop.test:8443", b"[::1]:8443"])
def test_the_host_may_come_instead_of_the_authority(host: bytes) -> None:
    request = read_request([*without(b":authority"), (b"host", host)], LIMITS)
    assert isinstance(request, H3Request)
    assert (request.authority, request.fields) == (host, [])


def test_an_extended_connect() -> None:
    request = read_request([*having(b":method", b"CONNECT"), (b":protocol", b"WebSocket")], LIMITS)
    assert isinstance(request, H3Request)
    assert request.protocol == b"websocket"


def test_an_expectation_waits() -> None:
    request = read_request([*GOOD, (b"expect", b"100-Continue")], LIMITS)
    assert isinstance(request, H3Request)
    assert request.waits


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 400),
        (without(b":method"), 400),
        (without(b":scheme"), 400),
        (without(b":authority"), 400),
        (without(b":path"), 400),
        ([*GOOD, (b":path", b"/x")], 400),
        ([*GOOD, (b":status", b"200")], 400),
        ([(b"accept", b"*/*"), *GOOD], 400),
        ([*GOOD[:3], (b"accept", b"*/*"), GOOD[3]], 400),
        (having(b":path", b""), 400),
        (having(b":path", b"a"), 400),
        (having(b":path", b"/a b"), 400),
        (having(b":path", b"/a#b"), 400),
        (having(b":path", b"/\xc3\xa4"), 400),
        (having(b":path", b"http://other/"), 400),
        (having(b":path", b"/" + b"x" * LIMITS.target), 414),
        (having(b":method", b"G E T"), 400),
        (having(b":method", b""), 400),
        (having(b":method", b"CONNECT"), 400),
        (having(b":scheme", b"ftp"), 400),
        (having(b":authority", b""), 400),
        (having(b":authority", b"a b"), 400),
        (having(b":authority", b"user@shop.test"), 400),
        ([*GOOD, (b":protocol", b"websocket")], 400),
        ([*having(b":method", b"CONNECT"), (b":protocol", b"web socket")], 400),
        ([*GOOD, (b"Accept", b"*/*")], 400),
        ([*GOOD, (b"", b"x")], 400),
        ([*GOOD, (b"a b", b"x")], 400),
        ([*GOOD, (b"a:b", b"x")], 400),
        ([*GOOD, (b"a\x00", b"x")], 400),
        ([*GOOD, (b"x", b"a\r\nb: c")], 400),
        ([*GOOD, (b"x", b"a\x00")], 400),
        ([*GOOD, (b"x", b" a")], 400),
        ([*GOOD, (b"x", b"a\t")], 400),
        ([*GOOD, (b"connection", b"close")], 400),
        ([*GOOD, (b"transfer-encoding", b"chunked")], 400),
        ([*GOOD, (b"upgrade", b"websocket")], 400),
        ([*GOOD, (b"keep-alive", b"1")], 400),
        ([*GOOD, (b"te", b"gzip")], 400),
        ([*GOOD, (b"host", b"other.test")], 400),
        ([*GOOD, (b"content-length", b"-1")], 400),
        ([*GOOD, (b"content-length", b"1, 1")], 400),
        ([*GOOD, (b"content-length", b"\xb2")], 400),
        ([*GOOD, (b"content-length", b"1"), (b"content-length", b"2")], 400),
        ([*GOOD, (b"expect", b"a miracle")], 417),
        ([*GOOD, *[(b"x", b"y")] * (LIMITS.fields + 1)], 431),
        ([*GOOD, (b"x", b"y" * LIMITS.head)], 431),
    ],
)
def test_refused(headers: Headers, status: int) -> None:
    refused = read_request(headers, LIMITS)
    assert isinstance(refused, Refusal)
    assert refused.status == status


names = st.one_of(
    st.sampled_from([name for name, _ in GOOD] + [b":protocol", b"host", b"te", b"content-length", b"x"]),
    st.binary(max_size=8),
)


@given(st.lists(st.tuples(names, st.binary(max_size=20)), max_size=12), st.integers(0, 4))
def test_no_fields_break_it_and_what_passes_is_well_formed(more: Headers, keep: int) -> None:
    request = read_request([*GOOD[:keep], *more], LIMITS)
    if isinstance(request, H3Request):
        assert request.target.startswith((b"/", b"*"))
        for name, value in request.fields:
            assert name == name.lower()
            assert not {0, 10, 13} & {*name, *value}
            assert name not in (b"host", b"connection", b"transfer-encoding", b"upgrade")
