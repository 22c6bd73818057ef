"""Fields of routes, pools and origins that change what an origin hears and what is kept of its answers."""

from __future__ import annotations

import msgspec
from edge_world import HOST, World, get, page, world

from atoll.config.spec import OriginSpec, PoolSpec, RouteSpec, SiteSpec, Snapshot

__all__ = ["world"]

OLD = b"Last-Modified: Mon, 02 Jan 2006 15:04:05 GMT"


def guessed_page() -> bytes:
    """A response that says nothing of how long it is fresh."""
    body = b"hello"
    head = b"HTTP/1.1 200 OK\r\n" + OLD + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body


async def test_freshness_is_guessed_unless_the_route_says_not_to(world: World) -> None:
    routes = (RouteSpec(pool="shop"), RouteSpec(path="/exact/*", pool="shop", heuristics=False))
    world.edge.apply(world.snapshot(2, routes=routes))
    world.origin.answer = lambda asked: guessed_page()
    for target, asked in ((b"/a", 1), (b"/exact/a", 2)):
        before = len(world.origin.asked)
        for _ in range(2):
            assert (await world.ask(get(target))).body == b"hello"
        assert len(world.origin.asked) - before == asked
    last = world.origin.asked[-1]
    assert last.fields[b"if-modified-since"] == OLD.partition(b": ")[2]


async def test_what_says_how_long_it_is_fresh_is_kept_without_guessing(world: World) -> None:
    world.edge.apply(world.snapshot(2, routes=(RouteSpec(pool="shop", heuristics=False),)))
    world.origin.answer = lambda asked: page(b"hello", b"max-age=60")
    for _ in range(2):
        await world.ask(get(b"/a"))
    assert len(world.origin.asked) == 1


def with_pool(world: World, pool: PoolSpec, origin: OriginSpec) -> Snapshot:
    before = world.snapshot(2)
    network = msgspec.structs.replace(before.network, pools=(pool,), origins=(origin,))
    return msgspec.structs.replace(before, network=network)


async def test_origins_are_told_the_pools_host(world: World) -> None:
    [pool], [origin] = world.snapshot(2).network.pools, world.snapshot(2).network.origins
    assert (await world.ask(get(b"/a"))).status == 200
    assert world.origin.asked[-1].fields[b"host"] == HOST
    world.edge.apply(with_pool(world, msgspec.structs.replace(pool, host_header="app.internal"), origin))
    assert (await world.ask(get(b"/a"))).status == 200
    assert world.origin.asked[-1].fields[b"host"] == b"app.internal"
    assert world.origin.asked[-1].fields[b"x-forwarded-host"] == HOST


async def test_an_origin_that_is_not_checked_is_asked_however_often_it_failed(world: World) -> None:
    [pool], [origin] = world.snapshot(2).network.pools, world.snapshot(2).network.origins
    unchecked = msgspec.structs.replace(origin, health_path="")
    world.edge.apply(with_pool(world, msgspec.structs.replace(pool, health_interval_s=0.01), unchecked))
    world.origin.stop()
    for _ in range(4):
        assert (await world.ask(get(b"/a"))).status == 502
    assert world.edge.origins.up() == {origin.host: True}
    assert not world.edge.origins.dark("shop")


async def test_a_site_for_every_host_keeps_them_apart(world: World) -> None:
    rest = SiteSpec(name="rest", host="*", routes=(RouteSpec(pool="shop"),))
    world.edge.apply(world.snapshot(2, rest))
    world.origin.answer = lambda asked: page(asked.fields[b"host"], b"max-age=60")
    for _ in range(2):
        for host in (b"a.example", b"b.example:8080", b"a.localhost"):
            answer = await world.ask(get(b"/", host=host))
            assert (answer.status, answer.body) == (200, host)
    assert [asked.fields[b"x-forwarded-host"] for asked in world.origin.asked] == [
        b"a.example",
        b"b.example:8080",
        b"a.localhost",
    ]
    assert (await world.ask(get(b"/"))).body == HOST
