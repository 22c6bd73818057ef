"""The worker's own footing: uploads, functions and their reach, exceptions, the log, the health host."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from edge_world import (
    HOST,
    ORIGIN,
    Asked,
    World,
    get,
    page,
    post,
    read_response,
    reset,
    running,
    settled,
    until,
    world,
)

from atoll.config.spec import OriginSpec
from atoll.edge.bindings import parse_response
from atoll.edge.clock import Clock
from atoll.edge.log import AccessLog
from atoll.edge.origin import target_of
from atoll.errors import AtollError, RemoteError
from atoll.http.exchange import ConnectionInfo

__all__ = ["world"]


# --- uploads


async def test_uploads_that_end_early_leave_nothing_behind(world: World) -> None:
    await world.ask(get(b"/live/warm"))
    await until(lambda: not world.listener.connections)
    before = len(asyncio.all_tasks())
    for target in (b"/live/up", b"/up", b"/fn/up"):
        for _ in range(3):
            client = world.deaf_client()
            client.send(get(target, b"Content-Length: 1000", method=b"POST") + b"x" * 10)
            await until(lambda: len(world.listener.connections) == 1)
            await settled(lambda: len(asyncio.all_tasks()))
            reset(client)
            await until(lambda: not world.listener.connections)
    await until(lambda: len(asyncio.all_tasks()) <= before)
    assert not world.edge.origins.by_host[ORIGIN].pool.active
    assert world.edge.origins.up() == {ORIGIN: True}


async def test_clients_that_send_slowly_do_not_take_the_origin_down() -> None:
    async def converse(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(20)
        writer.write(page(b"thanks"))

    async with running(response_timeout_s=0.1) as world:
        world.origin.converse = converse
        clients = [await world.connect() for _ in range(3)]
        for _, writer in clients:
            writer.write(get(b"/live/up", b"Content-Length: 20", method=b"POST") + b"x")
        await world.origin.until_asked(3)
        await asyncio.sleep(0.4)  # the origin has had its time: it waits for the client
        assert world.edge.origins.up() == {ORIGIN: True}
        for reader, writer in clients:
            writer.write(b"y" * 19)
            assert (await read_response(reader)).body == b"thanks"
            writer.close()


# --- what functions reach


def outbound(owner: bytes, method: bytes = b"GET", *fields: bytes) -> bytes:
    own = (b"Atoll-Service: outbound", b"Atoll-Function: " + owner, *fields)
    return get(b"http://shop.test/", *own, method=method)


async def test_a_function_does_not_reach_another_tenant_s_site(world: World) -> None:
    await world.ask(get(b"/"))
    for method, fields in ((b"GET", ()), (b"POST", (b"Content-Length: 0",))):
        answer = await world.ask_bindings(outbound(b"mallory/f/1", method, *fields))
        assert answer.status >= 400
    assert len(world.origin.asked) == 1
    assert (await world.ask(get(b"/"))).field("x-cache") == "HIT" or len(world.edge.store) == 0


async def test_a_function_cannot_fill_the_cache_with_fields_of_its_own(world: World) -> None:
    world.origin.answer = lambda asked: page(asked.fields.get(b"x-forwarded-host", b"-"), b"max-age=600")
    forged = (b"X-Forwarded-Host: mallory.test", b"X-Forwarded-For: 9.9.9.9", b"Forwarded: host=mallory.test")
    assert (await world.ask_bindings(outbound(b"default/f/1", b"GET", *forged))).status == 200
    assert b"mallory" not in (await world.ask(get(b"/"))).body
    for asked in world.origin.asked:
        values = b" ".join(asked.fields.values())
        assert b"mallory" not in values
        assert b"9.9.9.9" not in values


@pytest.mark.parametrize("backend", [b"http://[", b"http://[::1", b"//", b"http://\xff"])
async def test_a_backend_that_is_no_address_is_answered_with_an_error(world: World, backend: bytes) -> None:
    answer = await world.ask_bindings(outbound(b"default/f/1", b"GET", b"Atoll-Backend: " + backend))
    assert answer.status >= 500


BROKEN = {
    "truncated body": b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100\r\n\r\ncut",
    "truncated head": b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nVar",
    "truncated chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    "upgrade": b"HTTP/1.1 101 X\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n",
    "two": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" * 2,
}


@pytest.mark.parametrize("what", BROKEN)
async def test_only_one_whole_response_can_be_put(world: World, what: str) -> None:
    with pytest.raises(RemoteError):
        parse_response(BROKEN[what])
    cache = (b"Atoll-Service: cache", b"Atoll-Function: default/f/1")
    put = post(b"http://shop.test/k", BROKEN[what], *cache).replace(b"POST", b"PUT", 1)
    assert (await world.ask_bindings(put)).status in range(400, 500)
    assert len(world.edge.store) == 0


async def test_a_slow_reader_of_a_function_costs_the_next_nothing(world: World) -> None:
    for target, server, size in (
        (b"/fn/a", world.function, 300_000),
        (b"/live/a", world.origin, 600_000),
        (b"/a", world.origin, 600_000),
    ):
        server.answer = lambda asked, size=size: page(b"f" * size)  # type: ignore[misc]
        client = world.deaf_client()
        client.send(get(target))
        await server.until_asked()
        received = 0
        while received < size:
            received += len(await asyncio.get_running_loop().sock_recv(client, 4096))
        reset(client)
        for _ in range(2):
            assert len((await world.ask(get(target + b"/next"))).body) == size


async def test_what_a_function_says_beyond_its_answer_answers_nobody(world: World) -> None:
    world.function.answer = lambda asked: (
        page(asked.target) + (page(b"more") if b"first" in asked.target else b"")
    )
    reader, writer = await world.connect()
    writer.write(get(b"/fn/first") + get(b"/fn/second"))
    assert [(await read_response(reader)).body for _ in range(2)] == [b"/fn/first", b"/fn/second"]
    writer.close()


async def test_head_of_a_function_says_no_length_that_nobody_knows(world: World) -> None:
    world.function.answer = lambda asked: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\n\r\n"
    for _ in range(2):
        answer = await world.ask(get(b"/fn/a", method=b"HEAD"))
        assert (answer.status, answer.field("x-a"), answer.all("content-length")) == (200, "1", [])


async def test_a_function_does_not_speak_for_the_edge(world: World) -> None:
    forged = (b"Atoll-Trace: forged", b"Atoll-Other: forged", b"X-Edge-Location: forged")
    world.function.answer = lambda asked: page(b"x", b"no-store", *forged)
    for _ in range(3):
        answer = await world.ask(get(b"/fn/a"))
        assert answer.all("x-edge-location") == ["nrt"]
        assert not [value for _, value in answer.fields if value == "forged"]


# --- what goes no further


async def test_fields_that_are_between_two_ends_of_a_connection_stay_there(world: World) -> None:
    hop = (b"Connection: keep-alive, X-Hop", b"X-Hop: 1", b"Proxy-Authorization: Basic eA==")
    for target, server in ((b"/live/a", world.origin), (b"/a", world.origin), (b"/fn/a", world.function)):
        await world.ask(get(target, *hop, b"Trailer: X-T", b"HTTP2-Settings: AAAA", b"X-End: 1"))
        named = {b"x-hop", b"proxy-authorization", b"trailer", b"http2-settings"}
        assert not named & set(server.asked[-1].fields)
        assert server.asked[-1].fields[b"x-end"] == b"1"


async def test_trailers_are_not_taken_for_fields(world: World) -> None:
    chunked = get(b"/live/2", b"Transfer-Encoding: chunked", method=b"POST")
    reader, writer = await world.connect()
    writer.write(get(b"/live/1") + chunked + b"1\r\na\r\n0\r\nAuthorization: from-trailer\r\n\r\n")
    for _ in range(2):
        assert (await read_response(reader)).status == 200
    writer.close()
    assert world.origin.asked[1].target == b"/live/2"
    assert b"from-trailer" not in b" ".join(world.origin.asked[1].fields.values())
    assert b"from-trailer" not in world.origin.asked[1].body


# --- what nobody expected


@pytest.mark.parametrize("step", ["lookup", "run"])
async def test_an_unexpected_exception_is_a_502(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(world.edge.cache, step, fail)
        assert (await world.ask(get(b"/a"))).status == 502
    assert (await world.ask(get(b"/a"))).status == 200


async def test_an_exception_in_the_middle_of_an_answer_cuts_it_short(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(exchange: object, *_: object) -> None:
        exchange.stream.start(200, [], 10)  # type: ignore[attr-defined]
        exchange.stream.write(b"half")  # type: ignore[attr-defined]
        raise ZeroDivisionError

    monkeypatch.setattr(world.edge.cache, "run", fail)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await world.ask(get(b"/a"))


async def test_digits_without_end_are_answered(world: World) -> None:
    zeros = b"0" * 5000
    world.origin.answer = lambda asked: page(b"x", b"max-age=" + zeros + b"1")
    assert (await world.ask(get(b"/a"))).status == 200
    world.origin.answer = lambda asked: page(b"x", b"max-age=" + b"9" * 5000)
    for _ in range(3):
        assert (await world.ask(get(b"/b", b"Cache-Control: max-age=" + b"9" * 5000))).status == 200


async def test_a_log_that_cannot_be_reopened_writes_into_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    log = AccessLog(tmp_path / "x.log", Clock())
    conn = ConnectionInfo("192.0.2.1", 1, b"http")
    os.truncate(tmp_path / "x.log", 100 * 1024 * 1024)  # a hole: large enough to be rotated
    with monkeypatch.context() as broken:
        broken.setattr(os, "open", full)
        log.add(conn, b',"target":"/secret"}\n')
        log.flush()
    ends = [end for _ in range(4) for end in socket.socketpair()]  # the next clients
    for _ in range(3):
        log.add(conn, b',"target":"/secret"}\n')
        log.flush()
    for end in ends:
        end.setblocking(False)
        with pytest.raises(BlockingIOError):
            end.recv(100)
    log.close()
    assert [end.send(b"still open") for end in ends] == [10] * len(ends)
    for end in ends:
        end.close()


@pytest.mark.parametrize(
    "url",
    ["ftp://other.test", "https://", "http://other.test/below", "//other.test", "http://[::1", "http://a:b"],
)
def test_an_origin_s_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(AtollError, match="http://host:port"):
        target_of(OriginSpec(host="other.test", url=url))


async def test_only_the_health_host_is_the_health_host(world: World) -> None:
    before = world.edge.stats(0).requests
    assert (await world.ask(get(b"/", host=b"health.atoll.internal"))).body == b"ok\n"
    assert world.edge.stats(0).requests == before
    for other in (
        b"health.atoll.internal.mallory.test",
        b"x.health.atoll.internal",
        b"health.atoll.internal2",
    ):
        assert (await world.ask(get(b"/", host=other))).status == 404
    assert world.edge.stats(0).requests == before + 3
    assert (await world.ask(get(b"/", host=HOST))).status == 200
