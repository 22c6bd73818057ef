"""An edge worker that leaves: nothing it has begun is lost, and nobody is fed old news meanwhile."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from edge_world import Asked, World, get, page, post, read_response, running, settled, until, world
from http2_client import Client
from networks import network, pop

from atoll.config.spec import Snapshot
from atoll.edge.pipeline import PublicApp
from atoll.http.accept import Listener
from atoll.node import edge_leave
from atoll.node.agent_edges import EdgeWorkers
from atoll.node.agent_purges import Purges
from atoll.node.edge_leave import Control, all_aside, until_left
from atoll.wire import frames
from atoll.wire.messages import ApplySnapshot, GetEdgeStats, Message, Ok, PurgeState, PurgeUpdate

__all__ = ["running", "world"]

LHR = pop("lhr", 0, workers=1)


def leave(world: World) -> asyncio.Task[None]:
    """What a worker does when its successor serves."""
    world.edge.drain()
    return asyncio.ensure_future(until_left([world.listener], [world.bindings]))


async def test_an_idle_connection_is_answered_once_more(world: World) -> None:
    reader, writer = await world.connect()
    writer.write(get(b"/first"))
    assert (await read_response(reader)).field("connection") == ""
    leaving = leave(world)
    await settled(lambda: len(world.listener.connections))  # it is not closed under a request on its way
    assert not leaving.done()
    writer.write(get(b"/second"))
    answer = await read_response(reader)
    assert (answer.body, answer.field("connection")) == (b"hello /second", "close")
    assert await reader.read() == b""
    await asyncio.wait_for(leaving, 5)


async def test_a_request_that_crosses_with_leaving_is_answered(world: World) -> None:
    streams = [await world.connect() for _ in range(20)]
    for reader, writer in streams:
        writer.write(get(b"/before"))
        await read_response(reader)
    for _, writer in streams:
        writer.write(get(b"/crossing"))
    leaving = leave(world)
    for reader, _ in streams:
        assert (await read_response(reader)).body == b"hello /crossing"
    await asyncio.wait_for(leaving, 5)


async def test_a_connection_nobody_has_spoken_on_may_still_ask(world: World) -> None:
    reader, writer = await world.connect()
    await until(lambda: world.listener.busy == 1)
    leaving = leave(world)
    writer.write(get(b"/late"))
    assert (await read_response(reader)).field("connection") == "close"
    await asyncio.wait_for(leaving, 5)


async def test_a_download_comes_to_its_end(world: World) -> None:
    rest = asyncio.Event()

    async def slowly(_asked: Asked, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(page(b"half", length=8))
        await rest.wait()
        writer.write(b"rest")
        await writer.drain()

    world.origin.converse = slowly
    reader, writer = await world.connect()
    writer.write(get(b"/live/download"))  # its head says that the connection stays open
    await reader.readuntil(b"half")
    leaving = leave(world)
    await settled(lambda: world.listener.busy)
    assert not leaving.done()
    rest.set()
    assert await reader.readexactly(4) == b"rest"
    world.origin.converse = None
    writer.write(get(b"/next"))
    assert (await read_response(reader)).field("connection") == "close"
    await asyncio.wait_for(leaving, 5)


async def test_an_upload_comes_to_its_end(world: World) -> None:
    reader, writer = await world.connect()
    whole = post(b"/live/upload", b"x" * 1000)
    writer.write(whole[:-500])
    await until(lambda: world.listener.busy == 1)
    leaving = leave(world)
    writer.write(whole[-500:])
    assert (await read_response(reader)).status == 200
    assert world.origin.asked[-1].fields[b"host"]
    await asyncio.wait_for(leaving, 5)


async def test_open_http2_streams_are_finished(world: World) -> None:
    world.origin.hold = asyncio.Event()
    client = Client(await world.connect())
    stream = client.ask("/live/long")
    await world.origin.until_asked()
    leaving = leave(world)
    await client.until(lambda: client.goaway is not None)
    world.origin.hold.set()
    await client.complete(stream)
    assert client.bodies[stream] == b"hello /live/long"
    await asyncio.wait_for(leaving, 5)


async def test_a_function_hosts_idle_connection_holds_up_nobody_for_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_leave, "INNER_IDLE_S", 0.2)
    reader, _writer = await asyncio.open_unix_connection(str(world.folder / "bindings.sock"))
    await until(lambda: world.bindings.busy == 1)
    await asyncio.wait_for(leave(world), 5)
    assert await reader.read() == b""


# --- the control socket, and the agent


class Worker:
    """An edge worker as the agent sees it."""

    def __init__(self, path: Path) -> None:
        self.control = Control(path, self._answer)
        self.served: list[int] = []
        self.purges = 0

    async def _answer(self, _peer: frames.Peer, message: Message) -> Message | None:
        if isinstance(message, ApplySnapshot):
            self.served.append(message.snapshot.seq)
            return Ok(seq=message.snapshot.seq)
        if isinstance(message, PurgeUpdate):
            self.purges += 1
            return PurgeState(applied=0)
        return Ok()


@pytest.fixture
def run() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="atoll-") as folder:
        yield Path(folder)


@pytest.fixture
async def pair(run: Path) -> AsyncIterator[tuple[Worker, Worker]]:
    """A worker and its successor."""
    first, second = Worker(run / "edge-0.sock"), Worker(run / "edge-0.sock")
    await first.control.open()
    yield first, second
    first.control.close()
    second.control.close()


def snapshot(seq: int) -> Snapshot:
    return Snapshot(seq=seq, pop=LHR, network=network(LHR), functions=())


async def test_who_leaves_goes_on_being_fed(run: Path, pair: tuple[Worker, Worker]) -> None:
    first, second = pair
    receipts: list[int] = []
    edges = EdgeWorkers([run / "edge-0.sock"], lambda served: receipts.append(served.seq))
    feeding = asyncio.ensure_future(edges.run())
    edges.serve(snapshot(1))
    await until(lambda: receipts == [1])
    await second.control.open()
    await first.control.move(os.getpid())
    await until(lambda: second.served == [1])
    edges.serve(snapshot(2))
    await until(lambda: 2 in receipts)
    assert (first.served[-1], second.served[-1]) == (2, 2)  # a receipt speaks for who leaves, too
    first.control.close()
    feeding.cancel()


async def test_a_new_agent_finds_who_leaves(run: Path, pair: tuple[Worker, Worker]) -> None:
    first, second = pair
    await second.control.open()
    await first.control.move(os.getpid())
    edges = EdgeWorkers([run / "edge-0.sock"], lambda _served: None)
    feeding = asyncio.ensure_future(edges.run())
    edges.serve(snapshot(3))
    await until(lambda: first.served == [3] and second.served == [3])
    feeding.cancel()


async def test_purges_reach_who_leaves(run: Path, pair: tuple[Worker, Worker]) -> None:
    first, second = pair

    async def publish(_receipt: object) -> None:
        """To nobody."""

    purges = Purges("lhr", [run / "edge-0.sock"], publish)
    feeding = asyncio.ensure_future(purges.run())
    await until(lambda: first.purges == 1)
    await second.control.open()
    await first.control.move(os.getpid())
    await until(lambda: second.purges == 1 and first.purges == 2)
    feeding.cancel()


async def test_who_has_left_is_forgotten(run: Path, pair: tuple[Worker, Worker]) -> None:
    first, second = pair
    await second.control.open()
    await first.control.move(os.getpid())
    receipts: list[int] = []
    edges = EdgeWorkers([run / "edge-0.sock"], lambda served: receipts.append(served.seq))
    feeding = asyncio.ensure_future(edges.run())
    edges.serve(snapshot(1))
    await until(lambda: receipts == [1])
    peer = await frames.connect(all_aside(run)[0])
    await peer.call(GetEdgeStats())
    first.control.close()
    for known in first.control._peers:
        known.close()  # as when its process ends
    assert all_aside(run) == []
    edges.serve(snapshot(2))
    await until(lambda: receipts[-1] == 2)
    assert first.served == [1]
    feeding.cancel()


async def test_another_listener_on_the_socket_takes_who_comes(world: World) -> None:
    sock = world.listener._sock.dup()
    leaving = leave(world)
    successor = Listener(PublicApp(world.edge), sock)
    reader, writer = await world.connect()
    writer.write(get(b"/new"))
    assert (await read_response(reader)).status == 200
    await asyncio.wait_for(leaving, 5)
    assert len(successor.connections) == 1
    successor.close()
