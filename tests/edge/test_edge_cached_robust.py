"""What one client says or does must not change, delay or take away what others get from the cache."""

from __future__ import annotations

import asyncio
import gc
import time as clock

import pytest
from edge_world import Asked, World, get, page, read_response, reset, running, settled, until, world

from atoll.edge.hot import Hot

__all__ = ["world"]

TAGGED = (b'ETag: "1"',)


class Time:
    """The wall clock as the worker sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = clock.time()
        for module in (
            "edge.cached",
            "edge.fill",
            "edge.serve",
            "edge.pipeline",
            "http.call",
            "http.h1",
            "http.h1_reader",
            "http.h2",
        ):
            monkeypatch.setattr(f"atoll.{module}.time", lambda: self.now_s)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


# --- waiting for one another


async def test_a_leader_that_does_not_read_holds_up_nobody(world: World) -> None:
    world.origin.answer = lambda asked: page(b"z" * 4_000_000, b"max-age=60")
    leader = world.deaf_client()
    leader.send(get(b"/popular"))
    await world.origin.until_asked()
    answers = await asyncio.gather(*(world.ask(get(b"/popular")) for _ in range(3)))
    assert {len(answer.body) for answer in answers} == {4_000_000}
    assert len(world.origin.asked) == 1
    leader.close()


async def test_fifteen_who_wait_for_a_revalidation_cost_one_request(world: World) -> None:
    def answer(asked: Asked) -> bytes:
        known = b"if-none-match" in asked.fields
        return page(b"", b"no-cache", *TAGGED, status=b"304 X") if known else page(b"x", b"no-cache", *TAGGED)

    world.origin.answer = answer
    await world.ask(get(b"/a"))
    world.origin.hold = asyncio.Event()
    waiting = [asyncio.ensure_future(world.ask(get(b"/a"))) for _ in range(15)]
    await until(lambda: world.edge.stats(0).requests == 16)
    world.origin.hold.set()
    assert [answer.body for answer in await asyncio.gather(*waiting)] == [b"x"] * 15
    assert len(world.origin.asked) == 2


async def test_nothing_is_asked_for_those_who_have_left(world: World) -> None:
    world.origin.answer = lambda asked: page(b"x", b"private")
    world.origin.hold = asyncio.Event()
    clients = [world.deaf_client() for _ in range(10)]
    for client in clients:
        client.send(get(b"/private"))
    await until(lambda: world.edge.stats(0).requests == 10)
    for client in clients:
        reset(client)
    await until(lambda: not world.listener.connections)
    world.origin.hold.set()
    assert await settled(lambda: len(world.origin.asked)) == 1


async def test_who_leaves_takes_an_uncached_question_back(world: World) -> None:
    def under_way() -> int:
        return sum(len(origin.pool.active) for origin in world.edge.origins.by_host.values())

    world.origin.hold = asyncio.Event()
    clients = [world.deaf_client() for _ in range(5)]
    for client in clients:
        client.send(get(b"/live/a"))
    await world.origin.until_asked(5)
    before = under_way()
    for client in clients:
        reset(client)
    await until(lambda: under_way() <= before - 5)
    world.origin.hold.set()


async def test_old_routes_end_with_their_snapshot(world: World) -> None:
    world.origin.answer = lambda asked: page(b"old", b"max-age=3600")
    world.origin.hold = asyncio.Event()
    waiting = [asyncio.ensure_future(world.ask(get(b"/a"))) for _ in range(3)]
    await until(lambda: world.edge.stats(0).requests == 3)
    world.edge.apply(world.snapshot(2, routes=()))
    world.origin.hold.set()
    assert {answer.body for answer in await asyncio.gather(*waiting)} == {b"old"}
    for _ in range(3):
        assert (await world.ask(get(b"/a"))).status == 404


# --- what a client says


PARTICULAR = {
    "no-store": get(b"/p", b"X-Lang: de", b"Cache-Control: no-cache, no-store"),
    "authorization": get(b"/p", b"X-Lang: de", b"Cache-Control: no-cache", b"Authorization: Basic eA=="),
    "head": get(b"/p", b"X-Lang: de", b"Cache-Control: no-cache", method=b"HEAD"),
}


def in_languages(cache: bytes) -> object:
    """An origin's answers, one for each language."""

    def answer(asked: Asked) -> bytes:
        body = asked.fields.get(b"x-lang", b"-")
        text = b"" if asked.line.startswith(b"HEAD") else body
        return page(text, cache, b"Vary: X-Lang", b'ETag: "%b"' % body, length=len(body))

    return answer


@pytest.mark.parametrize("what", PARTICULAR)
async def test_a_client_cannot_drop_what_is_fresh(world: World, what: str) -> None:
    world.origin.answer = in_languages(b"max-age=600")  # type: ignore[assignment]
    languages = (b"de", b"fr", b"en")
    for language in languages:
        await world.ask(get(b"/p", b"X-Lang: " + language))
    await world.ask(PARTICULAR[what])
    asked = len(world.origin.asked)
    for language in languages:
        answer = await world.ask(get(b"/p", b"X-Lang: " + language))
        assert (answer.field("x-cache"), answer.body) == ("HIT", language)
    assert len(world.origin.asked) == asked


@pytest.mark.parametrize("what", PARTICULAR)
async def test_a_client_cannot_drop_what_covers_errors(world: World, what: str) -> None:
    world.origin.answer = in_languages(b"public, max-age=0")  # type: ignore[assignment]
    for language in (b"de", b"fr"):
        await world.ask(get(b"/p", b"X-Lang: " + language))
    await world.ask(PARTICULAR[what])
    world.origin.stop()
    for language in (b"de", b"fr"):
        answer = await world.ask(get(b"/p", b"X-Lang: " + language))
        assert (answer.field("x-cache"), answer.body) == ("STALE", language)


@pytest.mark.parametrize("status", [b"429 Too Many Requests", b"503 Service Unavailable", b"500 X"])
@pytest.mark.parametrize(
    "cache", [b"max-age=0, stale-while-revalidate=600", b"max-age=0, stale-if-error=600"]
)
async def test_a_refresh_that_fails_drops_nothing(world: World, cache: bytes, status: bytes) -> None:
    world.origin.answer = lambda asked: page(b"good", cache, *TAGGED)
    await world.ask(get(b"/t"))
    world.origin.answer = lambda asked: page(b"slow down", b"no-store", status=status)
    await world.ask(get(b"/t"))
    await world.origin.until_asked(2)
    await settled(lambda: len(world.edge.store))
    world.origin.stop()
    answer = await world.ask(get(b"/t"))
    assert (answer.field("x-cache"), answer.body) == ("STALE", b"good")


async def test_the_port_a_client_names_is_its_own_affair(world: World) -> None:
    world.origin.answer = lambda asked: page(
        b"//%b/app.js" % asked.fields.get(b"x-forwarded-host", b""), b"max-age=60"
    )
    forged = await world.ask(get(b"/", host=b"shop.test:1337"))
    assert forged.status in (200, 400, 421)
    for _ in range(2):
        assert b"1337" not in (await world.ask(get(b"/"))).body
    assert not [asked for asked in world.origin.asked if b"1337" in b" ".join(asked.fields.values())]


async def test_what_varies_by_client_is_one_client_s(world: World) -> None:
    world.origin.answer = lambda asked: page(
        asked.fields[b"x-forwarded-for"], b"max-age=60", b"Vary: X-Forwarded-For"
    )
    for address in ("127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"):
        assert (await world.ask(get(b"/me"), address)).body.decode() == address


async def test_only_the_edge_speaks_for_itself(world: World) -> None:
    forged = (b"X-Cache: HIT from elsewhere", b"X-Edge-Location: forged", b"Atoll-Trace: forged")
    world.origin.answer = lambda asked: page(b"x", b"max-age=60", *forged, b"Atoll-Other: forged")
    for verdict in ("MISS", "HIT", "HIT", "HIT"):
        answer = await world.ask(get(b"/c"))
        assert answer.all("x-edge-location") == ["nrt"]
        assert len(answer.all("x-cache")) == 1
        assert verdict == "MISS" or answer.all("x-cache") == ["HIT"]
        assert not [value for _, value in answer.fields if value == "forged"]


# --- bounds and clocks


async def test_known_requests_are_bounded_in_bytes() -> None:
    store_bytes = 4_000_000
    async with running(store_bytes=store_bytes) as world:
        world.origin.answer = lambda asked: page(b"x" * 60_000, b"max-age=600")
        reader, writer = await world.connect()
        for number in range(200):
            request = get(b"/x", b"User-Agent: %d" % number)
            for _ in range(2):
                writer.write(request)
                await read_response(reader)
        writer.close()
        assert len(world.origin.asked) == 1
        known = sum(isinstance(thing, Hot) for thing in gc.get_objects())
    assert 1 < known * 1_000 < store_bytes  # content is the store's


async def test_a_304_without_a_date_renews_what_it_confirms(world: World, time: Time) -> None:
    def answer(asked: Asked) -> bytes:
        known = b"if-none-match" in asked.fields
        return page(b"" if known else b"x", b"max-age=2", *TAGGED, status=b"304 X" if known else b"200 OK")

    world.origin.answer = answer
    await world.ask(get(b"/a"))
    for asked in (2, 3):
        time.now_s += 10
        for _ in range(3):
            renewed = await world.ask(get(b"/a"))
            assert (renewed.body, renewed.field("age") or "0") == (b"x", "0")
        assert len(world.origin.asked) == asked


async def test_nothing_is_served_past_its_end_inside_a_second(world: World, time: Time) -> None:
    time.now_s = int(time.now_s) + 0.9
    world.origin.answer = lambda asked: page(b"x", b"max-age=1")
    verdicts = []
    for later_s in (0.0, 0.01, 0.02, 0.85, 0.86, 0.99, 1.01):
        began_s, time.now_s = time.now_s, time.now_s + later_s
        verdicts.append((await world.ask(get(b"/a"))).field("x-cache"))
        time.now_s = began_s
    assert verdicts[:-1] == ["MISS", *["HIT"] * 5]
    assert verdicts[-1] != "HIT"


async def test_a_clock_that_is_set_back_makes_nothing_younger(world: World, time: Time) -> None:
    world.origin.answer = lambda asked: page(b"x", b"max-age=60", b"Age: 50")
    for _ in range(3):
        await world.ask(get(b"/a"))
    time.now_s -= 100
    for _ in range(3):
        answer = await world.ask(get(b"/a"))
        if answer.field("x-cache") == "HIT":
            assert int(answer.field("age")) >= 50
            assert int(answer.field("cache-status").partition("ttl=")[2]) <= 10
