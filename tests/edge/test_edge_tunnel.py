"""Connections that go on with another protocol through the edge, from a client's first byte to the last."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import websockets
from edge_world import (
    ROUTES,
    Asked,
    Response,
    World,
    get,
    page,
    read_response,
    reset,
    running,
    settled,
    until,
    world,
)
from function_hosts import Bench
from http2_client import Client
from hyperframe.frame import DataFrame, RstStreamFrame

from atoll.http.limits import Limits
from atoll.http.upgrade import accept_for

__all__ = ["world"]

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
WEBSOCKET = (
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: WebSocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: " + KEY,
)
CONNECT = ((":protocol", "websocket"), ("sec-websocket-version", "13"))


def switching(asked: Asked, *fields: bytes, accept: bytes = b"") -> bytes:
    """An origin's answer to a handshake."""
    proof = accept or accept_for(asked.fields[b"sec-websocket-key"])
    lines = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    return b"\r\n".join([*lines, b"Sec-WebSocket-Accept: " + proof, *fields]) + b"\r\n\r\n"


async def echo(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An origin that says everything twice."""
    writer.write(switching(asked))
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


@pytest_asyncio.fixture
async def echoing(world: World) -> AsyncIterator[World]:
    """A world whose origin and function echo."""
    world.origin.converse = world.function.converse = echo
    yield world


def logged(world: World) -> list[dict[str, Any]]:
    """The access log."""
    world.log.flush()
    return [json.loads(line) for line in (world.folder / "access.log").read_bytes().splitlines()]


def ask_connect(client: Client, path: str, *more: tuple[str, str]) -> int:
    return client.ask(path, *more, method="CONNECT", end=False)


# --- through


@pytest.mark.parametrize("target", [b"/live/ws", b"/a/ws", b"/fn/ws"])
async def test_a_tunnel_over_http1(echoing: World, target: bytes) -> None:
    reader, writer = await echoing.connect()
    writer.write(get(target, *WEBSOCKET))
    answer = await read_response(reader)
    assert answer.status == 101
    assert answer.field("upgrade") == "websocket"
    assert answer.field("connection") == "Upgrade"
    assert answer.field("sec-websocket-accept").encode() == accept_for(KEY)
    asked = (echoing.function if target.startswith(b"/fn") else echoing.origin).asked[-1]
    assert asked.fields[b"sec-websocket-key"] != KEY
    for piece in (b"\x81\x02hi", b"GET / HTTP/1.1\r\n\r\n", bytes(100_000)):
        writer.write(piece)
        assert await asyncio.wait_for(reader.readexactly(len(piece)), 5) == piece
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    await until(lambda: echoing.edge.tunnels.open == 0)
    (record,) = logged(echoing)
    assert (record["status"], record["target"]) == (101, target.decode())
    assert record["bytes"] == 2 * (4 + 18 + 100_000)  # both ways
    assert record["ms"] > 0


@pytest.mark.parametrize("target", ["/live/ws", "/fn/ws"])
async def test_a_tunnel_over_http2(echoing: World, target: str) -> None:
    client = Client(await echoing.connect())
    stream = ask_connect(client, target, *CONNECT, ("sec-websocket-protocol", "chat"))
    await client.until(lambda: stream in client.heads)
    head = client.heads[stream]
    assert head[":status"] == "200"
    assert not {"sec-websocket-accept", "upgrade", "connection", "content-length"} & head.keys()
    asked = (echoing.function if target.startswith("/fn") else echoing.origin).asked[-1]
    assert asked.line == b"GET " + target.encode() + b" HTTP/1.1"
    assert asked.fields[b"upgrade"] == b"websocket"
    assert asked.fields[b"sec-websocket-protocol"] == b"chat"
    client.send(DataFrame(stream, data=b"hello"))
    await client.until(lambda: client.bodies.get(stream) == b"hello")
    other = client.ask("/live/page")
    echoing.origin.converse = None
    await client.complete(other)
    assert client.heads[other][":status"] == "200"
    client.send(DataFrame(stream), "END_STREAM")
    await client.complete(stream)
    assert stream not in client.resets
    client.writer.close()


async def test_http2_says_that_it_takes_websockets(world: World) -> None:
    reader, writer = await world.connect()
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
    head = await reader.readexactly(9)
    payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
    settings = {payload[at : at + 2]: payload[at + 2 : at + 6] for at in range(0, len(payload), 6)}
    assert settings[b"\0\x08"] == b"\0\0\0\x01"  # SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 §3)
    writer.close()


async def test_a_client_that_was_not_written_here_talks_to_a_server_that_was_not(world: World) -> None:
    async def serve(socket: Any) -> None:
        async for message in socket:
            await socket.send(message)

    async with websockets.serve(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]

        async def pass_to_server(
            asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            its_reader, its_writer = await asyncio.open_connection("127.0.0.1", port)
            its_writer.write(asked.line + b"\r\n")
            its_writer.writelines(b"%b: %b\r\n" % field for field in asked.fields.items())
            its_writer.write(b"\r\n")
            await asyncio.gather(_copy(reader, its_writer), _copy(its_reader, writer))

        world.origin.converse = pass_to_server
        host, number = world.address
        uri = "ws://shop.test/live/chat"
        async with websockets.connect(uri, proxy=None, host=host, port=number) as socket:
            for message in ("hello", b"\0\1", "x" * 300_000):
                await socket.send(message)
                assert await asyncio.wait_for(socket.recv(), 5) == message
            await (await socket.ping())


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


# --- what does not become a tunnel


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"], 400),
        ([b"Upgrade: websocket", b"Sec-WebSocket-Key: " + KEY], 426),
        ([b"Upgrade: websocket", b"Sec-WebSocket-Version: 12", b"Sec-WebSocket-Key: " + KEY], 426),
        ([b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: short"], 400),
    ],
)
async def test_a_wrong_handshake_is_never_passed_on(world: World, fields: list[bytes], status: int) -> None:
    reader, writer = await world.connect()
    writer.write(get(b"/live/ws", b"Connection: Upgrade", *fields))
    assert (await read_response(reader)).status == status
    writer.write(get(b"/live/next"))
    assert (await read_response(reader)).body == b"hello /live/next"
    assert [asked.target for asked in world.origin.asked] == [b"/live/next"]
    writer.close()


@pytest.mark.parametrize("status", [b"200 OK", b"403 Forbidden", b"426 Upgrade Required", b"503 Busy"])
async def test_another_answer_than_101_is_a_response_and_the_connection_goes_on(
    world: World, status: bytes
) -> None:
    world.origin.answer = lambda asked: page(b"no tunnel", status=status)
    reader, writer = await world.connect()
    for _ in range(2):
        writer.write(get(b"/live/ws", *WEBSOCKET))
        answer = await read_response(reader)
        assert (answer.status, answer.body) == (int(status[:3]), b"no tunnel")
        assert answer.field("connection") == ""
    world.origin.answer = lambda asked: page(b"next")
    writer.write(get(b"/live/next"))
    assert (await read_response(reader)).body == b"next"
    writer.close()


async def test_what_was_sent_ahead_of_a_refusal_is_no_request(world: World) -> None:
    world.origin.hold = asyncio.Event()
    world.origin.answer = lambda asked: page(b"no tunnel", status=b"403 Forbidden")
    for smuggled in (get(b"/live/smuggled"), b"\x81\x02hi"):
        world.origin.hold.clear()
        world.origin.asked.clear()
        reader, writer = await world.connect()
        writer.write(get(b"/live/ws", *WEBSOCKET) + smuggled)
        await world.origin.until_asked()
        world.origin.hold.set()
        answer = await read_response(reader)
        assert (answer.status, answer.field("connection")) == (403, "close")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert [asked.target for asked in world.origin.asked] == [b"/live/ws"]
        writer.close()


@pytest.mark.parametrize("accept", [b"wrong", accept_for(KEY)], ids=["nonsense", "of the client's key"])
async def test_an_origin_that_proves_nothing_gets_no_tunnel(world: World, accept: bytes) -> None:
    heard: list[bytes] = []

    async def converse(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switching(asked, accept=accept))
        heard.append(await reader.read())

    world.origin.converse = converse
    reader, writer = await world.connect()
    writer.write(get(b"/live/ws", *WEBSOCKET) + b"early")
    assert (await read_response(reader)).status == 502
    client = Client(await world.connect())
    stream = ask_connect(client, "/live/ws", *CONNECT)
    client.send(DataFrame(stream, data=b"early"))
    await client.complete(stream)
    assert client.heads[stream][":status"] == "502"
    await until(lambda: len(heard) == 2)
    assert heard == [b"", b""]
    writer.close()
    client.writer.close()


async def test_a_101_that_nobody_asked_for_is_an_error(world: World) -> None:
    world.origin.answer = lambda asked: (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nevil"
    )
    assert (await world.ask(get(b"/live/a"))).status == 502
    client = Client(await world.connect())
    stream = client.ask("/live/b")
    await client.complete(stream)
    assert client.heads[stream][":status"] == "502"
    client.writer.close()


async def test_success_without_a_tunnel_is_no_success_over_http2(world: World) -> None:
    client = Client(await world.connect())
    stream = ask_connect(client, "/live/ws", *CONNECT)
    await client.complete(stream)
    assert client.heads[stream][":status"] == "502"  # any 2xx would say that the tunnel is there
    client.writer.close()


@pytest.mark.parametrize("protocol", ["connect-udp", "webtransport"])
async def test_another_protocol_is_passed_on_only_where_the_route_says_so(
    world: World, protocol: str
) -> None:
    reader, writer = await world.connect()
    upgrade = (b"Connection: Upgrade", b"Upgrade: " + protocol.encode())
    writer.write(get(b"/live/x", *upgrade))
    answer = await read_response(reader)
    assert (answer.status, answer.body) == (200, b"hello /live/x")  # RFC 9110 §7.8: ignored
    assert b"upgrade" not in world.origin.asked[-1].fields
    client = Client(await world.connect())
    stream = ask_connect(client, "/live/x", (":protocol", protocol))
    await client.complete(stream)
    assert client.heads[stream][":status"] == "501"

    routes = tuple(msgspec.structs.replace(route, upgrades=(protocol,)) for route in ROUTES)
    world.edge.apply(world.snapshot(2, routes=routes))

    async def converse(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % protocol.encode())
        writer.write(await reader.readexactly(3))

    world.origin.converse = converse
    writer.write(get(b"/live/x", *upgrade))
    assert (await read_response(reader)).status == 101
    writer.write(b"abc")
    assert await asyncio.wait_for(reader.readexactly(3), 5) == b"abc"
    stream = ask_connect(client, "/live/x", (":protocol", protocol))
    client.send(DataFrame(stream, data=b"xyz"))
    await client.until(lambda: client.bodies.get(stream) == b"xyz")
    writer.close()
    client.writer.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        get(b"/live/ws", *WEBSOCKET).replace(b"HTTP/1.1", b"HTTP/1.0"),
        get(b"/live/ws", *WEBSOCKET, method=b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\nhi"),
        get(b"/live/ws", *WEBSOCKET[1:]),
    ],
    ids=["HTTP/1.0", "with a body", "without Connection"],
)
async def test_what_cannot_ask_for_an_upgrade_gets_a_response(world: World, request_bytes: bytes) -> None:
    answer: Response = await world.ask(request_bytes)
    assert (answer.status, answer.body) == (200, b"hello /live/ws")
    assert b"upgrade" not in world.origin.asked[-1].fields


async def test_tunnels_are_counted_and_limited() -> None:
    async with running(Limits(tunnels=2)) as world:
        world.origin.converse = echo
        streams = [await world.connect() for _ in range(2)]
        for reader, writer in streams:
            writer.write(get(b"/live/ws", *WEBSOCKET))
            assert (await read_response(reader)).status == 101
        answer = await world.ask(get(b"/live/ws", *WEBSOCKET))
        assert (answer.status, answer.field("retry-after")) == (503, "1")
        assert world.edge.tunnels.open == 2
        streams[0][1].close()
        await until(lambda: world.edge.tunnels.open == 1)
        reader, writer = await world.connect()
        writer.write(get(b"/live/ws", *WEBSOCKET))
        assert (await read_response(reader)).status == 101
        writer.close()
        streams[1][1].close()


# --- the end, and what waits


async def test_when_the_origin_goes_so_does_the_client(world: World) -> None:
    async def converse(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switching(asked) + b"bye")

    world.origin.converse = converse
    reader, writer = await world.connect()
    writer.write(get(b"/live/ws", *WEBSOCKET))
    assert (await read_response(reader)).status == 101
    assert await asyncio.wait_for(reader.read(), 5) == b"bye"
    client = Client(await world.connect())
    stream = ask_connect(client, "/live/ws", *CONNECT)
    await client.complete(stream)
    assert client.bodies[stream] == b"bye"
    await until(lambda: world.edge.tunnels.open == 0)
    writer.close()
    client.writer.close()


@pytest.mark.parametrize("abruptly", [True, False])
async def test_when_the_client_goes_so_does_the_origin(world: World, abruptly: bool) -> None:
    gone = asyncio.Event()

    async def converse(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switching(asked))
        try:
            while await reader.read(65_536):
                pass
        finally:
            gone.set()

    world.origin.converse = converse
    client = world.deaf_client()
    client.send(get(b"/live/ws", *WEBSOCKET))
    await until(lambda: world.edge.tunnels.open == 1 and bool(world.origin.asked))
    reset(client) if abruptly else client.close()
    await asyncio.wait_for(gone.wait(), 5)
    await until(lambda: world.edge.tunnels.open == 0)


async def test_one_side_may_go_on_when_the_other_has_said_its_last_word(world: World) -> None:
    async def converse(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switching(asked))
        said = await reader.read()
        writer.write(b"you said " + said)

    world.origin.converse = converse
    reader, writer = await world.connect()
    writer.write(get(b"/live/ws", *WEBSOCKET))
    assert (await read_response(reader)).status == 101
    writer.write(b"all")
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 5) == b"you said all"
    client = Client(await world.connect())
    stream = ask_connect(client, "/live/ws", *CONNECT)
    client.send(DataFrame(stream, data=b"all"), "END_STREAM")
    await client.complete(stream)
    assert client.bodies[stream] == b"you said all"
    writer.close()
    client.writer.close()


async def test_a_client_that_leaves_before_the_answer_leaves_nothing(world: World) -> None:
    world.origin.hold = asyncio.Event()
    _, writer = await world.connect()
    writer.write(get(b"/live/ws", *WEBSOCKET))
    await world.origin.until_asked()
    writer.transport.abort()
    await until(lambda: world.edge.tunnels.open == 0)
    assert [record["status"] for record in logged(world)] == [499]


async def test_an_origin_that_does_not_read_holds_the_client_up(world: World) -> None:
    async def converse(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(switching(asked))
        await asyncio.Event().wait()

    world.origin.converse = converse
    reader, writer = await world.connect()
    writer.write(get(b"/live/ws", *WEBSOCKET))
    assert (await read_response(reader)).status == 101
    sent = 0

    async def flood() -> None:
        nonlocal sent
        while sent < 50_000_000:
            writer.write(bytes(65_536))
            await writer.drain()
            sent += 65_536

    flooding = asyncio.ensure_future(flood())
    assert await settled(lambda: sent) < 20_000_000
    flooding.cancel()
    writer.close()


async def test_a_client_that_does_not_read_holds_the_origin_up(world: World) -> None:
    sent = 0

    async def converse(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(switching(asked))
        while sent < 50_000_000:
            writer.write(bytes(65_536))
            await writer.drain()
            sent += 65_536

    world.origin.converse = converse
    client = world.deaf_client()
    client.send(get(b"/live/ws", *WEBSOCKET))
    await until(lambda: sent > 0)
    assert await settled(lambda: sent) < 20_000_000
    reset(client)
    slow = Client(await world.connect(), window=65_535)
    stream = ask_connect(slow, "/live/ws", *CONNECT)
    await slow.until(lambda: len(slow.bodies.get(stream, b"")) == 65_535)
    before = sent
    assert await settled(lambda: sent) - before < 20_000_000
    slow.writer.close()


async def test_silence_is_borne_as_long_as_the_pool_says(world: World) -> None:
    world.origin.converse = echo
    snapshot = world.snapshot(2)
    pools = tuple(msgspec.structs.replace(pool, tunnel_idle_s=0.3) for pool in snapshot.network.pools)
    network = msgspec.structs.replace(snapshot.network, pools=pools)
    world.edge.apply(msgspec.structs.replace(snapshot, network=network))
    reader, writer = await world.connect()
    writer.write(get(b"/live/ws", *WEBSOCKET))
    assert (await read_response(reader)).status == 101
    writer.write(b"x")
    assert await asyncio.wait_for(reader.readexactly(1), 5) == b"x"
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 5)
    await until(lambda: world.edge.tunnels.open == 0)
    writer.close()


WORKER = """
export default {
  async fetch(request) {
    if (request.headers.get("upgrade") !== "websocket") return new Response("no tunnel");
    const [client, server] = Object.values(new WebSocketPair());
    server.accept();
    server.addEventListener("message", (event) => server.send("you said " + event.data));
    return new Response(null, { status: 101, webSocket: client });
  },
};
"""


@pytest.mark.real
async def test_a_function_takes_a_websocket() -> None:
    with TemporaryDirectory(prefix="ws-") as folder:
        async with Bench(Path(folder)) as bench, running() as world:
            host = await bench.script(WORKER)
            snapshot = world.snapshot(2)
            (runtime,) = snapshot.functions
            socket = str(host.plan.socket)
            functions = (msgspec.structs.replace(runtime, socket=socket),)
            world.edge.apply(msgspec.structs.replace(snapshot, functions=functions))
            name, number = world.address
            uri = "ws://shop.test/fn/chat"
            async with websockets.connect(uri, proxy=None, host=name, port=number) as client:
                for message in ("hello", "x" * 100_000):
                    await client.send(message)
                    assert await asyncio.wait_for(client.recv(), 5) == "you said " + message
            assert (await world.ask(get(b"/fn/page"))).body == b"no tunnel"
            await until(lambda: world.edge.tunnels.open == 0)
            assert [record["status"] for record in logged(world)] == [101, 200]


async def test_a_tunnel_that_is_taken_back_at_once_is_never_made(world: World) -> None:
    async def silent(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    world.origin.converse = silent
    client = Client(await world.connect())
    with client.in_one_piece():
        for _ in range(20):
            stream = ask_connect(client, "/ws", *CONNECT)
            client.send(RstStreamFrame(stream, error_code=8))
        client.ask("/later", method="OPTIONS")
    await until(lambda: len(world.edge._tasks) <= 1 and bool(world.origin.asked))
    assert world.edge.tunnels.open == 0
