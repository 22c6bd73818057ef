"""Purges of `atoll serve`: numbered in one place, applied by every worker before anybody is told so.

A worker that is starting holds up a purge: what it has may be from before. Numbers begin with the time, so
that a disk that is kept over a restart knows new purges from old ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from time import time_ns
from typing import Final, Never

from atoll.config.purge import Selector
from atoll.errors import AtollError, RemoteError
from atoll.wire import frames
from atoll.wire.messages import NumberedPurge, PurgeState, PurgeUpdate

APPLY_TIMEOUT_S: Final = 5.0
MAX_KNOWN: Final = 65_536
_BATCH: Final = 1024
_RETRY_S: Final = 0.05

_log = logging.getLogger("atoll.serve")


class _Worker:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.applied = -1  # not known
        self.news = asyncio.Event()


class LocalPurges:
    """Every purge since the start, and what each worker has applied of them."""

    def __init__(self, sockets: Sequence[Path]) -> None:
        self._workers = [_Worker(path) for path in sockets]
        self._known: deque[NumberedPurge] = deque(maxlen=MAX_KNOWN)
        self._last = 0
        self._changed = asyncio.Condition()

    async def run(self) -> Never:
        """Keep every worker current."""
        await asyncio.gather(*(self._follow(worker) for worker in self._workers))
        raise AssertionError("a worker is followed for ever")

    async def purge(self, selectors: Sequence[Selector]) -> int:
        """Purge everywhere; the number of the last purge.

        Raises:
            RemoteError: a worker has not applied it in time; it will, before it answers much else.
        """
        try:
            async with asyncio.timeout(APPLY_TIMEOUT_S):
                await self._until(0)  # what is on a disk may have been numbered by a clock that was ahead
                for selector in selectors:
                    self._last = max(self._last + 1, time_ns() // 1000)
                    self._known.append(NumberedPurge(seq=self._last, selector=selector))
                wanted = self._last
                for worker in self._workers:
                    worker.news.set()
                await self._until(wanted)
        except TimeoutError:
            raise RemoteError("a worker has not applied the purge yet", 503, "ask again") from None
        return wanted

    async def _until(self, seq: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: all(worker.applied >= seq for worker in self._workers))

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
                worker.applied = -1

    async def _feed(self, worker: _Worker, peer: frames.Peer) -> None:
        """Whatever it has not applied yet, until the connection is gone."""
        update = PurgeUpdate()  # asks what it has applied
        while not peer.closed.is_set():
            worker.news.clear()
            reply = await peer.call(update, APPLY_TIMEOUT_S)
            if not isinstance(reply, PurgeState):
                raise AtollError(f"asked to apply purges, answered {reply}")
            async with self._changed:
                worker.applied = reply.applied
                self._last = max(self._last, reply.applied)
                self._changed.notify_all()
            if not self._missing(reply.applied):
                await worker.news.wait()
            update = PurgeUpdate(purges=self._missing(reply.applied))

    def _missing(self, applied: int) -> tuple[NumberedPurge, ...]:
        return tuple([purge for purge in self._known if purge.seq > applied][:_BATCH])


async def _when_closed(peer: frames.Peer, news: asyncio.Event) -> None:
    await peer.closed.wait()
    news.set()
