"""What is no HTTP is refused, and costs nobody but its own connection."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from faults import pids, until
from live_network import LiveNetwork

pytestmark = pytest.mark.real

HOST = b"Host: london.localhost\r\n"
LIMIT_S = 10.0


def get(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> bytes:
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return get(*fields, line=b"POST /api/orders HTTP/1.1") + body


LAST = b"Connection: close"
CHUNKED = b"Transfer-Encoding: chunked"
MALFORMED = {
    "a method that is no token": get(line=b"GE(T / HTTP/1.1"),
    "a method that nobody knows": get(line=b"BREW / HTTP/1.1"),
    "a length and chunks": post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n"),
    "chunks and a length": post(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n"),
    "two lengths": post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd"),
    "a list of lengths": post(b"Content-Length: 3, 4", body=b"abcd"),
    "a signed length": post(b"Content-Length: +4", body=b"abcd"),
    "chunks twice": post(CHUNKED, CHUNKED, body=b"0\r\n\r\n"),
    "a chunk without a size": post(CHUNKED, body=b"zz\r\n\r\n"),
    "a chunk larger than numbers go": post(CHUNKED, body=b"1" + b"0" * 20 + b"\r\n"),
    "a folded field": get(b"X-A: b\r\n c"),
    "bare LF": b"GET / HTTP/1.1\nHost: london.localhost\n\n",
    "bare LF in the fields": get(b"X-A: b\nX-C: d"),
    "bare CR": get(b"X-A: b\rc"),
    "NUL in a value": get(b"X-A: b\0c"),
    "NUL in a name": get(b"X\0A: b"),
    "NUL in the target": get(line=b"GET /\0 HTTP/1.1"),
    "space before the colon": get(b"X-A : b"),
    "space before Host's colon": get(host=b"Host : london.localhost\r\n"),
    "a field without a colon": get(b"nonsense"),
    "a field without a name": get(b": b"),
    "too many fields": get(*(b"X-%d: a" % number for number in range(200))),
    "a head too large that comes in one piece": get(b"X-A: " + b"b" * 40_000),
    "a field without an end": get()[:-2] + b"X-A: " + b"b" * 40_000,
    "a line that is too long": get(line=b"GET /" + b"a" * 9_000 + b" HTTP/1.1"),
    "a line without an end": b"GET /" + b"a" * 40_000,
    "HTTP/9.9": get(line=b"GET / HTTP/9.9"),
    "a space in the target": get(line=b"GET /a b HTTP/1.1"),
    "a Host with a space": get(host=b"Host: lon don.localhost\r\n"),
    "a Host with a path": get(host=b"Host: london.localhost/x\r\n"),
    "a Host with a user": get(host=b"Host: you@london.localhost\r\n"),
    "HTTP/2 without its preface": get(LAST, line=b"GET / HTTP/2.0"),
    "an empty Host": get(host=b"Host:\r\n"),
    "no Host": get(host=b""),
    "two Hosts": get(b"Host: tokyo.localhost"),
    "TLS to the clear port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 60,
    "noise": bytes(range(128, 256)),
}


async def converse(network: LiveNetwork, data: bytes) -> bytes:
    """Everything that is answered until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", network.http_port)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), LIMIT_S)
    finally:
        writer.close()


async def test_each_is_refused_and_only_its_own_connection_closed(network: LiveNetwork) -> None:
    """One keep-alive connection to the same worker lives through all of it."""
    before = await pids(network)
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{network.http_port}", trust_env=False, limits=limits
    ) as neighbour:
        connections = set()
        for name, data in MALFORMED.items():
            answer = await converse(network, data)
            assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), (name, answer[:100])
            assert b"\r\nConnection: close\r\n" in answer, name
            response = await neighbour.get("/", headers={"host": "london.localhost"})
            assert (response.status_code, response.headers["x-edge-location"]) == (200, "lhr"), name
            stream = response.extensions["network_stream"]
            connections.add(stream.get_extra_info("client_addr"))
    assert len(connections) == 1
    assert await pids(network) == before


async def test_an_offer_to_upgrade_may_be_ignored(network: LiveNetwork) -> None:
    """What curl and Java's client send to any clear address (RFC 9110 §7.8)."""
    offer = (b"Connection: Upgrade, HTTP2-Settings, close", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
    answer = await converse(network, get(*offer, line=b"GET /api/slow?ms=0 HTTP/1.1"))
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_what_was_asked_before_it_is_answered(network: LiveNetwork) -> None:
    answer = await converse(network, get() + b"nonsense\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") <= 2


async def test_a_refusal_is_in_the_access_log(network: LiveNetwork) -> None:
    await converse(network, get(host=b"Host: lon don.localhost\r\n"))

    async def is_logged() -> bool:
        return any("Host is invalid" in log.read_text() for log in network.paths.logs.glob("*-access.log"))

    await until(is_logged)


@pytest.mark.parametrize("host", ["nobody.example", "nobody.london.localhost", "atlantis.localhost"])
async def test_an_unknown_host_gets_a_page_that_names_the_known_ones(network: LiveNetwork, host: str) -> None:
    async with network.client() as client:
        response = await client.get("/", headers={"host": host})
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/html")
    assert "unknown-host" in response.headers["cache-status"]
    assert f"No site answers for <code>{host}</code>" in response.text
    for known in ("shop.example.com", "www.example.com", "ab.example.com"):
        assert f"<li>{known}</li>" in response.text
    assert "localhost</li>" in response.text
