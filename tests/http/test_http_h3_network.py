"""HTTP/3 over a network that loses, delays and moves; and sessions that are taken up again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from edge_world import page, until
from h3_world import H3World, h3_running
from http3_client import LIBRARIES, BadNetwork, Client
from test_http_h3 import Sink, Taker

from atoll.http.exchange import Exchange

BODY = bytes(range(256)) * 1024  # 256 KiB


@pytest.fixture
async def h3() -> AsyncIterator[H3World]:
    async with h3_running() as h3:
        yield h3


@pytest.mark.parametrize("using", LIBRARIES)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_everything_arrives_over_a_network_that_loses_and_reorders(
    h3: H3World, using: str, seed: int
) -> None:
    network = BadNetwork(h3.address, seed, lost=0.05, delayed=0.2)
    await network.start()
    h3.origin.answer = lambda asked: page(BODY if asked.target == b"/big" else b"small")
    async with h3.client(address=network.address, using=using) as client:
        streams = [client.open("/big" if number % 8 == 0 else f"/{number}") for number in range(24)]
        for number, stream in enumerate(streams):
            answer = await client.answer(stream)
            assert (answer.status, answer.reset) == (200, None)
            assert answer.body == (BODY if number % 8 == 0 else b"small")
    assert network.dropped > 10
    network.stop()


@pytest.mark.parametrize("seed", [4, 5])
async def test_an_upload_arrives_over_such_a_network(h3: H3World, seed: int) -> None:
    taker = Taker()
    h3.endpoint._app = taker
    network = BadNetwork(h3.address, seed, lost=0.05, delayed=0.2)
    await network.start()
    async with h3.client(address=network.address) as client:
        stream = client.open("/", method="POST", end=False)
        client.send(stream, BODY, end=True)
        sink = Sink((await taker.taken()).body)
        await until_slowly(lambda: sink.ended)
        assert sink.data == BODY
        taker.seen[0].stream.respond(200, [], b"thanks")
        assert (await client.answer(stream)).body == b"thanks"
    network.stop()


async def until_slowly(condition: Any) -> None:
    """Lost datagrams take their time."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def test_a_client_whose_address_changes_goes_on(h3: H3World) -> None:
    network = BadNetwork(h3.address, 0, lost=0.0, delayed=0.0)
    await network.start()
    async with h3.client(address=network.address) as client:
        assert (await client.ask("/a")).status == 200
        (connection,) = h3.endpoint.connections
        before = connection.quic.client
        network.move()
        assert (await client.ask("/b")).body == b"hello /b"
        assert connection.quic.client != before
        assert h3.endpoint.busy == 1
    network.stop()


class Sessions:
    """Tickets that a client has got."""

    def __init__(self, h3: H3World) -> None:
        self.h3 = h3
        self.tickets: list[Any] = []

    async def begin(self) -> Any:
        """A first connection, and the ticket it leaves."""
        async with self.h3.client(on_ticket=self.tickets.append) as client:
            await client.ask("/first")
            await until(lambda: bool(self.tickets))
        return self.tickets.pop()


async def early(h3: H3World, ticket: Any, open_requests: Any) -> tuple[Client, list[Any]]:
    """Requests sent before the handshake, and their answers."""
    async with h3.client(ticket=ticket, wait=False) as client:
        streams = open_requests(client)
        answers = [await client.answer(stream) for stream in streams]
    return client, answers


async def test_a_session_resumes_once(h3: H3World) -> None:
    ticket = await Sessions(h3).begin()
    async with h3.client(ticket=ticket) as client:
        assert (await client.ask("/x")).status == 200
        assert client.resumed
    async with h3.client(ticket=ticket) as client:
        assert (await client.ask("/x")).status == 200
        assert not client.resumed
    assert h3.endpoint.handshakes.resumed == 1


async def test_a_session_is_of_one_name(h3: H3World) -> None:
    ticket = await Sessions(h3).begin()
    ticket.server_name = "other.test"
    async with h3.client("other.test", ticket=ticket) as client:
        assert not client.resumed


async def test_a_safe_request_may_come_before_the_handshake(h3: H3World) -> None:
    ticket = await Sessions(h3).begin()
    client, (answer,) = await early(h3, ticket, lambda client: [client.open("/early")])
    assert client.early_accepted
    assert answer.body == b"hello /early"
    assert h3.origin.asked[-1].fields[b"early-data"] == b"1"
    async with h3.client() as late:
        await late.ask("/late")
    assert b"early-data" not in h3.origin.asked[-1].fields


async def test_what_came_early_is_not_remembered_as_early(h3: H3World) -> None:
    """The same bytes, once early and once not: only the first says so behind."""
    ticket = await Sessions(h3).begin()
    await early(h3, ticket, lambda client: [client.open("/fn/x")])
    assert h3.world.function.asked[-1].fields.get(b"early-data") == b"1"
    async with h3.client() as client:
        for _ in range(3):
            await client.ask("/fn/x")
    assert all(b"early-data" not in asked.fields for asked in h3.world.function.asked[1:])


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_an_unsafe_request_waits_for_the_handshake(h3: H3World, method: str) -> None:
    taker = Taker()
    sessions = Sessions(h3)
    ticket = await sessions.begin()
    h3.endpoint._app = taker
    states: list[bool] = []

    def answer(exchange: Any) -> None:
        (connection,) = [c for c in h3.endpoint.connections if c.info is exchange.conn]
        states.append(connection.quic.established)
        exchange.stream.respond(200, [], b"done")

    taker.handle = answer  # type: ignore[method-assign]
    _, answers = await early(
        h3, ticket, lambda client: [client.open("/", method=method), client.open("/get")]
    )
    assert [answer.body for answer in answers] == [b"done", b"done"]
    assert sorted(states) == [False, True]


async def test_a_hit_may_answer_early(h3: H3World) -> None:
    h3.origin.answer = lambda asked: page(b"kept", b"max-age=60")
    sessions = Sessions(h3)
    async with h3.client() as client:
        for _ in range(2):
            await client.ask("/hit")
    ticket = await sessions.begin()
    _, (answer,) = await early(h3, ticket, lambda client: [client.open("/hit")])
    assert (answer.body, answer.field("x-cache")) == (b"kept", "HIT")


async def test_under_load_an_address_has_to_be_proven(h3: H3World) -> None:
    h3.endpoint._arriving = h3.edge.limits.quic_arriving  # as if so many were in their handshake
    async with h3.client() as client:
        assert client.quic._retry_count == 1
        assert (await client.ask("/")).status == 200
    h3.endpoint._arriving -= h3.edge.limits.quic_arriving
    async with h3.client() as client:
        assert client.quic._retry_count == 0


async def test_a_forgotten_connection_is_reset_at_once(h3: H3World) -> None:
    """A worker that dies leaves clients that would wait for long; its successor tells them."""
    received: list[bytes] = []
    async with h3.client() as client:
        assert (await client.ask("/")).status == 200
        (connection,) = h3.endpoint.connections
        tokens = {cid.stateless_reset_token for cid in connection.quic._host_cids}
        read = client.protocol.datagram_received

        def keep(data: bytes, address: Any) -> None:
            received.append(data)
            read(data, address)

        client.protocol.datagram_received = keep
        h3.crash(h3.endpoint)
        h3.serve()
        client.quic.send_ping(1)
        client.protocol.transmit()
        await until(lambda: any(data[-16:] in tokens for data in received))
        assert all(len(data) < 43 for data in received if data[-16:] in tokens)


async def test_a_successor_on_the_same_socket_leaves_no_gap(h3: H3World) -> None:
    """Both read from one socket; a third client is served by whoever got its first datagram."""
    taker = Taker()
    taken: list[Exchange] = []

    def handle(exchange: Exchange) -> None:
        if exchange.target == b"/long":
            taken.append(exchange)
        else:
            exchange.stream.respond(200, [], b"before")

    taker.handle = handle  # type: ignore[method-assign]
    h3.endpoint._app = taker
    async with h3.client() as client:
        stream = client.open("/long")
        await until(lambda: bool(taken))
        successor = h3.serve()
        for _ in range(6):
            async with h3.client() as other:
                assert (await other.ask("/x")).body in (b"before", b"hello /x")
        h3.endpoint.close()
        before = successor.handshakes.done
        for _ in range(6):
            async with h3.client() as other:
                assert (await other.ask("/x")).body == b"hello /x"
        assert successor.handshakes.done == before + 6
        taken[0].stream.start(200, [], None)
        taken[0].stream.write(BODY)
        taken[0].stream.finish()
        assert (await client.answer(stream)).body == BODY


async def test_without_a_successor_a_leaving_worker_serves_nobody_new(h3: H3World) -> None:
    async with h3.client() as client:
        assert (await client.ask("/")).status == 200
        h3.endpoint.close()
        assert (await client.ask("/open")).status == 200
        async with h3.client(wait=False) as other:
            other.protocol.transmit()
            assert (await client.ask("/again")).status == 200
            assert h3.endpoint.busy == 1
            other.quic._close_at = 0.0  # nobody will answer it
