"""HTTP/1.1 clients that pipeline, hesitate, break off, shout or do not listen."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from time import time

import pytest
import pytest_asyncio
from edge_world import (
    Asked,
    Response,
    World,
    get,
    page,
    post,
    read_response,
    running,
    settled,
    until,
    world,
)
from test_http_h1 import FakeApp, listen, talk

from atoll.config.admission import AdmissionSpec
from atoll.config.spec import RouteSpec
from atoll.http.exchange import Exchange
from atoll.http.limits import Limits

__all__ = ["world"]

HEAD = b"GET %b HTTP/1.1\r\nHost: h\r\n%b\r\n"
WHOLE = b"HTTP/1.1 200 "


class HoldingApp(FakeApp):
    """Answers /wait when it is told to."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self.waiting: list[Exchange] = []
        self.asked = asyncio.Event()

    def handle(self, exchange: Exchange) -> None:
        if exchange.target == b"/wait":
            self.waiting.append(exchange)
            self.asked.set()
        else:
            super().handle(exchange)

    def go_on(self) -> None:
        super().handle(self.waiting.pop(0))


@pytest_asyncio.fixture
async def small() -> AsyncIterator[World]:
    """A world that gives little time and room for heads."""
    async with running(Limits(head=4096, head_timeout_s=5.0, body_timeout_s=20.0)) as world:
        yield world


# --- pipelining


@pytest.mark.parametrize("parts", [1, 2])
async def test_a_hit_and_what_follows_it_in_the_same_segment_are_both_answered(
    world: World, parts: int
) -> None:
    for target in (b"/a", b"/b"):
        await world.ask(get(target))
    world.origin.answer = lambda asked: page(asked.target, b"max-age=60")
    both = get(b"/a") + get(b"/b")
    cut = len(both) if parts == 1 else len(both) - 10
    for _ in range(4):
        reader, writer = await world.connect()
        writer.write(both[:cut])
        answers = [await read_response(reader)] if parts == 2 else []
        writer.write(both[cut:])
        answers += [await read_response(reader) for _ in range(2 - len(answers))]
        writer.write(get(b"/c"))
        answers.append(await read_response(reader))
        writer.close()
        assert [answer.body[-2:] for answer in answers] == [b"/a", b"/b", b"/c"]


async def test_two_thousand_hits_behind_a_slow_miss_are_all_answered(world: World) -> None:
    world.origin.answer = lambda asked: page(asked.target, b"max-age=60")
    await world.ask(get(b"/hit"))
    world.origin.hold = asyncio.Event()
    reader, writer = await world.connect()
    writer.write(get(b"/slow") + get(b"/hit") * 2000)
    await world.origin.until_asked(2)
    world.origin.hold.set()
    bodies = [(await read_response(reader)).body for _ in range(2001)]
    writer.close()
    assert bodies == [b"/slow", *[b"/hit"] * 2000]


async def test_no_more_requests_are_parsed_ahead_than_the_limit_says() -> None:
    app = HoldingApp(Limits(pipeline=8))
    listener, address = listen(app)
    reader, writer = await asyncio.open_connection(*address)
    before = sum(isinstance(thing, Exchange) for thing in gc.get_objects())
    writer.write(HEAD % (b"/wait", b"") + (HEAD % (b"/next", b"")) * 1000)
    await asyncio.wait_for(app.asked.wait(), 5)
    for _ in range(3):  # so that everything that has been sent has been seen
        await talk(address, HEAD % (b"/", b"Connection: close\r\n"))
    app.seen.clear()
    parsed = sum(isinstance(thing, Exchange) for thing in gc.get_objects()) - before
    app.go_on()
    answers = b""
    while answers.count(WHOLE) < 1001:
        answers += await asyncio.wait_for(reader.read(1 << 20), 5)
    writer.close()
    listener.close()
    assert parsed <= 8 + 4096 // len(HEAD % (b"/next", b"")) + 2  # what waits, and one piece


async def test_a_pipelined_request_gets_its_100_when_it_is_its_turn() -> None:
    app = HoldingApp()
    listener, address = listen(app)
    reader, writer = await asyncio.open_connection(*address)
    expecting = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    writer.write(HEAD % (b"/wait", b"") + expecting)
    await asyncio.wait_for(app.asked.wait(), 5)
    app.go_on()
    assert (await read_response(reader)).status == 200
    assert (await read_response(reader)).status == 100
    writer.write(b"hi")
    assert (await read_response(reader)).body == b"hi"
    writer.close()
    listener.close()


async def test_the_blank_line_some_clients_send_first_is_skipped() -> None:
    app = HoldingApp()
    listener, address = listen(app)
    reader, writer = await asyncio.open_connection(*address)
    for _ in range(2):
        writer.write(b"\r\n")
        await talk(address, HEAD % (b"/", b"Connection: close\r\n"))  # the blank line has been read by then
        writer.write(HEAD % (b"/a", b""))
        assert (await read_response(reader)).status == 200
    writer.close()
    listener.close()


# --- half-closed and broken


async def test_a_client_that_has_said_its_last_word_gets_all_its_answers() -> None:
    app = HoldingApp()
    listener, address = listen(app)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(HEAD % (b"/wait", b"") * 3)
    writer.write_eof()
    await asyncio.wait_for(app.asked.wait(), 5)
    for _ in range(3):
        await until(lambda: bool(app.waiting))
        app.go_on()
    data = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    listener.close()
    assert data.count(WHOLE) == 3


async def test_a_malformed_request_is_not_the_answer_to_the_one_before() -> None:
    app = HoldingApp()
    listener, address = listen(app)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(HEAD % (b"/wait", b"") + b"BROKEN\r\n\r\n")
    await asyncio.wait_for(app.asked.wait(), 5)
    app.go_on()
    answers = [await read_response(reader) for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 400]
    assert answers[1].field("connection") == "close"
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    listener.close()


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"


@pytest.mark.parametrize(
    "request_bytes", [get(b"/a", UPGRADE), post(b"/live/a", b"hi", UPGRADE)], ids=["GET", "POST"]
)
async def test_an_upgrade_is_answered_once_and_ends_the_connection(
    world: World, request_bytes: bytes
) -> None:
    await world.ask(get(b"/a"))
    for _ in range(3):
        reader, writer = await world.connect()
        writer.write(request_bytes)
        answer = await read_response(reader)
        assert (answer.status, answer.field("connection")) == (200, "close")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
    if request_bytes.startswith(b"POST"):
        assert {asked.body for asked in world.origin.asked[1:]} == {b"hi"}


# --- bounds


async def test_a_head_beyond_the_limit_is_refused_in_one_piece_too(small: World) -> None:
    for size in (5_000, 60_000):
        answer = await small.ask(get(b"/live/a", b"X-Big: " + b"a" * size))
        assert answer.status == 431
    assert (await small.ask(get(b"/live/a", b"X-Big: " + b"a" * 3_000))).status == 200
    assert len(small.origin.asked) == 1


async def test_a_head_that_drips_in_has_no_more_time(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = await small.connect()
    writer.write(b"GET / HTTP/1.1\r\n")
    await until(lambda: any(not connection.idle() for connection in small.listener.connections))
    (connection,) = small.listener.connections
    later_s = time() + 60
    monkeypatch.setattr("atoll.http.h1.time", lambda: later_s)
    writer.write(b"X: 1\r\n")  # a byte a minute later: nothing is quiet, and yet
    await until(lambda: connection.last_activity_s == later_s)
    connection.check_timeouts(later_s)
    assert (await read_response(reader)).status == 408
    writer.close()


CHUNKED = get(b"/live/a", b"Transfer-Encoding: chunked", method=b"POST") + b"1\r\na\r\n"


@pytest.mark.parametrize(
    "start",
    [b"0\r\nX-T: ", b"1;ext=", b"0\r\n" + b"X: t\r\n" * 100 + b"X: "],
    ids=["trailer", "chunk", "trailers"],
)
async def test_endless_framing_around_a_body_is_cut_off(small: World, start: bytes) -> None:
    _, writer = await small.connect()
    writer.write(CHUNKED + start)
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 8_000_000:
            writer.write(b"t" * 65_536)
            await writer.drain()
            sent += 65_536
    assert sent < 8_000_000
    await until(lambda: not small.listener.connections)
    writer.close()


async def test_a_client_that_does_not_read_is_not_answered_ahead_and_given_up(small: World) -> None:
    small.origin.answer = lambda asked: page(b"y" * 60_000, b"max-age=600")
    await small.ask(get(b"/large"))
    await until(lambda: not small.listener.connections)
    client = small.deaf_client()
    client.send(get(b"/large") * 500)
    await until(lambda: len(small.listener.connections) == 1)
    (connection,) = small.listener.connections
    await until(lambda: connection.transport.get_write_buffer_size() > 0)
    assert await settled(connection.transport.get_write_buffer_size) < 1_000_000
    now_s = time()
    for later_s in range(0, 60, 5):
        connection.check_timeouts(now_s + later_s)
    await until(lambda: not small.listener.connections)
    client.close()


async def test_a_client_that_reads_again_gets_everything(small: World) -> None:
    small.origin.answer = lambda asked: page(b"y" * 60_000, b"max-age=600")
    await small.ask(get(b"/large"))
    await until(lambda: not small.listener.connections)
    reader, writer = await small.connect()
    writer.write(get(b"/large") * 100)
    await until(lambda: len(small.listener.connections) == 1)
    (connection,) = small.listener.connections
    await until(lambda: connection.transport.get_write_buffer_size() > 0)
    answers: list[Response] = [await read_response(reader) for _ in range(100)]
    writer.close()
    assert {len(answer.body) for answer in answers} == {60_000}


# --- answers that do not wait for the whole request


@pytest.mark.parametrize(
    "head", [b"Content-Length: 3000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n200000\r\n"]
)
async def test_an_answer_reaches_a_client_that_uploads_all_before_it_looks(world: World, head: bytes) -> None:
    async def impatient(_: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(page(b"y" * 400_000, status=b"403 Forbidden"))
        while await reader.read(65_536):
            pass

    world.origin.converse = impatient
    client = world.deaf_client()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, b"POST /live/a HTTP/1.1\r\nHost: shop.test\r\n" + head)
    await loop.sock_sendall(client, b"x" * 2_000_000)
    received = b""
    async with asyncio.timeout(5):
        while data := await loop.sock_recv(client, 65_536):
            received += data
    assert received.startswith(b"HTTP/1.1 403 ")
    assert received.endswith(b"y" * 400_000)
    client.close()
    await until(lambda: not world.listener.connections)


async def test_who_goes_on_uploading_after_the_answer_is_heard_for_a_while_only(world: World) -> None:
    route = RouteSpec(path="/*", pool="shop", admission=AdmissionSpec(methods=("GET",)))
    world.edge.apply(world.snapshot(2, routes=(route,)))
    reader, writer = await world.connect()
    writer.write(get(b"/a", b"Content-Length: 1000000", method=b"POST"))
    assert (await read_response(reader)).status == 405
    (connection,) = world.listener.connections
    began_s = time()
    connection.check_timeouts(began_s + 1.0)
    assert not connection.transport.is_closing()
    connection.last_activity_s = began_s + 29.0  # it goes on, little by little
    connection.check_timeouts(began_s + 29.5)
    assert not connection.transport.is_closing()
    connection.last_activity_s = began_s + 30.0
    connection.check_timeouts(began_s + 31.0)
    assert connection.transport.is_closing()
    writer.close()


async def test_who_says_no_more_after_the_answer_is_not_waited_for(world: World) -> None:
    route = RouteSpec(path="/*", pool="shop", admission=AdmissionSpec(methods=("GET",)))
    world.edge.apply(world.snapshot(2, routes=(route,)))
    reader, writer = await world.connect()
    writer.write(get(b"/a", b"Content-Length: 10", b"Expect: 100-continue", method=b"POST"))
    assert (await read_response(reader)).status == 405
    (connection,) = world.listener.connections
    connection.check_timeouts(time() + 2.5)
    assert connection.transport.is_closing()
    writer.close()
