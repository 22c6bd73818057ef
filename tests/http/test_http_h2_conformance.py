"""HTTP/2 frames that no client may send, and what becomes of the stream or the connection (RFC 9113)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import pytest
from edge_world import until
from http2_client import Client
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from test_http_h1 import FakeApp, listen

from atoll.http.accept import Listener
from atoll.http.exchange import Exchange
from atoll.http.h2_credit import Credit
from atoll.http.h2_watch import PREFACE, FrameWatch
from atoll.http.limits import Limits

PROTOCOL_ERROR = 1
FLOW_CONTROL_ERROR = 3
FRAME_SIZE_ERROR = 6
CANCEL = 8
ENHANCE_YOUR_CALM = 11


class HoldingApp(FakeApp):
    """Answers nothing but what the test does."""

    def handle(self, exchange: Exchange) -> None:
        self.seen.append(exchange)


@pytest.fixture
async def app() -> FakeApp:
    return HoldingApp(Limits(h2_control=50, h2_resets=20))


@contextlib.contextmanager
def listening(app: FakeApp) -> Iterator[tuple[Listener, tuple[str, int]]]:
    listener, address = listen(app)
    try:
        yield listener, address
    finally:
        listener.close()
        for connection in listener.connections:
            connection.transport.abort()


async def ended_with(client: Client) -> int:
    """The error code of the GOAWAY that ends the connection."""
    await client.until(lambda: client.goaway is not None)
    assert client.goaway is not None
    code: int = client.goaway.error_code
    with contextlib.suppress(ConnectionError):
        await client.until(lambda: False)  # until it is closed
    return code


def raw(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


# --- what is malformed


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("PRIORITY of stream 0", raw(2, 0, 0, bytes(5))),
        ("PRIORITY on itself", raw(2, 0, 3, b"\0\0\0\x03\x10")),
        ("exclusive PRIORITY on itself", raw(2, 0, 3, b"\x80\0\0\x03\x10")),
        ("HEADERS on itself", raw(1, 0x25, 1, b"\0\0\0\x01\x10\x82\x86\x84\x41\x01a")),
        ("padded HEADERS on itself", raw(1, 0x2D, 1, b"\x01\0\0\0\x01\x10\x82\x86\x84\x41\x01a\0")),
        ("DATA on stream 0", raw(0, 0, 0, b"x")),
        ("HEADERS on stream 0", raw(1, 5, 0, b"\x82\x86\x84\x41\x01a")),
        ("HEADERS on an even stream", raw(1, 5, 2, b"\x82\x86\x84\x41\x01a")),
        ("DATA on an idle stream", raw(0, 0, 1, b"x")),
        ("RST_STREAM on an idle stream", raw(3, 0, 1, bytes(4))),
        ("WINDOW_UPDATE on an idle stream", raw(8, 0, 1, b"\0\0\0\x01")),
        ("WINDOW_UPDATE of nothing", raw(8, 0, 0, bytes(4))),
        ("CONTINUATION of nothing", raw(9, 4, 1, b"\x82")),
        ("SETTINGS on a stream", raw(4, 0, 1, b"")),
        ("PING on a stream", raw(6, 0, 1, bytes(8))),
        ("GOAWAY on a stream", raw(7, 0, 1, bytes(8))),
        ("PUSH_PROMISE", raw(5, 4, 1, b"\0\0\0\x02\x82")),
        ("more padding than payload", raw(1, 0xD, 1, b"\x20\x82\x86\x84")),
        ("another stream's HEADERS inside", raw(1, 1, 1, b"\x82") + raw(1, 5, 3, b"\x82\x86\x84")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_broken_rule_of_frames_ends_the_connection(app: FakeApp, name: str, frame: bytes) -> None:
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address))
        client.writer.write(frame)
        assert await ended_with(client) == PROTOCOL_ERROR, name
        assert not app.seen


@pytest.mark.parametrize(
    "frame",
    [
        raw(4, 0, 0, bytes(5)),
        raw(4, 1, 0, bytes(6)),
        raw(6, 0, 0, bytes(7)),
        raw(8, 0, 0, bytes(3)),
        raw(2, 0, 1, bytes(4)),
        raw(1, 5, 1, bytes(16_385)),
    ],
    ids=["SETTINGS", "acknowledged SETTINGS", "PING", "WINDOW_UPDATE", "PRIORITY", "HEADERS"],
)
async def test_a_frame_of_a_wrong_size_ends_the_connection(app: FakeApp, frame: bytes) -> None:
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address))
        client.writer.write(frame)
        assert await ended_with(client) == FRAME_SIZE_ERROR


async def test_a_window_that_overflows_ends_with_a_word(app: FakeApp) -> None:
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address), window=65_535)
        client.send(WindowUpdateFrame(0, window_increment=2**31 - 1))
        assert await ended_with(client) == FLOW_CONTROL_ERROR


async def test_a_priority_that_makes_sense_is_taken(app: FakeApp) -> None:
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address))
        client.send(PriorityFrame(5, depends_on=3, stream_weight=7))
        client.writer.write(raw(1, 0x25, 1, b"\0\0\0\0\x10\x82\x86\x84\x41\x01a"))
        await until(lambda: bool(app.seen))
        app.seen[0].stream.respond(200, [], b"fine")
        await client.complete(1)
        assert client.bodies[1] == b"fine"


MALFORMED: list[tuple[str, list[tuple[str | bytes, str | bytes]]]] = [
    ("transfer-encoding", [("transfer-encoding", "chunked")]),
    ("connection", [("connection", "close")]),
    ("keep-alive", [("keep-alive", "1")]),
    ("proxy-connection", [("proxy-connection", "close")]),
    ("upgrade", [("upgrade", "websocket")]),
    ("te beside trailers", [("te", "trailers, gzip")]),
    ("uppercase name", [(b"X-A", "1")]),
    ("space in a name", [(b"x a", "1")]),
    ("colon in a name", [(b"x:y", "1")]),
    ("CRLF in a name", [(b"x\r\ny", "1")]),
    ("NUL in a name", [(b"x\0", "1")]),
    ("8-bit name", [(b"x\xe9", "1")]),
    ("empty name", [(b"", "1")]),
    ("CRLF in a value", [("x", b"a\r\nb: c")]),
    ("LF in a value", [("x", b"a\nb")]),
    ("NUL in a value", [("x", b"a\0b")]),
    ("space before a value", [("x", b" a")]),
    ("space behind a value", [("x", b"a ")]),
    ("second path", [(":path", "/b")]),
    ("second method", [(":method", "GET")]),
    ("unknown pseudo-header", [(":x", "1")]),
    ("response's pseudo-header", [(":status", "200")]),
    ("pseudo-header behind a field", [("x", "1"), (":authority", "b")]),
    ("another host", [("host", "other.test")]),
    ("content-length that is no number", [("content-length", "1x")]),
    ("two lengths", [("content-length", "3"), ("content-length", "4")]),
    ("signed length", [("content-length", "+3")]),
]


@pytest.mark.parametrize(("name", "fields"), MALFORMED, ids=[name for name, _ in MALFORMED])
async def test_a_malformed_request_costs_its_stream_and_is_never_handled(
    name: str, fields: list[tuple[str | bytes, str | bytes]]
) -> None:
    app = FakeApp()
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address))
        stream = client.ask("/x", *fields, method="POST", end=False)  # type: ignore[arg-type]
        client.send(DataFrame(stream, data=b"abc"), "END_STREAM")
        await client.complete(stream)
        assert client.resets.get(stream) == PROTOCOL_ERROR or client.heads[stream][":status"] == "400"
        after = client.ask("/y")
        await client.complete(after)
        assert client.heads[after][":status"] == "200"
        assert [exchange.target for exchange in app.seen] == [b"/y"], name


@pytest.mark.parametrize("path", ["", "x", "/a b", "/a#b", b"/a\xff", b"/a\r\nb", "*", "*x", "http://a/"])
async def test_a_path_that_is_none_is_refused(path: str | bytes) -> None:
    app = FakeApp()
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address))
        stream = client.ask(path)
        await client.complete(stream)
        assert client.resets.get(stream) == PROTOCOL_ERROR or client.heads[stream][":status"] == "400"
        assert not app.seen


@pytest.mark.parametrize(("length", "body"), [("5", b"abc"), ("2", b"abc"), ("0", b"abc"), ("3", b"")])
async def test_a_length_that_disagrees_with_the_data_is_never_a_whole_request(
    app: FakeApp, length: str, body: bytes
) -> None:
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address))
        stream = client.ask("/x", ("content-length", length), method="POST", end=False)
        client.send(DataFrame(stream, data=body), "END_STREAM")
        await client.complete(stream)
        assert client.resets[stream] == PROTOCOL_ERROR
        assert all(exchange.body is None or not exchange.body.complete for exchange in app.seen)
        assert all(exchange.stream.gone for exchange in app.seen)


# --- floods


def _pings(client: Client) -> Frame:
    return PingFrame(0, opaque_data=b"12345678")


FLOODS: list[tuple[str, Callable[[Client], Frame]]] = [
    ("PING", _pings),
    ("SETTINGS", lambda client: SettingsFrame(0)),
    ("PRIORITY", lambda client: PriorityFrame(7, depends_on=0, stream_weight=1)),
    ("WINDOW_UPDATE", lambda client: WindowUpdateFrame(0, window_increment=1)),
    ("empty DATA", lambda client: DataFrame(1, data=b"")),
    ("RST_STREAM", lambda client: RstStreamFrame(1, error_code=CANCEL)),
]


@pytest.mark.parametrize(("name", "frame"), FLOODS, ids=[name for name, _ in FLOODS])
async def test_frames_that_bring_nothing_are_counted(
    app: FakeApp, name: str, frame: Callable[[Client], Frame]
) -> None:
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address), window=65_535)
        client.ask("/x", method="POST", end=False)
        for _ in range(30):
            client.send(frame(client))
        await until(lambda: bool(app.seen))
        for _ in range(200):
            client.send(frame(client))
        assert await ended_with(client) == ENHANCE_YOUR_CALM
        assert app.refusals == [(429, "control frame flood")]


async def test_padding_is_no_content(app: FakeApp) -> None:
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address))
        client.ask("/x", method="POST", end=False)
        for _ in range(200):
            client.send(DataFrame(1, data=b"", pad_length=200), "PADDED")
        assert await ended_with(client) == ENHANCE_YOUR_CALM


async def test_a_head_in_endless_pieces_is_cut_off(app: FakeApp) -> None:
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address))
        client.send(HeadersFrame(1, data=b"\x82"))
        for _ in range(20_000):
            client.send(ContinuationFrame(1, data=b""))
        assert await ended_with(client) == ENHANCE_YOUR_CALM


async def test_a_client_that_cancels_what_it_asks_is_sent_away(app: FakeApp) -> None:
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address))
        for _ in range(40):
            client.send(RstStreamFrame(client.ask("/x"), error_code=CANCEL))
        assert await ended_with(client) == ENHANCE_YOUR_CALM
        assert len(app.seen) <= 21
        assert all(exchange.stream.gone for exchange in app.seen)


PROVOCATIONS: list[tuple[str, Callable[[int], Frame]]] = [
    ("a window that overflows", lambda stream: WindowUpdateFrame(stream, window_increment=2**31 - 1)),
    ("data behind the end", lambda stream: DataFrame(stream, data=b"x")),
]


@pytest.mark.parametrize(("name", "frame"), PROVOCATIONS, ids=[name for name, _ in PROVOCATIONS])
async def test_resets_that_a_client_provokes_count_as_its_own(
    app: FakeApp, name: str, frame: Callable[[int], Frame]
) -> None:
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address))
        for _ in range(40):
            client.send(frame(client.ask("/x")))
        assert await ended_with(client) == ENHANCE_YOUR_CALM
        assert len(app.seen) <= 21
        assert all(exchange.stream.gone for exchange in app.seen)


# --- uploads


async def test_a_body_that_nobody_takes_holds_up_no_other_stream(app: FakeApp) -> None:
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address))
        held = client.ask("/held", method="POST", end=False)
        sent = 0
        await until(lambda: bool(app.seen))
        while client.room[held] >= 16_000 and sent < 4_000_000:
            client.send(DataFrame(held, data=b"u" * 16_000))
            client.room[held] -= 16_000
            sent += 16_000
            mark = client.ask("/mark")
            await until(lambda: app.seen[-1].target == b"/mark")
            app.seen.pop().stream.respond(200, [], b"")
            await client.complete(mark)
        assert sent < 500_000  # what may be buffered, and a window
        body = app.seen[0].body
        assert body is not None

        class Taker:
            taken = 0
            ended = False

            def body_data(self, data: bytes) -> None:
                self.taken += len(data)

            def body_end(self) -> None:
                self.ended = True

            def body_failed(self) -> None:
                raise AssertionError

        taker = Taker()
        body.attach(taker)
        await client.until(lambda: client.room[held] >= 16_000)
        client.send(DataFrame(held, data=b"u" * 16_000), "END_STREAM")
        await until(lambda: taker.ended)
        assert taker.taken == sent + 16_000


async def test_an_echo_larger_than_all_buffers_never_stands_still() -> None:
    with listening(FakeApp()) as (_, address):
        client = Client(await asyncio.open_connection(*address), window=65_535)
        total = 3_000_000

        def acknowledge(frame: DataFrame) -> None:
            for stream in (0, frame.stream_id):
                if frame.flow_controlled_length:
                    client.send(WindowUpdateFrame(stream, window_increment=frame.flow_controlled_length))

        client.on_data = acknowledge
        stream = client.ask("/echo", method="POST", end=False)
        sent = 0
        while sent < total:
            await client.until(lambda: min(client.room[0], client.room[stream]) >= 16_000)
            client.send(DataFrame(stream, data=b"e" * 16_000))
            for number in (0, stream):
                client.room[number] -= 16_000
            sent += 16_000
        client.send(DataFrame(stream), "END_STREAM")
        await client.complete(stream)
        assert len(client.bodies[stream]) == sent


async def test_a_client_that_ignores_its_window_is_sent_away(app: FakeApp) -> None:
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address))
        stream = client.ask("/up", method="POST", end=False)
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                client.send(DataFrame(stream, data=b"u" * 16_000))
                await client.writer.drain()
        await client.until(lambda: client.goaway is not None)
        assert client.goaway is not None
        assert client.goaway.error_code == FLOW_CONTROL_ERROR
        body = app.seen[0].body
        assert body is not None
        assert body.buffered < 700_000


async def test_an_answer_before_the_upload_is_complete_tells_the_client_to_stop(app: FakeApp) -> None:
    with listening(app) as (_, address):
        client = Client(await asyncio.open_connection(*address))
        stream = client.ask("/up", method="POST", end=False)
        await until(lambda: bool(app.seen))
        app.seen[0].stream.respond(403, [], b"no")
        await client.until(lambda: stream in client.resets)
        assert client.resets[stream] == 0
        assert (client.heads[stream][":status"], client.bodies[stream]) == ("403", b"no")


async def test_a_body_that_drips_in_has_no_more_time(app: FakeApp) -> None:
    with listening(app) as (listener, address):
        client = Client(await asyncio.open_connection(*address))
        stream = client.ask("/up", method="POST", end=False)
        other = client.ask("/other")
        await until(lambda: len(app.seen) == 2)
        (connection,) = listener.connections
        now_s = connection.last_activity_s
        body = app.seen[0].body
        assert body is not None
        for later_s in range(0, 40, 5):
            received = body.received
            client.send(DataFrame(stream, data=b"u"))
            await until(lambda before=received: body.received > before)  # type: ignore[misc]
            connection.check_timeouts(now_s + later_s)
            if app.seen[0].stream.gone:
                break
        await client.complete(stream)
        assert client.heads[stream][":status"] == "408"
        app.seen[1].stream.respond(200, [], b"")
        await client.complete(other)
        assert client.heads[other][":status"] == "200"


# --- the parts


@pytest.mark.parametrize("size", [1, 2, 3, 7, 9, 10, 14, 1000])
def test_the_watch_sees_the_same_however_the_bytes_are_cut(size: int) -> None:
    frames = PREFACE + b"".join(
        (
            raw(4, 0, 0, bytes(12)),
            raw(1, 0x25, 1, b"\0\0\0\0\x10" + b"h" * 30),
            raw(0, 0, 1, b"d" * 700),
            raw(0, 0, 1, b""),
            raw(0, 8, 1, b"\x05" + bytes(5)),
            raw(0, 8, 1, b"\x04x" + bytes(4)),
            raw(0, 1, 1, b""),
            raw(8, 0, 0, b"\0\0\0\x01"),
            raw(99, 0, 0, b"anything"),
            raw(1, 5, 3, b"h" * 10),
        )
    )
    watch = FrameWatch()
    for at in range(0, len(frames), size):
        watch.look(frames[at : at + size])
    assert (watch.idle_frames, watch.fault) == (5, "")
    for byte in raw(2, 0, 5, b"\0\0\0\x05\x01"):
        watch.look(bytes((byte,)))
    assert watch.fault


def test_credit_is_kept_back_and_given_in_one_piece() -> None:
    credit = Credit()
    credit.close(3)
    one, two = raw(8, 0, 3, b"\0\0\x9c\x40"), raw(8, 0, 1, b"\0\0\x9c\x40")
    head = raw(1, 4, 1, b"\x88")
    assert credit.filter(head + one + two) == head + two
    assert credit.filter(head) == head
    assert credit.filter(one + one) == b""
    assert not credit.overdrawn(3)
    credit.filter(one)
    assert credit.overdrawn(3)
    assert credit.open(3) == raw(8, 0, 3, (160_000).to_bytes(4, "big"))
    assert credit.open(3) == b""
    assert credit.filter(one) == one
