"""The agent's conversation with its PoP's edge workers: the latest snapshot to each, again when one restarts.

Only the latest counts: a worker that is slow or away gets the newest snapshot, not the ones between. A worker
whose successor serves still answers some requests, and is fed until it has left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Never

from atoll.config.spec import Snapshot
from atoll.errors import AtollError
from atoll.node.edge_leave import all_aside
from atoll.wire import frames
from atoll.wire.messages import ApplySnapshot, EdgeStats, GetEdgeStats, Ok

APPLY_TIMEOUT_S: Final = 5.0
STATS_TIMEOUT_S: Final = 0.5
RETRY_S: Final = 0.05
LONGEST_RETRY_S: Final = 0.5

_log = logging.getLogger("atoll.agent")


class _Worker:
    """One edge worker as the agent knows it."""

    def __init__(self, path: Path, *, leaves: bool = False) -> None:
        self.path = path
        self.leaves = leaves
        self.peer: frames.Peer | None = None
        self.served: Snapshot | None = None
        self.news = asyncio.Event()  # a newer snapshot, or the connection is gone


class EdgeWorkers:
    """All edge workers of the PoP. `acknowledged(snapshot)` when each of them serves the latest."""

    def __init__(self, sockets: Sequence[Path], acknowledged: Callable[[Snapshot], None]) -> None:
        self._workers = [_Worker(path) for path in sockets]
        self._acknowledged = acknowledged
        self._run = {path.parent for path in sockets}
        self._leavers: dict[Path, asyncio.Task[None]] = {}
        self._latest: Snapshot | None = None
        self._anew = False

    @property
    def seq(self) -> int:
        """What every worker serves at least; 0 before that."""
        return min((w.served.seq if w.served else 0 for w in self._workers), default=0)

    def start_anew(self) -> None:
        """What comes from now on is of another store: its `seq` says nothing about those before."""
        self._anew = True

    def serve(self, snapshot: Snapshot) -> None:
        """Have every worker serve this."""
        self._latest = snapshot
        for worker in self._workers:
            worker.news.set()

    async def stats(self) -> tuple[EdgeStats, ...]:
        """The counters of the workers that answer, without those that leave."""
        peers = [worker.peer for worker in self._workers if worker.peer is not None and not worker.leaves]
        return tuple([stats for peer in peers if (stats := await _stats(peer)) is not None])

    async def run(self) -> Never:
        """Keep every worker current."""
        here = tuple(self._workers)
        self._meet_leavers()
        await asyncio.gather(*(self._follow(worker) for worker in here))
        raise AssertionError("a worker is followed for ever")

    async def _follow(self, worker: _Worker) -> Never:
        wait_s = RETRY_S
        while True:
            try:
                worker.peer = await frames.connect(worker.path)
            except OSError:
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, LONGEST_RETRY_S)
                continue
            closing = asyncio.ensure_future(_when_closed(worker.peer, worker.news))
            try:
                await self._feed(worker, worker.peer)
                wait_s = RETRY_S
            except AtollError as error:
                _log.warning("%s: %s", worker.path.name, error)
                await asyncio.sleep(wait_s)
            finally:
                closing.cancel()
                worker.peer.close()
                worker.peer, worker.served = None, None
                self._meet_leavers()

    def _meet_leavers(self) -> None:
        """A worker that hangs up may have moved aside for its successor."""
        for path in [path for run in self._run for path in all_aside(run) if path not in self._leavers]:
            worker = _Worker(path, leaves=True)
            self._workers.append(worker)
            self._leavers[path] = asyncio.ensure_future(self._see_off(worker))

    async def _see_off(self, worker: _Worker) -> None:
        """Feed one that leaves, until it has left."""
        try:
            worker.peer = await frames.connect(worker.path)
            closing = asyncio.ensure_future(_when_closed(worker.peer, worker.news))
            try:
                await self._feed(worker, worker.peer)
            finally:
                closing.cancel()
                worker.peer.close()
        except (OSError, AtollError) as error:
            _log.warning("%s: %s", worker.path.name, error)
        finally:
            self._workers.remove(worker)
            del self._leavers[worker.path]
            self._tell()

    async def _feed(self, worker: _Worker, peer: frames.Peer) -> None:
        """Send snapshots until the connection is gone."""
        while not peer.closed.is_set():
            worker.news.clear()
            latest = self._latest
            if latest is not None and latest is not worker.served:
                await _apply(peer, latest, self._anew)
                worker.served = latest
                self._tell()
            else:
                await worker.news.wait()

    def _tell(self) -> None:
        latest = self._latest
        if latest is not None and all(worker.served is latest for worker in self._workers):
            self._acknowledged(latest)


async def _when_closed(peer: frames.Peer, news: asyncio.Event) -> None:
    await peer.closed.wait()
    news.set()


async def _apply(peer: frames.Peer, snapshot: Snapshot, anew: bool) -> None:
    reply = await peer.call(ApplySnapshot(snapshot=snapshot, anew=anew), APPLY_TIMEOUT_S)
    if not isinstance(reply, Ok) or reply.seq != snapshot.seq:
        raise AtollError(f"asked to serve {snapshot.seq}, answered {reply}")


async def _stats(peer: frames.Peer) -> EdgeStats | None:
    try:
        reply = await peer.call(GetEdgeStats(), STATS_TIMEOUT_S)
    except AtollError:
        return None
    return reply if isinstance(reply, EdgeStats) else None
