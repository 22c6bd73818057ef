"""Atoll's edge worker in this process with the scripted origin behind it, for the conformance table."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from conformance_case import Case
from conformance_origin import ScriptedOrigin
from conformance_play import Player, Result
from edge_world import HOST, ORIGIN, running

from atoll.config.spec import OriginSpec, PoolSpec, RouteSpec

_RESPONSE_TIMEOUT_S = 6.0
_NEVER = 1_000_000  # answers that fail are part of the table: they do not take the origin out of service


@contextlib.asynccontextmanager
async def atoll_player() -> AsyncIterator[Player]:
    """A player of cases against an edge worker."""
    origin = ScriptedOrigin()
    await origin.start()
    try:
        async with running(response_timeout_s=_RESPONSE_TIMEOUT_S) as world:
            snapshot = world.snapshot(2, routes=(RouteSpec(path="/*", pool="table"),))
            pool = PoolSpec(
                name="table",
                origins=(ORIGIN,),
                response_timeout_s=_RESPONSE_TIMEOUT_S,
                health_interval_s=3600.0,
                fall=_NEVER,
            )
            network = msgspec.structs.replace(
                snapshot.network,
                origins=(OriginSpec(host=ORIGIN, url=f"http://127.0.0.1:{origin.port}"),),
                pools=(pool,),
            )
            world.edge.apply(msgspec.structs.replace(snapshot, network=network))
            yield Player(world.address, HOST.decode(), origin)
    finally:
        origin.stop()


def play_on_atoll(cases: Sequence[Case], tell: Callable[[Result], None] | None = None) -> list[Result]:
    """How Atoll does in each of these cases, in the order given."""

    async def play() -> list[Result]:
        async with atoll_player() as player:
            return await player.play_all(cases, tell=tell)

    return asyncio.run(play())
