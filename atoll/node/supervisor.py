"""The one process supervisor: keeps processes running, restarts those that end, stops them in order.

Used by a PoP for its roles and by the network daemon for everything else. A supervised process is replaced
without a gap when its launch hands it sockets: the successor starts on the same ones, and only when it
serves is the one before told to stop, or to leave in no hurry (`atoll.node.leaving`). All of it can be
exported and adopted by newer code in the same process (`atoll.node.handover`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

from atoll.errors import AtollError
from atoll.node import restart
from atoll.node.leaving import Alive, Leavers, LeaverState
from atoll.node.logs import bound_log
from atoll.node.process import Child, ChildState, Launch, usage
from atoll.wire.messages import ProcessInfo

LOG_CHECK_S: Final = 1.0
READY_TIMEOUT_S: Final = 20.0
MOST_LEAVING: Final = 3  # of one role: each is a whole process

_log = logging.getLogger("atoll.supervisor")


class SupervisedState(msgspec.Struct, frozen=True, kw_only=True):
    """One supervised process as who takes over finds it."""

    name: str
    child: ChildState | None
    stopped: bool
    restarts: int = 0
    streak: int = 0
    leaving: tuple[LeaverState, ...] = ()


class Supervised:
    """One process that is kept running from `start()` until `stop()`.

    `alive` is asked of predecessors that leave: one that does not turn any more is killed.
    """

    def __init__(self, launch: Launch, alive: Alive | None = None) -> None:
        self.launch = launch
        self.leavers = Leavers(MOST_LEAVING, alive)
        self.restarts = 0
        self.ready = asyncio.Event()
        self._child: Child | None = None
        self._streak = 0
        self._stopping = asyncio.Event()
        self._turn = asyncio.Lock()  # of who stops, resumes or replaces it
        self._keeper: asyncio.Task[None] | None = None
        self._spawning = False
        self._replaced = asyncio.Event()  # the present child is another than the one that is watched

    @property
    def settled(self) -> bool:
        """Whether nothing is under way that could not be handed over."""
        return not (self._spawning or self._turn.locked())

    def export(self) -> SupervisedState:
        """What `adopt` needs."""
        assert self.settled, self.launch.name
        return SupervisedState(
            name=self.launch.name,
            child=self._child.export() if self._child is not None else None,
            stopped=self._stopping.is_set() or self._keeper is None,
            restarts=self.restarts,
            streak=self._streak,
            leaving=self.leavers.export(),
        )

    def adopt(self, state: SupervisedState) -> None:
        """Look after what runs already, instead of `start()`."""
        self.restarts = state.restarts
        for leaver in state.leaving:
            self.leavers.adopt(Child.adopt(self.launch, leaver.child, _nobody), leaver.until_s)
        if state.stopped:
            self._stopping.set()
            return
        if state.child is not None:
            self._child = Child.adopt(self.launch, state.child, self.ready.set)
            self._limit_start(self._child)
        self.start()
        self._streak = state.streak

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
            leaving = asyncio.ensure_future(self.leavers.stop())
            if self._child is not None:
                await self._child.stop()
            await self._end()
            await leaving

    async def kill_and_leave(self) -> None:
        """SIGKILL it (its whole group if it has its own) and leave it stopped."""
        self._stopping.set()
        self.kill()  # at once: whoever stops it in order is done sooner
        async with self._turn:
            self._stopping.set()
            self.leavers.kill()
            self.kill()
            await self._end()
            await self.leavers.stop()

    async def _end(self) -> None:
        if self._keeper is not None:
            await self._keeper

    def kill(self) -> None:
        """SIGKILL it; it is restarted like after any other death."""
        if self._child is not None:
            self._child.kill()

    async def replace(self, grace_s: float | None = None) -> None:
        """Start a successor beside it; when that serves, stop the one before, or let it leave.

        It has `grace_s` to end what it has begun, if its launch lets it leave at all.

        Raises:
            AtollError: the successor did not come up; the one before runs on.
        """
        async with self._turn:
            before = self._child
            if before is None or self._stopping.is_set():
                raise AtollError(f"{self.launch.name} is not running", hint="it is started again by itself")
            successor = await self._successor(before.pid)
            if self._child is not before or self._stopping.is_set():
                await successor.stop()
                hint = "it is started again by itself"
                raise AtollError(f"{self.launch.name} ended while its successor started", hint)
            self._child = successor
            self._replaced.set()
            if self.launch.leave_s:
                self.leavers.add(before, self.launch.leave_s if grace_s is None else grace_s)
            else:
                await before.stop()
        _log.info("%s replaced: pid %d by %d", self.launch.name, before.pid, successor.pid)

    async def _successor(self, pid: int) -> Child:
        """A second process, which serves."""
        serves = asyncio.Event()
        try:
            successor = await Child.start(self.launch, serves.set, pid)
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
        limit_s = self.launch.start_s or READY_TIMEOUT_S  # the one before serves meanwhile: no hurry
        await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def _keep(self) -> None:
        while not self._stopping.is_set():
            child = self._child or await self._spawn()
            if child is not None:
                code = await (child.stop() if self._stopping.is_set() else self._until_ended(child))
                if code is None or child is not self._child:
                    continue  # replaced: the successor is watched now
                self._child = None
                self._note_exit(child, restart.describe_exit(code))
            await self._back_off()

    async def _until_ended(self, child: Child) -> int | None:
        """Its exit code; None when it has been replaced, and may live on."""
        ended = asyncio.ensure_future(child.wait())
        replaced = asyncio.ensure_future(self._replaced.wait())
        await asyncio.wait({ended, replaced}, return_when=asyncio.FIRST_COMPLETED)
        self._replaced.clear()
        replaced.cancel()
        if ended.done():
            return ended.result()
        ended.cancel()
        return None

    async def _spawn(self) -> Child | None:
        self.ready.clear()
        self._spawning = True
        try:
            self._child = child = await Child.start(self.launch, self.ready.set)
        except OSError as error:
            self._streak += 1
            _log.error("%s cannot be started: %s", self.launch.name, error)
            return None
        finally:
            self._spawning = False
        self._limit_start(child)
        return child

    def _limit_start(self, child: Child) -> None:
        if self.launch.start_s is not None and not child.serves:
            asyncio.get_running_loop().call_later(self.launch.start_s, self._judge_start, child)

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

    def infos(self) -> tuple[ProcessInfo, ...]:
        """Its line in `atoll status`, and those of predecessors that leave."""
        return (self.info(), *self.leavers.infos())

    def info(self) -> ProcessInfo:
        """The line of the present process."""
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


def _nobody() -> None:
    """Whom to tell that a predecessor serves."""


class Supervisor:
    """Supervised processes by name. `other_logs` are kept to a size together with theirs.

    `adopted` are those that run already: `run` takes them over instead of starting them.
    """

    def __init__(
        self,
        other_logs: Callable[[], Iterable[Path]] = tuple,
        adopted: Iterable[SupervisedState] = (),
    ) -> None:
        self._other_logs = other_logs
        self._adopted = {state.name: state for state in adopted}
        self._supervised: dict[str, Supervised] = {}
        self._tender: asyncio.Task[None] | None = None

    def run(self, launch: Launch, alive: Alive | None = None) -> Supervised:
        """Keep a process running from now on; see `Supervised` about `alive`."""
        assert launch.name not in self._supervised, launch.name
        supervised = self._supervised[launch.name] = Supervised(launch, alive)
        state = self._adopted.pop(launch.name, None)
        if state is not None:
            supervised.adopt(state)
        else:
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

    @property
    def settled(self) -> bool:
        """Whether nothing is under way that could not be handed over."""
        return all(supervised.settled for supervised in self._supervised.values())

    def export(self) -> tuple[SupervisedState, ...]:
        """Everything, for who takes over."""
        return tuple(supervised.export() for supervised in self._supervised.values())

    async def dismiss(self) -> None:
        """End what was handed over and nobody has asked to `run`: this version knows no such process."""
        for state in self._adopted.values():
            if state.child is not None:
                _log.warning("%s is not known any more: stopped", state.name)
                await Child.adopt(Launch(name=state.name, argv=(), log=Path()), state.child, _nobody).stop()
        self._adopted.clear()

    def infos(self) -> tuple[ProcessInfo, ...]:
        """A line for each."""
        return tuple(info for supervised in self._supervised.values() for info in supervised.infos())

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
            own = [each.launch.log for each in self._supervised.values() if each.launch.log is not None]
            await asyncio.to_thread(self._bound_logs, own)

    def _bound_logs(self, own: list[Path]) -> None:
        """In a thread: a disk that is slow stops no restart."""
        for path in (*own, *self._other_logs()):
            bound_log(path)
