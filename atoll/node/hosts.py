"""The function hosts of a PoP, started when its agent asks and kept until it says stop.

Asking twice for a host answers for the one that runs, also while it starts. What is asked of one host
happens in the order in which it was asked: a host that is wanted again while it stops has the same sockets
and folder, and starts when the one before has left them. Hosts outlive a change of the supervisor's code.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import msgspec

from atoll.errors import AtollError
from atoll.functions.sandbox.start import Sandboxed, is_required
from atoll.functions.workers.binaries import shared_libraries, workerd_binary
from atoll.functions.workers.host import HostId, Surroundings, plan
from atoll.functions.workers.process import FunctionHost, HostProcess, load
from atoll.node.logs import open_log
from atoll.wire.messages import EnsureHost, HostReady, ProcessInfo

PREFIX: Final = "fn:"  # of a host's name among the PoP's processes

_log = logging.getLogger("atoll.hosts")


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """A host as who takes over finds it: what was asked for, and what runs."""

    id: str
    bundle_dir: str
    memory_mb: int
    process: HostProcess

    @property
    def fds(self) -> tuple[int, int]:
        """Of its listening sockets."""
        return self.process.fds


class Hosts:
    """Hosts by id."""

    def __init__(self, run: Path, logs: Path, pop: str) -> None:
        self._run = run
        self._logs = logs
        self._pop = pop
        self._around: Surroundings | None = None
        self._hosts: dict[str, FunctionHost] = {}
        self._orders: dict[str, EnsureHost] = {}
        self._starting: dict[str, asyncio.Task[FunctionHost]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def settled(self) -> bool:
        """Whether nothing is under way that could not be handed over."""
        return not (self._starting or self._turns) and all(host.settled for host in self._hosts.values())

    def export(self) -> tuple[HostState, ...]:
        """All of them, for who takes over."""
        return tuple(
            HostState(
                id=host_id,
                bundle_dir=self._orders[host_id].bundle_dir,
                memory_mb=self._orders[host_id].memory_mb,
                process=host.export(),
            )
            for host_id, host in self._hosts.items()
        )

    def adopt(self, states: Iterable[HostState]) -> None:
        """Look after hosts that run already. One that cannot be looked after ends; its agent asks anew."""
        for state in states:
            order = EnsureHost(id=state.id, bundle_dir=state.bundle_dir, memory_mb=state.memory_mb)
            try:
                host = self._host(order)
            except (AtollError, OSError) as error:
                _log.error("host %s is not kept: %s", state.id, error)
                for fd in state.fds:
                    os.close(fd)
                if state.process.pid:
                    Sandboxed(state.process.pid, "").send(signal.SIGKILL)
                continue
            host.adopt(state.process)
            self._hosts[state.id], self._orders[state.id] = host, order

    async def ensure(self, order: EnsureHost) -> HostReady:
        """Run a host, or find that it runs.

        Raises:
            AtollError: it does not start; the message is the runtime's own.
        """
        task = self._starting.get(order.id)
        if task is None:
            task = self._starting[order.id] = asyncio.ensure_future(self._ensure(order))
            task.add_done_callback(lambda task: self._forget_start(order.id, task))
        host = await asyncio.shield(task)
        return HostReady(id=order.id, socket=str(host.plan.socket), pid=host.pid, start_ms=host.start_ms)

    async def _ensure(self, order: EnsureHost) -> FunctionHost:
        async with self._turn(order.id):
            host = self._hosts.get(order.id)
            if host is None:
                host = self._hosts[order.id] = await self._start(order)
            return host

    def _forget_start(self, host_id: str, task: asyncio.Task[FunctionHost]) -> None:
        if self._starting.get(host_id) is task:
            del self._starting[host_id]

    def _turn(self, host_id: str) -> asyncio.Lock:
        """Held by who starts or stops the host; first come, first served."""
        return self._turns.setdefault(host_id, asyncio.Lock())

    async def _start(self, order: EnsureHost) -> FunctionHost:
        host = self._host(order)
        await host.start()
        self._orders[order.id] = order
        return host

    def _host(self, order: EnsureHost) -> FunctionHost:
        host_id = HostId.parse(order.id)
        bundle = load(Path(order.bundle_dir))
        host_plan = plan(host_id, bundle, self._surroundings(), order.memory_mb)
        log = self._logs / f"{self._pop}-fn-{host_id.function}-{host_id.version}.log"
        return FunctionHost(host_plan, log, open_log, required=is_required(os.environ))

    def _surroundings(self) -> Surroundings:
        if self._around is None:
            workerd = workerd_binary(os.environ)
            folder = self._run / "fn"
            folder.mkdir(exist_ok=True, mode=0o700)
            self._around = Surroundings(
                run_dir=folder,
                bindings_socket=self._run / "bindings.sock",
                workerd=workerd,
                libraries=shared_libraries(workerd),
            )
        return self._around

    async def stop(self, host_id: str, grace_s: float) -> None:
        """Stop a host; one that does not run is stopped already."""
        self._starting.pop(host_id, None)  # who asks from now on asks for the next one
        await asyncio.shield(asyncio.ensure_future(self._stop(host_id, grace_s)))

    async def _stop(self, host_id: str, grace_s: float) -> None:
        async with self._turn(host_id):
            host = self._hosts.pop(host_id, None)
            if host is not None:
                await host.stop(grace_s)

    async def stop_all(self) -> None:
        """Stop every host, and wait for those that stop already."""
        ids = {*self._hosts, *self._starting, *self._turns}
        await asyncio.gather(*(self.stop(host_id, 0.5) for host_id in ids))

    def kill(self, name: str) -> None:
        """SIGKILL the host of that process name; it is restarted.

        Raises:
            AtollError: there is none.
        """
        host = self._hosts.get(name.removeprefix(PREFIX))
        if host is None:
            known = ", ".join(f"{PREFIX}{host_id}" for host_id in self._hosts) or "none"
            raise AtollError(f"no function host {name!r}", hint=f"there are: {known}")
        host.kill()

    def infos(self) -> tuple[ProcessInfo, ...]:
        """A line for each."""
        return tuple(host.info() for host in self._hosts.values())

    def logs(self) -> Iterable[Path]:
        """The log files of every host there has been."""
        return self._logs.glob(f"{self._pop}-fn-*.log")
