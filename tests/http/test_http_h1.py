"""The h1 engine against a real socket pair: framing, ordering, refusals, hot requests."""

import asyncio
import socket
from collections.abc import Callable

import pytest

from atoll.http.accept import Listener
from atoll.http.exchange import ConnectionInfo, Exchange, HotEntry, Stream
from atoll.http.fields import Headers
from atoll.http.limits import Limits
from atoll.http.proxy_protocol import build


class FakeHot:
    replays = False
    rest = b""
    size = 0
    wanted = True

    def release(self) -> None:
        raise AssertionError("it stays known")

    def replay(self, conn: ConnectionInfo, stream: Stream, now_s: float) -> None:
        raise AssertionError("prepared bytes are written, not replayed")

    def h1(self, now_s: float) -> bytes | None:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhot"

    def h2(self, now_s: float) -> tuple[Headers, bytes] | None:
        return [(b"x-hot", b"1"), (b"content-length", b"3")], b"hot"


class FakeApp:
    """Answers every request with its own description."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.draining = False
        self.table: dict[object, HotEntry] = {}
        self.hot: Callable[[object], HotEntry | None] = self.table.get
        self.seen: list[Exchange] = []
        self.hot_count = 0
        self.refusals: list[tuple[int, str]] = []

    def handle(self, exchange: Exchange) -> None:
        self.seen.append(exchange)
        if exchange.target == b"/remember" and exchange.raw is not None:
            self.table[exchange.raw] = FakeHot()
        if exchange.body is not None:
            exchange.body.attach(Echo(exchange))
            return
        text = exchange.method + b" " + exchange.authority + exchange.target
        exchange.stream.respond(200, [(b"x-seen", exchange.conn.client_ip.encode())], text)

    def count_hot(self, conn: ConnectionInfo, entry: HotEntry, now_s: float) -> None:
        self.hot_count += 1

    def opened(self, conn: ConnectionInfo) -> None:
        """Nobody asks this application about connections."""

    def refused(self, conn: ConnectionInfo, status: int, reason: str) -> None:
        self.refusals.append((status, reason))


class Echo:
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def _begin(self) -> None:
        if not self.exchange.stream.started:
            self.exchange.stream.start(200, [], None)

    def body_data(self, data: bytes) -> None:
        self._begin()
        self.exchange.stream.write(data)

    def body_end(self) -> None:
        self._begin()
        self.exchange.stream.finish()

    def body_failed(self) -> None:
        self.exchange.stream.abort()


def listen(app: FakeApp) -> tuple[Listener, tuple[str, int]]:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return Listener(app, sock), sock.getsockname()


async def talk(address: tuple[str, int], *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    writer.write_eof()
    data = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return data


async def test_one_request() -> None:
    app = FakeApp()
    listener, address = listen(app)
    data = await talk(address, b"GET /a?b HTTP/1.1\r\nHost: X.example\r\nConnection: close\r\n\r\n")
    listener.close()
    head = b"HTTP/1.1 200 OK\r\nX-Seen: 127.0.0.1\r\nContent-Length: 17\r\nConnection: close"
    assert data.startswith(head)
    assert data.endswith(b"GET x.example/a?b")


async def test_pipelined_requests_are_answered_in_order() -> None:
    app = FakeApp()
    listener, address = listen(app)
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(5))
    data = await talk(address, requests)
    listener.close()
    positions = [data.index(b"GET h/%d" % n) for n in range(5)]
    assert positions == sorted(positions)


async def test_a_chunked_body_streams_through() -> None:
    app = FakeApp()
    listener, address = listen(app)
    data = await talk(
        address,
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
    )
    listener.close()
    body = data.split(b"\r\n\r\n", 1)[1]
    assert body.replace(b"\r\n", b"") in (b"5hello1!0", b"6hello!0")


MALFORMED = [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    (b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    (b"nonsense\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
    (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000, 431),
]


@pytest.mark.parametrize(("request_bytes", "status"), MALFORMED)
async def test_malformed_requests_get_their_status_and_close(request_bytes: bytes, status: int) -> None:
    app = FakeApp()
    listener, address = listen(app)
    data = await talk(address, request_bytes)
    fine = await talk(address, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    listener.close()
    assert data.startswith(b"HTTP/1.1 %d " % status)
    assert [refusal[0] for refusal in app.refusals] == [status]
    assert fine.startswith(b"HTTP/1.1 200 OK")


async def test_a_known_request_is_answered_without_the_pipeline() -> None:
    app = FakeApp()
    listener, address = listen(app)
    request = b"GET /remember HTTP/1.1\r\nHost: h\r\n\r\n"
    first = await talk(address, request)
    second = await talk(address, request)
    other = await talk(address, request.replace(b"Host: h", b"Host: g"))
    listener.close()
    assert first.endswith(b"GET h/remember")
    assert second.endswith(b"hot")
    assert other.endswith(b"GET g/remember")
    assert app.hot_count == 1


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /remember HTTP/1.1\r\nHost: h\r\n" + UPGRADE + b"\r\n",
        b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n" + UPGRADE + b"\r\nhi",
    ],
)
async def test_an_upgrade_is_ignored_and_what_follows_it_too(request_bytes: bytes) -> None:
    app = FakeApp()
    listener, address = listen(app)
    for _ in range(2):
        data = await talk(address, request_bytes + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert data.startswith(b"HTTP/1.1 200 OK")
        assert data.count(b"HTTP/1.1 ") == 1
        assert b"Connection: close" in data
    listener.close()
    assert len(app.seen) == 2


async def test_a_tunnel_is_refused() -> None:
    app = FakeApp()
    listener, address = listen(app)
    data = await talk(address, b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\nsecret")
    listener.close()
    assert data.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    assert app.seen == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /remember HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"GET /remember HTTP/1.0\r\nHost: h\r\n\r\n",
        b"HEAD /remember HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
async def test_what_ends_otherwise_than_by_its_bytes_is_never_recognised(request_bytes: bytes) -> None:
    app = FakeApp()
    listener, address = listen(app)
    await talk(address, request_bytes)
    await talk(address, request_bytes)
    listener.close()
    assert app.hot_count == 0
    assert len(app.seen) == 2


async def test_the_proxy_header_names_the_client() -> None:
    app = FakeApp()
    listener, address = listen(app)
    header = build("198.18.7.10", 4242, "192.0.2.1", 80)
    data = await talk(address, header, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    listener.close()
    assert b"X-Seen: 198.18.7.10\r\n" in data


async def test_draining_closes_after_the_next_response() -> None:
    app = FakeApp()
    listener, address = listen(app)
    app.draining = True
    data = await talk(address, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    listener.close()
    assert b"Connection: close\r\n" in data
