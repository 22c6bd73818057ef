"""The `emulated` speaker: sessions with the emulated Internet over its unix socket.

The connection is the session: when either side drops it, the routes are gone at once, which is what a real
neighbour does when the TCP connection under a BGP session resets. The speaker comes back by itself, with a
jittered back-off so that five PoPs do not knock in step, and announces again what it was asked for.

A process that is stopped, or a machine that freezes, drops no connection. As BFD does beside BGP (RFC 5880
§6.8.4), the speaker says ten times a second that it lives, and the neighbour ends a session that has been
silent for ten times that: a busy machine with two cores stalls a process for a few hundred milliseconds now
and then, so the 150 ms that routers use would flap here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from random import random
from typing import Final, Literal

import msgspec

from atoll.anycast.backoff import backoff_s
from atoll.anycast.speaker import (
    Announcement,
    OnEvent,
    RouteAcknowledged,
    RouteWithdrawn,
    SessionDown,
    SessionUp,
    WithdrawalProof,
    checked,
)
from atoll.errors import AtollError
from atoll.wire import frames
from atoll.wire.messages import Keepalive, RouteAnnounce, RouteWithdraw, SpeakerOpen, SpeakerRestart

PROOF_TIMEOUT_S: Final = 5.0


class Liveness(msgspec.Struct, frozen=True, kw_only=True):
    """How often a speaker says that it lives, and how many of these may be missing."""

    interval_s: float = 0.1
    multiplier: int = 10


class EmulatedSpeaker:
    """A `Speaker` towards the emulated Internet."""

    def __init__(
        self,
        socket: Path,
        pop: str,
        asn: int,
        on_event: OnEvent,
        jitter: Callable[[], float] = random,
        liveness: Liveness | None = None,
    ) -> None:
        self._socket = socket
        self._liveness = liveness or Liveness()
        self._hello = SpeakerOpen(
            pop=pop, asn=asn, keepalive_s=self._liveness.interval_s, multiplier=self._liveness.multiplier
        )
        self._on_event = on_event
        self._jitter = jitter
        self._wanted: dict[str, Announcement] = {}
        self._held: dict[str, Announcement] = {}
        self._peer: frames.Peer | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def session_up(self) -> bool:
        """Whether announcements reach anyone now."""
        return self._peer is not None and not self._peer.closed.is_set()

    @property
    def acknowledged(self) -> tuple[Announcement, ...]:
        """What the emulated Internet has confirmed and still holds, by prefix."""
        return tuple(self._held[prefix] for prefix in sorted(self._held))

    async def open(self) -> None:
        """Start connecting; `SessionUp` tells when it has succeeded."""
        self._task = asyncio.create_task(self._keep_session())

    async def close(self) -> None:
        """End the session, and the routes with it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def hand_over(self, patience_s: float) -> None:
        """See `Speaker.hand_over`."""
        if self._peer is not None:
            await self._peer.call(SpeakerRestart(patience_s=patience_s), PROOF_TIMEOUT_S)
        await self.close()

    async def announce(self, announcement: Announcement) -> None:
        """See `Speaker.announce`."""
        announcement = checked(announcement)
        self._wanted[announcement.prefix] = announcement
        if self._peer is not None:
            await self._tell(self._peer, announcement)

    async def withdraw(self, prefix: str) -> WithdrawalProof:
        """See `Speaker.withdraw`."""
        prefix = checked(Announcement(prefix=prefix)).prefix
        self._wanted.pop(prefix, None)
        how: Literal["acknowledged", "no session"] = "no session"
        peer = self._peer
        if peer is not None:
            try:
                await peer.call(RouteWithdraw(prefix=prefix), PROOF_TIMEOUT_S)
                how = "acknowledged"
            except AtollError:
                if not peer.closed.is_set():
                    raise
        self._held.pop(prefix, None)
        self._on_event(RouteWithdrawn(prefix=prefix))
        return WithdrawalProof(prefix=prefix, how=how)

    async def _tell(self, peer: frames.Peer, announcement: Announcement) -> None:
        message = RouteAnnounce(
            prefix=announcement.prefix,
            prepend=announcement.prepend,
            med=announcement.med,
            communities=announcement.communities + announcement.large_communities,
        )
        try:
            await peer.call(message, PROOF_TIMEOUT_S)
        except AtollError:
            if peer.closed.is_set():
                return  # told again when the session is back
            raise
        self._held[announcement.prefix] = announcement
        self._on_event(RouteAcknowledged(announcement=announcement))

    async def _keep_session(self) -> None:
        attempt = 0
        while True:
            try:
                await self._session()
                attempt = 0
            except (OSError, AtollError):
                attempt += 1
            await asyncio.sleep(backoff_s(attempt, self._jitter()))

    async def _session(self) -> None:
        peer = await frames.connect(self._socket)
        living = asyncio.ensure_future(self._say_alive(peer))
        try:
            await peer.call(self._hello)
            self._peer = peer
            self._on_event(SessionUp())
            await self._announce_again(peer)
            await peer.closed.wait()
        finally:
            living.cancel()
            peer.close()
            if self._peer is peer:
                self._lost()

    async def _say_alive(self, peer: frames.Peer) -> None:
        while self._liveness.interval_s:
            await asyncio.sleep(self._liveness.interval_s)
            peer.send(Keepalive())

    async def _announce_again(self, peer: frames.Peer) -> None:
        for announcement in tuple(self._wanted.values()):
            if self._wanted.get(announcement.prefix) is announcement:
                await self._tell(peer, announcement)

    def _lost(self) -> None:
        self._peer = None
        self._held.clear()
        closing = self._task is not None and self._task.cancelling() > 0
        self._on_event(SessionDown(reason="closed" if closing else "the other side closed"))
