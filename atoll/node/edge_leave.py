"""How an edge worker whose successor serves ends: nothing new is accepted, everything begun comes to its end.

- HTTP/1.1: the next response says `Connection: close`. An idle connection is not closed under a request that
  may be on its way (RFC 9112 §9.3.1): it stays as long as it might have stayed anyway, for one more request.
- HTTP/2 and HTTP/3: GOAWAY; open streams are finished.
- Downloads, uploads, event streams and tunnels take what they take: who supervises knows when that is enough.

Function hosts and other workers' caches keep connections, too, and close those they do not use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from time import time
from typing import Final, Protocol

from atoll.wire import frames
from atoll.wire.messages import Message

INNER_IDLE_S: Final = 35.0  # longer than any host or cache of ours keeps a connection it does not use
_LOOK_S: Final = 0.1


class Leaving(Protocol):
    """What a listener has to do here."""

    @property
    def arriving(self) -> bool:
        """Whether a connection is being introduced."""

    @property
    def busy(self) -> int:
        """Its connections."""

    def close(self) -> None:
        """Accept no more."""

    def check_timeouts(self) -> None:
        """Let connections look at the clock, and at what has been said to them."""

    def close_idle(self, now_s: float, quiet_s: float) -> None:
        """End those that nothing has been asked on for so long."""


async def until_left(public: Iterable[Leaving], inner: Iterable[Leaving]) -> None:
    """Accept no more; returns when every connection has ended."""
    everything = [*public, *inner]
    for listener in everything:
        listener.close()
        listener.check_timeouts()  # whoever speaks HTTP/2 hears of it at once
    while any(listener.arriving or listener.busy for listener in everything):
        await asyncio.sleep(_LOOK_S)
        for listener in inner:
            listener.close_idle(time(), INNER_IDLE_S)


class Control:
    """A worker's control socket, which moves aside when a successor has taken its path.

    The agent feeds whoever is on the path; it finds those that have moved aside by their names, and goes on
    feeding them: what they still answer is as current as anybody's.
    """

    def __init__(self, path: Path, handler: frames.Handler) -> None:
        self._path = path
        self._handler = handler
        self._server: asyncio.AbstractServer | None = None
        self._peers: set[frames.Peer] = set()
        self._aside: Path | None = None

    async def open(self) -> None:
        """Listen on the path, whoever did before."""
        self._server = await frames.serve(self._path, self._answer)

    async def move(self, pid: int) -> None:
        """Leave the path to the successor."""
        before, peers = self._server, list(self._peers)
        self._aside = aside(self._path.parent, pid)
        self._server = await frames.serve(self._aside, self._answer)
        if before is not None:
            before.close()
        for peer in peers:
            peer.close()  # it asks again, and finds both

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.close()
        if self._aside is not None:
            self._aside.unlink(missing_ok=True)

    async def _answer(self, peer: frames.Peer, message: Message) -> Message | None:
        self._peers = {known for known in self._peers if not known.closed.is_set()} | {peer}
        return await self._handler(peer, message)


def aside(run: Path, pid: int) -> Path:
    """Where a worker that leaves is found."""
    return run / f"leaving-{pid}.sock"


def all_aside(run: Path) -> list[Path]:
    """The sockets of every worker that leaves."""
    return sorted(run.glob("leaving-*.sock"))
