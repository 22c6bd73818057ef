"""The one process supervisor: keeps processes running, restarts those that end, stops them in order.

Used by a PoP for its roles and by the network daemon for everything else. A supervised process is replaced
without a gap when its launch hands it sockets: the successor starts on the same ones, and only when it
serves is the one before told to stop.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic
from typing import Final

from atoll.errors import AtollError
from atoll.node import restart
from atoll.node.logs import bound_log
from atoll.node.process import Child, Launch, usage
from atoll.wire.messages import ProcessInfo

LOG_CHECK_S: Final = 1.0
READY_TIMEOUT_S: Final = 20.0

_log = logging.getLogger("atoll.supervisor")


class Supervised:
    """One process that is kept running from `start()` until `stop()`."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.restarts = 0
        self.ready = asyncio.Event()
        self._child: Child | None = None
        self._streak = 0
        self._stopping = asyncio.Event()
        self._turn = asyncio.Lock()  # of who stops, resumes or replaces it
        self._keeper: asyncio.Task[None] | None = None

    @property
    def state(self) -> str:
        """starting | ready | backoff | stopped, as in `ProcessInfo`."""
        if self._child is not None:
            return "ready" if self._child.serves else "starting"
        return "stopped" if self._stopping.is_set() or self._keeper is None else "backoff"

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop, also when it still answers what it has."""
        return self._stopping.is_set()

    @property
    def pid(self) -> int:
        """Of the present process; 0 when there is none."""
        return self._child.pid if self._child else 0

    def start(self) -> None:
        """Keep it running from now on."""
        if self._keeper is None or self._keeper.done():
            self._stopping.clear()
            self._streak = 0
            self._keeper = asyncio.ensure_future(self._keep())

    async def resume(self) -> None:
        """Keep it running again; a stop that is under way comes to its end first."""
        async with self._turn:
            self.start()

    async def stop(self) -> None:
        """Stop it in order and leave it stopped."""
        self._stopping.set()
        async with self._turn:
            self._stopping.set()  # again: it may have been resumed meanwhile
            if self._child is not None:
                await self._child.stop()
            await self._end()

    async def kill_and_leave(self) -> None:
        """SIGKILL it (its whole group if it has its own) and leave it stopped."""
        self._stopping.set()
        self.kill()  # at once: whoever stops it in order is done sooner
        async with self._turn:
            self._stopping.set()
            self.kill()
            await self._end()

    async def _end(self) -> None:
        if self._keeper is not None:
            await self._keeper

    def kill(self) -> None:
        """SIGKILL it; it is restarted like after any other death."""
        if self._child is not None:
            self._child.kill()

    async def replace(self) -> None:
        """Start a successor beside it; when that serves, stop the one before.

        Raises:
            AtollError: the successor did not come up; the one before runs on.
        """
        async with self._turn:
            before = self._child
            if before is None or self._stopping.is_set():
                raise AtollError(f"{self.launch.name} is not running", hint="it is started again by itself")
            successor = await self._successor()
            if self._child is not before or self._stopping.is_set():
                await successor.stop()
                hint = "it is started again by itself"
                raise AtollError(f"{self.launch.name} ended while its successor started", hint)
            self._child = successor
            await before.stop()
        _log.info("%s replaced: pid %d by %d", self.launch.name, before.pid, successor.pid)

    async def _successor(self) -> Child:
        """A second process, which serves."""
        serves = asyncio.Event()
        try:
            successor = await Child.start(self.launch, serves.set)
        except OSError as error:
            raise AtollError(f"{self.launch.name} cannot be started: {error.strerror}") from error
        await self._first_of(serves, successor)
        if not successor.serves:
            await successor.stop()
            raise AtollError(f"the new {self.launch.name} did not start", hint="look at `atoll logs`")
        return successor

    async def _first_of(self, serves: asyncio.Event, child: Child) -> None:
        """Wait until it serves or ended, or a stop makes it useless."""
        waits = [
            asyncio.ensure_future(serves.wait()),
            asyncio.ensure_future(child.wait()),
            asyncio.ensure_future(self._stopping.wait()),
        ]
        await asyncio.wait(waits, timeout=READY_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def _keep(self) -> None:
        while not self._stopping.is_set():
            child = self._child or await self._spawn()
            if child is not None:
                code = await (child.stop() if self._stopping.is_set() else child.wait())
                if child is not self._child:
                    continue  # replaced: the successor is watched now
                self._child = None
                self._note_exit(child, restart.describe_exit(code))
            await self._back_off()

    async def _spawn(self) -> Child | None:
        self.ready.clear()
        try:
            self._child = child = await Child.start(self.launch, self.ready.set)
        except OSError as error:
            self._streak += 1
            _log.error("%s cannot be started: %s", self.launch.name, error)
            return None
        if self.launch.start_s is not None:
            asyncio.get_running_loop().call_later(self.launch.start_s, self._judge_start, child)
        return child

    def _judge_start(self, child: Child) -> None:
        """What hangs before it serves would hang for ever; what has ended is no longer the child."""
        if child is self._child and not child.serves:
            _log.warning("%s (pid %d) does not come to serve: killed", self.launch.name, child.pid)
            child.kill()

    def _note_exit(self, child: Child, words: str) -> None:
        self.ready.clear()
        if self._stopping.is_set():
            return
        self.restarts += 1
        uptime_s = monotonic() - child.started_s
        self._streak = restart.streak_after(self._streak, uptime_s)
        _log.warning("%s (pid %d) %s after %.1f s", self.launch.name, child.pid, words, uptime_s)

    async def _back_off(self) -> None:
        wait_s = restart.delay_s(self._streak, random.random())  # noqa: S311
        if wait_s and not self._stopping.is_set():
            _log.warning("%s starts again in %.2f s", self.launch.name, wait_s)
            waiting = asyncio.ensure_future(self._stopping.wait())
            await asyncio.wait({waiting}, timeout=wait_s)
            waiting.cancel()

    def info(self) -> ProcessInfo:
        """Its line in `atoll status`."""
        child = self._child
        taken = usage(child.pid) if child else None
        return ProcessInfo(
            name=self.launch.name,
            pid=self.pid,
            state=self.state,
            restarts=self.restarts,
            uptime_s=monotonic() - child.started_s if child else 0.0,
            rss=taken.private if taken else 0,
            cpu_s=taken.cpu_s if taken else 0.0,
        )


class Supervisor:
    """Supervised processes by name. `other_logs` are kept to a size together with theirs."""

    def __init__(self, other_logs: Callable[[], Iterable[Path]] = tuple) -> None:
        self._other_logs = other_logs
        self._supervised: dict[str, Supervised] = {}
        self._tender: asyncio.Task[None] | None = None

    def run(self, launch: Launch) -> Supervised:
        """Keep a process running from now on."""
        assert launch.name not in self._supervised, launch.name
        supervised = self._supervised[launch.name] = Supervised(launch)
        supervised.start()
        if self._tender is None:
            self._tender = asyncio.ensure_future(self._tend_logs())
        return supervised

    def get(self, name: str) -> Supervised:
        """The process of that name.

        Raises:
            AtollError: there is none.
        """
        found = self._supervised.get(name)
        if found is None:
            known = ", ".join(self._supervised)
            raise AtollError(f"no process named {name!r}", hint=f"there are: {known}")
        return found

    def infos(self) -> tuple[ProcessInfo, ...]:
        """A line for each."""
        return tuple(supervised.info() for supervised in self._supervised.values())

    async def stop(self, *names: str) -> None:
        """Stop these at the same time; those that do not exist are stopped already."""
        found = [self._supervised[name] for name in names if name in self._supervised]
        await asyncio.gather(*(supervised.stop() for supervised in found))

    async def stop_all(self) -> None:
        """Stop everything that still runs, and the care for its logs."""
        await self.stop(*self._supervised)
        if self._tender is not None:
            self._tender.cancel()
            self._tender = None

    async def _tend_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_S)
            own = [supervised.launch.log for supervised in self._supervised.values()]
            await asyncio.to_thread(self._bound_logs, own)

    def _bound_logs(self, own: list[Path]) -> None:
        """In a thread: a disk that is slow stops no restart."""
        for path in (*own, *self._other_logs()):
            bound_log(path)
