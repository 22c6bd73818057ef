"""PROXY protocol v2: round trips, every prefix, and headers that contradict themselves."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.errors import RemoteError
from atoll.http.proxy_protocol import MAX_HEADER, SIGNATURE, Parsed, build, is_prefix, parse

V4 = bytes.fromhex("0d0a0d0a000d0a515549540a 21 11 000c 01020304 05060708 1234 01bb")
"""1.2.3.4:4660 → 5.6.7.8:443, written out by hand from the specification."""


def test_the_bytes_of_the_specification() -> None:
    assert build("1.2.3.4", 0x1234, "5.6.7.8", 443) == V4
    assert parse(V4) == Parsed("1.2.3.4", 0x1234, "5.6.7.8", 443, 28)


_ports = st.integers(0, 65535)


@given(st.ip_addresses(v=4), _ports, st.ip_addresses(v=4), _ports, st.binary(max_size=20))
def test_ipv4_round_trip(
    source: ipaddress.IPv4Address, port: int, dest: ipaddress.IPv4Address, dest_port: int, rest: bytes
) -> None:
    header = build(str(source), port, str(dest), dest_port)
    assert parse(header + rest) == Parsed(str(source), port, str(dest), dest_port, len(header))


@given(st.ip_addresses(v=6), _ports, st.ip_addresses(v=6), _ports)
def test_ipv6_round_trip_and_every_prefix(
    source: ipaddress.IPv6Address, port: int, dest: ipaddress.IPv6Address, dest_port: int
) -> None:
    header = build(str(source), port, str(dest), dest_port)
    assert parse(header) == Parsed(str(source), port, str(dest), dest_port, 52)
    assert all(parse(header[:size]) is None and is_prefix(header[:size]) for size in range(len(header)))


def test_mixed_families_are_mapped() -> None:
    parsed = parse(build("1.2.3.4", 1, "2001:db8::1", 2))
    assert parsed is not None
    assert ipaddress.IPv6Address(parsed.source_ip).ipv4_mapped == ipaddress.IPv4Address("1.2.3.4")
    assert parsed.dest_ip == "2001:db8::1"


def _header(command: int, family: int, block: bytes, size: int | None = None) -> bytes:
    length = len(block) if size is None else size
    return SIGNATURE + bytes([command, family]) + length.to_bytes(2, "big") + block


@pytest.mark.parametrize(
    "header",
    [
        _header(0x20, 0x00, b""),
        _header(0x20, 0x11, V4[16:]),
        _header(0x20, 0x11, b"junk"),
        _header(0x21, 0x00, b"12345"),
        _header(0x21, 0x31, bytes(216)),
    ],
)
def test_headers_without_a_client(header: bytes) -> None:
    assert parse(header + b"GET /") == Parsed("", 0, "", 0, len(header))


def test_type_length_values_after_the_addresses_are_skipped() -> None:
    header = _header(0x21, 0x11, V4[16:] + b"\x01\x00\x02h2")
    assert parse(header) == Parsed("1.2.3.4", 0x1234, "5.6.7.8", 443, 33)


def test_udp_has_the_same_addresses() -> None:
    assert parse(_header(0x21, 0x12, V4[16:])) == parse(V4)
    six = build("2001:db8::1", 7, "2001:db8::2", 8)[16:]
    assert parse(_header(0x21, 0x22, six)) == parse(_header(0x21, 0x21, six))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\r\n\r\nGET",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        _header(0x11, 0x11, V4[16:]),
        _header(0x22, 0x11, V4[16:]),
        _header(0x01, 0x11, V4[16:]),
        _header(0x21, 0x11, V4[16:-1]),
        _header(0x21, 0x21, V4[16:]),
        _header(0x21, 0x11, b"", size=MAX_HEADER - 15),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(RemoteError) as caught:
        parse(data)
    assert caught.value.status == 400


def test_the_longest_header() -> None:
    header = _header(0x21, 0x11, V4[16:].ljust(MAX_HEADER - 16, b"\x00"))
    assert parse(header[:-1]) is None
    parsed = parse(header)
    assert parsed is not None
    assert parsed.length == MAX_HEADER


def test_prefixes() -> None:
    assert is_prefix(b"")
    assert is_prefix(b"\r\n")
    assert is_prefix(SIGNATURE + b"anything")
    assert not is_prefix(b"G")
    assert not is_prefix(b"\r\n\r\n\x00\r\nQUIT\r")


def test_build_refuses_what_is_no_address() -> None:
    with pytest.raises(ValueError, match="example"):
        build("example.com", 1, "1.2.3.4", 2)


@given(st.binary(max_size=80))
def test_never_fails_otherwise(tail: bytes) -> None:
    try:
        parsed = parse(SIGNATURE + tail)
    except RemoteError:
        return
    assert parsed is None or parsed.length <= len(SIGNATURE) + len(tail)
