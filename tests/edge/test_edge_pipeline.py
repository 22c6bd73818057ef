"""A whole edge worker in this process: real sockets, a real origin, the pipeline between."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from atoll.cache.store import Store
from atoll.config.spec import (
    EyeballSpec,
    NetworkSpec,
    OriginSpec,
    PoolSpec,
    PopSpec,
    RouteSpec,
    SiteSpec,
    Snapshot,
)
from atoll.edge.clock import Clock
from atoll.edge.log import AccessLog
from atoll.edge.pipeline import Edge, PublicApp
from atoll.http.accept import Listener

Answer = Callable[[bytes, dict[bytes, bytes]], bytes]


class Origin:
    """An origin that counts what it is asked and answers with what the test says."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, dict[bytes, bytes], bytes]] = []
        self.answer: Answer = lambda path, fields: page(b"hello " + path, b"max-age=60")
        self.asked = asyncio.Event()
        self.hold: asyncio.Event | None = None
        self.server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        assert self.server is not None
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            line, *rest = head[:-4].split(b"\r\n")
            fields = {name.lower(): value for name, _, value in (f.partition(b": ") for f in rest)}
            body = b""
            if fields.get(b"transfer-encoding") == b"chunked":
                body = await reader.readuntil(b"0\r\n\r\n")
            elif b"content-length" in fields:
                body = await reader.readexactly(int(fields[b"content-length"]))
            path = line.split(b" ")[1]
            if path != b"/health":
                self.requests.append((line, fields, body))
                self.asked.set()
                if self.hold is not None:
                    await self.hold.wait()
            writer.write(self.answer(path, fields))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def page(body: bytes, cache: bytes, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    lines = [
        b"HTTP/1.1 " + status,
        b"Cache-Control: " + cache,
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        *fields,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


POP = PopSpec(
    code="nrt",
    index=0,
    asn=64514,
    city="tokyo",
    country="JP",
    continent="AS",
    lat=35.7,
    lon=140.4,
    http_port=1,
    https_port=2,
)
TOKYO = EyeballSpec(
    city="tokyo",
    asn=2516,
    country="JP",
    continent="AS",
    lat=35.7,
    lon=139.7,
    address4="198.18.9.10",
    address6="2001:db8:c17:9::10",
    label="Tokyo",
)


def snapshot(near: Origin, far: Origin) -> Snapshot:
    origins = (
        OriginSpec(host="asia.example", url=f"http://127.0.0.1:{near.port}", lat=35.0, lon=139.0),
        OriginSpec(host="us.example", url=f"http://127.0.0.1:{far.port}", lat=39.0, lon=-77.0),
    )
    pool = PoolSpec(
        name="shop",
        origins=("us.example", "asia.example"),
        failover="us.example",
        response_timeout_s=2.0,
        health_interval_s=30.0,
    )
    site = SiteSpec(
        name="shop",
        host="shop.example.com",
        routes=(RouteSpec(path="/*", pool="shop"), RouteSpec(path="/live/*", pool="shop", cache=False)),
    )
    network = NetworkSpec(
        name="test",
        prefixes=("192.0.2.0/24",),
        anycast4="192.0.2.1",
        anycast6="2001:db8::1",
        pops=(POP,),
        eyeballs=(TOKYO,),
        origins=origins,
        pools=(pool,),
        sites=(site,),
        default_site="shop",
    )
    return Snapshot(seq=1, pop=POP, network=network)


class World:
    def __init__(self, near: Origin, far: Origin, edge: Edge, client: httpx.AsyncClient) -> None:
        self.near, self.far, self.edge, self.client = near, far, edge, client

    async def get(self, path: str, **headers: str) -> httpx.Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.get(path, headers={"host": "tokyo.localhost", **fields})


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    near, far = Origin(), Origin()
    await near.start()
    await far.start()
    clock = Clock()
    log = AccessLog(tmp_path / "access.log", clock)
    edge = Edge(snapshot(near, far), log, Store(4 * 1024 * 1024), clock)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    listener = Listener(PublicApp(edge), sock)
    base = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=base, timeout=5) as client:
        yield World(near, far, edge, client)
    listener.close()
    edge.origins.close()
    log.close()
    near.stop()
    far.stop()


async def test_miss_then_hits_with_the_edge_fields(world: World) -> None:
    first = await world.get("/a")
    assert first.headers["x-cache"] == "MISS"
    assert first.headers["x-edge-location"] == "nrt"
    assert "fwd=uri-miss" in first.headers["cache-status"]
    assert "stored" in first.headers["cache-status"]
    for _ in range(3):  # the second is looked up, the third repeats it byte for byte
        again = await world.get("/a")
        assert again.headers["x-cache"] == "HIT"
        assert again.headers["cache-status"].startswith("atoll-nrt; hit; ttl=")
        assert again.headers["age"] == "0"
        assert again.text == first.text == "hello /a"
    assert len(world.near.requests) == 1
    assert world.far.requests == []


async def test_ten_at_once_are_one_request_to_the_origin(world: World) -> None:
    world.near.hold = asyncio.Event()
    tasks = [asyncio.ensure_future(world.get("/popular")) for _ in range(10)]
    await world.near.asked.wait()
    world.near.hold.set()
    responses = await asyncio.gather(*tasks)
    assert {response.text for response in responses} == {"hello /popular"}
    assert len(world.near.requests) == 1


async def test_variants_are_kept_apart(world: World) -> None:
    world.near.answer = lambda path, fields: page(fields.get(b"x-lang", b"?"), b"max-age=60", b"Vary: X-Lang")
    for language in ("de", "fr", "de", "fr"):
        assert (await world.get("/v", x_lang=language)).text == language
    assert len(world.near.requests) == 2


@pytest.mark.parametrize("directive", [b"no-store", b"private", b'max-age=0, no-cache="x", private'])
async def test_what_must_not_be_stored_is_fetched_each_time(world: World, directive: bytes) -> None:
    world.near.answer = lambda path, fields: page(b"mine", directive)
    for _ in range(3):
        response = await world.get("/private")
        assert response.headers["x-cache"] == "MISS"
        assert "stored" not in response.headers["cache-status"]
    assert len(world.near.requests) == 3


async def test_a_stale_response_is_revalidated(world: World) -> None:
    def answer(path: bytes, fields: dict[bytes, bytes]) -> bytes:
        if fields.get(b"if-none-match") == b'"1"':
            return page(b"", b"max-age=60", b'ETag: "1"', status=b"304 Not Modified")
        return page(b"tagged", b"max-age=0", b'ETag: "1"')

    world.near.answer = answer
    assert (await world.get("/t")).text == "tagged"
    second = await world.get("/t")
    assert second.text == "tagged"
    assert "fwd-status=304" in second.headers["cache-status"]
    assert (await world.get("/t")).headers["x-cache"] == "HIT"
    assert len(world.near.requests) == 2


async def test_the_client_s_own_validator_is_honoured(world: World) -> None:
    world.near.answer = lambda path, fields: page(b"tagged", b"max-age=60", b'ETag: "1"')
    await world.get("/t")
    response = await world.get("/t", if_none_match='"1"')
    assert response.status_code == 304
    assert response.content == b""
    assert (await world.get("/t", if_none_match='"2"')).status_code == 200


async def test_a_dead_origin_is_covered_by_the_next_one(world: World) -> None:
    world.near.stop()
    response = await world.get("/a")
    assert response.text == "hello /a"
    assert len(world.far.requests) == 1


async def test_dead_origins_are_covered_by_stale_then_by_an_honest_502(world: World) -> None:
    world.near.answer = lambda path, fields: page(b"old", b"public, max-age=0", b'ETag: "1"')
    assert (await world.get("/s")).text == "old"
    world.near.stop()
    world.far.stop()
    stale = await world.get("/s")
    assert (stale.text, stale.headers["x-cache"]) == ("old", "STALE")
    assert "connect failed" in stale.headers["cache-status"]
    nothing = await world.get("/other")
    assert nothing.status_code == 502
    assert "connect failed" in nothing.headers["cache-status"]
    assert "server-timing" in nothing.headers


async def test_a_write_passes_and_drops_what_is_stored(world: World) -> None:
    await world.get("/item")
    response = await world.client.post("/item", content=b"new", headers={"host": "tokyo.localhost"})
    assert response.headers["x-cache"] == "BYPASS"
    assert world.near.requests[1][2] == b"new"
    await world.get("/item")
    assert len(world.near.requests) == 3


async def test_clients_cannot_speak_for_the_edge(world: World) -> None:
    await world.get(
        "/live/x", atoll_backend="http://evil", cf_connecting_ip="1.2.3.4", x_forwarded_for="1.2.3.4"
    )
    fields = world.near.requests[0][1]
    assert b"atoll-backend" not in fields
    assert b"cf-connecting-ip" not in fields
    assert fields[b"x-forwarded-for"] == b"127.0.0.1"
    assert fields[b"host"] == b"shop.example.com"


async def test_an_unknown_host_gets_a_page_that_names_the_known_ones(world: World) -> None:
    response = await world.client.get("/", headers={"host": "nobody.example"})
    assert response.status_code == 404
    assert "shop.tokyo.localhost" in response.text


async def test_a_replaced_response_is_not_served_hot(world: World) -> None:
    for _ in range(3):
        await world.get("/r")
    world.edge.store.purge(b"http://shop.example.com/r")
    world.near.answer = lambda path, fields: page(b"new", b"max-age=60")
    response = await world.get("/r")
    assert (response.text, response.headers["x-cache"]) == ("new", "MISS")


async def test_a_new_snapshot_applies_to_open_connections(world: World) -> None:
    before = world.edge.snapshot
    await world.get("/a")
    sites = (SiteSpec(name="shop", host="shop.example.com", routes=()),)
    network = NetworkSpec(
        **{f: getattr(before.network, f) for f in before.network.__struct_fields__} | {"sites": sites}
    )
    world.edge.apply(Snapshot(seq=2, pop=POP, network=network))
    assert (await world.get("/a")).status_code == 404


async def test_requests_are_logged_as_json_lines(world: World, tmp_path: Path) -> None:
    for _ in range(3):
        await world.get("/a")
    world.edge.log.flush()
    records = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    assert [record["cache"] for record in records] == ["miss", "hit", "hit"]
    assert {record["target"] for record in records} == {"/a"}


@pytest.mark.parametrize("status", [b"200 OK", b"304 Not Modified"])
async def test_what_became_private_is_dropped_and_never_served_stale(world: World, status: bytes) -> None:
    def answer(path: bytes, fields: dict[bytes, bytes]) -> bytes:
        if b"if-none-match" in fields:
            return page(b"" if status.startswith(b"304") else b"mine", b"private", status=status)
        return page(b"ours", b"public, max-age=0", b'ETag: "1"')

    world.near.answer = answer
    assert (await world.get("/p")).text == "ours"
    await world.get("/p")
    world.near.stop()
    world.far.stop()
    assert (await world.get("/p")).status_code == 502
    assert len(world.edge.store) == 0


async def test_a_miss_among_variants_says_so(world: World) -> None:
    world.near.answer = lambda path, fields: page(b"x", b"max-age=60", b"Vary: X-Lang")
    first = await world.get("/v", x_lang="de")
    second = await world.get("/v", x_lang="fr")
    assert "fwd=uri-miss" in first.headers["cache-status"]
    assert "fwd=vary-miss" in second.headers["cache-status"]
