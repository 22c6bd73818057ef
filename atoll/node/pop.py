"""A PoP's supervisor: `python -m atoll.node.pop`, started by the network daemon in a session of its own.

It owns every listening socket of the PoP and starts the roles that serve them; a role that dies comes back
on the same sockets. It never serves a request and never looks at the control plane. Its end is ordered:
first the routes go, then the edge workers answer what they have, then the rest stops.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import Final

import msgspec

from atoll.config.spec import PopSpec
from atoll.errors import AtollError
from atoll.node import edge_watch
from atoll.node.hosts import PREFIX as HOST_PREFIX
from atoll.node.hosts import Hosts
from atoll.node.listeners import bind_udp, listen_tcp, listen_unix
from atoll.node.process import Launch, role_launch, usage
from atoll.node.role import RoleConfig, notify_ready, read_role
from atoll.node.supervisor import READY_TIMEOUT_S, Supervised, Supervisor
from atoll.wire import frames
from atoll.wire.messages import (
    EnsureHost,
    GetProcesses,
    Message,
    Ok,
    Processes,
    ProcessInfo,
    ProcessSignal,
    RestartRole,
    Stop,
    StopHost,
)

ANYCAST: Final = "anycast"
AGENT: Final = "agent"

_log = logging.getLogger("atoll.pop")


class PopSupervisor:
    """One PoP's sockets and processes."""

    def __init__(self, config: RoleConfig, pop: PopSpec) -> None:
        self._config = config
        self._pop = pop
        self._run = config.paths.pop_run(pop.code)
        self._hosts = Hosts(self._run, config.paths.logs, pop.code)
        self._supervisor = Supervisor(self._hosts.logs)
        self._sockets: list[socket.socket] = []
        self._roles: list[Supervised] = []
        self._watching: list[asyncio.Task[None]] = []
        self._started_s = monotonic()
        self._draining = False
        self.stopping = asyncio.Event()

    async def start(self) -> asyncio.AbstractServer:
        """Bind, start every role, answer on `supervisor.sock`."""
        self._run.mkdir(parents=True, exist_ok=True, mode=0o700)
        server = await frames.serve(self._run / "supervisor.sock", self.answer)
        self._roles = [self._supervisor.run(launch) for launch in self._launches()]
        self._watching = [asyncio.ensure_future(self._watch_edge(i)) for i in range(self._pop.edges)]
        return server

    async def notify_when_ready(self) -> None:
        """Tell the daemon once every role serves."""
        await asyncio.gather(*(role.ready.wait() for role in self._roles))
        notify_ready()

    def _launches(self) -> Sequence[Launch]:
        bindings = self._hold(listen_unix(self._run / "bindings.sock"))
        edges = [self._edge(index, bindings) for index in range(self._pop.workers)]
        if self._pop.http3:
            edges.append(self._edge_h3(self._pop.workers))
        others = [self._role(name) for name in (AGENT, ANYCAST)]
        return [*edges, *others]

    def _edge(self, index: int, bindings: socket.socket) -> Launch:
        """An edge worker with sockets of its own on the PoP's ports."""
        address = self._pop.address
        http = self._hold(listen_tcp(address, self._pop.http_port, shared=True))
        https = self._hold(listen_tcp(address, self._pop.https_port, shared=True))
        tier = self._hold(listen_unix(self._run / f"tier-{index}.sock"))
        fds = {
            "http": http.fileno(),
            "https": https.fileno(),
            "bindings": bindings.fileno(),
            "tier": tier.fileno(),
        }
        return replace(self._role("edge", index), fds=fds)

    def _edge_h3(self, index: int) -> Launch:
        """An edge worker that speaks HTTP/3 alone, so that its slowness holds up nobody else."""
        udp = self._hold(bind_udp(self._pop.address, self._pop.https_port))
        return replace(self._role("edge", index), fds={"quic": udp.fileno()})

    async def _watch_edge(self, index: int) -> None:
        worker = self._supervisor.get(self._edge_name(index))
        await edge_watch.watch(worker, self._run / f"edge-{index}.sock")

    def _role(self, role: str, index: int = 0) -> Launch:
        nats_url = self._config.nats_url if role == AGENT else ""  # it has the password
        config = msgspec.structs.replace(self._config, role=role, index=index, nats_url=nats_url)
        name = self._edge_name(index) if role == "edge" else role
        return role_launch(name, f"atoll.node.{role}", config)

    def _edge_name(self, index: int) -> str:
        return f"edge-{index}" if index < self._pop.workers else "edge-h3"

    def _hold(self, sock: socket.socket) -> socket.socket:
        self._sockets.append(sock)
        return sock

    async def answer(self, _peer: frames.Peer, message: Message) -> Message | None:
        """Requests on `supervisor.sock`."""
        match message:
            case EnsureHost():
                return await self._hosts.ensure(message)
            case StopHost():
                await self._hosts.stop(message.id, message.grace_s)
                return Ok()
            case GetProcesses():
                return Processes(processes=(self._self_info(), *self._infos()), draining=self._draining)
            case RestartRole():
                await self._restart(message.name)
                return Ok()
            case ProcessSignal():
                self._kill(message.name)
                return Ok()
            case Stop():
                self.stopping.set()
                return Ok()
            case _:
                return None

    def _infos(self) -> tuple[ProcessInfo, ...]:
        return (*self._supervisor.infos(), *self._hosts.infos())

    def _self_info(self) -> ProcessInfo:
        taken = usage(os.getpid())
        return ProcessInfo(
            name="supervisor",
            pid=os.getpid(),
            state="ready",
            uptime_s=monotonic() - self._started_s,
            rss=taken.private,
            cpu_s=taken.cpu_s,
        )

    async def _restart(self, name: str) -> None:
        """Without a gap where sockets are handed over; one after the other where two would disturb."""
        supervised = self._supervisor.get(name)
        if supervised.launch.fds:
            await supervised.replace()
            return
        await supervised.stop()
        await supervised.resume()
        try:
            await asyncio.wait_for(supervised.ready.wait(), READY_TIMEOUT_S)
        except TimeoutError:
            hint = f"look at `atoll logs {self._pop.code}-{name}`"
            raise AtollError(f"{name} did not come back", hint) from None

    def _kill(self, name: str) -> None:
        if name.startswith(HOST_PREFIX):
            self._hosts.kill(name)
        else:
            self._supervisor.get(name).kill()

    async def stop(self) -> None:
        """Withdraw, then drain, then stop the rest."""
        self._draining = True
        for watching in self._watching:
            watching.cancel()
        await self._supervisor.stop(ANYCAST)
        await self._supervisor.stop(*(self._edge_name(index) for index in range(self._pop.edges)))
        await asyncio.gather(self._hosts.stop_all(), self._supervisor.stop_all())
        for sock in self._sockets:
            sock.close()


async def serve(config: RoleConfig) -> None:
    """The role, until it is told to stop."""
    assert config.pop is not None
    supervisor = PopSupervisor(config, config.pop)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, supervisor.stopping.set)
    server = await supervisor.start()
    announcing = asyncio.ensure_future(supervisor.notify_when_ready())
    await supervisor.stopping.wait()
    announcing.cancel()
    await supervisor.stop()
    server.close()


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(read_role(os.environ)))
    except (AtollError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
