"""Peeking: names by table, every split, TLS hellos from OpenSSL and by hand, and no input that breaks it."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.lab.peek import MAX_PEEK, city_of, http_name, tls_name


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"GET / HTTP/1.1\r\nHost: tokyo.localhost\r\n", "tokyo.localhost"),
        (b"GET / HTTP/1.1\r\nHost: tokyo.localhost:8080\r\n\r\n", "tokyo.localhost"),
        (b"GET / HTTP/1.1\r\nAccept: */*\r\nhOST:\tShop.Tokyo.LOCALHOST. \r\n\r\n", "shop.tokyo.localhost"),
        (b"GET / HTTP/1.1\nHost: a\n\n", "a"),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "a"),
        (b"GET http://b:80/x?y HTTP/1.1\r\n", "b"),
        (b"GET HTTPS://user@B?q HTTP/1.1\r\n", "b"),
        (b"CONNECT c:443 HTTP/1.1\r\n", "c"),
        (b"OPTIONS * HTTP/1.1\r\nHost: d\r\n\r\n", "d"),
        (b"GET /?u=http://x/ HTTP/1.1\r\nHost: e\r\n\r\n", "e"),
        (b"GET / HTTP/1.1\r\nHost: f\r\nHost: g\r\n\r\n", "f"),
        (b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", ""),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", ""),
        (b"GET / HTTP/1.1\r\nHost: \xfc\r\n\r\n", ""),
        (b"GET / HTTP/1.1\r\nAccept: */*\r\n\r\nHost: no\r\n", ""),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        (b"GET /\r\n", ""),
        (b"GET / HTTP/3.0\r\nHost: a\r\n", ""),
        (b"\x16\x03\x01\x00\x05", ""),
        (b"A" * 33, ""),
        (b"", None),
        (b"\r\n", None),
        (b"G", None),
        (b"GET /" + b"x" * 1000, None),
        (b"GET / HTTP/1.1\r\n", None),
        (b"GET / HTTP/1.1\r\nHost: tokyo.localhos", None),
        (b"GET /" + b"x" * MAX_PEEK, ""),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_PEEK, ""),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_PEEK - 20), None),
    ],
)
def test_http(data: bytes, name: str | None) -> None:
    assert http_name(data) == name


def openssl_hello(name: str | None) -> bytes:
    """The first flight of a real client."""
    context = ssl.create_default_context()
    context.check_hostname = False
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(inward, outward, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outward.read()


def records(handshake: bytes, size: int) -> bytes:
    """`handshake` in records of `size` bytes."""
    pieces = [handshake[at : at + size] for at in range(0, len(handshake), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def hello(extensions: bytes, session: bytes = b"", ciphers: bytes = b"\x13\x01") -> bytes:
    """A ClientHello by hand (RFC 8446 §4.1.2)."""
    body = b"\x03\x03" + b"r" * 32 + bytes([len(session)]) + session
    body += len(ciphers).to_bytes(2, "big") + ciphers + b"\x01\x00"
    body += len(extensions).to_bytes(2, "big") + extensions
    return b"\x01" + len(body).to_bytes(3, "big") + body


def extension(kind: int, data: bytes) -> bytes:
    """One extension."""
    return kind.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data


def server_names(*names: tuple[int, bytes]) -> bytes:
    """The server name extension (RFC 6066 §3)."""
    entries = b"".join(bytes([kind]) + len(name).to_bytes(2, "big") + name for kind, name in names)
    return extension(0, len(entries).to_bytes(2, "big") + entries)


def test_openssl_hello_and_every_prefix_of_it() -> None:
    data = openssl_hello("Shop.Tokyo.localhost")
    assert tls_name(data) == "shop.tokyo.localhost"
    assert tls_name(data + b"more") == "shop.tokyo.localhost"
    assert all(tls_name(data[:size]) is None for size in range(len(data)))


@pytest.mark.parametrize("size", [1, 3, 4, 5, 40, 100])
def test_a_hello_in_many_records(size: int) -> None:
    data = records(openssl_hello("tokyo.localhost")[5:], size)
    assert tls_name(data) == "tokyo.localhost"
    assert tls_name(data[:-1]) is None


@pytest.mark.parametrize(
    ("handshake", "name"),
    [
        (hello(server_names((0, b"a.localhost"))), "a.localhost"),
        (hello(extension(16, b"\0\3\2h2") + server_names((0, b"b"))), "b"),
        (hello(server_names((0, b"c")), session=b"s" * 32, ciphers=b"\x13\x01" * 90), "c"),
        (hello(server_names((7, b"other"), (0, b"d"))), "d"),
        (hello(server_names((7, b"other"))), ""),
        (hello(extension(16, b"\0\3\2h2")), ""),
        (hello(b""), ""),
        (hello(extension(0, b"")), ""),
        (hello(server_names((0, b"long"))[:-2]), "lo"),
        (b"\x01\0\0\0", ""),
        (b"\x01\0\0\x05hello", ""),
    ],
)
def test_hellos_by_hand(handshake: bytes, name: str) -> None:
    assert tls_name(records(handshake, 16384)) == name


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", None),
        (b"\x16", None),
        (b"\x16\x03\x01\x00", None),
        (b"GET / HTTP/1.1\r\n", ""),
        (b"\x15\x03\x01\x00\x02\x01\x00", ""),
        (b"\x16\x02\x00\x00\x05", ""),
        (b"\x16\x03\x01\x00\x00", ""),
        (b"\x16\x03\x01\x40\x01", ""),
        (b"\x16\x03\x01\x40\x00", None),
        (b"\x16\x03\x01\x00\x01\x02", ""),
        (records(b"\x01\x00\xff\xff" + b"x" * MAX_PEEK, 16384), ""),
    ],
)
def test_what_is_no_hello(data: bytes, name: str | None) -> None:
    assert tls_name(data) == name


def test_a_client_without_a_name() -> None:
    assert tls_name(openssl_hello(None)) == ""


@given(st.binary(max_size=300))
def test_any_bytes_have_an_answer(data: bytes) -> None:
    assert http_name(data) is None or isinstance(http_name(data), str)
    assert tls_name(data) is None or isinstance(tls_name(data), str)
    assert tls_name(records(hello(data), 64)) is not None


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_more_bytes_never_change_an_answer(head: bytes, tail: bytes) -> None:
    start = b"GET / HTTP/1.1\r\n"
    found = http_name(start + head)
    if found is not None:
        assert http_name(start + head + tail) == found


@pytest.mark.parametrize(
    ("name", "city"),
    [
        ("tokyo.localhost", "tokyo"),
        ("shop.tokyo.localhost", "tokyo"),
        ("a.b.tokyo.localhost", "tokyo"),
        ("tokyo.shop.localhost", "new-york"),
        ("localhost", "new-york"),
        (".localhost", "new-york"),
        ("nowhere.localhost", "new-york"),
        ("tokyo.example.com", "new-york"),
        ("tokyo", "new-york"),
        ("", "new-york"),
    ],
)
def test_cities(name: str, city: str) -> None:
    assert city_of(name, {"tokyo", "new-york"}, "new-york") == city
