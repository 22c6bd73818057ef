"""The network daemon: `python -m atoll.node.network`, started detached by `atoll up`.

It runs a whole network on one machine: NATS, the API, the gateway with the emulated Internet, the origins,
and one supervisor per PoP, each in a session of its own so that a PoP can die as one. It serves no request
itself; when it ends, in whatever way, everything below ends too. It can go on as newer code with all that it
holds (`atoll.node.handover`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from time import monotonic, time
from typing import Final

import msgspec

from atoll.config.paths import Endpoints
from atoll.config.spec import NetworkSpec, PopSpec
from atoll.errors import AtollError
from atoll.internet.laptop import laptop_network
from atoll.node import handover, lock, nats, network_files
from atoll.node.code import code_version
from atoll.node.folders import clear_run, make_folders
from atoll.node.leftovers import sweep
from atoll.node.listeners import listen_unix
from atoll.node.process import Launch, role_launch, usage
from atoll.node.role import READY_VARIABLE, RoleConfig, notify_ready, read_role
from atoll.node.supervisor import READY_TIMEOUT_S, Supervised, Supervisor
from atoll.wire import frames
from atoll.wire.messages import (
    Failed,
    GetNetwork,
    GetProcesses,
    Message,
    NetworkStatus,
    Ok,
    PopCommand,
    PopState,
    Processes,
    ProcessInfo,
    ProcessSignal,
    RestartRole,
    Stop,
    Upgrade,
)

POP_ASK_TIMEOUT_S: Final = 1.0
POP_START_TIMEOUT_S: Final = 25.0
POP_GRACE_S: Final = 25.0
MODULE: Final = "atoll.node.network"
_LOCK: Final = "lock"
_POP_STATES: Final = {"ready": "up", "starting": "starting", "backoff": "starting", "stopped": "down"}

_log = logging.getLogger("atoll.network")


class Network:
    """Every process of one network."""

    def __init__(
        self, config: RoleConfig, network: NetworkSpec, nats_url: str, handed: handover.Handed | None = None
    ) -> None:
        self._handed = handed or handover.Handed()
        self._config = config
        self._nats_url = nats_url  # it has the password: only for those who need it, and who pass it on
        self._paths = config.paths
        self._network = network
        self._supervisor = Supervisor(adopted=self._handed.supervised)
        self._upgrader = handover.Upgrader(MODULE, self._settled, self._export)
        self._version = code_version()
        self._own = handover.Sockets(self._handed.sockets)
        self._sockets: network_files.Sockets | None = None
        self._pops: dict[str, Supervised] = {}
        self._started_s = monotonic()
        self.stopping = asyncio.Event()

    def start(self, server: Launch, sockets: network_files.Sockets) -> None:
        """Start everything, or take over what runs already; nobody waits for another."""
        self._sockets = sockets
        self._supervisor.run(server)
        for origin in self._network.origins:
            fds = {"http": sockets.origins[origin.host].fileno()}
            self._run(origin_name(origin.host), "origin", "atoll.lab.origin", fds, {"origin": origin.host})
        gateway_fds = {name: sock.fileno() for name, sock in sockets.gateway.items()}
        self._run("gateway", "gateway", "atoll.lab.gateway", gateway_fds, {})
        self._run("api", "api", "atoll.node.api", {"api": sockets.api["api"].fileno()}, {})
        for pop in self._network.pops:
            self._pops[pop.code] = self._supervisor.run(self._pop_launch(pop))

    def _run(
        self, name: str, role: str, module: str, fds: Mapping[str, int], options: Mapping[str, str]
    ) -> None:
        merged = {**self._config.options, **options}
        nats_url = self._nats_url if role == "api" else ""
        config = msgspec.structs.replace(self._config, role=role, options=merged, nats_url=nats_url)
        self._supervisor.run(replace(role_launch(name, module, config), fds=fds))

    def _pop_launch(self, pop: PopSpec) -> Launch:
        config = msgspec.structs.replace(self._config, role="supervisor", pop=pop, nats_url=self._nats_url)
        launch = role_launch("supervisor", "atoll.node.pop", config, own_group=True)
        return replace(launch, name=f"{pop.code}/supervisor", grace_s=POP_GRACE_S)

    async def listen(self) -> asyncio.AbstractServer:
        """Answer on `network.sock`."""
        path = self._paths.network_socket
        server = await frames.serve(self._own.hold("network", lambda: listen_unix(path)), self.answer)
        await self._supervisor.dismiss()
        return server

    def _settled(self) -> bool:
        return self._supervisor.settled and not self.stopping.is_set()

    def _export(self) -> handover.Handed:
        assert self._sockets is not None
        return handover.Handed(
            sockets={**self._own.export(), **self._sockets.export()},
            supervised=self._supervisor.export(),
            files={_LOCK: lock.descriptor()},
        )

    async def answer(self, _peer: frames.Peer, message: Message) -> Message | None:
        """Requests on `network.sock`."""
        match message:
            case GetNetwork():
                return await self._status()
            case PopCommand():
                await self._command(self._pop(message.pop), message.action)
                return Ok()
            case ProcessSignal():
                await self._kill(message)
                return Ok()
            case RestartRole():
                await self._restart(message.name)
                return Ok()
            case Upgrade():
                await self._upgrader.upgrade()
                return Ok()
            case Stop():
                self.stopping.set()
                return Ok()
            case _:
                return None

    def _pop(self, code: str) -> Supervised:
        found = self._pops.get(code)
        if found is None:
            raise AtollError(f"no PoP {code}", hint=f"there are {', '.join(self._pops)}")
        return found

    async def _command(self, pop: Supervised, action: str) -> None:
        match action:
            case "kill":
                await pop.kill_and_leave()
            case "stop":
                await pop.stop()
            case "start":
                await pop.resume()
                await self._until_up(pop)
            case _:
                raise AtollError(f"a PoP cannot {action}", hint="it can kill, start, stop")

    async def _until_up(self, pop: Supervised) -> None:
        try:
            await asyncio.wait_for(pop.ready.wait(), POP_START_TIMEOUT_S)
        except TimeoutError:
            name = pop.launch.name.replace("/", "-")
            raise AtollError(f"{name} is not up yet", hint=f"look at `atoll logs {name}`") from None

    async def _kill(self, message: ProcessSignal) -> None:
        """`nats`, or `lhr/agent`: a PoP's own process is its supervisor's to kill."""
        code, slash, name = message.name.partition("/")
        if not slash or name == "supervisor":
            self._supervisor.get(message.name).kill()
            return
        self._pop(code)
        socket = self._paths.pop_run(code) / "supervisor.sock"
        try:
            await frames.ask(socket, ProcessSignal(name=name))
        except OSError as error:
            raise AtollError(f"{code} is not up", hint=f"start it: `atoll pop start {code}`") from error

    async def _restart(self, name: str) -> None:
        """One of its own: without a gap where sockets are handed over, otherwise one after the other."""
        if "/" in name:
            raise AtollError(f"{name} is its PoP's to restart", hint="a PoP's supervisor is upgraded")
        supervised = self._supervisor.get(name)
        if supervised.launch.fds:
            await supervised.replace()
            return
        await supervised.stop()
        await supervised.resume()
        try:
            await asyncio.wait_for(supervised.ready.wait(), READY_TIMEOUT_S)
        except TimeoutError:
            raise AtollError(f"{name} did not come back", hint=f"look at `atoll logs {name}`") from None

    async def _status(self) -> NetworkStatus:
        pops = await asyncio.gather(*(self._pop_state(code) for code in self._pops))
        own = [info for info in self._supervisor.infos() if "/" not in info.name]
        return NetworkStatus(
            pops=tuple(pops),
            processes=(self._self_info(), *own),
            latency=self._config.options.get("latency", "off"),
            started_s=time() - (monotonic() - self._started_s),
            version=self._version,
        )

    async def _pop_state(self, code: str) -> PopState:
        pop = self._pops[code]
        processes: tuple[ProcessInfo, ...] = ()
        draining = pop.stopping and pop.pid != 0
        try:
            socket = self._paths.pop_run(code) / "supervisor.sock"
            reply = await frames.ask(socket, GetProcesses(), POP_ASK_TIMEOUT_S)
        except (OSError, AtollError):
            pass  # it is down, or about to be
        else:
            assert isinstance(reply, Processes)
            processes = reply.processes
        state = "draining" if draining else _POP_STATES[pop.state]
        return PopState(code=code, state=state, processes=processes)

    def _self_info(self) -> ProcessInfo:
        taken = usage(os.getpid())
        uptime_s = monotonic() - self._started_s
        return ProcessInfo(
            name="network",
            pid=os.getpid(),
            state="ready",
            uptime_s=uptime_s,
            rss=taken.private,
            cpu_s=taken.cpu_s,
        )

    async def stop(self) -> None:
        """The gateway first, so that nobody new comes; NATS last, so that everybody can say goodbye."""
        await self._supervisor.stop("gateway")
        await asyncio.gather(*(pop.stop() for pop in self._pops.values()))
        await self._supervisor.stop("api", *(origin_name(origin.host) for origin in self._network.origins))
        await self._supervisor.stop_all()


def origin_name(host: str) -> str:
    """`origin-us` for us-origin.example.com."""
    return f"origin-{host.partition('.')[0].removesuffix('-origin')}"


def wanted_endpoints(options: Mapping[str, str]) -> Endpoints:
    """The ports asked for on the command line."""
    asked = {name: int(options[name]) for name in ("http", "https", "api") if name in options}
    return Endpoints(**asked)


async def serve(config: RoleConfig) -> None:
    """Run the network until told to stop.

    Raises:
        AtollError: another network has this home, or a port is taken.
    """
    paths = config.paths
    handed = handover.take(os.environ)
    daemon, sockets, access = _resume(config, handed) if handed is not None else _prepare(config)
    handover.heed_stops(daemon.stopping.set)
    daemon.start(nats.launch(paths, access), sockets)
    server = await daemon.listen()
    notify_ready()
    await daemon.stopping.wait()
    _log.info("stopping")
    await daemon.stop()
    server.close()
    paths.network_socket.unlink(missing_ok=True)


_Begun = tuple[Network, network_files.Sockets, nats.NatsAccess]


def _resume(config: RoleConfig, handed: handover.Handed) -> _Begun:
    """With what the code before has left: everything runs."""
    paths = config.paths
    lock.adopt(handed.files[_LOCK])
    laptop = laptop_network()
    network = network_files.renewed(laptop, paths)
    sockets = network_files.Sockets.adopt(handed.sockets)
    network_files.write(paths, network, sockets.endpoints)
    access = nats.current(paths)
    own = {name: fd for name, fd in handed.sockets.items() if name not in sockets.export()}
    handed = msgspec.structs.replace(handed, sockets=own)
    return Network(config, network, access.url, handed), sockets, access


def _prepare(config: RoleConfig) -> _Begun:
    """From nothing."""
    paths = config.paths
    make_folders(paths)
    if not lock.acquire(
        paths.lock_file, lock.Holder(pid=os.getpid(), started_s=time(), options=config.options)
    ):
        raise AtollError("a network is already running", hint="`atoll status` shows it")
    for left in sweep(paths, daemons=False):  # another daemon is about to be refused
        _log.warning("ended %s, left by a network before", left)
    clear_run(paths)
    laptop, wanted = laptop_network(), wanted_endpoints(config.options)
    if wanted.http == 0:
        laptop = network_files.without_ports(laptop)
    sockets = network_files.bind(wanted, laptop)
    network = network_files.place(laptop, sockets)
    network_files.write(paths, network, sockets.endpoints)
    access = nats.prepare(paths)
    return Network(config, network, access.url), sockets, access


def _refuse(error: AtollError) -> None:
    """Tell whoever started us, over the pipe that otherwise says that we serve, and the log."""
    pipe = os.environ.get(READY_VARIABLE)
    if pipe:
        failed = Failed(message=error.message, hint=error.hint, where=error.where)
        os.write(int(pipe), msgspec.json.encode(failed))
    sys.exit(str(error))


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        if not handover.rehearses(os.environ):
            asyncio.run(serve(read_role(os.environ)))
    except AtollError as error:
        _refuse(error)
    except OSError as error:  # a full disk, a folder that nobody may write
        _log.exception("ended")
        _refuse(AtollError(f"the network cannot start: {error.strerror}", where=str(error.filename or "")))


if __name__ == "__main__":
    main()
