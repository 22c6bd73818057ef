"""Header fields: reading lists, hop-by-hop fields, names, hosts, entity tags and `Vary`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.http import fields
from atoll.http.fields import (
    HOP_BY_HOP,
    Headers,
    combined,
    etag_matches,
    get,
    get_all,
    is_entity_tag,
    is_token,
    parse_vary,
    strip_hop_by_hop,
    valid_field_value,
    valid_host,
)

SOME: Headers = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"c", b"")]


def test_reading() -> None:
    assert get(SOME, b"a") == b"1"
    assert get(SOME, b"c") == b""
    assert get(SOME, b"x") is None
    assert get_all(SOME, b"a") == [b"1", b"3"]
    assert get_all(SOME, b"x") == []
    assert combined(SOME, b"a") == b"1, 3"
    assert combined(SOME, b"b") == b"2"
    assert combined(SOME, b"x") is None


def test_public_names_exist() -> None:
    assert all(hasattr(fields, name) for name in fields.__all__)


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_hop_by_hop_fields_go(name: bytes) -> None:
    assert strip_hop_by_hop([(b"a", b"1"), (name, b"x"), (b"b", b"2")]) == [(b"a", b"1"), (b"b", b"2")]


def test_fields_named_in_connection_go() -> None:
    headers = [
        (b"connection", b"close, X-One"),
        (b"x-one", b"1"),
        (b"connection", b"x-two"),
        (b"x-two", b"2"),
    ]
    assert strip_hop_by_hop([*headers, (b"x-three", b"3")]) == [(b"x-three", b"3")]


@pytest.mark.parametrize(
    "name", [b"cache-control", b"set-cookie", b"content-length", b"vary", b"authorization", b"host", b"date"]
)
def test_connection_cannot_remove_what_is_meant_for_all(name: bytes) -> None:
    assert strip_hop_by_hop([(b"connection", name), (name, b"x")]) == [(name, b"x")]


@pytest.mark.parametrize("value", [b"GET", b"x-a_b.c~1", b"!#$%&'*+-.^_`|~"])
def test_tokens(value: bytes) -> None:
    assert is_token(value)


@pytest.mark.parametrize("value", [b"", b"a b", b"a:", b"a\n", b"\xe9", b'"a"', b"a\x00", b"(a)"])
def test_no_tokens(value: bytes) -> None:
    assert not is_token(value)


@pytest.mark.parametrize("value", [b"", b"a", b"a b", b"a\tb", b"\xff\x80", b'"quoted, \\" "', b"~!"])
def test_field_values(value: bytes) -> None:
    assert valid_field_value(value)


@pytest.mark.parametrize(
    "value", [b" a", b"a ", b"\ta", b"a\t", b"a\r\nb", b"a\nb", b"a\x00", b"\x7f", b"a\x1b", b" "]
)
def test_no_field_values(value: bytes) -> None:
    assert not valid_field_value(value)


@pytest.mark.parametrize(
    "host",
    [
        *[b"example.com", b"EXAMPLE.com:80", b"a", b"a.", b"x_y.example", b"127.0.0.1:8080", b"example.com:"],
        *[b"[::1]", b"[2001:db8::1]:443", b"[::ffff:1.2.3.4]", b"a:65535", b"a" * 255, b"_dmarc.example"],
    ],
)
def test_hosts(host: bytes) -> None:
    assert valid_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *[
            b"",
            b":80",
            b"a b",
            b"a/b",
            b"a@b",
            b"a:b",
            b"a:65536",
            b"a:80:80",
            b"a:-1",
            b"a:123456",
            b"a" * 256,
        ],
        *[b"[::1", b"::1", b"[::1]x", b"[1::2::3]", b"[1.2.3.4]", b"[fe80::1%eth0]", b"[]", b"a\x00", b"a\n"],
        *[b"\xc3\xa9.com", b"a,b", b"a#", b"a?b", b"a%41", b".a", b"-a", b"a, b"],
    ],
)
def test_no_hosts(host: bytes) -> None:
    assert not valid_host(host)


@pytest.mark.parametrize(
    ("wanted", "etag", "weak", "strong"),
    [
        # RFC 9110 §8.8.3.2, its table first
        (b'W/"1"', b'W/"1"', True, False),
        (b'W/"1"', b'W/"2"', False, False),
        (b'W/"1"', b'"1"', True, False),
        (b'"1"', b'"1"', True, True),
        (b'"1"', b'W/"1"', True, False),
        (b'"0", "1"', b'"1"', True, True),
        (b'"0","1" , W/"2"', b'"2"', True, False),
        (b'"0", "2"', b'"1"', False, False),
        (b"*", b'"1"', True, True),
        (b'"a", b", "c"', b'"c"', True, True),
        (b'"1', b'"1"', False, False),
        (b"1", b'"1"', False, False),
        (b'"1"', b"1", False, False),
        (b"1", b"1", True, True),
        (b'"a,b"', b'"a,b"', True, True),
        (b'"a,b", "c"', b'"b"', False, False),
        (b'""', b'""', True, True),
        (b'w/"1"', b'"2"', False, False),
        (b'"A"', b'"a"', False, False),
        (b"", b'""', False, False),
    ],
)
def test_entity_tags(wanted: bytes, etag: bytes, weak: bool, strong: bool) -> None:
    assert etag_matches(wanted, etag, weak=True) is weak
    assert etag_matches(wanted, etag, weak=False) is strong


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[(value, True) for value in (b'"1"', b'W/"1"', b'""', b'"a,b"', b'"\xe9"', b'"W/"')],
        *[(value, False) for value in (b"1", b'"1', b'1"', b'w/"1"', b'"a b"', b'"a"b"', b'"1", "2"')],
        *[(value, False) for value in (b"", b"*", b"W/1", b' "1"', b'"1"\n', b'W/ "1"', b'"\x7f"')],
    ],
)
def test_what_one_entity_tag_is(value: bytes, expected: bool) -> None:
    assert is_entity_tag(value) is expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ()),
        ([b""], ()),
        ([b"Accept-Encoding"], (b"accept-encoding",)),
        ([b"B, a", b"A , ,c"], (b"a", b"b", b"c")),
        ([b"*"], None),
        ([b"a, *"], None),
        ([b"a", b"*"], None),
        ([b"a b"], None),
        ([b'"a"'], None),
    ],
)
def test_vary(values: list[bytes], expected: tuple[bytes, ...] | None) -> None:
    assert parse_vary(values) == expected


_ETAGC = st.integers(0x21, 0xFF).filter(lambda c: c not in (0x22, 0x7F))
_ETAG = st.lists(_ETAGC, max_size=8).map(lambda codes: b'"' + bytes(codes) + b'"')


@given(st.lists(_ETAG, min_size=1, max_size=5), _ETAG)
def test_a_list_contains_exactly_its_members(listed: list[bytes], other: bytes) -> None:
    for weak in (True, False):
        assert all(etag_matches(b", ".join(listed), etag, weak) for etag in listed)
        assert etag_matches(b",".join(listed), other, weak) is (other in listed)
