"""Predecessors that live on: replaced, told to leave, and ending what they have begun.

A download or a WebSocket may outlast a restart by minutes, and nobody is to wait for it. What leaves is told
by SIGUSR1, which says *end by yourself, in no hurry*, and is watched: it has its grace, then it is stopped
as always. There are only so many of one role at a time; the oldest makes room.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final

import msgspec

from atoll.node.process import Child, ChildState, usage
from atoll.wire.messages import ProcessInfo

LEAVE: Final = signal.SIGUSR1
LEAVING: Final = "leaving"
LOOK_S: Final = 2.0
MISSES: Final = 5  # in a row: it is in nobody's way, and what it holds is lost with it

_log = logging.getLogger("atoll.supervisor")

Alive = Callable[[int], Awaitable[bool]]
"""Whether the process of that number still turns; asked of one that leaves."""


class LeaverState(msgspec.Struct, frozen=True, kw_only=True):
    """A predecessor as its supervisor's successor finds it; on the machine's monotonic clock."""

    child: ChildState
    until_s: float


class Leavers:
    """The predecessors of one role, oldest first."""

    def __init__(self, most: int, alive: Alive | None = None) -> None:
        self._most = most
        self._alive = alive
        self._leaving: dict[Child, float] = {}  # until when, and in the order in which they began
        self._ending: dict[Child, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, child: Child, grace_s: float) -> None:
        """Let `child` leave; one too many ends the oldest."""
        child.send(LEAVE)
        self._follow(child, monotonic() + grace_s)
        for oldest in list(self._leaving)[: -self._most]:
            self._ending[oldest].set()

    def adopt(self, child: Child, until_s: float) -> None:
        """One that has been told already."""
        self._follow(child, until_s)

    def export(self) -> tuple[LeaverState, ...]:
        """All of them, for who takes over."""
        return tuple(
            LeaverState(child=child.export(), until_s=until_s) for child, until_s in self._leaving.items()
        )

    def infos(self) -> Sequence[ProcessInfo]:
        """A line for each."""
        return [self._info(child, until_s) for child, until_s in self._leaving.items()]

    async def stop(self) -> None:
        """Stop them as always, and wait for it."""
        for ending in self._ending.values():
            ending.set()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def kill(self) -> None:
        """SIGKILL all of them."""
        for child in self._leaving:
            child.kill()

    def _follow(self, child: Child, until_s: float) -> None:
        self._leaving[child] = until_s
        self._ending[child] = asyncio.Event()
        task = asyncio.ensure_future(self._until_gone(child, until_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _until_gone(self, child: Child, until_s: float) -> None:
        ended = asyncio.ensure_future(child.wait())
        told = asyncio.ensure_future(self._ending[child].wait())
        watching = asyncio.ensure_future(self._watch(child))
        try:
            left_s = max(0.0, until_s - monotonic())
            await asyncio.wait({ended, told}, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                why = "makes room" if told.done() else "has used up its grace"
                _log.info("%s (pid %d), which was leaving, %s: stopped", child.launch.name, child.pid, why)
                await child.stop()
            _log.info("%s (pid %d) has left", child.launch.name, child.pid)
        finally:
            watching.cancel()
            told.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ended
            del self._leaving[child], self._ending[child]

    async def _watch(self, child: Child) -> None:
        """One that hangs ends nothing any more."""
        missed = 0
        while self._alive is not None and missed < MISSES:
            await asyncio.sleep(LOOK_S)
            missed = 0 if await self._alive(child.pid) else missed + 1
        if self._alive is not None:
            _log.warning("%s (pid %d), which was leaving, hangs: killed", child.launch.name, child.pid)
            child.kill()

    def _info(self, child: Child, until_s: float) -> ProcessInfo:
        taken = usage(child.pid)
        return ProcessInfo(
            name=child.launch.name,
            pid=child.pid,
            state=LEAVING,
            uptime_s=monotonic() - child.started_s,
            rss=taken.private,
            cpu_s=taken.cpu_s,
            detail=f"ends what it has begun, for {max(0.0, until_s - monotonic()):.0f} s at most",
        )
