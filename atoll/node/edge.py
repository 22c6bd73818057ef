"""An edge worker: `python -m atoll.node.edge`, started by a PoP's supervisor.

It starts from the snapshot on disk, needs nobody to serve, and takes new snapshots over its own socket. One
that takes another's place accepts nothing before its functions answer; the other then leaves in no hurry.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Final

import msgspec
import uvloop

from atoll.cache.disk import DiskStore
from atoll.cache.levels import Levels
from atoll.cache.purge import PurgeLog
from atoll.cache.store import Store
from atoll.config.paths import PURGES
from atoll.config.purge import Selector
from atoll.config.spec import Snapshot
from atoll.edge.clock import Clock
from atoll.edge.door import Door, policies
from atoll.edge.log import AccessLog
from atoll.edge.pipeline import Edge
from atoll.edge.tier import Tier
from atoll.errors import AtollError, RemoteError
from atoll.http.accept import Listener
from atoll.http.certificates import Certificates
from atoll.http.tls import CertificateStore
from atoll.node.edge_leave import Control, until_left
from atoll.node.gc_time import GcTime
from atoll.node.leaving import LEAVE
from atoll.node.policy_file import read_secret
from atoll.node.purge_door import PurgeDoor
from atoll.node.role import RoleConfig, inherited_sockets, notify_ready, predecessor, read_role
from atoll.node.warm import until_warm
from atoll.wire import frames
from atoll.wire.messages import (
    ApplySnapshot,
    DrainEdge,
    EdgeStats,
    GetEdgeStats,
    Message,
    Ok,
    PurgeRequest,
    PurgeState,
    PurgeUpdate,
)

CACHE_BYTES: Final = 256 * 1024 * 1024
H3_CACHE_BYTES: Final = 64 * 1024 * 1024  # beside the machine's own, which it shares with the others
DISK_BYTES: Final = 1024 * 1024 * 1024
SWEEP_BUDGET_MS: Final = 2.0
PURGE_TIMEOUT_S: Final = 10.0
_SWEEP_S: Final = 2.0
_GRACE_S: Final = 5.0
_QUIET_S: Final = 0.5  # a draining worker waits so long for the next request on an open connection


if TYPE_CHECKING:
    from atoll.http.quic_endpoint import QuicEndpoint


class Worker:
    """One edge worker: its listeners, its edge, its control socket."""

    _leased = True  # the agent says until when all purges are known

    def __init__(self, config: RoleConfig, snapshot: Snapshot) -> None:
        assert config.pop is not None
        self._config = config
        self._pop = config.pop
        paths = config.paths
        paths.logs.mkdir(parents=True, exist_ok=True)
        clock = Clock()
        self.log = self._open_log(clock)
        usual = CACHE_BYTES if config.index < self._pop.workers else H3_CACHE_BYTES
        capacity = int(config.options.get("cache_bytes", usual))
        tier = Tier(config.index, lambda pop, index: str(paths.pop_run(pop) / f"tier-{index}.sock"))
        self.disk = self._open_disk()
        memory = Store(capacity, log=self.disk.log if self.disk is not None else None)
        store = Levels(memory, self.disk) if self.disk is not None else memory
        self.edge = Edge(snapshot, self.log, store, clock, tier)
        self.edge.announcer.announce = self._announce
        if self._leased:
            self.edge.lease.renew(0.0)  # what is on the disk may be older than purges that were missed
        self.listeners: list[Listener | QuicEndpoint] = []  # for users
        self.inner: list[Listener] = []  # for function hosts and other workers' caches
        self._tier_app = self.edge.tier_app()
        control = paths.pop_run(self._pop.code) / f"edge-{config.index}.sock"
        self._control = Control(control, self._answer)
        self.certificates: CertificateStore | None = None
        self._files: Certificates | None = None
        self._stopped = asyncio.Event()
        self._gc = GcTime()

    def _open_log(self, clock: Clock) -> AccessLog:
        return AccessLog(self._config.paths.logs / f"{self._pop.code}-access.log", clock)

    def _open_disk(self) -> DiskStore | None:
        """The machine's cache, with the purges it has applied; None: memory is all there is."""
        folder = self._config.paths.pop_data(self._pop.code) / "cache"
        disk = DiskStore(folder, int(self._config.options.get("disk_bytes", DISK_BYTES)), PurgeLog())
        disk.load_purges()
        return disk

    def listen(self, sockets: Mapping[str, socket.socket]) -> None:
        """Take over the sockets the supervisor holds."""
        for name, sock in sockets.items():
            self._listen(name.partition(".")[0], sock)  # there may be an `https.1`

    def _listen(self, kind: str, sock: socket.socket) -> None:
        h3_port = self._pop.https_port if self._pop.http3 else 0
        match kind:
            case "http":
                self.listeners.append(Listener(self._door(h3_port), sock, guard=self.edge.guard))
            case "https":
                tls = self._certificates()
                self.listeners.append(Listener(self._door(h3_port), sock, tls, guard=self.edge.guard))
            case "quic":
                from atoll.node.edge_h3 import h3_endpoint  # QUIC takes a while to load: others do without

                endpoint, self._files = h3_endpoint(self._door(0), sock, self._config)
                self.listeners.append(endpoint)
            case "tier":
                self.inner.append(Listener(self._tier_app, sock, trusted=True))
            case "bindings":
                self.inner.append(Listener(self.edge.bindings, sock, trusted=True))

    def _certificates(self) -> CertificateStore:
        if self.certificates is None:
            paths = self._config.paths
            self.certificates = CertificateStore(paths.ca / "leaf", "localhost", paths.certificates)
            self.certificates.apply(policies(self.edge.table))
            self._files = self.certificates.certificates
        return self.certificates

    def _door(self, h3_port: int) -> Door:
        paths = self._config.paths
        return PurgeDoor(
            self.edge, paths.acme / "challenges", h3_port, lambda: read_secret(paths.token), self._purge
        )

    def _purges_socket(self) -> Path:
        """Where purges are carried out."""
        return self._config.paths.pop_run(self._pop.code) / PURGES

    async def _purge(self, selectors: Sequence[Selector]) -> PurgeState:
        request = PurgeRequest(selectors=tuple(selectors))
        try:
            reply = await frames.ask(self._purges_socket(), request, PURGE_TIMEOUT_S)
        except (OSError, AtollError) as error:
            raise RemoteError(f"the purge was not carried out: {error}", 503, "ask again") from error
        assert isinstance(reply, PurgeState), "a purge is answered with its number"
        return reply

    async def _announce(self, selectors: tuple[Selector, ...]) -> None:
        await self._purge(selectors)

    async def _answer(self, _peer: frames.Peer, message: Message) -> Message | None:
        if isinstance(message, ApplySnapshot):
            if message.anew or message.snapshot.seq >= self.edge.snapshot.seq:
                self.edge.apply(message.snapshot)
                if self.certificates is not None:
                    self.certificates.apply(policies(self.edge.table))
            return Ok(seq=self.edge.snapshot.seq)
        if isinstance(message, PurgeUpdate):
            return PurgeState(applied=self.edge.purge(message))
        if isinstance(message, GetEdgeStats):
            return self._stats()
        if isinstance(message, DrainEdge):
            await self.drain(message.grace_s)
            self._stopped.set()
            return Ok()
        return None

    def _stats(self) -> EdgeStats:
        everybody = (*self.listeners, *self.inner)
        stats = self.edge.stats(sum(len(listener.connections) for listener in everybody))
        counts = [listener.handshakes for listener in self.listeners]
        faults = self._files.faults if self._files is not None else {}
        return msgspec.structs.replace(
            stats,
            handshakes=sum(count.done for count in counts),
            handshakes_resumed=sum(count.resumed for count in counts),
            handshakes_failed=sum(count.failed for count in counts),
            handshakes_timed_out=sum(count.timed_out for count in counts),
            certificate_faults=dict(faults),
            gc_runs=self._gc.runs,
            gc_s=self._gc.total_s,
            gc_longest_s=self._gc.longest_s,
        )

    async def drain(self, grace_s: float) -> None:
        """Accept no more, answer what comes with `Connection: close`, leave when all is quiet.

        A connection kept open for a request that never comes, a browser's or a function host's, holds up
        nobody.
        """
        self.edge.drain()
        everybody = (*self.listeners, *self.inner)
        for listener in everybody:
            listener.close()
            listener.check_timeouts()  # whoever speaks HTTP/2 hears of it at once
        began_s = monotonic()
        while (waited_s := monotonic() - began_s) < grace_s:
            arriving = waited_s < _QUIET_S and any(listener.arriving for listener in everybody)
            if not arriving and not any(listener.connections for listener in everybody):
                return
            for listener in everybody:
                listener.close_idle(time(), _QUIET_S)
            await asyncio.sleep(0.02)

    async def leave(self) -> None:
        """A successor serves: accept no more, and end what has been begun, however long that takes."""
        self.edge.drain()
        self.edge.bindings.draining = self._tier_app.draining = True
        await self._control.move(os.getpid())
        await until_left(self.listeners, self.inner)

    async def run(self) -> None:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        self._heed_signals()
        self.edge.fit = False
        warming = loop.create_task(self._warm_up())
        if predecessor(os.environ):
            await warming  # meanwhile it serves
            self._catch_up()
        await self._control.open()
        self.listen(inherited_sockets(os.environ))
        gc.collect()
        gc.freeze()
        self._gc.start()
        notify_ready()
        sweeper = loop.create_task(self._sweep())
        await self._stopped.wait()
        sweeper.cancel()
        warming.cancel()
        self._close()

    def _close(self) -> None:
        self._control.close()
        for listener in self.listeners:
            if not isinstance(listener, Listener):
                listener.end()
        self.log.close()
        if self.disk is not None:
            self.disk.close()

    async def _warm_up(self) -> None:
        await until_warm(runtime.socket for runtime in self.edge.snapshot.functions)
        self.edge.fit = True

    def _heed_signals(self) -> None:
        """Stop, or leave; one that leaves may still be told to stop."""
        loop = asyncio.get_running_loop()
        ending: dict[str, asyncio.Task[None]] = {}

        def leave() -> None:
            if not ending:
                ending["leaving"] = loop.create_task(self._end(self.leave()))

        def stop() -> None:
            if "stopping" not in ending:
                ending["stopping"] = loop.create_task(self._end(self.drain(_GRACE_S)))

        loop.add_signal_handler(LEAVE, leave)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)

    async def _end(self, parting: Coroutine[None, None, None]) -> None:
        await parting
        self._stopped.set()

    def _catch_up(self) -> None:
        """With what the predecessor has been told while this one came up."""
        latest = load_snapshot(snapshot_file(self._config))
        if latest.seq > self.edge.snapshot.seq:
            self.edge.apply(latest)
        if self.disk is not None:
            self.disk.load_purges()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            for listener in (*self.listeners, *self.inner):
                listener.check_timeouts()
            if self.disk is not None:
                self.disk.sweep(SWEEP_BUDGET_MS)


def snapshot_file(config: RoleConfig) -> Path:
    """Where the agent leaves what the PoP's workers serve."""
    assert config.pop is not None
    return config.paths.pop_data(config.pop.code) / "snapshot.msgpack"


def load_snapshot(path: Path) -> Snapshot:
    """The snapshot an agent has left on disk.

    Raises:
        AtollError: there is none, or it is not readable.
    """
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Snapshot)
    except OSError as error:
        raise AtollError(f"no snapshot to start from: {error.strerror}", where=str(path)) from error
    except msgspec.MsgspecError as error:
        raise AtollError(f"not a snapshot: {error}", where=str(path)) from error


async def wait_for_snapshot(path: Path) -> Snapshot:
    """The snapshot, as soon as the agent has written the first one."""
    while True:
        with contextlib.suppress(AtollError):
            return load_snapshot(path)
        await asyncio.sleep(0.02)


async def serve(config: RoleConfig) -> None:
    """The role."""
    snapshot = await wait_for_snapshot(snapshot_file(config))
    await Worker(config, snapshot).run()


def main() -> None:
    """Entry point."""
    try:
        config = read_role(os.environ)
    except AtollError as error:
        sys.exit(str(error))
    gc.set_threshold(5_000, 50, 100)
    uvloop.run(serve(config))


if __name__ == "__main__":
    main()
