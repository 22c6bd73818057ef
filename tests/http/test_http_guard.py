"""Many clients at once: how many connections and requests an address gets, and what gives way first."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import time

import pytest
from edge_world import Response, Streams, World, get, page, post, read_response, running, settled, until
from http2_client import Client
from hypothesis import given
from hypothesis import strategies as st

from atoll.http.crowd import Crowd, party
from atoll.http.guard import Guard
from atoll.http.limits import Limits
from atoll.http.proxy_protocol import build

STRANGER = "198.51.100.7"
OTHER = "203.0.113.9"


def guard_of(world: World) -> Guard:
    return world.listener._guard


async def connect(world: World, ip: str) -> Streams:
    reader, writer = await world.connect()
    writer.write(build(ip, 4242, "192.0.2.1", 80))
    return reader, writer


async def ask(streams: Streams, request: bytes) -> Response:
    streams[1].write(request)
    return await read_response(streams[0])


# --- addresses


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_what_counts_as_one_client(one: str, other: str, same: bool) -> None:
    assert (party(one) == party(other)) is same
    assert party(one)


def test_what_is_no_address_is_nobody() -> None:
    assert party("") == party("unix:") == b""


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=200))
def test_whoever_leaves_makes_room_and_nothing_is_left(steps: list[tuple[int, bool]]) -> None:
    crowd, inside = Crowd(3, 0, 1.0), dict.fromkeys(range(4), 0)
    for number, enters in steps:
        who = bytes((number,))
        if enters:
            assert crowd.enter(who) == (inside[number] < 3)
            inside[number] = min(3, inside[number] + 1)
        elif inside[number]:
            crowd.leave(who)
            inside[number] -= 1
        assert len(crowd) == sum(count > 0 for count in inside.values())
    for number, count in inside.items():
        for _ in range(count):
            crowd.leave(bytes((number,)))
    assert len(crowd) == 0


def test_eagerness_is_judged_by_the_time_it_took() -> None:
    crowd = Crowd(0, 100, 10.0)
    assert crowd.judge(1000.0) == set()
    crowd.asked(b"a", 150)
    crowd.asked(b"b", 250)
    crowd.asked(b"b", 60)
    assert crowd.judge(1003.0) == {b"b"}
    assert crowd.slowed(b"b", 1012.9)
    assert not crowd.slowed(b"b", 1013.1)
    assert not crowd.slowed(b"a", 1003.1)
    crowd.judge(1014.0)
    assert len(crowd) == 0


def test_the_table_of_the_eager_has_an_end() -> None:
    crowd = Crowd(0, 1, 1e9)
    for second in range(30):
        for number in range(1000):
            crowd.asked(b"%d-%d" % (second, number), 1000)
        crowd.judge(1000.0 + second)
    assert len(crowd) <= 11_000


# --- connections of one address


async def test_an_address_has_so_many_connections_and_others_do_not_mind() -> None:
    async with running(Limits(address_connections=3)) as world:
        streams = [await connect(world, STRANGER) for _ in range(3)]
        for each in streams:
            assert (await ask(each, get(b"/live/a"))).status == 200
        reader, writer = await connect(world, STRANGER)
        writer.write(get(b"/live/a"))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await read_response(reader)
        assert guard_of(world).turned_away == 1
        assert (await ask(await connect(world, OTHER), get(b"/live/a"))).status == 200
        for _ in range(5):  # who speaks for others is not counted
            assert (await ask(await world.connect(), get(b"/live/a"))).status == 200
        streams.pop()[1].close()
        await until(lambda: [c.info.client_ip for c in world.listener.connections].count(STRANGER) == 2)
        assert (await ask(await connect(world, STRANGER), get(b"/live/a"))).status == 200


# --- requests of one address


@contextlib.asynccontextmanager
async def eager_world() -> AsyncIterator[World]:
    async with running(Limits(address_requests_s=10)) as world:
        guard_of(world).look(time() - 1.0)
        yield world


async def test_who_asks_too_often_gets_429_on_every_connection_for_a_while() -> None:
    async with eager_world() as world:
        world.origin.answer = lambda asked: page(b"x", b"max-age=600")
        first, second = [await connect(world, STRANGER) for _ in range(2)]
        innocent = await connect(world, OTHER)
        for _ in range(15):
            assert (await ask(first, get(b"/hit"))).status == 200
            assert (await ask(second, get(b"/hit"))).status == 200
        assert (await ask(innocent, get(b"/hit"))).status == 200
        guard_of(world).look(time())
        for streams in (first, second, await connect(world, STRANGER)):
            answer = await ask(streams, get(b"/hit"))
            assert (answer.status, answer.field("retry-after"), answer.field("connection")) == (
                429,
                "2",
                "close",
            )
            assert await asyncio.wait_for(streams[0].read(), 5) == b""
        assert (await ask(innocent, get(b"/hit"))).status == 200


async def test_who_takes_a_connection_for_each_request_is_counted_too() -> None:
    async with eager_world() as world:
        world.origin.answer = lambda asked: page(b"x", b"max-age=600")
        for _ in range(30):
            streams = await connect(world, STRANGER)
            assert (await ask(streams, get(b"/hit"))).status == 200
            streams[1].close()
        await until(lambda: not world.listener.connections)
        guard_of(world).look(time())
        assert (await ask(await connect(world, STRANGER), get(b"/hit"))).status == 429
        assert (await ask(await connect(world, OTHER), get(b"/hit"))).status == 200


async def test_http2_is_counted_too() -> None:
    async with eager_world() as world:
        client = Client(await connect(world, STRANGER))
        streams = [client.ask("/live/a") for _ in range(30)]
        await client.complete(*streams)
        guard_of(world).look(time())
        stream = client.ask("/live/a")
        await client.until(lambda: stream in client.ended and client.goaway is not None)
        assert client.heads[stream][":status"] == "429"
        assert client.heads[stream]["retry-after"] == "2"
        assert len(world.origin.asked) == 30


# --- memory


async def test_the_newest_give_way_when_too_much_is_held_for_all() -> None:
    async with running(Limits(memory=600_000, body_timeout_s=600.0)) as world:
        world.origin.answer = lambda asked: page(b"y" * 400_000, b"max-age=600")
        assert len((await world.ask(get(b"/large"))).body) == 400_000
        await until(lambda: not world.listener.connections)
        guard = guard_of(world)
        clients = []
        for number in range(1, 7):
            client = world.deaf_client()
            client.send(get(b"/large"))
            clients.append(client)
            await until(lambda count=number: len(world.listener.connections) == count)  # type: ignore[misc]
            await settled(lambda: sum(c.held() for c in world.listener.connections))
        assert sum(c.held() for c in world.listener.connections) > 600_000
        oldest = next(iter(guard._open))
        guard.look(time())
        await until(lambda: len(world.listener.connections) < 6)
        assert oldest in world.listener.connections
        assert 200_000 < sum(c.held() for c in world.listener.connections) <= 600_000
        for client in clients:
            client.close()


async def test_while_too_much_is_held_newcomers_are_told_to_come_again() -> None:
    async with running(Limits(memory=1_000_000, body_timeout_s=600.0)) as world:
        guard = guard_of(world)
        guard._relieve(2_000_000)
        assert guard.overloaded
        streams = await world.connect()
        answer = await ask(streams, get(b"/live/a"))
        assert (answer.status, answer.field("retry-after")) == (503, "2")
        client = Client(await world.connect())
        stream = client.ask("/live/a")
        await client.complete(stream)
        assert client.heads[stream][":status"] == "503"
        assert not world.origin.asked
        guard.look(time())
        await until(lambda: not guard.overloaded)
        assert (await ask(await world.connect(), get(b"/live/a"))).status == 200


async def test_an_upload_that_waits_is_given_up_with_a_word() -> None:
    async with running(Limits(memory=100_000)) as world:
        reader, writer = await world.connect()
        never = asyncio.get_running_loop().create_future()

        async def wait(*_: object, **__: object) -> None:
            await never  # as for a connection to an origin that is far away

        world.edge.origins.fetch = wait  # type: ignore[assignment,method-assign]
        writer.write(post(b"/live/up", b"u" * 200_000))
        await until(lambda: sum(c.held() for c in world.listener.connections) > 100_000)
        guard_of(world).look(time())
        answer = await read_response(reader)
        assert (answer.status, answer.field("retry-after")) == (503, "2")
        writer.close()


async def test_the_guard_looks_by_itself_and_rests_when_nobody_is_there() -> None:
    async with running(Limits(address_requests_s=10)) as world:
        guard = guard_of(world)
        streams = await connect(world, STRANGER)
        assert (await ask(streams, get(b"/live/a"))).status == 200
        assert guard._timer is not None
        streams[1].close()
        await until(lambda: guard._timer is None)


# --- slowly


async def test_an_upload_that_drips_in_has_no_more_time() -> None:
    async with running(Limits(body_timeout_s=20.0)) as world:
        reader, writer = await world.connect()
        writer.write(get(b"/live/a", b"Content-Length: 1000", method=b"POST"))
        await until(lambda: any(c.held() == 0 and not c.idle() for c in world.listener.connections))
        (connection,) = world.listener.connections
        now_s = connection.last_activity_s
        for later_s in range(0, 40, 5):
            seen_s = connection.last_activity_s
            writer.write(b"u")
            await until(lambda before=seen_s: connection.last_activity_s > before)  # type: ignore[misc]
            connection.check_timeouts(now_s + later_s)
            if connection.closing:
                break
        assert (await read_response(reader)).status == 408
        writer.close()


async def test_small_uploads_one_after_the_other_have_all_the_time_they_need() -> None:
    async with running(Limits(body_timeout_s=20.0)) as world:
        world.origin.hold = asyncio.Event()
        reader, writer = await world.connect()
        later_s = time()
        for _ in range(5):
            writer.write(get(b"/live/a", b"Content-Length: 3", method=b"POST") + b"ab")
            await until(lambda: any(not c.idle() for c in world.listener.connections))
            (connection,) = world.listener.connections
            later_s += 15
            connection.check_timeouts(later_s)
            writer.write(b"c")
            world.origin.hold.set()
            assert (await read_response(reader)).status == 200
        writer.close()


async def test_who_takes_a_byte_now_and_then_does_not_read() -> None:
    async with running(Limits(body_timeout_s=20.0)) as world:
        world.origin.answer = lambda asked: page(b"y" * 4_000_000, b"max-age=600")
        client = world.deaf_client()
        client.send(get(b"/large"))
        await until(lambda: len(world.listener.connections) == 1)
        (connection,) = world.listener.connections
        await until(lambda: connection.transport.get_write_buffer_size() > 0)
        await settled(connection.transport.get_write_buffer_size)
        now_s = time()
        for later_s in range(0, 60, 5):
            with contextlib.suppress(BlockingIOError):
                client.recv(16)
            connection.check_timeouts(now_s + later_s)
        await until(lambda: not world.listener.connections)
        client.close()
