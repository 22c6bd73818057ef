"""The function hosts of a PoP, started when its agent asks and kept until it says stop.

Asking twice for a host answers for the one that runs, also while it starts. What is asked of one host
happens in the order in which it was asked: a host that is wanted again while it stops has the same sockets
and folder, and starts when the one before has left them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from atoll.errors import AtollError
from atoll.functions.sandbox.start import is_required
from atoll.functions.workers.binaries import shared_libraries, workerd_binary
from atoll.functions.workers.host import HostId, Surroundings, plan
from atoll.functions.workers.process import FunctionHost, load
from atoll.node.logs import open_log
from atoll.wire.messages import EnsureHost, HostReady, ProcessInfo

PREFIX: Final = "fn:"  # of a host's name among the PoP's processes


class Hosts:
    """Hosts by id."""

    def __init__(self, run: Path, logs: Path, pop: str) -> None:
        self._run = run
        self._logs = logs
        self._pop = pop
        self._around: Surroundings | None = None
        self._hosts: dict[str, FunctionHost] = {}
        self._starting: dict[str, asyncio.Task[FunctionHost]] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

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
        host_id = HostId.parse(order.id)
        bundle = load(Path(order.bundle_dir))
        host_plan = plan(host_id, bundle, self._surroundings(), order.memory_mb)
        log = self._logs / f"{self._pop}-fn-{host_id.function}-{host_id.version}.log"
        host = FunctionHost(host_plan, log, open_log, required=is_required(os.environ))
        await host.start()
        return host

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
