"""HTTP/2 clients that ask too much, take too little or are told to go, frame by frame."""

from __future__ import annotations

import asyncio
from time import time

import pytest
from edge_world import World, get, page, running, settled, until, world
from http2_client import Client
from hyperframe.frame import DataFrame, GoAwayFrame, RstStreamFrame, WindowUpdateFrame
from test_http_h1 import FakeApp, listen

from atoll.http.exchange import Exchange
from atoll.http.limits import Limits

__all__ = ["world"]

REFUSED_STREAM = 7
CANCEL = 8


class HoldingApp(FakeApp):
    """Answers nothing but what the test does."""

    def handle(self, exchange: Exchange) -> None:
        self.seen.append(exchange)


# --- what is asked


@pytest.mark.parametrize("path", [b"/x y", b"/x#frag", b"/x\xff"])
async def test_a_path_that_no_http1_client_could_send_is_refused(path: bytes) -> None:
    app = FakeApp()
    listener, address = listen(app)
    client = Client(await asyncio.open_connection(*address))
    stream = client.ask(path)
    await client.complete(stream)
    assert client.heads[stream][":status"] == "400"
    assert not app.seen
    client.writer.close()
    listener.close()


async def test_a_head_beyond_the_limit_is_refused() -> None:
    app = FakeApp()
    listener, address = listen(app)
    client = Client(await asyncio.open_connection(*address))
    stream = client.ask("/x", *((f"x-{n}", "a" * 10_000) for n in range(6)))
    try:
        await client.until(lambda: client.goaway is not None or stream in client.ended)
    except ConnectionError:
        client.goaway = GoAwayFrame(0)
    assert client.goaway or stream in client.resets or client.heads[stream][":status"] == "431"
    assert not app.seen
    client.writer.close()
    listener.close()


async def test_digits_without_end_are_a_number_like_any_other(world: World) -> None:
    world.origin.answer = lambda asked: page(b"x", b"max-age=" + b"0" * 5000 + b"60")
    client = Client(await world.connect())
    for fields in ([], [("cache-control", "max-age=" + "0" * 5000)], []):
        stream = client.ask("/a", *fields)
        await client.complete(stream)
        assert client.heads[stream][":status"] == "200"
    client.writer.close()


# --- what is answered


@pytest.mark.parametrize("line", [b"X-A: b  ", b"X-A: b\tc", b"X-A: \xe9", b"X-A:", b"X-A: \t"])
async def test_any_field_an_origin_may_send_arrives(world: World, line: bytes) -> None:
    client = Client(await world.connect())
    for target, cache in (("/live/a", b"no-store"), ("/a", b"max-age=60"), ("/a", b""), ("/a", b"")):
        world.origin.answer = lambda asked, cache=cache: page(b"x", cache, line)  # type: ignore[misc]
        stream = client.ask(target)
        await client.complete(stream)
        assert client.heads[stream][":status"] == "200"
        assert client.heads[stream]["x-a"].split() == line.decode("latin-1")[4:].split()
        assert client.bodies[stream] == b"x"
    client.writer.close()


async def test_two_window_updates_for_each_frame_are_no_flood() -> None:
    app = FakeApp(Limits(h2_control=10))
    listener, address = listen(app)
    client = Client(await asyncio.open_connection(*address), window=65_535)

    def acknowledge(frame: DataFrame) -> None:
        for stream in (0, frame.stream_id):
            client.send(WindowUpdateFrame(stream, window_increment=frame.flow_controlled_length))

    client.on_data = acknowledge
    stream = client.ask("/x", method="POST", end=False)
    body = b"q" * 16_000
    for _ in range(4):
        client.send(DataFrame(stream, data=body))
    await until(lambda: bool(app.seen))
    for _ in range(100):
        app.seen[0].stream.write(body)
    await client.until(lambda: len(client.bodies.get(stream, b"")) >= 100 * len(body))
    assert client.goaway is None
    client.writer.close()
    listener.close()


async def test_a_quiet_event_stream_is_left_alone() -> None:
    app = HoldingApp()
    listener, address = listen(app)
    client = Client(await asyncio.open_connection(*address))
    stream = client.ask("/events")
    await until(lambda: bool(app.seen))
    events = app.seen[0].stream
    events.start(200, [(b"content-type", b"text/event-stream")], None)
    events.write(b"first")
    await client.until(lambda: stream in client.bodies)
    now_s = time()
    for later_s in range(0, 3600, 5):
        for connection in listener.connections:
            connection.check_timeouts(now_s + later_s)
    events.write(b" second")
    events.finish()
    await client.complete(stream)
    assert client.bodies[stream] == b"first second"
    client.writer.close()
    listener.close()


# --- what is bounded


async def test_what_nobody_takes_is_bounded_by_streams_and_given_up() -> None:
    async with running(Limits(h2_streams=8)) as world:
        world.origin.answer = lambda asked: page(b"y" * 60_000, b"max-age=600")
        await world.ask(get(b"/large"))
        client = Client(await world.connect(), window=0)
        streams = [client.ask("/large") for _ in range(60)]
        await client.until(lambda: client.heads.keys() | client.resets.keys() >= set(streams))
        assert sum(head[":status"] == "200" for head in client.heads.values()) <= 8
        (connection,) = [c for c in world.listener.connections if not c.idle()]
        now_s = time()
        for later_s in range(0, 90, 5):
            connection.check_timeouts(now_s + later_s)
        await until(lambda: connection not in world.listener.connections)
        client.writer.close()


async def test_an_upload_that_the_origin_does_not_read_is_held_up() -> None:
    never = asyncio.Event()

    async def converse(*_: object) -> None:
        await never.wait()

    async with running(response_timeout_s=60.0) as world:
        world.origin.converse = converse
        client = Client(await world.connect())
        stream = client.ask("/live/up", method="POST", end=False)
        piece, sent = b"u" * 16_000, 0

        async def upload() -> None:
            nonlocal sent
            while sent < 24_000_000:
                await client.until(lambda: min(client.room[0], client.room[stream]) >= len(piece))
                client.send(DataFrame(stream, data=piece))
                for number in (0, stream):
                    client.room[number] -= len(piece)
                sent += len(piece)
                await client.writer.drain()

        uploading = asyncio.ensure_future(upload())
        await world.origin.until_asked()
        assert await settled(lambda: sent) < 16_000_000
        uploading.cancel()
        client.writer.close()


async def test_nothing_is_asked_for_streams_that_were_cancelled_while_they_waited(world: World) -> None:
    world.origin.answer = lambda asked: page(b"x", b"private")
    world.origin.hold = asyncio.Event()
    client = Client(await world.connect())
    first, *others = [client.ask("/private", ("x-number", str(number))) for number in range(10)]
    await until(lambda: world.edge.stats(0).requests == 10)
    for stream in others:
        client.send(RstStreamFrame(stream, error_code=CANCEL))
    last = client.ask("/fn/x")
    await client.complete(last)  # so the resets have been read
    world.origin.hold.set()
    await client.complete(first)
    assert await settled(lambda: len(world.origin.asked)) == 1
    client.writer.close()


# --- the end


async def test_a_connection_that_has_been_asked_enough_loses_none_of_it() -> None:
    app = FakeApp(Limits(h2_requests=3))
    listener, address = listen(app)
    client = Client(await asyncio.open_connection(*address))
    client.ask("/", method="POST")
    streams = [client.ask(f"/{n}", method="POST") for n in range(3)]  # the notice comes with the third
    await client.complete(*streams)
    await client.until(lambda: client.goaway is not None and client.goaway.last_stream_id == streams[-1])
    assert not client.resets
    assert len(app.seen) == 4
    client.writer.close()
    listener.close()


async def test_a_busy_connection_is_told_when_its_worker_drains() -> None:
    app = HoldingApp()
    listener, address = listen(app)
    client = Client(await asyncio.open_connection(*address))
    first = client.ask("/long")
    await until(lambda: bool(app.seen))
    app.draining = True
    listener.check_timeouts()
    await client.until(lambda: client.goaway is not None)
    assert client.goaway is not None
    assert client.goaway.last_stream_id == 2**31 - 1  # RFC 9113 §6.8: first without a limit
    crossed = client.ask("/crossed", method="POST")  # it may have been on its way
    await until(lambda: len(app.seen) == 2)
    await client.until(lambda: client.goaway is not None and client.goaway.last_stream_id == crossed)
    late = client.ask("/late", method="POST")
    await client.complete(late)
    for exchange in app.seen:
        exchange.stream.respond(200, [], b"done")
    await client.complete(first, crossed)
    assert client.bodies == {first: b"done", crossed: b"done"}
    assert client.resets == {late: REFUSED_STREAM}
    assert len(app.seen) == 2
    client.writer.close()
    listener.close()
