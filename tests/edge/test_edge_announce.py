"""Writes are announced before they are answered, on routes that promise it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from edge_world import World, page, post, running, until

from atoll.config.purge import Selector
from atoll.config.spec import RouteSpec
from atoll.edge.announce import NOT_ANNOUNCED
from atoll.errors import AtollError

ROUTES = (
    RouteSpec(path="/*", pool="shop"),
    RouteSpec(path="/strict/*", pool="shop", consistency="strict"),
    RouteSpec(path="/critical/*", pool="shop", consistency="critical"),
)


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    async with running() as world:
        world.edge.apply(world.snapshot(2, routes=ROUTES))
        world.origin.answer = lambda asked: page(
            b"done", b"no-store", b"Cache-Tag: cart, user-7", b"Location: /strict/other"
        )
        yield world


class Network:
    """Where a worker announces."""

    def __init__(self) -> None:
        self.told: list[set[Selector]] = []
        self.hold: asyncio.Event | None = None
        self.error: AtollError | None = None

    async def __call__(self, selectors: tuple[Selector, ...]) -> None:
        self.told.append(set(selectors))
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("route", ["strict", "critical"])
async def test_a_write_is_answered_when_everybody_has_been_told(world: World, route: str) -> None:
    network = world.edge.announcer.announce = Network()
    network.hold = asyncio.Event()
    asking = asyncio.ensure_future(world.ask(post(b"/%b/a" % route.encode(), b"x")))
    await until(lambda: bool(network.told))
    await asyncio.sleep(0.05)
    assert not asking.done()
    network.hold.set()
    assert (await asking).status == 200
    assert network.told == [
        {
            Selector(kind="url", value=f"shop.test/{route}/a"),
            Selector(kind="url", value="shop.test/strict/other"),
            Selector(kind="tag", value="cart"),
            Selector(kind="tag", value="user-7"),
        }
    ]


async def test_other_routes_tell_nobody(world: World) -> None:
    network = world.edge.announcer.announce = Network()
    assert (await world.ask(post(b"/a", b"x"))).status == 200
    assert network.told == []


async def test_a_write_that_failed_changes_nothing(world: World) -> None:
    network = world.edge.announcer.announce = Network()
    world.origin.answer = lambda asked: page(b"no", status=b"409 Conflict")
    assert (await world.ask(post(b"/strict/a", b"x"))).status == 409
    assert network.told == []


async def test_a_network_that_cannot_be_told_is_said_and_costs_nothing_else(world: World) -> None:
    network = world.edge.announcer.announce = Network()
    network.error = AtollError("NATS is not reachable")
    answer = await world.ask(post(b"/strict/a", b"x"))
    assert (answer.status, answer.body) == (200, b"done")
    assert f'detail="{NOT_ANNOUNCED}: NATS is not reachable"' in answer.field("cache-status")


async def test_alone_there_is_nobody_to_tell(world: World) -> None:
    answer = await world.ask(post(b"/strict/a", b"x"))
    assert answer.status == 200
    assert "detail" not in answer.field("cache-status")
