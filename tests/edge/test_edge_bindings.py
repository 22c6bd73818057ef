"""The socket that function hosts talk to: outbound fetch and the Cache API, as workerd speaks them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from test_edge_pipeline import Origin, page, snapshot

from atoll.cache.store import Store
from atoll.edge.bindings import parse_response
from atoll.edge.clock import Clock
from atoll.edge.log import AccessLog
from atoll.edge.pipeline import Edge
from atoll.errors import RemoteError
from atoll.http.accept import Listener

OWNER = {"atoll-function": "default/hello/1", "host": "www.example.com"}
CACHE = {**OWNER, "atoll-service": "cache"}
OUTBOUND = {**OWNER, "atoll-service": "outbound"}


class World:
    def __init__(self, near: Origin, client: httpx.AsyncClient) -> None:
        self.near, self.client = near, client

    async def send(self, method: str, url: str, headers: dict[str, str], body: bytes = b"") -> httpx.Response:
        return await self.client.request(method, url, headers=headers, content=body)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    near, far = Origin(), Origin()
    await near.start()
    await far.start()
    clock = Clock()
    log = AccessLog(tmp_path / "access.log", clock)
    edge = Edge(snapshot(near, far), log, Store(4 * 1024 * 1024), clock)
    path = str(tmp_path / "b.sock")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    sock.setblocking(False)
    listener = Listener(edge.bindings, sock, trusted=True)
    transport = httpx.AsyncHTTPTransport(uds=path)
    async with httpx.AsyncClient(transport=transport, timeout=5) as client:
        yield World(near, client)
    listener.close()
    edge.origins.close()
    log.close()
    near.stop()
    far.stop()


STORED = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nX-A: b\r\nContent-Length: 4\r\n\r\nbody"
URL = "http://www.example.com/key"


async def test_what_is_put_is_matched_until_it_is_deleted(world: World) -> None:
    miss = await world.send("GET", URL, CACHE)
    assert (miss.status_code, miss.headers["cf-cache-status"]) == (504, "MISS")
    assert (await world.send("PUT", URL, CACHE, STORED)).status_code == 204
    hit = await world.send("GET", URL, CACHE)
    assert (hit.status_code, hit.headers["cf-cache-status"], hit.text) == (200, "HIT", "body")
    assert hit.headers["x-a"] == "b"
    assert (await world.send("PURGE", URL, CACHE)).status_code == 200
    assert (await world.send("PURGE", URL, CACHE)).status_code == 404
    assert (await world.send("GET", URL, CACHE)).status_code == 504


@pytest.mark.parametrize(
    "other",
    [{"atoll-function": "default/other/1"}, {"cf-cache-namespace": "named"}, {"atoll-function": "t/hello/1"}],
)
async def test_functions_and_named_caches_do_not_see_each_other(world: World, other: dict[str, str]) -> None:
    await world.send("PUT", URL, CACHE, STORED)
    assert (await world.send("GET", URL, {**CACHE, **other})).status_code == 504


async def test_a_new_version_keeps_its_function_s_cache(world: World) -> None:
    await world.send("PUT", URL, CACHE, STORED)
    assert (await world.send("GET", URL, {**CACHE, "atoll-function": "default/hello/2"})).status_code == 200


async def test_what_may_not_be_stored_is_not(world: World) -> None:
    private = STORED.replace(b"max-age=60", b"private, x=")
    assert (await world.send("PUT", URL, CACHE, private)).status_code == 413
    assert (await world.send("GET", URL, CACHE)).status_code == 504


async def test_a_body_that_is_no_response_is_refused(world: World) -> None:
    assert (await world.send("PUT", URL, CACHE, b"nonsense")).status_code == 400


async def test_the_chosen_backend_is_asked_and_the_control_fields_are_consumed(world: World) -> None:
    headers = {**OUTBOUND, "atoll-backend": "https://asia.example", "atoll-timeout-ms": "1500"}
    response = await world.send("GET", "http://www.example.com/p?q", headers)
    assert response.text == "hello /p?q"
    line, fields, _ = world.near.requests[0]
    assert line == b"GET /p?q HTTP/1.1"
    assert fields[b"host"] == b"www.example.com"
    assert not [name for name in fields if name.startswith(b"atoll-")]


async def test_a_name_of_the_table_is_reached_by_its_url(world: World) -> None:
    response = await world.send("GET", "http://asia.example/p", {**OUTBOUND, "host": "asia.example"})
    assert response.text == "hello /p"


async def test_an_unknown_name_says_so(world: World) -> None:
    response = await world.send("GET", "http://nowhere.example/", {**OUTBOUND, "host": "nowhere.example"})
    assert response.status_code == 530
    assert "nowhere.example is not in the network's name table" in response.text


async def test_a_site_s_own_host_goes_through_the_cache_to_its_pool(world: World) -> None:
    headers = {**OUTBOUND, "host": "shop.example.com"}
    world.near.answer = lambda path, fields: page(b"once", b"max-age=60")
    for _ in range(2):
        assert (await world.send("GET", "http://shop.example.com/a", headers)).text == "once"
    assert len(world.near.requests) == 1


async def test_the_timeout_asked_for_is_kept(world: World) -> None:
    world.near.hold = asyncio.Event()
    headers = {**OUTBOUND, "host": "asia.example", "atoll-timeout-ms": "100"}
    response = await world.send("GET", "http://asia.example/slow", headers)
    world.near.hold.set()
    assert response.status_code == 504
    assert "response timeout" in response.text


def test_a_chunked_response_is_read_whole() -> None:
    raw = b"HTTP/1.1 203 X\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    assert parse_response(raw) == (203, [(b"a", b"b")], b"abc")


def test_nonsense_is_no_response() -> None:
    with pytest.raises(RemoteError, match=r"cache\.put"):
        parse_response(b"nonsense")
