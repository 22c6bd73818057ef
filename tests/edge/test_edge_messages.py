"""All that may surround a message's content, through the edge: interim responses, expectations, trailers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import h2.config
import h2.connection
import h2.events
import msgspec
import pytest
from edge_world import ROUTES, Asked, World, get, read_response, until, world
from http2_client import Client
from hyperframe.frame import DataFrame, HeadersFrame

from atoll.config.spec import OriginSpec

__all__ = ["world"]

HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\nX: y\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nok"


def telling(interim: bytes, final: bytes = OK) -> Callable[..., Awaitable[None]]:
    """An origin that says something before its answer, and then is asked nothing more."""

    async def converse(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(interim)
        await writer.drain()
        await asyncio.sleep(0.01)  # in a segment of its own
        writer.write(final)
        await writer.drain()

    return converse


# --- interim responses


@pytest.mark.parametrize("target", [b"/a", b"/live/a", b"/fn/a"])
async def test_early_hints_arrive_before_the_answer(world: World, target: bytes) -> None:
    world.origin.converse = world.function.converse = telling(HINT + HINT)
    reader, writer = await world.connect()
    writer.write(get(target))
    for _ in range(2):
        hint = await read_response(reader)
        assert (hint.status, hint.field("link")) == (103, "</a.css>; rel=preload")
        assert hint.field("x") == ""  # named by Connection
    assert (await read_response(reader)).body == b"ok"
    writer.write(get(target))
    assert (await read_response(reader)).status == 103
    writer.close()


@pytest.mark.parametrize("target", ["/a", "/live/a", "/fn/a"])
async def test_early_hints_arrive_over_http2(world: World, target: str) -> None:
    world.origin.converse = world.function.converse = telling(HINT)
    client = Client(await world.connect())
    stream = client.ask(target)
    await client.until(lambda: stream in client.heads)
    assert client.heads[stream] == {":status": "103", "link": "</a.css>; rel=preload"}
    await client.complete(stream)
    assert client.heads[stream][":status"] == "200"
    assert client.bodies[stream] == b"ok"
    client.writer.close()


@pytest.mark.parametrize("target", [b"/a", b"/live/a", b"/fn/a"])
async def test_http_1_0_gets_no_interim_response(world: World, target: bytes) -> None:
    world.origin.converse = world.function.converse = telling(HINT)
    answer = await world.ask(get(target).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (answer.status, answer.body) == (200, b"ok")


# --- expectations


def expecting(target: bytes, value: bytes = b"100-continue", host: bytes = b"shop.test") -> bytes:
    return get(target, b"Content-Length: 2", b"Expect: " + value, method=b"POST", host=host)


@pytest.mark.parametrize("target", [b"/live/a", b"/fn/a"])
async def test_a_client_that_waits_is_told_to_go_on(world: World, target: bytes) -> None:
    reader, writer = await world.connect()
    writer.write(expecting(target))
    assert (await read_response(reader)).status == 100
    writer.write(b"hi")
    assert (await read_response(reader)).status == 200
    server = world.function if target.startswith(b"/fn") else world.origin
    assert b"expect" not in server.asked[0].fields
    writer.close()


async def test_a_client_that_waits_over_http2_is_told_to_go_on(world: World) -> None:
    client = Client(await world.connect())
    stream = client.ask("/live/a", ("expect", "100-continue"), method="POST", end=False)
    await client.until(lambda: stream in client.heads)
    assert client.heads[stream] == {":status": "100"}
    client.send(DataFrame(stream, data=b"hi"), "END_STREAM")
    await client.complete(stream)
    assert client.heads[stream][":status"] == "200"
    client.writer.close()


async def test_a_request_that_is_refused_is_not_asked_for_its_body(world: World) -> None:
    world.edge.apply(world.snapshot(2, routes=ROUTES[1:]))
    reader, writer = await world.connect()
    writer.write(expecting(b"/nowhere"))
    answer = await read_response(reader)
    assert answer.status == 404
    assert await asyncio.wait_for(reader.read(), 5) == b""  # the body, if it came, would be the next request
    client = Client(await world.connect())
    stream = client.ask("/nowhere", ("expect", "100-continue"), method="POST", end=False)
    await client.complete(stream)
    assert client.heads[stream][":status"] == "404"
    writer.close()
    client.writer.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (expecting(b"/live/a", b"payment"), 417),
        (expecting(b"/live/a", b"100-continue, more"), 417),
        (expecting(b"/live/a", b"100-Continue") + b"hi", 100),
        (expecting(b"/live/a").replace(b"HTTP/1.1", b"HTTP/1.0") + b"hi", 200),
        (get(b"/live/a", b"Expect: 100-continue"), 200),
    ],
)
async def test_what_becomes_of_an_expectation(world: World, request_bytes: bytes, status: int) -> None:
    reader, writer = await world.connect()
    writer.write(request_bytes)
    first = (await read_response(reader)).status
    assert first == status or (status == 100 and first == 200)  # it did not wait
    writer.close()


async def test_an_unknown_expectation_over_http2(world: World) -> None:
    client = Client(await world.connect())
    stream = client.ask("/live/a", ("expect", "payment"))
    await client.complete(stream)
    assert client.heads[stream][":status"] == "417"
    client.writer.close()


# --- trailers

TRAILED = (
    b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    b"2\r\nok\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\nHost: evil\r\nCache-Control: max-age=9\r\n\r\n"
)


async def raw_until(reader: asyncio.StreamReader, end: bytes) -> bytes:
    return await asyncio.wait_for(reader.readuntil(end), 5)


@pytest.mark.parametrize("target", [b"/live/a", b"/fn/a"])
@pytest.mark.parametrize("takes", [True, False])
async def test_an_answers_trailers_over_http1(world: World, target: bytes, takes: bool) -> None:
    world.origin.converse = world.function.converse = telling(b"", TRAILED)
    reader, writer = await world.connect()
    writer.write(get(target, b"Connection: TE", b"TE: gzip;q=0.5, trailers") if takes else get(target))
    await raw_until(reader, b"\r\n\r\n")
    rest = await raw_until(reader, b"\r\n\r\n")
    assert rest == (b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n" if takes else b"2\r\nok\r\n0\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("target", ["/live/a", "/fn/a"])
async def test_an_answers_trailers_over_http2(world: World, target: str) -> None:
    world.origin.converse = world.function.converse = telling(b"", TRAILED)
    client = Client(await world.connect())
    stream = client.ask(target)
    await client.complete(stream)
    assert client.bodies[stream] == b"ok"
    assert client.heads[stream] == {"x-sum": "1"}  # the last block of fields
    client.writer.close()


@pytest.mark.parametrize("protocol", ["h1", "h2"])
async def test_a_requests_trailers_reach_the_origin(world: World, protocol: str) -> None:
    got: list[bytes] = []

    async def converse(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await raw_until(reader, b"0\r\n") + await raw_until(reader, b"\r\n\r\n"))
        writer.write(OK)

    world.origin.converse = converse
    if protocol == "h1":
        reader, writer = await world.connect()
        head = get(b"/live/a", b"Transfer-Encoding: chunked", b"Trailer: X-Sum", method=b"POST")
        writer.write(head + b"2\r\nhi\r\n0\r\nX-Sum: 1\r\nHost: evil\r\nAuthorization: x\r\nTE: y\r\n\r\n")
        assert (await read_response(reader)).status == 200
        writer.close()
    else:
        client = Client(await world.connect())
        stream = client.ask("/live/a", method="POST", end=False)
        client.send(DataFrame(stream, data=b"hi"))
        fields = [("x-sum", "1"), ("authorization", "x"), ("cookie", "y")]
        block = client._encoder.encode(fields)
        client.send(HeadersFrame(stream, data=block), "END_HEADERS", "END_STREAM")
        await client.complete(stream)
        assert client.heads[stream][":status"] == "200"
        client.writer.close()
    assert got == [b"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"]


# --- gRPC


class GrpcOrigin:
    """An HTTP/2 server that echoes what is streamed to it and ends with a status in its trailers."""

    def __init__(self) -> None:
        self.heads: list[dict[str, str]] = []
        self._open: set[int] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        engine = h2.connection.H2Connection(h2.config.H2Configuration(False, header_encoding="utf-8"))
        engine.initiate_connection()
        writer.write(engine.data_to_send())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                for event in engine.receive_data(data):
                    self._take(engine, event)
                writer.write(engine.data_to_send())

    def _take(self, engine: h2.connection.H2Connection, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            fields = {str(name): str(value) for name, value in event.headers}
            self.heads.append(fields)
            answer = [(":status", "200"), ("content-type", "application/grpc")]
            only = fields[":path"].endswith("unknown")
            if only:
                answer += [("grpc-status", "12"), ("grpc-message", "nobody knows it")]
            engine.send_headers(event.stream_id, answer, end_stream=only)
            if not only:
                self._open.add(event.stream_id)
        elif isinstance(event, h2.events.DataReceived) and event.stream_id in self._open:
            engine.send_data(event.stream_id, event.data)
            engine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded) and event.stream_id in self._open:
            self._open.discard(event.stream_id)
            engine.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)


@contextlib.asynccontextmanager
async def grpc_world(world: World) -> AsyncIterator[GrpcOrigin]:
    origin = GrpcOrigin()
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    snapshot = world.snapshot(2)
    spec = OriginSpec(host="origin.test", url=f"http://127.0.0.1:{port}", protocol="h2")
    network = msgspec.structs.replace(snapshot.network, origins=(spec,))
    world.edge.apply(msgspec.structs.replace(snapshot, network=network))
    yield origin
    server.close()


GRPC = (("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "5S"))


async def test_a_grpc_call_streams_both_ways(world: World) -> None:
    async with grpc_world(world) as origin:
        client = Client(await world.connect())
        stream = client.ask("/live/Echo", *GRPC, method="POST", end=False)
        await client.until(lambda: stream in client.heads)  # before a byte of the request's body
        assert client.heads[stream]["content-type"] == "application/grpc"
        said = b""
        for message in (b"\0\0\0\0\x02hi", b"\0\0\0\0\x03you", bytes(30_000)):
            client.send(DataFrame(stream, data=message[:16_000]))
            client.send(DataFrame(stream, data=message[16_000:])) if message[16_000:] else None
            said += message
            await client.until(lambda: client.bodies.get(stream) == said)  # noqa: B023
        assert stream not in client.ended
        client.send(DataFrame(stream), "END_STREAM")
        await client.complete(stream)
        assert client.heads[stream] == {"grpc-status": "0"}
        (asked,) = [head for head in origin.heads if head[":path"] == "/live/Echo"]
        assert (asked["te"], asked["grpc-timeout"]) == ("trailers", "5S")
        client.writer.close()


async def test_a_grpc_answer_of_trailers_only_is_one_block_that_ends_the_stream(world: World) -> None:
    async with grpc_world(world):
        client = Client(await world.connect())
        stream = client.ask("/live/unknown", *GRPC, method="POST", end=False)
        client.send(DataFrame(stream, data=b"\0\0\0\0\0"), "END_STREAM")
        await client.complete(stream)
        assert client.heads[stream]["grpc-status"] == "12"
        assert stream not in client.bodies  # not even an empty frame: gRPC takes that for a lost trailer
        client.writer.close()


async def test_other_requests_keep_their_te_to_themselves(world: World) -> None:
    client = Client(await world.connect())
    stream = client.ask("/live/a", ("te", "trailers"))
    await client.complete(stream)
    await until(lambda: bool(world.origin.asked))
    assert b"te" not in world.origin.asked[0].fields
    client.writer.close()
