"""What has been purged or changed is not served, whatever was under way when it happened."""

from __future__ import annotations

import asyncio
import time as clock
from collections.abc import AsyncIterator
from itertools import count

import pytest
import pytest_asyncio
from edge_ring import ring
from edge_world import Asked, Conversation, World, get, page, post, reset, running, until, world

from atoll.cache.levels import Levels
from atoll.cache.purge import PurgeLog
from atoll.config.purge import Selector
from atoll.config.spec import RouteSpec
from atoll.wire.messages import NumberedPurge, PurgeUpdate

__all__ = ["world"]

SEQS = count(1)
SLICE = 64 * 1024
HALF = 200_000


def purge(world: World, **selector: str) -> None:
    chosen = Selector(**{"kind": "url", "value": "shop.test/a", **selector})  # type: ignore[arg-type]
    world.edge.purge(PurgeUpdate(purges=(NumberedPurge(seq=next(SEQS), selector=chosen),)))


class Slow:
    """An origin that sends half of a response, and the rest when it may; each time another version.

    What is POSTed to it is done at once.
    """

    def __init__(self, cache: bytes = b"max-age=60") -> None:
        self.rest = asyncio.Event()
        self.cache = cache
        self.versions = 0
        self.posts = 0

    async def __call__(
        self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if asked.line.startswith(b"POST"):
            self.posts += 1
            writer.write(page(b"done"))
            return
        self.versions += 1
        first = self.versions == 1
        body = b"%d" % self.versions * HALF
        writer.write(page(body, self.cache, length=2 * HALF))
        if first:
            await self.rest.wait()
        writer.write(body)


async def half_way(world: World, slow: Conversation) -> asyncio.Task[object]:
    """Somebody gets the first version, of which half is there."""
    world.origin.converse = slow
    task = asyncio.ensure_future(world.ask(get(b"/a")))
    await world.origin.until_asked()
    await asyncio.sleep(0.05)
    return task


@pytest.mark.parametrize("how", ["purge", "post"])
async def test_who_comes_after_a_change_gets_nothing_of_what_is_still_arriving(
    world: World, how: str
) -> None:
    slow = Slow()
    first = await half_way(world, slow)
    if how == "purge":
        purge(world)
    else:
        assert (await world.ask(post(b"/a", b"x"))).status == 200
    after = asyncio.gather(*(world.ask(get(b"/a")) for _ in range(5)))
    await asyncio.sleep(0.05)
    slow.rest.set()
    assert {answer.body[:1] for answer in await after} == {b"2"}
    assert slow.versions == 2  # they share one
    await first
    assert (await world.ask(get(b"/a"))).body[:1] == b"2"


async def test_who_comes_after_a_change_does_not_wait_for_what_was_asked_before(world: World) -> None:
    world.origin.hold = asyncio.Event()
    versions = iter((b"old", b"new", b"newer"))
    world.origin.answer = lambda asked: page(next(versions), b"max-age=60")
    first = asyncio.ensure_future(world.ask(get(b"/a")))
    await world.origin.until_asked()
    purge(world)
    second = asyncio.ensure_future(world.ask(get(b"/a")))
    await asyncio.sleep(0.05)
    world.origin.hold.set()
    assert (await first).body == b"old"
    assert (await second).body == b"new"


async def test_a_response_is_not_shared_beyond_its_life(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(b"max-age=1")
    first = await half_way(world, slow)
    later_s = clock.time() + 5
    for module in ("edge.cached", "edge.fill", "edge.serve", "edge.pipeline", "http.h1_reader", "http.call"):
        monkeypatch.setattr(f"atoll.{module}.time", lambda: later_s)
    second = asyncio.ensure_future(world.ask(get(b"/a")))
    await asyncio.sleep(0.05)
    slow.rest.set()
    await first
    assert (await second).body[:1] == b"2"


async def test_who_is_served_from_what_arrives_hears_how_old_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(b"max-age=60")
    first = await half_way(world, slow)
    later_s = clock.time() + 30
    for module in ("edge.cached", "edge.fill", "edge.serve", "edge.pipeline", "http.h1_reader", "http.call"):
        monkeypatch.setattr(f"atoll.{module}.time", lambda: later_s)
    second = asyncio.ensure_future(world.ask(get(b"/a")))
    await asyncio.sleep(0.05)
    slow.rest.set()
    await first
    answer = await second
    assert answer.body[:1] == b"1"
    assert 29 <= int(answer.field("age")) <= 31


async def test_a_renewal_behind_brings_back_nothing_that_was_changed_meanwhile(world: World) -> None:
    versions = iter((b"old", b"older"))

    def answer(asked: Asked) -> bytes:
        if asked.line.startswith(b"POST"):
            return page(b"done")
        cache = b"max-age=0, stale-while-revalidate=600" if world.origin.hold is None else b"max-age=600"
        return page(next(versions, b"new"), cache)

    world.origin.answer = answer
    await world.ask(get(b"/a"))
    world.origin.hold = asyncio.Event()
    assert (await world.ask(get(b"/a"))).body == b"old"
    await world.origin.until_asked(2)  # the renewal, answered from before the change
    held, world.origin.hold = world.origin.hold, None
    assert (await world.ask(post(b"/a", b"x"))).status == 200
    world.origin.hold = held
    held.set()
    await asyncio.sleep(0.1)
    assert (await world.ask(get(b"/a"))).body == b"new"


@pytest.mark.parametrize("how", ["purge", "post"])
async def test_what_is_gone_does_not_stand_in_for_an_origin_that_fails(world: World, how: str) -> None:
    world.origin.answer = lambda asked: page(b"old", b"public, max-age=0, stale-if-error=600")
    await world.ask(get(b"/a"))
    world.origin.hold = asyncio.Event()
    world.origin.answer = lambda asked: page(b"no", status=b"500 Internal Server Error")
    asking = asyncio.ensure_future(world.ask(get(b"/a")))
    await world.origin.until_asked(2)
    held, world.origin.hold = world.origin.hold, None
    if how == "purge":
        purge(world)
    else:
        world.origin.answer = lambda asked: page(b"done")
        await world.ask(post(b"/a", b"x"))
        world.origin.answer = lambda asked: page(b"no", status=b"500 Internal Server Error")
    held.set()
    assert (await asking).status == 500


# --- writes


async def test_a_write_whose_answer_is_kept_is_announced_too(world: World) -> None:
    told: list[tuple[Selector, ...]] = []

    async def announce(selectors: tuple[Selector, ...]) -> None:
        told.append(selectors)

    world.edge.apply(world.snapshot(2, routes=(RouteSpec(path="/*", pool="shop", consistency="strict"),)))
    world.edge.announcer.announce = announce
    world.origin.answer = lambda asked: page(b"new", b"max-age=60", b"Content-Location: /a")
    assert (await world.ask(post(b"/a", b"x"))).body == b"new"
    assert any(Selector(kind="url", value="shop.test/a") in selectors for selectors in told)


async def test_a_write_whose_answer_breaks_off_still_has_changed_something(world: World) -> None:
    world.origin.answer = lambda asked: page(b"old", b"max-age=60")
    await world.ask(get(b"/a"))

    async def break_off(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if asked.line.startswith(b"POST"):
            writer.write(page(b"ne", b"max-age=60", b"Content-Location: /a", length=3))
        else:
            writer.write(page(b"new", b"max-age=60"))

    world.origin.converse = break_off
    await world.ask(post(b"/a", b"x"))
    assert (await world.ask(get(b"/a"))).body == b"new"


async def test_who_leaves_takes_no_request_back_that_may_have_changed_something(world: World) -> None:
    world.origin.answer = lambda asked: page(b"old", b"max-age=60")
    await world.ask(get(b"/a"))
    world.origin.hold = asyncio.Event()
    client = world.deaf_client()
    client.send(get(b"/a", method=b"MOVE"))
    await world.origin.until_asked(2)
    reset(client)
    await until(lambda: not world.listener.connections)
    world.origin.answer = lambda asked: page(b"new", b"max-age=60")
    world.origin.hold.set()
    world.origin.hold = None
    await asyncio.sleep(0.1)
    assert (await world.ask(get(b"/a"))).body == b"new"


async def test_tags_of_any_letters_are_announced_as_they_are(world: World) -> None:
    told: list[Selector] = []

    async def announce(selectors: tuple[Selector, ...]) -> None:
        told.extend(selectors)

    world.edge.apply(world.snapshot(2, routes=(RouteSpec(path="/*", pool="shop", consistency="strict"),)))
    world.edge.announcer.announce = announce
    tag = "Cache-Tag: prix-été".encode()
    world.origin.answer = lambda asked: page(b"x", b"max-age=60", tag)
    await world.ask(get(b"/a"))
    world.origin.answer = lambda asked: page(b"done", b"no-store", tag)
    await world.ask(post(b"/b", b"x"))
    for selector in told:
        world.edge.purge(PurgeUpdate(purges=(NumberedPurge(seq=next(SEQS), selector=selector),)))
    assert "hit" not in (await world.ask(get(b"/a"))).field("cache-status")


# --- caches behind caches


async def test_who_writes_reads_what_was_written() -> None:
    async with ring(("lhr", 2), ("iad", 1), shield="iad") as net:
        body = b"old"
        net.origin.answer = lambda asked: page(
            b"done" if asked.line.startswith(b"POST") else body,
            b"no-store" if asked.line.startswith(b"POST") else b"max-age=600",
        )
        for target in (b"/%d" % number for number in range(6)):
            body = b"old"
            for worker in net.workers:
                await net.ask(worker, target)
            body = b"new"
            await net.send("lhr/0", post(target, b"x"))
            assert (await net.ask("lhr/0", target)).body == b"new"
        asked = len(net.origin.asked)
        for target in (b"/%d" % number for number in range(6)):
            assert (await net.ask("lhr/0", target)).body == b"new"
        assert len(net.origin.asked) == asked


async def test_who_writes_reads_every_variant_of_what_was_written() -> None:
    """Also when the first to ask is one whose answer nobody may keep."""
    async with ring(("lhr", 2), ("iad", 1), shield="iad") as net:
        version = b"old"
        net.origin.answer = lambda asked: (
            page(b"done")
            if asked.line.startswith(b"POST")
            else page(version + asked.fields[b"x-lang"], b"max-age=600", b"Vary: X-Lang")
        )
        for target in (b"/%d" % number for number in range(6)):
            version = b"old"
            for language in (b"X-Lang: de", b"X-Lang: fr"):
                await net.ask("lhr/0", target, language)
            version = b"new"
            await net.send("lhr/0", post(target, b"x"))
            for fields in ((b"X-Lang: de", b"Cache-Control: no-store"), (b"X-Lang: de",), (b"X-Lang: fr",)):
                assert (await net.ask("lhr/0", target, *fields)).body == b"new" + fields[0][-2:]


async def test_a_peer_that_has_not_heard_of_a_purge_gives_nobody_what_was_purged() -> None:
    async with ring(("lhr", 1), ("iad", 1), shield="iad") as net:
        body = b"old"
        net.origin.answer = lambda asked: page(body, b"max-age=600", b"Cache-Tag: news")
        await net.ask("lhr/0", b"/a")
        selector = Selector(kind="tag", value="news")
        update = PurgeUpdate(purges=(NumberedPurge(seq=next(SEQS), selector=selector),))
        net.workers["lhr/0"].edge.purge(update)
        body = b"new"
        assert (await net.ask("lhr/0", b"/a")).body == b"new"
        assert "hit" in (await net.ask("lhr/0", b"/a")).field("cache-status")


async def test_slices_from_a_peer_are_kept_after_a_purge() -> None:
    routes = (RouteSpec(path="/*", pool="shop", slice_bytes=SLICE),)
    async with ring(("lhr", 1), ("iad", 1), shield="iad", routes=routes) as net:
        film = b"x" * SLICE
        where = b"Content-Range: bytes 0-%d/%d" % (SLICE - 1, SLICE)
        net.origin.answer = lambda asked: page(
            film, b"max-age=600", b'ETag: "1"', where, status=b"206 Partial Content"
        )
        update = PurgeUpdate(purges=(NumberedPurge(seq=next(SEQS), selector=Selector(kind="all")),))
        for worker in net.workers.values():
            worker.edge.purge(update)
        for _ in range(2):
            answer = await net.ask("lhr/0", b"/film", b"Range: bytes=0-9")
            assert answer.status == 206
        assert "atoll-lhr; hit" in answer.field("cache-status")


# --- the disk


@pytest_asyncio.fixture
async def disk_world() -> AsyncIterator[World]:
    async with running(disk_bytes=64 * 1024 * 1024) as world:
        yield world


async def test_a_purge_that_could_not_be_written_down_is_not_lost(disk_world: World) -> None:
    world = disk_world
    store = world.edge.store
    assert isinstance(store, Levels)
    world.origin.answer = lambda asked: page(b"old", b"max-age=600")
    await world.ask(get(b"/a"))
    space, store.disk.parts.space = store.disk.parts.space, None  # type: ignore[union-attr]
    purge(world)
    store.disk.parts.space = space  # type: ignore[union-attr]
    purge(world, value="shop.test/b")
    log = store.disk.log = PurgeLog()  # as after a restart
    store.disk.load_purges()
    assert log.applied in (0, world.edge.store.log.applied)
    assert store.disk.get(b"http://shop.test/a", []) is None or log.applied == 0
