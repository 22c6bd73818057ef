"""The `bird` driver: announcements through a BIRD that the operator runs.

BIRD keeps its sessions, its BFD and its kernel routes; we write the one file that its configuration includes
and have it read again. A withdrawal is proven when BIRD exports the route to none of the neighbours any more.
BIRD outlives us, so a guard beside us withdraws when we end without a word.

Neighbours' sessions are looked at once a second: BIRD tells nobody by itself. A neighbour's `name` is that of
its protocol in BIRD.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Final, Literal

from atoll.anycast import bird_control, bird_guard, bird_text
from atoll.anycast.neighbors import Speaking, family_of
from atoll.anycast.sessions import Session
from atoll.anycast.speaker import (
    Announcement,
    OnEvent,
    RouteAcknowledged,
    RouteWithdrawn,
    WithdrawalProof,
    checked,
)
from atoll.errors import AtollError

LOOK_S: Final = 1.0
PROOF_TIMEOUT_S: Final = 5.0

_PROOF_POLL_S: Final = 0.002
_UNKNOWN: Final = "BIRD has no BGP protocol of that name"


class BirdSpeaker:
    """A `Speaker` through BIRD's control socket and a file that its configuration includes."""

    def __init__(self, speaking: Speaking, control: Path, include: Path, on_event: OnEvent) -> None:
        self._speaking = speaking
        self._control = control
        self._include = include
        self._on_event = on_event
        self._wanted: dict[str, Announcement] = {}
        self._held: dict[str, Announcement] = {}
        self._sessions = {each.name: Session(neighbor=each) for each in speaking.neighbors}
        self._looking: asyncio.Task[None] | None = None
        self._guard: Process | None = None
        self._turn = asyncio.Lock()

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
        """What BIRD exports, by prefix; nothing while no session is up."""
        return tuple(self._held[prefix] for prefix in sorted(self._held)) if self.session_up else ()

    async def open(self) -> None:
        """See `Speaker.open`. What a predecessor left announced stays until the first change.

        Raises:
            AtollError: no BIRD, or no place for the file.
        """
        for neighbor in self._speaking.neighbors:
            bird_text.check_name(neighbor.name)
        self._write(self._include.with_suffix(".none"), ())
        if not self._include.exists():
            self._write(self._include, ())
        self._guard = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(bird_guard.__file__), str(self._control), str(self._include),
            stdin=PIPE,
        )  # fmt: skip
        self._looking = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        """See `Speaker.close`: BIRD's sessions are not ours to end, so everything is withdrawn."""
        await self._end(goes_on=False)

    async def hand_over(self, patience_s: float) -> None:
        """See `Speaker.hand_over`: BIRD goes on announcing, for as long as it takes."""
        del patience_s
        await self._end(goes_on=True)

    async def announce(self, announcement: Announcement) -> None:
        """See `Speaker.announce`; acknowledged means that BIRD has taken it."""
        announcement = checked(announcement)
        self._wanted[announcement.prefix] = announcement
        await self._apply()
        if self._wanted.get(announcement.prefix) is announcement:
            self._held[announcement.prefix] = announcement
            self._on_event(RouteAcknowledged(announcement=announcement))

    async def withdraw(self, prefix: str) -> WithdrawalProof:
        """See `Speaker.withdraw`."""
        prefix = checked(Announcement(prefix=prefix)).prefix
        self._wanted.pop(prefix, None)
        await self._apply()
        how: Literal["acknowledged", "no session"] = "acknowledged" if self.session_up else "no session"
        try:
            async with asyncio.timeout(PROOF_TIMEOUT_S):
                for session in self._sessions.values():
                    await self._until_gone(session, prefix)
        except TimeoutError:
            raise AtollError(f"{prefix}: BIRD goes on exporting it", where=str(self._control)) from None
        self._held.pop(prefix, None)
        self._on_event(RouteWithdrawn(prefix=prefix))
        return WithdrawalProof(prefix=prefix, how=how)

    async def reset(self, address: str) -> None:
        """Nothing: BIRD's own BFD ends its sessions."""

    async def _apply(self) -> None:
        async with self._turn:
            self._write(self._include, tuple(self._wanted.values()))
            await bird_control.ask(self._control, "configure")

    def _write(self, path: Path, announcements: tuple[Announcement, ...]) -> None:
        fresh = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(bird_text.included(self._speaking, announcements))
            fresh.replace(path)
        except OSError as error:
            raise AtollError(f"BIRD's file cannot be written: {error.strerror}", where=str(path)) from error

    async def _until_gone(self, session: Session, prefix: str) -> None:
        if not session.up or family_of(prefix) not in session.neighbor.families:
            return
        command = f"show route {prefix} export {session.neighbor.name}"
        while True:
            if not bird_text.has_route(await self._ask_routes(command)):
                return
            await asyncio.sleep(_PROOF_POLL_S)

    async def _ask_routes(self, command: str) -> tuple[bird_control.Line, ...]:
        """A reply to `show route`; BIRD calls it an error when the network is in no table."""
        try:
            return await bird_control.ask(self._control, command)
        except AtollError as error:
            if "Network not" in str(error):
                return ()
            raise

    async def _keep_looking(self) -> None:
        while True:
            try:
                lines = await bird_control.ask(self._control, "show protocols")
            except AtollError as error:
                for session in self._sessions.values():
                    self._seen(session, up=False, reason=str(error))
            else:
                found = bird_text.established(lines)
                for name, session in self._sessions.items():
                    up, reason = found.get(name, (False, _UNKNOWN))
                    self._seen(session, up=up, reason=reason)
            await asyncio.sleep(LOOK_S)

    def _seen(self, session: Session, *, up: bool, reason: str) -> None:
        event = session.turned(up=up, reason=reason, now_s=asyncio.get_running_loop().time())
        if event is not None:
            self._on_event(event)

    async def _end(self, *, goes_on: bool) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking
        for session in self._sessions.values():
            self._seen(session, up=False, reason="closed")
        if self._guard is None:
            return
        assert self._guard.stdin is not None
        if goes_on:
            self._guard.stdin.write(bird_guard.GOES_ON)
        self._guard.stdin.close()
        await self._guard.wait()
