"""The same limits over HTTP/3: how many connections an address has, how often it asks, and what is held."""

from __future__ import annotations

import asyncio
import contextlib
from time import time

import pytest
from edge_world import page, settled, until
from h3_world import H3World, h3_running

from atoll.http.guard import Guard
from atoll.http.limits import Limits

EXCESSIVE_LOAD = 0x107
NOBODY: frozenset[str] = frozenset()


def guard_of(h3: H3World) -> Guard:
    return h3.endpoint._guard


async def test_an_address_has_so_many_connections_and_no_more() -> None:
    async with h3_running(Limits(address_connections=2), NOBODY) as h3:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(2):
                client = await stack.enter_async_context(h3.client())
                assert (await client.ask("/a")).status == 200
            with pytest.raises(
                (ConnectionError, TimeoutError)
            ):  # nobody answers: its packets are not even read
                async with asyncio.timeout(1), h3.client():
                    raise AssertionError("a third one has come in")
            assert guard_of(h3).turned_away >= 1
        await until(lambda: not h3.endpoint.connections)
        async with h3.client() as client:
            assert (await client.ask("/a")).status == 200


async def test_proxies_of_this_machine_are_not_counted() -> None:
    async with h3_running(Limits(address_connections=1)) as h3, h3.client() as one, h3.client() as other:
        assert (await one.ask("/a")).status == (await other.ask("/a")).status == 200


async def test_who_finishes_too_many_handshakes_at_once_is_ended() -> None:
    """They have all begun before the first was complete: only then an address is known to be its own."""
    async with h3_running(Limits(address_connections=1), NOBODY) as h3:

        async def come() -> int:
            try:
                async with asyncio.timeout(3), h3.client() as client:
                    status = (await client.ask("/a")).status
                    await asyncio.sleep(0.2)
                    return status
            except (ConnectionError, TimeoutError):
                return 0

        assert sorted(await asyncio.gather(*(come() for _ in range(4))))[-1] == 200
        await until(lambda: not h3.endpoint.connections)
        assert len(guard_of(h3)._crowd) == 0


async def test_who_asks_too_often_is_told_so() -> None:
    async with h3_running(Limits(address_requests_s=10, address_slowed_s=60.0), NOBODY) as h3:
        h3.origin.answer = lambda asked: page(b"x", b"max-age=600")
        async with h3.client() as client:
            guard_of(h3).look(time())
            for _ in range(40):
                assert (await client.ask("/hit")).status == 200
            guard_of(h3).look(time() + 1)
            answer = await client.ask("/hit")
            assert (answer.status, answer.field("retry-after")) == (429, "2")
        async with h3.client() as again:
            assert (await again.ask("/hit")).status == 429


async def test_the_newest_gives_way_when_too_much_is_held_for_all() -> None:
    async with h3_running(Limits(memory=300_000), NOBODY) as h3:
        h3.origin.answer = lambda asked: page(b"y" * 250_000)
        async with contextlib.AsyncExitStack() as stack:
            clients = []
            for _ in range(2):
                client = await stack.enter_async_context(h3.client(max_data=20_000, max_stream_data=20_000))
                client.quic._write_connection_limits = lambda **_: None
                client.quic._write_stream_limits = lambda **_: None
                client.open("/live/x")
                clients.append(client)
                await until(lambda: len(h3.origin.asked) == len(clients))
                await settled(lambda: sum(c.held() for c in h3.endpoint.connections))
            guard = guard_of(h3)
            assert sum(c.held() for c in h3.endpoint.connections) > 300_000
            guard.look(time())
            await asyncio.wait_for(clients[1].closed.wait(), 5)
            assert clients[1].terminated.error_code == EXCESSIVE_LOAD
            assert not clients[0].closed.is_set()
            guard.look(time())
            assert not guard.overloaded
