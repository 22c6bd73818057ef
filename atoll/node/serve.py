"""`atoll serve`: edge workers before an operator's own origins, without a network around them.

One worker runs in this process; several, and the one that speaks HTTP/3, are processes of their own, on
sockets that are held here, so that one that dies loses no connection in the queue. What they serve is a
snapshot, as in a PoP: made of the command line and the policy file, and replaced as a whole on SIGHUP. A
policy that no worker can serve replaces nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

import atoll
from atoll.config.paths import PURGES
from atoll.config.policy import PolicyFile
from atoll.config.spec import ANYWHERE, Policy, Snapshot
from atoll.control.certificates import ensure_leaves
from atoll.edge.soundness import require_sound
from atoll.errors import AtollError
from atoll.http.accept import Listener
from atoll.http.tls import server_context
from atoll.node import edge_watch, serve_worker
from atoll.node.code import compile_ahead
from atoll.node.edge import snapshot_file
from atoll.node.listeners import listen_unix
from atoll.node.nats import write_private
from atoll.node.policy_file import read_policy, read_secret
from atoll.node.process import role_launch
from atoll.node.role import RoleConfig
from atoll.node.serve_admin import AdminApp, Report
from atoll.node.serve_plan import Plan, local_pop, snapshot_of, surroundings
from atoll.node.serve_purges import LocalPurges
from atoll.node.serve_sockets import UNIX, WorkerSockets, listen_admin
from atoll.node.serve_worker import ServeWorker, prepare_process
from atoll.node.supervisor import Supervised, Supervisor
from atoll.wire import frames
from atoll.wire.messages import ApplySnapshot, EdgeStats, GetEdgeStats, Message, PurgeRequest, PurgeState

START_S: Final = 30.0
APPLY_S: Final = 10.0
GRACE_S: Final = 5.0
MIN_TOKEN: Final = 16
_LOOK_S: Final = 0.02
_STATS_S: Final = 1.0
_LONGEST_FOLDER: Final = 40  # paths of sockets stay under 100 bytes

Say = Callable[[str], None]
"""Tells the operator something, on one line."""


class Server:
    """Everything that `atoll serve` holds: sockets, workers, the policy, a folder for their conversations.

    Raises:
        AtollError: an address or a file cannot be had.
    """

    def __init__(self, plan: Plan, folder: Path, say: Say) -> None:
        self.plan = plan
        self._folder = folder
        self._say = say
        self._started_s = monotonic()
        _check_files(plan)
        compile_ahead()
        self._sockets = WorkerSockets(plan)
        self._admin_socket = listen_admin(plan.admin) if plan.admin else None
        self._pop = local_pop(plan, self._sockets.https_port)
        self._snapshot: Snapshot | None = None
        self._supervisor = Supervisor()
        self._supervised: list[Supervised] = []
        self._worker: ServeWorker | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._admin: Listener | None = None
        self._reloading = asyncio.Lock()

    @property
    def snapshot(self) -> Snapshot:
        """What is served."""
        assert self._snapshot is not None, "there is one as soon as anything is served"
        return self._snapshot

    # --- start

    async def start(self) -> None:
        """Read, bind, serve.

        Raises:
            AtollError: something of it cannot be; nothing is left behind.
        """
        _, self._snapshot = self._read(1)
        self._renew_certificates()
        self._keep(self.snapshot)
        run = self._folder / "run"
        self._control(0).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        controls = [self._control(index) for index in range(self._pop.edges)]
        purges = LocalPurges(controls)

        async def purge(_peer: frames.Peer, message: Message) -> Message | None:
            if not isinstance(message, PurgeRequest):
                return None
            return PurgeState(applied=await purges.purge(message.selectors))

        self._servers.append(await frames.serve(run / PURGES, purge))
        await self._start_workers()
        self._tasks.append(asyncio.ensure_future(purges.run()))
        if self._admin_socket is not None:
            local = self.plan.admin.startswith(UNIX)
            app = AdminApp(self.report, local=local)
            self._admin = Listener(app, self._admin_socket, trusted=local, proxies=frozenset())

    def _config(self, index: int) -> RoleConfig:
        plan = self.plan
        options = {serve_worker.CACHE_BYTES: str(plan.memory_bytes // self._pop.edges)}
        if plan.disk is not None:
            options |= {serve_worker.DISK: str(plan.disk), serve_worker.DISK_BYTES: str(plan.disk_bytes)}
        if plan.access_log:
            log = plan.access_log if plan.access_log == "-" else str(Path(plan.access_log).absolute())
            options[serve_worker.ACCESS_LOG] = log
        if plan.purge_token is not None:
            options[serve_worker.PURGE_TOKEN] = str(plan.purge_token.absolute())
        return RoleConfig(
            role="edge",
            home=str(self._folder),
            run=str(self._folder / "run"),
            token="",
            pop=self._pop,
            index=index,
            options=options,
        )

    def _control(self, index: int) -> Path:
        return self._config(index).paths.pop_run(self._pop.code) / f"edge-{index}.sock"

    async def _start_workers(self) -> None:
        run = self._config(0).paths.pop_run(self._pop.code)
        if self._pop.edges > 1:
            for index in range(self._pop.workers):
                self._sockets.sets[index]["tier"] = listen_unix(run / f"tier-{index}.sock")
        alone = self.plan.workers == 1
        for index in range(1 if alone else 0, self._pop.edges):
            launch = role_launch(f"worker-{index}", serve_worker.MODULE, self._config(index))
            fds = {name: sock.fileno() for name, sock in self._sockets.sets[index].items()}
            self._supervised.append(self._supervisor.run(dataclasses.replace(launch, fds=fds, log=None)))
            watch = edge_watch.watch(self._supervised[-1], self._control(index))
            self._tasks.append(asyncio.ensure_future(watch))
        if alone:
            self._worker = ServeWorker(self._config(0), self.snapshot)
            await self._worker.begin(self._sockets.sets[0])
        await self._until_ready()

    async def _until_ready(self) -> None:
        """Raises `AtollError`: a worker ends instead of serving; it has said why."""
        waiting = asyncio.gather(*(each.ready.wait() for each in self._supervised))
        deadline_s = monotonic() + START_S
        while not waiting.done():
            if any(each.restarts for each in self._supervised) or monotonic() > deadline_s:
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await waiting
                raise AtollError("a worker does not start", "it has said why, above")
            await asyncio.wait({waiting}, timeout=_LOOK_S)

    def _keep(self, snapshot: Snapshot) -> None:
        """What workers that start are to serve."""
        file = snapshot_file(self._config(0))
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(file, msgspec.msgpack.encode(snapshot))

    # --- policy

    def _read(self, seq: int) -> tuple[PolicyFile | None, Snapshot]:
        """The policy as it is on disk now, and what workers serve by it.

        Raises:
            AtollError: it cannot be read, or be served.
        """
        file, policy = None, Policy()
        if self.plan.policy is not None:
            file = read_policy(self.plan.policy, surroundings(self.plan))
            policy = file.policy
        snapshot = snapshot_of(self.plan, policy, self._pop, seq)
        try:
            require_sound(snapshot.network)
        except AtollError as error:
            raise (file.located(error) if file is not None else error) from error
        return file, snapshot

    def _renew_certificates(self) -> None:
        """Bring certificates where workers look for them; those that cannot be used replace nothing.

        Raises:
            AtollError: a file cannot be read or does not hold what it should.
        """
        if not self.plan.secure:
            return
        paths = self._config(0).paths
        if self.plan.certificate is not None and self.plan.key is not None:
            leaf = paths.ca / "leaf" / "localhost.pem"
            leaf.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            new = leaf.with_suffix(".new")
            write_private(new, self.plan.key.read_bytes() + b"\n" + self.plan.certificate.read_bytes())
            try:
                server_context(new)
            except AtollError as error:
                raise AtollError(error.message, "a PEM file each", str(self.plan.certificate)) from error
            new.replace(leaf)
            return
        hosts = {host for site in self.snapshot.network.sites for host in (site.host, *site.aliases)}
        ensure_leaves(paths.ca, sorted({"localhost", *hosts} - {ANYWHERE}), dt.datetime.now(dt.UTC))

    async def reload(self) -> None:
        """Take policy and certificates as they are on disk now; what cannot be used changes nothing."""
        async with self._reloading:
            try:
                file, snapshot = self._read(self.snapshot.seq + 1)
                self._renew_certificates()
                await self._apply(snapshot, file)
            except (AtollError, OSError) as error:
                self._say(f"not reloaded, all goes on as before: {error}")
                return
            self._say(f"reloaded: {describe(snapshot)}")

    async def _apply(self, snapshot: Snapshot, file: PolicyFile | None) -> None:
        """Have every worker serve it, if the first one can."""
        controls = [self._control(index) for index in range(self._pop.edges)]
        try:
            await _told(controls[0], snapshot)
        except AtollError as error:
            raise (file.located(error) if file is not None and error.where else error) from error
        self._snapshot = snapshot
        self._keep(snapshot)
        await asyncio.gather(*(_told(control, snapshot) for control in controls[1:]))

    # --- what goes on

    async def report(self) -> Report:
        """Everything that is counted."""
        asked = (_stats(self._control(index)) for index in range(self._pop.edges))
        found = [stats for stats in await asyncio.gather(*asked) if stats is not None]
        return Report(
            version=atoll.__version__,
            pid=os.getpid(),
            uptime_s=round(monotonic() - self._started_s, 3),
            listen=tuple(map(str, self._sockets.listen)),
            policy=str(self.plan.policy or ""),
            policy_seq=self.snapshot.seq,
            sites=tuple(site.host for site in self.snapshot.network.sites),
            restarts=sum(each.restarts for each in self._supervised),
            workers=tuple(found),
        )

    def lines(self) -> Iterator[str]:
        """What it does, for whoever has started it."""
        plan = self.plan
        where = ", ".join(map(str, self._sockets.listen)) + (" and HTTP/3" if plan.http3 else "")
        yield f"listening on {where}"
        yield f"serving {describe(self.snapshot)}"
        memory = f"{plan.memory_bytes / 1024**2:.0f} MB of memory"
        disk = f", {plan.disk_bytes / 1024**2:.0f} MB in {plan.disk}" if plan.disk is not None else ""
        yield f"keeping what origins' headers allow, in {memory}{disk}"
        if plan.admin:
            yield f"telling about itself on {plan.admin}: /stats, /metrics, /health"

    # --- end

    async def stop(self) -> None:
        """Answer what has come, then end."""
        for task in self._tasks:
            task.cancel()
        if self._admin is not None:
            self._admin.close()
        ending = [self._supervisor.stop_all()]
        if self._worker is not None:
            ending.append(self._worker.finish(GRACE_S))
        await asyncio.gather(*ending)
        for server in self._servers:
            server.close()
        self._sockets.close()
        if self.plan.admin.startswith(UNIX):
            Path(self.plan.admin.removeprefix(UNIX)).unlink(missing_ok=True)


def _check_files(plan: Plan) -> None:
    """What would only be missed when it is needed."""
    if plan.purge_token is not None and len(read_secret(plan.purge_token)) < MIN_TOKEN:
        hint = f"{MIN_TOKEN} characters at least"
        raise AtollError("the token for purging is too short", hint, str(plan.purge_token))
    if plan.disk is not None:
        plan.disk.mkdir(parents=True, exist_ok=True, mode=0o700)
    if plan.access_log not in ("", "-"):
        with Path(plan.access_log).open("ab"):
            pass
    if plan.http3 and not any(each.scheme == "https" for each in plan.listen):
        raise AtollError("HTTP/3 needs TLS", "--tls CERT KEY, or --tls-self-signed")


def describe(snapshot: Snapshot) -> str:
    """What is served, in a few words."""
    network = snapshot.network
    hosts = ["every other host" if site.host == ANYWHERE else site.host for site in network.sites]
    if hosts == ["every other host"]:
        hosts = ["every host"]
    shown = ", ".join(hosts[:4]) + (f" and {len(hosts) - 4} more" if len(hosts) > 4 else "")
    urls = [origin.url for origin in network.origins]
    origins = ", ".join(urls[:3]) + (f" and {len(urls) - 3} more" if len(urls) > 3 else "")
    return f"{shown} from {origins}"


async def run(plan: Plan, say: Say) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP has the policy read again.

    Raises:
        AtollError: it cannot be started.
    """
    prepare_process()
    began_s = monotonic()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    reloads: set[asyncio.Task[None]] = set()

    with tempfile.TemporaryDirectory(prefix="atoll-serve-", dir=_runtime_folder()) as folder:
        server = Server(plan, Path(folder), say)

        def stop() -> None:
            if ended.is_set():
                shutil.rmtree(folder, ignore_errors=True)
                os._exit(1)  # asked twice: whoever waits no longer takes what goes with it
            ended.set()

        def reload() -> None:
            task = loop.create_task(server.reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # what is being read needs no reading again
        try:
            await server.start()
            loop.add_signal_handler(signal.SIGHUP, reload)
            for line in server.lines():
                say(line)
            say(f"ready after {monotonic() - began_s:.2f} s, pid {os.getpid()}")
            await ended.wait()
            say("stopping: open requests are answered")
        finally:
            await server.stop()


def _runtime_folder() -> str | None:
    """Where sockets may live: paths of theirs have to be short."""
    chosen = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = chosen and len(chosen) < _LONGEST_FOLDER and os.access(chosen, os.W_OK)
    return chosen if usable else "/tmp"  # noqa: S108 - the folder in it is new, and its owner's alone


async def _told(control: Path, snapshot: Snapshot) -> None:
    """Have one worker serve it; one that is starting is waited for.

    Raises:
        AtollError: it refuses, or is not there in time.
    """
    deadline_s = monotonic() + APPLY_S
    while True:
        try:
            await frames.ask(control, ApplySnapshot(snapshot=snapshot), APPLY_S)
            return
        except OSError as error:
            if monotonic() > deadline_s:
                raise AtollError("a worker does not answer", where=control.name) from error
            await asyncio.sleep(_LOOK_S)


async def _stats(control: Path) -> EdgeStats | None:
    with contextlib.suppress(OSError, AtollError):
        reply = await frames.ask(control, GetEdgeStats(), _STATS_S)
        if isinstance(reply, EdgeStats):
            return reply
    return None
