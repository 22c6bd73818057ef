"""What is fetched for many at once: nobody waits in vain, nothing is left behind, slices are of one film."""

from __future__ import annotations

import asyncio
import socket
from copy import copy
from itertools import count
from time import perf_counter

import pytest
from edge_ring import ring
from edge_world import WAIT_S, Asked, World, get, page, post, reset, running, until, world

from atoll.cache import changes
from atoll.config.purge import Selector
from atoll.config.spec import RouteSpec
from atoll.edge.spool import Spool
from atoll.wire.messages import NumberedPurge, PurgeUpdate

__all__ = ["world"]

SLICE = 64 * 1024
FILM = bytes(range(256)) * 1024  # four slices
MEBI = 1024 * 1024


def film(asked: Asked, cache: bytes = b"max-age=600", version: int = 1) -> bytes:
    """What an origin answers that knows ranges."""
    if asked.line.startswith(b"POST"):
        return page(b"done")
    body = FILM if version == 1 else FILM[::-1]
    tag = b'ETag: "%d"' % version
    wanted = asked.fields.get(b"range")
    if wanted is None:
        return page(body, cache, tag)
    first, _, last = wanted.removeprefix(b"bytes=").partition(b"-")
    if int(first) >= len(body):
        where = b"Content-Range: bytes */%d" % len(body)
        return page(b"", b"no-store", where, status=b"416 Range Not Satisfiable")
    piece = body[int(first) : int(last or b"%d" % len(body)) + 1]
    where = b"Content-Range: bytes %b-%d/%d" % (first, int(first) + len(piece) - 1, len(body))
    return page(piece, cache, tag, where, status=b"206 Partial Content")


def sliced(world: World, **route: object) -> None:
    spec = RouteSpec(path="/*", pool="shop", slice_bytes=SLICE, **route)  # type: ignore[arg-type]
    world.edge.apply(world.snapshot(2, routes=(spec,)))
    world.origin.answer = film


def active(world: World) -> int:
    return sum(len(origin.pool.active) for origin in world.edge.origins.by_host.values())


# --- waiting for one another


@pytest.mark.parametrize("field", [b"Cache-Control: no-store", b"Authorization: Basic eA=="])
async def test_who_waited_for_what_was_another_s_alone_shares_the_next_one(
    world: World, field: bytes
) -> None:
    world.origin.answer = lambda asked: page(b"x", b"max-age=60")
    world.origin.hold = asyncio.Event()
    first = asyncio.ensure_future(world.ask(get(b"/a", field)))
    await world.origin.until_asked()
    others = [asyncio.ensure_future(world.ask(get(b"/a"))) for _ in range(10)]
    await until(lambda: world.edge.stats(0).requests == 11)
    world.origin.hold.set()
    assert (await first).body == b"x"
    assert {answer.body for answer in await asyncio.gather(*others)} == {b"x"}
    assert len(world.origin.asked) == 2


@pytest.mark.parametrize("stored", [False, True])
async def test_who_waited_for_an_origin_that_does_not_answer_does_not_wait_again(stored: bool) -> None:
    async with running(response_timeout_s=0.5) as world:
        world.origin.answer = lambda asked: page(b"old", b"public, max-age=0, stale-if-error=600")
        if stored:
            await world.ask(get(b"/a"))
        world.origin.asked.clear()
        world.origin.hold = asyncio.Event()
        answers = await asyncio.gather(*(world.ask(get(b"/a")) for _ in range(10)))
        assert {answer.status for answer in answers} == {200 if stored else 504}
        assert len(world.origin.asked) == 1
        world.origin.asked.clear()
        mine = (b"Cookie: %d" % number for number in range(3))
        await asyncio.gather(*(world.ask(get(b"/b", cookie)) for cookie in mine))
        assert len(world.origin.asked) == 3  # an origin may have its trouble with one of them


async def test_who_waited_for_an_origin_that_broke_off_tries_one_after_another(world: World) -> None:
    hold = asyncio.Event()

    async def break_off_once(
        asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await hold.wait()
        writer.write(b"HTTP/1.1 200" if len(world.origin.asked) == 1 else page(b"x", b"max-age=60"))

    world.origin.converse = break_off_once
    asking = [asyncio.ensure_future(world.ask(get(b"/a"))) for _ in range(10)]
    await until(lambda: world.edge.stats(0).requests == 10)
    hold.set()
    statuses = [answer.status for answer in await asyncio.gather(*asking)]
    assert sorted(statuses) == [200] * 9 + [502]
    assert len(world.origin.asked) == 2


async def test_critical_answers_come_from_questions_asked_after_the_request(world: World) -> None:
    world.edge.apply(world.snapshot(2, routes=(RouteSpec(path="/*", pool="shop", consistency="critical"),)))
    versions = iter((b"1", b"2", b"3"))
    world.origin.hold = asyncio.Event()
    world.origin.answer = lambda asked: page(next(versions), b"max-age=60")
    first = asyncio.ensure_future(world.ask(get(b"/a")))
    await world.origin.until_asked()
    others = [asyncio.ensure_future(world.ask(get(b"/a"))) for _ in range(10)]
    await until(lambda: world.edge.stats(0).requests == 11)
    world.origin.hold.set()
    assert (await first).body == b"1"
    assert {answer.body for answer in await asyncio.gather(*others)} == {b"2"}


async def test_a_defect_while_content_arrives_leaves_nobody_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, pieces = Spool.append, count()

    def broken(spool: Spool, data: bytes) -> None:
        if next(pieces):
            raise ZeroDivisionError
        append(spool, data)

    async def slowly(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(page(b"x" * 10, b"max-age=60", length=20))
        await asyncio.sleep(0.1)
        writer.write(b"y" * 10)

    world.origin.converse = slowly
    monkeypatch.setattr(Spool, "append", broken)
    asking = [asyncio.ensure_future(world.ask(get(b"/a"))) for _ in range(2)]
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert {type(answer) for answer in answers} <= {asyncio.IncompleteReadError, ConnectionResetError}
    assert not world.edge.cache._flights._under_way


# --- slices


async def test_a_slice_that_was_asked_for_before_a_write_is_not_kept(world: World) -> None:
    sliced(world)
    world.origin.hold = asyncio.Event()
    first = asyncio.ensure_future(world.ask(get(b"/film", b"Range: bytes=0-9")))
    await world.origin.until_asked()
    held, world.origin.hold = world.origin.hold, None
    await world.ask(post(b"/film", b"x"))
    held.set()
    assert (await first).body == FILM[:10]
    world.origin.answer = lambda asked: film(asked, version=2)
    assert (await world.ask(get(b"/film", b"Range: bytes=0-9"))).body == FILM[::-1][:10]


@pytest.mark.parametrize("consistency", ["critical", "strict"])
async def test_slices_are_validated_where_everything_is(world: World, consistency: str) -> None:
    sliced(world, consistency=consistency)
    world.edge.lease.renew(0.0)
    await world.ask(get(b"/film", b"Range: bytes=0-9"))
    world.origin.answer = lambda asked: film(asked, version=2)
    assert (await world.ask(get(b"/film", b"Range: bytes=0-9"))).body == FILM[::-1][:10]


async def test_a_route_that_does_not_heed_reloads_does_not_for_slices(world: World) -> None:
    sliced(world, honour_client=False)
    for _ in range(2):
        await world.ask(get(b"/film", b"Range: bytes=0-9", b"Cache-Control: no-cache"))
    assert len(world.origin.asked) == 1


@pytest.mark.parametrize(
    "fields",
    [
        (b"Range: bytes=99999999-",),
        (b"Range: bytes=70000-70001", b"Cache-Control: no-store"),
        (b"Range: bytes=70000-70001", b"Authorization: Basic eA=="),
    ],
)
async def test_no_client_turns_slices_off_for_others(world: World, fields: tuple[bytes, ...]) -> None:
    sliced(world)
    await world.ask(get(b"/film", *fields))
    world.origin.asked.clear()
    await world.ask(get(b"/film", b"Range: bytes=0-9"))
    assert [asked.fields[b"range"] for asked in world.origin.asked] == [b"bytes=0-%d" % (SLICE - 1)]


async def test_a_write_drops_the_slices_of_however_long_a_film_at_once(world: World) -> None:
    sliced(world)
    where = b"Content-Range: bytes 0-%d/%d" % (SLICE - 1, 10**15)
    piece = b"x" * SLICE
    world.origin.answer = lambda asked: (
        page(b"done")
        if asked.line.startswith(b"POST")
        else page(piece, b"max-age=600", b'ETag: "1"', where, status=b"206 Partial Content")
    )
    await world.ask(get(b"/film", b"Range: bytes=0-9"))
    began_s = perf_counter()
    async with asyncio.timeout(WAIT_S):
        await world.ask(post(b"/film", b"x"))
    assert perf_counter() - began_s < 1
    world.origin.asked.clear()
    await world.ask(get(b"/film", b"Range: bytes=0-9"))
    assert len(world.origin.asked) == 1


async def test_who_leaves_takes_the_slice_back_that_was_fetched_ahead() -> None:
    size = 2 * MEBI
    async with running(response_timeout_s=60.0) as world:
        world.edge.apply(world.snapshot(2, routes=(RouteSpec(path="/*", pool="shop", slice_bytes=size),)))

        async def film_of_slices(
            asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            first = int(asked.fields[b"range"].removeprefix(b"bytes=").partition(b"-")[0])
            where = b"Content-Range: bytes %d-%d/%d" % (first, first + size - 1, 4 * size)
            writer.write(page(b"", b"max-age=600", b'ETag: "1"', where, status=b"206 Partial", length=size))
            writer.write(b"x" * (size if first < 2 * size else MEBI))
            if first >= 2 * size:
                await asyncio.sleep(2 * WAIT_S)

        world.origin.converse = film_of_slices
        client = world.deaf_client()
        client.send(get(b"/film", b"Range: bytes=0-"))
        data = b""
        async with asyncio.timeout(WAIT_S):
            while len(world.origin.asked) < 3:
                data += await asyncio.get_running_loop().sock_recv(client, MEBI)
        await asyncio.sleep(0.1)
        reset(client)
        await until(lambda: active(world) == 0)


# --- caches behind caches


async def test_a_peer_that_does_not_know_a_new_site_yet_is_passed_over() -> None:
    async with ring(("lhr", 1), ("iad", 1), shield="iad") as net:
        net.workers["iad/0"].edge.apply(net.snapshot("iad", ()))
        net.origin.answer = lambda asked: page(b"x", b"max-age=60")
        answer = await net.ask("lhr/0", b"/a")
        assert (answer.status, answer.body) == (200, b"x")


async def test_what_a_peer_does_not_keep_is_asked_for_once_after_a_purge() -> None:
    async with ring(("lhr", 1), ("iad", 1), shield="iad") as net:
        update = PurgeUpdate(purges=(NumberedPurge(seq=7, selector=Selector(kind="all")),))
        for worker in net.workers.values():
            worker.edge.purge(update)
        net.origin.answer = lambda asked: page(b"x", b"no-store")
        assert (await net.ask("lhr/0", b"/a")).body == b"x"
        assert len(net.origin.asked) == 1


# --- the disk


class Big:
    """An origin that sends a long body bit by bit."""

    def __init__(self, size: int, *fields: bytes, cache: bytes = b"max-age=600") -> None:
        self.body = bytes(range(251)) * (size // 251 + 1)
        self.fields = fields
        self.cache = cache

    async def __call__(
        self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(page(b"", self.cache, *self.fields, length=len(self.body)))
        for start in range(0, len(self.body), MEBI):
            writer.write(self.body[start : start + MEBI])
            await writer.drain()


async def read_slowly(client: socket.socket, size: int) -> bytes:
    """A response's content, read by somebody who has begun late."""
    loop = asyncio.get_running_loop()
    data, begins = bytearray(), 0
    async with asyncio.timeout(2 * WAIT_S):
        while not begins or len(data) < begins + size:
            piece = await loop.sock_recv(client, MEBI)
            if not piece:
                break
            data += piece
            begins = begins or data.find(b"\r\n\r\n") + 4
    return bytes(data[begins:])


async def test_a_slow_reader_gets_all_of_it_when_the_disk_takes_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reserve, steps = changes.reserve, count()

    def only_once(*args: object) -> bool | None:
        return reserve(*args) if next(steps) == 0 else None  # type: ignore[arg-type]

    monkeypatch.setattr(changes, "reserve", only_once)
    async with running(disk_bytes=256 * MEBI) as world:
        big = world.origin.converse = Big(12 * MEBI)
        client = world.deaf_client()
        client.send(get(b"/big"))
        await world.origin.until_asked()
        await until(lambda: next(copy(steps)) > 1)
        assert await read_slowly(client, len(big.body)) == big.body
        client.close()


async def test_a_slow_reader_gets_nothing_of_another_variant() -> None:
    """What has been stored last need not be what the request selects first (RFC 9111 §4.1)."""
    async with running(disk_bytes=256 * MEBI) as world:
        late = b"Date: Tue, 01 Jan 2030 00:00:00 GMT"
        one = world.origin.converse = Big(4 * MEBI, late, b"Vary: X-Lang")
        assert (await world.ask(get(b"/big", b"X-Lang: de"))).body == one.body
        other = Big(4 * MEBI, b"Date: Tue, 01 Jan 2019 00:00:00 GMT", cache=b"max-age=999999999")
        other.body = other.body[::-1]
        world.origin.converse = other
        client = world.deaf_client()
        client.send(get(b"/big", b"X-Lang: de", b"Cache-Control: no-cache"))
        await world.origin.until_asked(2)
        await asyncio.sleep(0.5)
        assert await read_slowly(client, len(other.body)) == other.body
        client.close()


async def test_what_is_too_long_for_memory_is_renewed_behind() -> None:
    async with running(disk_bytes=512 * MEBI) as world:
        world.origin.converse = Big(20 * MEBI, cache=b"max-age=0, stale-while-revalidate=600")
        first = await world.ask(get(b"/big"))
        new = world.origin.converse = Big(20 * MEBI)
        new.body = new.body[::-1]
        assert (await world.ask(get(b"/big"))).body == first.body
        await world.origin.until_asked(2)
        await until(lambda: not world.edge.cache._flights._under_way)
        assert (await world.ask(get(b"/big"))).body == new.body
        assert len(world.origin.asked) == 2
