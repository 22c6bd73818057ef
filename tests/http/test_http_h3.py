"""HTTP/3 end to end: two independent clients, real sockets, a whole edge worker behind."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha1
from typing import Any

import pytest
from cryptography import x509
from edge_world import ROUTES, Asked, page, until
from h3_world import H3World, h3_running
from http3_client import LIBRARIES

from atoll.config.spec import RouteSpec
from atoll.http.exchange import Exchange, RequestBody
from atoll.http.limits import Limits

BIG = bytes(range(256)) * 4 * 1024 * 10  # 10 MiB


@pytest.fixture
async def h3() -> AsyncIterator[H3World]:
    async with h3_running() as h3:
        yield h3


@pytest.mark.parametrize("using", LIBRARIES)
@pytest.mark.parametrize("count", [1, 16, 64])
async def test_requests_at_once(h3: H3World, using: str, count: int) -> None:
    async with h3.client(using=using) as client:
        streams = [client.open(f"/{number}") for number in range(count)]
        for number, stream in enumerate(streams):
            answer = await client.answer(stream)
            assert (answer.status, answer.body) == (200, b"hello /%d" % number)
        assert answer.field("x-edge-location") == "nrt"
    assert len(h3.origin.asked) == count


@pytest.mark.parametrize("using", LIBRARIES)
async def test_a_hit_is_answered_from_prepared_frames(h3: H3World, using: str) -> None:
    h3.origin.answer = lambda asked: page(b"x" * 1000, b"max-age=60", b"Content-Type: text/css")
    async with h3.client(using=using) as client:
        first = await client.ask("/c")
        assert first.field("x-cache") == "MISS"
        for _ in range(70):
            answer = await client.ask("/c")
            assert (answer.status, answer.body) == (200, b"x" * 1000)
            assert answer.field("content-type") == "text/css"
            assert answer.field("x-cache") == "HIT"
            assert answer.field("content-length") == "1000"
            assert int(answer.field("age")) <= 2
    assert len(h3.origin.asked) == 1
    assert h3.edge.counters.hits == 70


@pytest.mark.parametrize("using", LIBRARIES)
async def test_a_large_body_arrives_whole(h3: H3World, using: str) -> None:
    h3.origin.answer = lambda asked: page(BIG)
    async with h3.client(using=using) as client:
        answer = await client.ask("/big")
        assert len(answer.body) == len(BIG)
        assert answer.body == BIG


@pytest.mark.parametrize("using", LIBRARIES)
async def test_an_upload_arrives_whole(h3: H3World, using: str) -> None:
    got: list[bytes] = []

    async def take(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await read_chunks(reader))
        writer.write(page(b"%d" % len(got[0])))

    h3.origin.converse = take
    async with h3.client(using=using) as client:
        answer = await client.ask("/live/up", method="POST", body=BIG)
        assert answer.body == b"%d" % len(BIG)
    assert got == [BIG]


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """A chunked body."""
    pieces = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        pieces.append((await reader.readexactly(size + 2))[:-2])
    await reader.readuntil(b"\r\n")
    return b"".join(pieces)


async def test_the_certificate_is_chosen_by_name(h3: H3World) -> None:
    for asked, shown in (("shop.test", "shop.test"), ("unknown.test", "localhost")):
        async with h3.client(asked) as client:
            certificate: x509.Certificate = client.quic.tls._peer_certificate
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
            assert names.value.get_values_for_type(x509.DNSName) == [shown]


async def test_a_broken_certificate_leaves_the_one_before(h3: H3World) -> None:
    async with h3.client():
        pass
    (h3.leaf_folder / "shop.test.pem").write_bytes(b"nonsense")
    async with h3.client() as client:
        assert (await client.ask("/")).status == 200
    assert list(h3.certificates.faults) == [str(h3.leaf_folder / "shop.test.pem")]


async def test_head_has_no_body(h3: H3World) -> None:
    h3.origin.answer = lambda asked: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    async with h3.client() as client:
        client.http._check_content_length = lambda stream: None  # it forgets that this answers a HEAD
        answer = await client.ask("/live/x", method="HEAD")
        assert (answer.status, answer.body, answer.field("content-length")) == (200, b"", "5")


async def test_a_client_that_waits_for_leave_gets_it(h3: H3World) -> None:
    async def take(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(page(await read_chunks(reader)))

    h3.origin.converse = take
    async with h3.client() as client:
        stream = client.open("/live/x", ("expect", "100-continue"), method="POST", end=False)
        await until(lambda: bool(client.answers[stream].informed))
        client.send(stream, b"now", end=True)
        answer = await client.answer(stream)
        assert answer.informed == [{":status": "100"}]
        assert answer.body == b"now"


class Taker:
    """An `App` that keeps exchanges for the test to answer."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.draining = False
        self.seen: list[Exchange] = []
        self.refusals: list[tuple[int, str]] = []

    def opened(self, conn: Any) -> None:
        """See `App`."""

    def hot(self, key: object) -> None:
        """See `App`."""

    def count_hot(self, conn: Any, entry: Any, now_s: float) -> None:
        """See `App`."""

    def refused(self, conn: Any, status: int, reason: str) -> None:
        """See `App`."""
        self.refusals.append((status, reason))

    def handle(self, exchange: Exchange) -> None:
        """See `App`."""
        self.seen.append(exchange)

    async def taken(self, count: int = 1) -> Exchange:
        """The exchange of that number, when it has come."""
        await until(lambda: len(self.seen) >= count)
        return self.seen[count - 1]


class Sink:
    """Takes a body."""

    def __init__(self, body: RequestBody | None) -> None:
        self.data, self.ended, self.failed = b"", False, False
        assert body is not None
        body.attach(self)

    def body_data(self, data: bytes) -> None:
        """See `BodySink`."""
        self.data += data

    def body_end(self) -> None:
        """See `BodySink`."""
        self.ended = True

    def body_failed(self) -> None:
        """See `BodySink`."""
        self.failed = True


@pytest.fixture
def taker(h3: H3World) -> Taker:
    taker = Taker()
    h3.endpoint._app = taker
    return taker


@pytest.mark.parametrize("using", LIBRARIES)
async def test_interim_responses_come_before_the_final_one(h3: H3World, taker: Taker, using: str) -> None:
    async with h3.client(using=using) as client:
        stream = client.open("/")
        exchange = await taker.taken()
        exchange.stream.inform(103, [(b"link", b"</s.css>; rel=preload")])
        exchange.stream.start(200, [(b"x", b"1")], None)
        exchange.stream.inform(103, [])  # too late: nobody is told
        exchange.stream.write(b"a")
        exchange.stream.finish([(b"x-sum", b"9"), (b"content-length", b"1")])
        answer = await client.answer(stream)
    assert [informed[":status"] for informed in answer.informed] == ["103"]
    assert (answer.body, answer.trailers) == (b"a", [("x-sum", "9")])


async def test_request_trailers_are_there_before_the_end(h3: H3World, taker: Taker) -> None:
    async with h3.client() as client:
        stream = client.open("/", method="POST", end=False)
        client.send(stream, b"data")
        client.http.send_headers(stream, [(b"x-check", b"1"), (b"content-length", b"9")], end_stream=True)
        client.protocol.transmit()
        exchange = await taker.taken()
        sink = Sink(exchange.body)
        await until(lambda: sink.ended)
        assert exchange.body is not None
        assert (sink.data, exchange.body.trailers) == (b"data", [(b"x-check", b"1")])
        exchange.stream.respond(204, [], b"")
        assert (await client.answer(stream)).status == 204


@pytest.mark.parametrize("using", LIBRARIES)
async def test_a_tunnel_carries_bytes_both_ways(h3: H3World, taker: Taker, using: str) -> None:
    """Extended CONNECT (RFC 9220) is a GET that upgrades, as on the other protocols."""
    pseudo = [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"https"),
        (b":authority", b"shop.test"),
        (b":path", b"/chat"),
    ]
    async with h3.client(using=using) as client:
        await until(lambda: client.http.received_settings is not None)
        assert client.http.received_settings[8] == 1
        stream = client.open("", pseudo=pseudo, end=False)
        exchange = await taker.taken()
        assert (exchange.method, exchange.upgrade, exchange.target) == (b"GET", b"websocket", b"/chat")
        exchange.stream.start(101, [], None)
        sink = Sink(exchange.body)
        client.send(stream, b"ping")
        await until(lambda: sink.data == b"ping")
        exchange.stream.write(b"pong")
        await until(lambda: client.answers[stream].body == b"pong")
        assert client.answers[stream].status == 200
        client.send(stream, b"", end=True)
        await until(lambda: sink.ended)
        exchange.stream.finish()
        await client.answer(stream)


async def test_a_websocket_goes_through_to_its_origin(h3: H3World) -> None:
    """The whole edge: an extended CONNECT in front, an upgrade of HTTP/1.1 behind."""
    route = RouteSpec(path="/chat", pool="shop", upgrades=("websocket",))
    h3.edge.apply(h3.world.snapshot(2, routes=(*ROUTES, route)))

    async def echo(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert asked.fields[b"upgrade"] == b"websocket"
        proof = sha1(asked.fields[b"sec-websocket-key"] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        fields = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Accept: " + b64encode(proof))
        writer.write(b"\r\n".join((b"HTTP/1.1 101 Switching Protocols", *fields)) + b"\r\n\r\n")
        while data := await reader.read(1000):
            writer.write(data.upper())

    h3.origin.converse = echo
    pseudo = [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"https"),
        (b":authority", b"shop.test"),
        (b":path", b"/chat"),
    ]
    async with h3.client() as client:
        stream = client.open("", ("sec-websocket-version", "13"), pseudo=pseudo, end=False)
        await until(lambda: client.answers[stream].status == 200)
        client.send(stream, b"frames of ")
        client.send(stream, b"another protocol")
        await until(lambda: client.answers[stream].body == b"FRAMES OF ANOTHER PROTOCOL")
        client.send(stream, b"", end=True)
        await client.answer(stream)


async def test_an_upgrade_that_is_declined_is_no_tunnel(h3: H3World, taker: Taker) -> None:
    pseudo = [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"https"),
        (b":authority", b"shop.test"),
        (b":path", b"/chat"),
    ]
    async with h3.client() as client:
        stream = client.open("", pseudo=pseudo, end=False)
        exchange = await taker.taken()
        exchange.stream.start(200, [], 2)
        exchange.stream.write(b"no")
        exchange.stream.finish()
        assert (await client.answer(stream)).status == 502


async def test_a_cancelled_request_is_cancelled_behind(h3: H3World, taker: Taker) -> None:
    left: list[int] = []
    async with h3.client() as client:
        stream = client.open("/", method="POST", end=False)
        exchange = await taker.taken()
        exchange.stream.on_gone(lambda: left.append(1))
        sink = Sink(exchange.body)
        client.quic.reset_stream(stream, 0x10C)
        client.quic.stop_stream(stream, 0x10C)
        client.protocol.transmit()
        await until(lambda: bool(left))
        assert sink.failed
        assert exchange.stream.gone
        exchange.stream.start(200, [], None)  # does nothing
        exchange.stream.write(b"x")
        exchange.stream.finish()


async def test_an_aborted_response_is_reset(h3: H3World, taker: Taker) -> None:
    async with h3.client() as client:
        stream = client.open("/")
        exchange = await taker.taken()
        exchange.stream.start(200, [], 100)
        exchange.stream.write(b"half")
        exchange.stream.abort()
        answer = await client.answer(stream)
        assert answer.reset == 0x10C


async def test_who_speaks_is_known(h3: H3World, taker: Taker) -> None:
    async with h3.client() as client:
        client.open("/a?b", ("cookie", "x=1"), ("cookie", "y=2"), ("accept", "*/*"))
        exchange = await taker.taken()
    conn = exchange.conn
    assert (conn.client_ip, conn.scheme, conn.tls_version) == ("127.0.0.1", b"https", "TLSv1.3")
    assert (exchange.authority, exchange.target) == (b"shop.test", b"/a?b")
    assert exchange.headers == [(b"accept", b"*/*"), (b"cookie", b"x=1; y=2")]
    assert exchange.stream.protocol == "HTTP/3"


async def test_what_one_stream_waits_for_holds_up_no_other(h3: H3World, taker: Taker) -> None:
    async with h3.client() as client:
        slow, quick = client.open("/slow"), client.open("/quick")
        (await taker.taken(2)).stream.respond(200, [], b"quick")
        assert (await client.answer(quick)).body == b"quick"
        taker.seen[0].stream.respond(200, [], b"slow")
        assert (await client.answer(slow)).body == b"slow"
