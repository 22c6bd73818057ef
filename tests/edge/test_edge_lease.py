"""What a PoP serves that has lost touch: `strict` routes nothing that may have been purged."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from edge_world import Asked, World, get, page, running

from atoll.config.spec import RouteSpec
from atoll.edge.lease import Lease

ROUTES = (
    RouteSpec(path="/*", pool="shop"),
    RouteSpec(path="/strict/*", pool="shop", consistency="strict"),
)


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    def answer(asked: Asked) -> bytes:
        if b"if-none-match" in asked.fields:
            return page(b"", b"max-age=600", b'ETag: "1"', status=b"304 Not Modified")
        return page(b"page", b"max-age=600", b'ETag: "1"')

    async with running() as world:
        world.edge.apply(world.snapshot(2, routes=ROUTES))
        world.origin.answer = answer
        for path in (b"/a", b"/strict/a"):
            await world.ask(get(path))
        yield world


async def test_in_touch_both_are_hits(world: World) -> None:
    asked = len(world.origin.asked)
    for path in (b"/a", b"/strict/a"):
        assert (await world.ask(get(path))).field("x-cache") == "HIT"
    assert len(world.origin.asked) == asked


async def test_cut_off_strict_routes_ask_the_origin_for_each_request(world: World) -> None:
    world.edge.lease.renew(0.0)
    asked = len(world.origin.asked)
    for _ in range(2):
        answer = await world.ask(get(b"/strict/a"))
        assert (answer.body, answer.field("x-cache")) == (b"page", "MISS")
    assert len(world.origin.asked) == asked + 2
    assert (await world.ask(get(b"/a"))).field("x-cache") == "HIT"


async def test_cut_off_from_the_origin_too_strict_routes_fail(world: World) -> None:
    world.edge.lease.renew(0.0)
    world.origin.stop()
    assert (await world.ask(get(b"/strict/a"))).status == 502
    assert (await world.ask(get(b"/a"))).status == 200


@pytest.mark.parametrize(("until_s", "now_s", "holds"), [(5.0, 4.9, True), (5.0, 5.0, False)])
def test_a_lease_holds_until_its_end(until_s: float, now_s: float, holds: bool) -> None:
    lease = Lease(lambda: now_s)
    assert lease.holds()  # nobody grants any
    lease.renew(until_s)
    assert lease.holds() == holds
