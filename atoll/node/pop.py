"""A PoP's supervisor: `python -m atoll.node.pop`, started by the network daemon in a session of its own.

It owns every listening socket of the PoP and starts the roles that serve them; a role that dies comes back
on the same sockets. It never serves a request and never looks at the control plane. Its end is ordered:
first the routes go, then the edge workers answer what they have, then the rest stops. It can go on as newer
code with all that it holds (`atoll.node.handover`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import Final

import msgspec

from atoll.config.spec import PopSpec
from atoll.errors import AtollError
from atoll.node import edge_watch, handover
from atoll.node.code import code_version
from atoll.node.edge_leave import aside
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
    Upgrade,
)

ANYCAST: Final = "anycast"
AGENT: Final = "agent"
MODULE: Final = "atoll.node.pop"
ANYCAST_LEAVE_S: Final = 10.0
EDGE_LEAVE_S: Final = 600.0  # for downloads and WebSockets of an edge worker that has been replaced

_log = logging.getLogger("atoll.pop")


class PopSupervisor:
    """One PoP's sockets and processes."""

    def __init__(self, config: RoleConfig, pop: PopSpec, handed: handover.Handed | None = None) -> None:
        self._config = config
        self._pop = pop
        self._run = config.paths.pop_run(pop.code)
        self._hosts = Hosts(self._run, config.paths.logs, pop.code)
        self._handed = handed or handover.Handed()
        self._supervisor = Supervisor(self._hosts.logs, self._handed.supervised)
        self._sockets = handover.Sockets(self._handed.sockets)
        self._upgrader = handover.Upgrader(MODULE, self._settled, self._export)
        self._version = code_version()
        self._roles: list[Supervised] = []
        self._watching: list[asyncio.Task[None]] = []
        self._started_s = monotonic()
        self._draining = False
        self.stopping = asyncio.Event()

    async def start(self) -> asyncio.AbstractServer:
        """Bind, start every role, answer on `supervisor.sock`; or take over what runs already."""
        self._run.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._hosts.adopt(self._handed.hosts)
        asking = self._sockets.hold("supervisor", lambda: listen_unix(self._run / "supervisor.sock"))
        self._roles = [self._supervisor.run(launch, self._leaver_turns) for launch in self._launches()]
        server = await frames.serve(asking, self.answer)
        await self._supervisor.dismiss()
        self._watching = [asyncio.ensure_future(self._watch_edge(i)) for i in range(self._pop.edges)]
        return server

    async def notify_when_ready(self) -> None:
        """Tell the daemon once every role serves."""
        await asyncio.gather(*(role.ready.wait() for role in self._roles))
        notify_ready()

    def _launches(self) -> Sequence[Launch]:
        bindings = self._sockets.hold("bindings", lambda: listen_unix(self._run / "bindings.sock"))
        edges = [self._edge(index, bindings) for index in range(self._pop.workers)]
        if self._pop.http3:
            edges.append(self._edge_h3(self._pop.workers))
        anycast = replace(self._role(ANYCAST), leave_s=ANYCAST_LEAVE_S)
        return [*edges, self._role(AGENT), anycast]

    def _edge(self, index: int, bindings: socket.socket) -> Launch:
        """An edge worker with sockets of its own on the PoP's ports."""
        address, hold = self._pop.address, self._sockets.hold
        http = hold(f"http-{index}", lambda: listen_tcp(address, self._pop.http_port, shared=True))
        https = hold(f"https-{index}", lambda: listen_tcp(address, self._pop.https_port, shared=True))
        tier = hold(f"tier-{index}", lambda: listen_unix(self._run / f"tier-{index}.sock"))
        fds = {
            "http": http.fileno(),
            "https": https.fileno(),
            "bindings": bindings.fileno(),
            "tier": tier.fileno(),
        }
        return replace(self._role("edge", index), fds=fds, leave_s=EDGE_LEAVE_S)

    def _edge_h3(self, index: int) -> Launch:
        """An edge worker that speaks HTTP/3 alone, so that its slowness holds up nobody else."""
        address, port = self._pop.address, self._pop.https_port
        udp = self._sockets.hold("quic", lambda: bind_udp(address, port))
        return replace(self._role("edge", index), fds={"quic": udp.fileno()}, leave_s=EDGE_LEAVE_S)

    async def _leaver_turns(self, pid: int) -> bool:
        return await edge_watch.turns(aside(self._run, pid), edge_watch.PATIENCE_S)

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

    def _settled(self) -> bool:
        return self._supervisor.settled and self._hosts.settled and not self.stopping.is_set()

    def _export(self) -> handover.Handed:
        return handover.Handed(
            sockets=self._sockets.export(),
            supervised=self._supervisor.export(),
            hosts=self._hosts.export(),
        )

    async def answer(self, _peer: frames.Peer, message: Message) -> Message | None:
        """Requests on `supervisor.sock`."""
        match message:
            case EnsureHost():
                return await self._hosts.ensure(message)
            case StopHost():
                await self._hosts.stop(message.id, message.grace_s)
                return Ok()
            case GetProcesses():
                processes = (self._self_info(), *self._infos())
                return Processes(processes=processes, draining=self._draining, version=self._version)
            case RestartRole():
                await self._restart(message.name, message.grace_s)
                return Ok()
            case Upgrade():
                await self._upgrader.upgrade()
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

    async def _restart(self, name: str, grace_s: float | None) -> None:
        """Without a gap where sockets are handed over; one after the other where two would disturb."""
        supervised = self._supervisor.get(name)
        if supervised.launch.fds or supervised.launch.leave_s:
            await supervised.replace(grace_s)
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

    def close(self) -> None:
        """Close every socket."""
        self._sockets.close()


async def serve(config: RoleConfig) -> None:
    """The role, until it is told to stop."""
    assert config.pop is not None
    supervisor = PopSupervisor(config, config.pop, handover.take(os.environ))
    handover.heed_stops(supervisor.stopping.set)
    server = await supervisor.start()
    announcing = asyncio.ensure_future(supervisor.notify_when_ready())
    await supervisor.stopping.wait()
    announcing.cancel()
    await supervisor.stop()
    server.close()
    supervisor.close()


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        if not handover.rehearses(os.environ):
            asyncio.run(serve(read_role(os.environ)))
    except (AtollError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
