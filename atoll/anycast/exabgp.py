"""The `exabgp` driver: real BGP sessions, spoken by ExaBGP as our child.

ExaBGP installs no routes and passes none on, so it can leak nothing. It tells us each session's state and
each UPDATE that it has written; a withdrawal is proven when the one that carries it has left for every
neighbour with a session. Commands go to ExaBGP also for neighbours without a session, or it would announce
to them later what has been withdrawn since.

A neighbour whose session comes up is told everything and then End-of-RIB (RFC 4724 §2), never before: a
speaker that hands over is opened when its successor knows what to announce.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from random import random
from typing import Final, Literal

from msgspec import field

from atoll.anycast import exabgp_text
from atoll.anycast.exabgp_process import ExaBgpProcess
from atoll.anycast.exabgp_text import Down, Event, Sent, Up
from atoll.anycast.neighbors import Route, Speaking, routed
from atoll.anycast.passwords import read_passwords
from atoll.anycast.sessions import Session
from atoll.anycast.speaker import (
    Announcement,
    OnEvent,
    RouteAcknowledged,
    RouteWithdrawn,
    SessionDown,
    WithdrawalProof,
    checked,
)
from atoll.errors import AtollError

PROOF_TIMEOUT_S: Final = 5.0


class Told(Session, kw_only=True):
    """A session, and what its neighbour has been told."""

    asked: dict[str, Route] = field(default_factory=dict)
    held: dict[str, Route] = field(default_factory=dict)  # what has been sent and not been withdrawn
    waiting: dict[str, asyncio.Future[None]] = field(default_factory=dict)  # for a prefix's UPDATE to leave


class ExaBgpSpeaker:
    """A `Speaker` towards real neighbours. Its files are in `folder`."""

    def __init__(
        self, speaking: Speaking, folder: Path, on_event: OnEvent, jitter: Callable[[], float] = random
    ) -> None:
        self._speaking = speaking
        self._on_event = on_event
        self._wanted: dict[str, Announcement] = {}
        self._leaving: dict[str, Announcement] = {}  # withdrawn, and not proven yet
        self._sessions = {each.address: Told(neighbor=each) for each in speaking.neighbors}
        self._process = ExaBgpProcess(folder, self._take, self._gone, jitter)
        self._telling: set[asyncio.Task[None]] = set()

    @property
    def session_up(self) -> bool:
        """Whether announcements reach anyone now."""
        return any(session.up for session in self._sessions.values())

    @property
    def sessions(self) -> tuple[Session, ...]:
        """All of them, for people."""
        return tuple(self._sessions.values())

    @property
    def acknowledged(self) -> tuple[Announcement, ...]:
        """What some neighbour has been sent and still holds, by prefix."""
        asked = {**self._leaving, **self._wanted}
        held = {prefix for session in self._sessions.values() for prefix in session.held}
        return tuple(asked[prefix] for prefix in sorted(held & asked.keys()))

    @property
    def pid(self) -> int | None:
        """ExaBGP's."""
        return self._process.pid

    async def open(self) -> None:
        """See `Speaker.open`.

        Raises:
            AtollError: a password that cannot be read, or no place for the files.
        """
        passwords = read_passwords(self._speaking.neighbors)
        await self._process.start(
            lambda relay: exabgp_text.configuration(self._speaking, relay, passwords)
        )  # fmt: skip

    async def close(self) -> None:
        """See `Speaker.close`. With graceful restart, sessions end without a word: routes go before them."""
        for prefix in tuple(self._wanted):
            with contextlib.suppress(AtollError):  # the session that has no proof ends as well
                await self.withdraw(prefix)
        await self._end(signal.SIGTERM)

    async def hand_over(self, patience_s: float) -> None:
        """See `Speaker.hand_over`: connections break off without a word (RFC 4724 §4.2)."""
        kept_s = self._speaking.graceful_restart_s
        if kept_s < patience_s:
            raise AtollError(
                f"neighbours keep routes for {kept_s} s, {patience_s:g} are needed",
                hint="set graceful_restart_s",
            )
        await self._end(signal.SIGKILL)

    async def announce(self, announcement: Announcement) -> None:
        """See `Speaker.announce`; here, acknowledged means sent."""
        announcement = checked(announcement)
        self._wanted[announcement.prefix] = announcement
        await asyncio.gather(*(self._tell(session, announcement) for session in self._sessions.values()))
        if self.session_up:
            self._on_event(RouteAcknowledged(announcement=announcement))

    async def withdraw(self, prefix: str) -> WithdrawalProof:
        """See `Speaker.withdraw`."""
        prefix = checked(Announcement(prefix=prefix)).prefix
        if prefix in self._wanted:
            self._leaving[prefix] = self._wanted.pop(prefix)
        how: Literal["sent", "no session"] = "sent" if self.session_up else "no session"
        await asyncio.gather(*(self._take_back(session, prefix) for session in self._sessions.values()))
        self._leaving.pop(prefix, None)
        self._on_event(RouteWithdrawn(prefix=prefix))
        return WithdrawalProof(prefix=prefix, how=how)

    async def reset(self, address: str) -> None:
        """End the session with a neighbour that BFD has given up; ExaBGP goes on to begin a new one."""
        session = self._sessions[address]
        if session.up:
            await self._process.say(exabgp_text.teardown(session.neighbor))

    def _keep_farewell(self) -> None:
        """What is to be said for us should we die: see the relay."""
        self._process.keep_farewell(
            f"{exabgp_text.withdraw(session.neighbor, prefix)}\n"
            for session in self._sessions.values()
            for prefix in session.asked
        )

    async def _tell(self, session: Told, announcement: Announcement) -> None:
        route = routed(announcement, self._speaking, session.neighbor)
        if route is None:
            return
        session.asked[route.prefix] = route
        self._keep_farewell()
        command = exabgp_text.announce(session.neighbor, route)
        await self._say(session, command, route.prefix, awaited=session.held.get(route.prefix) != route)

    async def _take_back(self, session: Told, prefix: str) -> None:
        if prefix in session.asked:
            command = exabgp_text.withdraw(session.neighbor, prefix)
            await self._say(session, command, prefix, awaited=prefix in session.held)
            del session.asked[prefix]
            self._keep_farewell()

    async def _say(self, session: Told, command: str, prefix: str, *, awaited: bool) -> None:
        """Say it, and wait until the UPDATE has left, or the session is gone."""
        left = asyncio.get_running_loop().create_future() if awaited and session.up else None
        if left is not None:
            session.waiting[prefix] = left
        try:
            async with asyncio.timeout(PROOF_TIMEOUT_S):
                if await self._process.say(command) and left is not None:
                    await left
        except TimeoutError:
            raise AtollError(
                f"{prefix}: no UPDATE was seen to leave for {session.neighbor.name}",
                hint=f"it is tried again; what holds it is in the log of ExaBGP ({command})",
            ) from None
        finally:
            session.waiting.pop(prefix, None)

    def _take(self, event: Event) -> None:
        if not isinstance(event, Up | Down | Sent):
            return
        session = self._sessions.get(event.address)
        if session is None:
            return
        if isinstance(event, Up):
            self._came_up(session)
        elif isinstance(event, Down):
            self._went_down(session, event.reason)
        else:
            self._has_left(session, event)

    def _came_up(self, session: Told) -> None:
        event = session.turned(up=True, reason="", now_s=asyncio.get_running_loop().time())
        if event is not None:
            self._on_event(event)
        task = asyncio.create_task(self._tell_everything(session))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell_everything(self, session: Told) -> None:
        for announcement in tuple(self._wanted.values()):
            if self._wanted.get(announcement.prefix) is announcement:
                try:
                    await self._tell(session, announcement)
                except AtollError as error:
                    self._on_event(SessionDown(reason=str(error), neighbor=session.neighbor.name))
        for command in exabgp_text.end_of_rib(session.neighbor):
            if session.up:
                await self._process.say(command)

    def _went_down(self, session: Told, reason: str) -> None:
        event = session.turned(up=False, reason=reason, now_s=asyncio.get_running_loop().time())
        session.held.clear()
        for left in session.waiting.values():
            if not left.done():
                left.set_result(None)
        if event is not None:
            self._on_event(event)

    def _has_left(self, session: Told, update: Sent) -> None:
        for prefix in update.announced:
            if prefix in session.asked:
                session.held[prefix] = session.asked[prefix]
        for prefix in update.withdrawn:
            session.held.pop(prefix, None)
        for prefix in (*update.announced, *update.withdrawn):
            left = session.waiting.get(prefix)
            if left is not None and not left.done():
                left.set_result(None)

    def _gone(self, reason: str) -> None:
        for session in self._sessions.values():
            self._went_down(session, reason)

    async def _end(self, number: signal.Signals) -> None:
        for task in self._telling:
            task.cancel()
        await self._process.stop(number)
