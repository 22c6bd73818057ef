"""Purges from the control plane to edge workers, over a real NATS server."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

import nats
import pytest
import pytest_asyncio
from edge_world import until
from nats.aio.client import Client
from nats_server import NatsServer, nats_server

from atoll.cache.purge import PurgeLog
from atoll.config.purge import Selector
from atoll.control import purges as control
from atoll.control.presence import Presence
from atoll.control.purges import Purger
from atoll.node import agent_purges
from atoll.node.agent_purges import Purges
from atoll.wire import control as wire
from atoll.wire import frames
from atoll.wire.messages import Message, PurgeState, PurgeUpdate

__all__ = ["nats_server"]

pytestmark = pytest.mark.real


class FakeWorker:
    """An edge worker as far as purges go: what it has applied, which is lost with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.AbstractServer | None = None
        self._peers: list[frames.Peer] = []
        self.log = PurgeLog()
        self.lease_until_s = 0.0
        self.held = asyncio.Event()
        self.held.set()

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)
        self._server = await frames.serve(self._path, self._answer)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for peer in self._peers:
            peer.close()
        self._peers.clear()

    async def _answer(self, peer: frames.Peer, message: Message) -> Message | None:
        if peer not in self._peers:
            self._peers.append(peer)
        assert isinstance(message, PurgeUpdate)
        await self.held.wait()
        if message.behind:
            self.log.behind(message.behind)
        for purge in message.purges:
            self.log.add(purge.seq, purge.selector)
        self.lease_until_s = max(self.lease_until_s, message.lease_until_s)
        return PurgeState(applied=self.log.applied)


class Pop:
    """A PoP's follower with its own connection, and its workers."""

    def __init__(self, code: str, folder: Path, url: str, workers: int) -> None:
        self.workers = [FakeWorker(folder / f"{code}-{index}.sock") for index in range(workers)]
        self._url = url
        self._code = code
        self._client: Client | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.follower = Purges(code, [worker._path for worker in self.workers], self._publish)

    async def _publish(self, receipt: wire.PurgeReceipt) -> None:
        assert self._client is not None
        await self._client.publish(wire.purge_receipt_subject(self._code), wire.encode(receipt))

    async def start(self) -> None:
        for worker in self.workers:
            await worker.start()
        self._tasks = [asyncio.ensure_future(self.follower.run())]
        await self.join()

    async def join(self) -> None:
        self._client = await nats.connect(self._url, allow_reconnect=False)
        self._tasks.append(asyncio.ensure_future(self.follower.session(self._client)))

    async def part(self) -> None:
        """Lose touch with the control plane."""
        session = self._tasks.pop()
        session.cancel()
        with suppress(asyncio.CancelledError):
            await session
        assert self._client is not None
        await self._client.close()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self.workers:
            await worker.stop()
        if self._client is not None:
            await self._client.close()


class Bench:
    def __init__(self, server: NatsServer, folder: Path) -> None:
        self.pops = {code: Pop(code, folder, server.url, 2) for code in ("lhr", "nrt")}
        self.purger = Purger(list(self.pops), Presence())
        self._url = server.url

    async def start(self) -> None:
        self._client = await nats.connect(self._url)
        await self.purger.session(self._client)
        for pop in self.pops.values():
            await pop.start()

    async def stop(self) -> None:
        for pop in self.pops.values():
            await pop.stop()
        await self._client.close()

    def workers(self) -> list[FakeWorker]:
        return [worker for pop in self.pops.values() for worker in pop.workers]


@pytest_asyncio.fixture
async def bench(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(agent_purges, "POLL_S", 0.05)
    monkeypatch.setattr(control, "LEASE_S", 0.4)
    monkeypatch.setattr(control, "MARGIN_S", 0.1)
    with tempfile.TemporaryDirectory(prefix="purges-") as folder:
        bench = Bench(nats_server, Path(folder))
        await bench.start()
        try:
            yield bench
        finally:
            await bench.stop()


ALL = Selector(kind="all")


async def test_an_answer_means_that_every_worker_of_every_pop_has_applied_it(bench: Bench) -> None:
    first = await bench.purger.purge(Selector(kind="url", value="shop.test/a"))
    assert {pop: receipt.state for pop, receipt in first.pops.items()} == {"lhr": "applied", "nrt": "applied"}
    assert {worker.log.applied for worker in bench.workers()} == {first.seq}
    second = await bench.purger.purge(ALL)
    assert second.seq > first.seq
    assert {worker.log.applied for worker in bench.workers()} == {second.seq}


async def test_a_pop_that_has_lost_touch_is_waited_for_as_long_as_its_lease(bench: Bench) -> None:
    await bench.pops["nrt"].part()
    began_s = monotonic()
    done = await bench.purger.purge(ALL)
    assert 0.5 <= monotonic() - began_s < 2
    assert {pop: receipt.state for pop, receipt in done.pops.items()} == {"lhr": "applied", "nrt": "lapsed"}
    await bench.pops["nrt"].join()
    await until(lambda: {worker.log.applied for worker in bench.workers()} == {done.seq})


async def test_a_pop_that_is_down_is_not_waited_for(bench: Bench) -> None:
    await bench.pops["nrt"].part()
    began_s = monotonic()
    done = await bench.purger.purge(ALL, down=("nrt",))
    assert monotonic() - began_s < 0.4
    assert done.pops["nrt"].state == "gone"


async def test_a_worker_that_hangs_holds_the_receipt_of_its_pop_back(bench: Bench) -> None:
    slow = bench.pops["lhr"].workers[1]
    slow.held.clear()
    done = await bench.purger.purge(ALL)
    assert {pop: receipt.state for pop, receipt in done.pops.items()} == {"lhr": "lapsed", "nrt": "applied"}
    slow.held.set()
    await until(lambda: slow.log.applied == done.seq)


async def test_a_worker_that_comes_back_catches_up_from_what_it_has_applied(bench: Bench) -> None:
    worker = bench.pops["lhr"].workers[0]
    first = await bench.purger.purge(ALL)
    await worker.stop()
    second = await bench.purger.purge(Selector(kind="host", value="shop.test"))
    assert second.pops["lhr"].state == "lapsed"
    await worker.start()
    await until(lambda: worker.log.applied == second.seq)
    assert first.seq < second.seq


async def test_what_the_stream_has_forgotten_makes_everything_older_stale(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.purger.purge(ALL)
    await bench.pops["nrt"].part()
    for number in range(5):
        await bench.purger.purge(Selector(kind="tag", value=f"t{number}"), down=("nrt",))
    js = bench._client.jetstream()
    await js.purge_stream(wire.PURGES_STREAM, keep=1)
    last = (await js.stream_info(wire.PURGES_STREAM)).state.last_seq
    await bench.pops["nrt"].join()
    worker = bench.pops["nrt"].workers[0]
    await until(lambda: worker.log.applied == last)
    assert worker.log.floor == last - 1


async def test_a_lease_is_renewed_while_in_touch_and_runs_out_when_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_purges, "LEASE_S", 0.3)
    worker = bench.pops["nrt"].workers[0]
    await until(lambda: worker.lease_until_s > monotonic())
    first = worker.lease_until_s
    await until(lambda: worker.lease_until_s > first)
    await bench.pops["nrt"].part()
    assert worker.lease_until_s <= monotonic() + agent_purges.LEASE_S + 5
    await until(lambda: worker.lease_until_s < monotonic() + 0.3)


async def test_numbers_go_on_when_the_stream_is_made_anew(bench: Bench) -> None:
    first = await bench.purger.purge(ALL)
    js = bench._client.jetstream()
    await js.delete_stream(wire.PURGES_STREAM)
    await bench.purger.session(bench._client)
    done = await bench.purger.purge(ALL)
    assert done.seq > first.seq
    await until(lambda: {worker.log.applied for worker in bench.workers()} == {done.seq})
