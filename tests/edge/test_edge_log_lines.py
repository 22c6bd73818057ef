"""The access log: one line for each request, whatever becomes of it, and what was really sent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from edge_world import World, get, page, post, reset, until, world
from http2_client import Client
from hyperframe.frame import RstStreamFrame

from atoll.config.admission import AdmissionSpec
from atoll.config.spec import RouteSpec

__all__ = ["world"]

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
)


def lines(world: World) -> list[dict[str, Any]]:
    world.log.flush()
    return [json.loads(line) for line in (world.folder / "access.log").read_bytes().splitlines()]


def told(world: World) -> list[tuple[str, int, int]]:
    return [(line["target"], line["status"], line["bytes"]) for line in lines(world)]


async def test_bytes_are_those_of_the_content_that_was_sent(world: World) -> None:
    world.origin.answer = lambda asked: CHUNKED
    await world.ask(get(b"/chunked"))
    world.origin.answer = lambda asked: page(b"", length=5000)
    await world.ask(get(b"/head", method=b"HEAD"))
    world.origin.answer = lambda asked: page(b"x" * 700, b"max-age=60")
    for method in (b"GET", b"HEAD", b"GET", b"GET"):
        await world.ask(get(b"/kept", method=method))
    await world.ask(get(b"/nowhere", host=b"nobody.test", method=b"HEAD"))
    assert told(world) == [
        ("/chunked", 200, 5),
        ("/head", 200, 0),
        ("/kept", 200, 700),
        ("/kept", 200, 0),
        ("/kept", 200, 700),
        ("/kept", 200, 700),
        ("/nowhere", 404, 0),
    ]


async def test_a_refusal_of_a_head_has_sent_nothing(world: World) -> None:
    route = RouteSpec(path="/*", pool="shop", admission=AdmissionSpec(methods=("POST",)))
    world.edge.apply(world.snapshot(2, routes=(route,)))
    refused = await world.ask(get(b"/a", method=b"HEAD"))
    assert int(refused.field("content-length")) > 0
    assert told(world) == [("/a", 405, 0)]


async def test_a_client_that_leaves_a_function_is_logged(world: World) -> None:
    world.function.hold = asyncio.Event()
    client = world.deaf_client()
    client.sendall(get(b"/fn/a"))
    await world.function.until_asked()
    reset(client)
    await until(lambda: bool(lines(world)))
    assert told(world) == [("/fn/a", 499, 0)]
    assert world.edge.counters.bypass == 1


async def test_a_client_that_leaves_a_function_in_the_middle_is_logged_once(world: World) -> None:
    world.function.answer = lambda asked: page(b"x" * 300, length=1000)
    client = world.deaf_client()
    client.sendall(post(b"/fn/a", b"body"))
    await world.function.until_asked()
    await asyncio.get_running_loop().sock_recv(client, 1)
    reset(client)
    await until(lambda: bool(lines(world)))
    assert told(world) == [("/fn/a", 200, 300)]


async def test_a_client_that_leaves_while_it_waits_for_another_is_logged(world: World) -> None:
    world.origin.hold = asyncio.Event()
    world.origin.answer = lambda asked: page(b"x", b"no-store")
    first = asyncio.ensure_future(world.ask(get(b"/a")))
    await world.origin.until_asked()
    client = world.deaf_client()
    client.sendall(get(b"/a", b"Accept: */*"))
    await until(lambda: world.edge.counters.requests == 2)
    reset(client)
    await until(lambda: len(world.listener.connections) == 1)
    world.origin.hold.set()
    await first
    await until(lambda: len(lines(world)) == 2)
    assert sorted(told(world)) == [("/a", 200, 1), ("/a", 499, 0)]
    assert len(world.origin.asked) == 1


async def test_who_takes_a_question_back_at_once_has_nobody_asked(world: World) -> None:
    client = Client(await world.connect())
    done = client.ask("/live/greeting")
    await client.complete(done)
    with client.in_one_piece():
        for _ in range(20):
            stream = client.ask("/live/a")
            client.send(RstStreamFrame(stream, error_code=8))
    done = client.ask("/live/last")
    await client.complete(done)
    assert [asked.target for asked in world.origin.asked] == [b"/live/greeting", b"/live/last"]
    assert [status for target, status, _ in told(world) if target == "/live/a"] == [499] * 20


async def test_the_first_hit_after_a_quiet_time_has_its_own_time(world: World) -> None:
    world.origin.answer = lambda asked: page(b"x", b"max-age=60")
    await world.ask(get(b"/a"))
    before = lines(world)[0]["t"]
    await asyncio.sleep(0.03)  # longer than a time stamp is kept
    await world.ask(get(b"/a"))
    assert lines(world)[1]["t"] > before
