"""Origins that take connections and then say nothing: the fault that costs users the most time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from test_edge_pipeline import POP, Origin, World, page, snapshot, world

from atoll.config.spec import NetworkSpec
from atoll.edge.origin import Origins

__all__ = ["world"]

LONG_S = 60.0  # far more than a test may take
SHORT_S = 0.05


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Origin, Origin]]:
    near, far = Origin(), Origin()
    await near.start()
    await far.start()
    yield near, far
    near.stop()
    far.stop()


def network_of(near: Origin, far: Origin) -> NetworkSpec:
    network = snapshot(near, far).network
    (pool,) = network.pools
    pool = msgspec.structs.replace(
        pool, response_timeout_s=LONG_S, health_interval_s=SHORT_S, health_timeout_s=SHORT_S * 4
    )
    return msgspec.structs.replace(network, pools=(pool,))


def sick(path: bytes, _fields: dict[bytes, bytes]) -> bytes:
    return page(b"", b"no-store", status=b"503 Service Unavailable" if path == b"/health" else b"200 OK")


async def ask(origins: Origins) -> str:
    reader, host = await origins.fetch("shop", b"GET", b"/a", b"shop.example.com", [], None)
    await reader.read_all(1000)
    return host


async def test_who_waits_for_an_origin_that_falls_sick_goes_to_the_next(pair: tuple[Origin, Origin]) -> None:
    near, far = pair
    near.hold = asyncio.Event()
    origins = Origins(POP, network_of(near, far))
    waiting = asyncio.ensure_future(ask(origins))
    await asyncio.wait_for(near.asked.wait(), 5)
    near.answer = sick
    assert await asyncio.wait_for(waiting, 5) == "us.example"
    near.hold.set()
    origins.close()


async def test_a_sick_origin_gets_no_more_time_than_a_check(pair: tuple[Origin, Origin]) -> None:
    near, far = pair
    near.hold = asyncio.Event()
    near.answer = far.answer = sick
    origins = Origins(POP, network_of(near, far))
    for origin in origins.by_host.values():
        origin.up = False
    assert origins.dark("shop")
    assert await asyncio.wait_for(ask(origins), 5) == "us.example"
    assert near.requests
    near.hold.set()
    origins.close()


async def test_when_no_origin_is_healthy_stale_is_served_without_asking_first(world: World) -> None:
    world.near.answer = lambda path, fields: page(b"old", b"public, max-age=0", b'ETag: "1"')
    assert (await world.get("/s")).text == "old"
    world.near.hold = asyncio.Event()
    world.near.asked.clear()
    for origin in world.edge.origins.by_host.values():
        origin.up = False
    stale = await world.get("/s")
    assert (stale.text, stale.headers["x-cache"]) == ("old", "STALE")
    assert "no origin is healthy" in stale.headers["cache-status"]
    await asyncio.wait_for(world.near.asked.wait(), 5)  # a broken check is not believed forever
    world.near.hold.set()
