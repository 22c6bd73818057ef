"""The agent's part in purges: every one of them to every edge worker, and a receipt when all have applied it.

JetStream numbers purges and keeps them. A worker says which it has applied last and gets those after it, so a
PoP or a worker that was away catches up by itself; what the stream has forgotten by then is made up for by
having the worker validate everything older. Asking the stream once a second whether there is anything new is
what a lease rests on: it holds for `LEASE_S` from the moment the question was put, if the answer was no.
Whoever purges waits for receipts, and no longer than that for a PoP that sends none.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile
from pathlib import Path
from time import monotonic
from typing import Final, Never

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig, DeliverPolicy

from atoll.errors import AtollError
from atoll.node.edge_leave import all_aside
from atoll.wire import control as wire
from atoll.wire import frames
from atoll.wire.messages import NumberedPurge, PurgeState, PurgeUpdate

LEASE_S: Final = 5.0
POLL_S: Final = 1.0
APPLY_TIMEOUT_S: Final = 5.0
MAX_KNOWN: Final = 65_536
_BATCH: Final = 1024
_RETRY_S: Final = 0.05
_AGAIN_S: Final = 0.25
_PATIENCE: Final = 3  # looks at a stream that has purges which do not arrive

_log = logging.getLogger("atoll.agent")

Publish = Callable[[wire.PurgeReceipt], Awaitable[None]]


class _Worker:
    """An edge worker: what it has applied, and whether there is more for it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.applied = -1  # not known yet
        self.lease_s = 0.0
        self.news = asyncio.Event()


class Purges:
    """Purges of one PoP."""

    def __init__(self, pop: str, sockets: Sequence[Path], publish: Publish) -> None:
        self._pop = pop
        self._publish = publish
        self._workers = [_Worker(path) for path in sockets]
        self._run = {path.parent for path in sockets}
        self._leavers: dict[Path, asyncio.Task[None]] = {}
        self._known: deque[NumberedPurge] = deque(maxlen=MAX_KNOWN)
        self._seen_s: dict[int, float] = {}
        self._floor = 0  # what comes before is known to nobody here
        self._last = 0  # the newest purge known
        self._told = 0  # receipts go up to here
        self._lease_until_s = 0.0
        self._connected = asyncio.Event()  # every worker has said what it has applied

    @property
    def applied(self) -> int:
        """What every worker has applied; -1 while that is not known."""
        return min((worker.applied for worker in self._workers), default=0)

    async def run(self) -> Never:
        """Keep every worker current."""
        here = tuple(self._workers)
        self._meet_leavers()
        await asyncio.gather(*(self._follow(worker) for worker in here))
        raise AssertionError("a worker is followed for ever")

    async def session(self, client: Client) -> Never:
        """Follow the stream on this connection, again whenever that fails."""
        await self._connected.wait()
        while True:
            try:
                await self._once(client)
            except nats.js.errors.NotFoundError:
                pass  # the control plane has not made the stream yet
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
                _log.warning("purges cannot be followed: %s", error or type(error).__name__)
            await asyncio.sleep(_AGAIN_S)

    async def _once(self, client: Client) -> None:
        js = client.jetstream()
        info = await js.stream_info(wire.PURGES_STREAM)
        first, last = info.state.first_seq, info.state.last_seq
        since = max(self.applied, self._last)
        if since + 1 < first and last > since:
            self._forget(first - 1)
            since = first - 1
        config = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=since + 1)
        subscription = await js.subscribe(
            wire.PURGES, stream=wire.PURGES_STREAM, cb=self._on_purge, ordered_consumer=True, config=config
        )
        try:
            missing = 0
            while missing < _PATIENCE:
                asked_s = monotonic()
                info = await js.stream_info(wire.PURGES_STREAM)
                if info.state.last_seq <= self._last or info.state.messages == 0:
                    self._extend(asked_s + LEASE_S)
                    missing = 0
                else:
                    missing += 1  # on its way, or the subscription is dead
                await asyncio.sleep(POLL_S)
        finally:
            with contextlib.suppress(nats.errors.Error, nats.js.errors.Error):
                await subscription.unsubscribe()

    async def _on_purge(self, message: Msg) -> None:
        seq = message.metadata.sequence.stream
        if seq <= self._last:
            return
        self._last = seq
        self._seen_s[seq] = monotonic()
        try:
            selector = wire.decode(message.data, wire.PurgeOrder).selector
        except AtollError as error:  # of a version to come: what it might select has to be validated
            _log.error("purge %d cannot be read, everything older is validated: %s", seq, error)
            self._forget(seq)
        else:
            self._known.append(NumberedPurge(seq=seq, selector=selector))
        self._wake()

    def _forget(self, seq: int) -> None:
        self._floor = max(self._floor, seq)
        self._last = max(self._last, seq)
        self._wake()

    def _extend(self, until_s: float) -> None:
        self._lease_until_s = until_s
        self._wake()

    def _wake(self) -> None:
        for worker in self._workers:
            worker.news.set()

    async def _follow(self, worker: _Worker) -> Never:
        while True:
            try:
                peer = await frames.connect(worker.path)
            except OSError:
                await asyncio.sleep(_RETRY_S)
                continue
            closing = asyncio.ensure_future(_when_closed(peer, worker.news))
            try:
                await self._feed(worker, peer)
            except AtollError as error:
                _log.warning("%s: %s", worker.path.name, error)
                await asyncio.sleep(_RETRY_S)
            finally:
                closing.cancel()
                peer.close()
                worker.applied, worker.lease_s = -1, 0.0
                self._meet_leavers()

    def _meet_leavers(self) -> None:
        """A worker that hangs up may have moved aside for its successor, and still answers some requests."""
        for path in [path for run in self._run for path in all_aside(run) if path not in self._leavers]:
            worker = _Worker(path)
            self._workers.append(worker)
            self._leavers[path] = asyncio.ensure_future(self._see_off(worker))

    async def _see_off(self, worker: _Worker) -> None:
        """Feed one that leaves, until it has left."""
        try:
            peer = await frames.connect(worker.path)
            closing = asyncio.ensure_future(_when_closed(peer, worker.news))
            try:
                await self._feed(worker, peer)
            finally:
                closing.cancel()
                peer.close()
        except (OSError, AtollError) as error:
            _log.warning("%s: %s", worker.path.name, error)
        finally:
            self._workers.remove(worker)
            del self._leavers[worker.path]
            await self._tell()

    async def _feed(self, worker: _Worker, peer: frames.Peer) -> None:
        worker.applied = await _update(peer, PurgeUpdate())
        if self.applied >= 0:
            if not self._connected.is_set():
                self._last = self._told = max(self._last, self.applied)
            self._connected.set()
        while not peer.closed.is_set():
            worker.news.clear()
            update = self._news_for(worker)
            if update is None:
                await worker.news.wait()
                continue
            worker.applied = await _update(peer, update)
            worker.lease_s = update.lease_until_s
            await self._tell()

    def _news_for(self, worker: _Worker) -> PurgeUpdate | None:
        behind = self._floor if self._floor > worker.applied else 0
        after = max(worker.applied, behind)
        newer = list(takewhile(lambda purge: purge.seq > after, reversed(self._known)))
        purges = tuple(newer[: -_BATCH - 1 : -1])
        reach = purges[-1].seq if purges else after
        lease_s = self._lease_until_s if reach >= self._last else 0.0  # else there is more to come
        if not (purges or behind) and lease_s <= worker.lease_s:
            return None
        return PurgeUpdate(purges=purges, behind=behind, lease_until_s=lease_s)

    async def _tell(self) -> None:
        """A receipt for what every worker has applied by now."""
        applied = self.applied
        if applied <= self._told:
            return
        self._told = applied
        now_s = monotonic()
        seen_s = self._seen_s.pop(applied, now_s)
        for seq in [seq for seq in self._seen_s if seq < applied]:
            del self._seen_s[seq]
        await self._publish(
            wire.PurgeReceipt(pop=self._pop, seq=applied, ms=round((now_s - seen_s) * 1000, 2))
        )


async def _update(peer: frames.Peer, update: PurgeUpdate) -> int:
    reply = await peer.call(update, APPLY_TIMEOUT_S)
    if not isinstance(reply, PurgeState):
        raise AtollError(f"asked to apply purges, answered {reply}")
    return reply.applied


async def _when_closed(peer: frames.Peer, news: asyncio.Event) -> None:
    await peer.closed.wait()
    news.set()
