"""The agent's conversation with its PoP's supervisor about function hosts: which should run, which may go.

A host that is wanted is asked for until it runs. One that no version needs any more, or that was only
prepared, keeps its lease for a while (requests still run in it) and is then stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Final, Never

import msgspec

from atoll.errors import AtollError
from atoll.node.agent_disk import PopDisk
from atoll.wire import frames
from atoll.wire.messages import EnsureHost, GetProcesses, HostReady, Processes, StopHost

START_TIMEOUT_S: Final = 20.0
SUPERVISOR_TIMEOUT_S: Final = 5.0
UNWANTED_LEASE_S: Final = 5.0
PREPARED_LEASE_S: Final = 30.0
RETRY_S: Final = 0.5
LONGEST_RETRY_S: Final = 5.0
RECONNECT_S: Final = 0.1
HOST_PROCESS: Final = "fn:"  # how a supervisor names a host among its processes

_log = logging.getLogger("atoll.agent")


class _Lease(msgspec.Struct, frozen=True):
    """Until when a host runs though nobody wants it, and its bundle (empty when not known)."""

    until_s: float
    bundle: str


class FunctionHosts:
    """Function hosts of one PoP. `ready` maps a host's id to its socket; `tried` had their chance."""

    def __init__(
        self,
        supervisor: Path,
        disk: PopDisk,
        fetch: Callable[[str], Awaitable[bytes]],
        changed: Callable[[], None],
    ) -> None:
        self._path = supervisor
        self._disk = disk
        self._fetch = fetch
        self._changed = changed
        self._peer: frames.Peer | None = None
        self._connected = asyncio.Event()
        self._wanted: dict[str, str] = {}  # id: bundle
        self._leases: dict[str, _Lease] = {}
        self._keeping: dict[str, asyncio.Task[None]] = {}
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._refetched: set[str] = set()  # once is enough: what is wrong then is not the disk
        self._stopping: set[asyncio.Task[None]] = set()
        self.ready: dict[str, str] = {}
        self.tried: set[str] = set()

    def want(self, wanted: Mapping[str, str]) -> None:
        """From now on these hosts (id: bundle) should run."""
        for host in self._wanted.keys() - wanted.keys():
            self._leases[host] = _Lease(monotonic() + UNWANTED_LEASE_S, self._wanted[host])
        self._wanted = dict(wanted)
        for host in wanted:
            if host not in self.ready and host not in self._keeping:
                self._keep(host)

    async def prepare(self, host: str, digest: str) -> None:
        """Have a host run before anybody wants it.

        Raises:
            AtollError: it cannot, in the runtime's words.
        """
        self._leases[host] = _Lease(monotonic() + PREPARED_LEASE_S, digest)
        try:
            await self._start(host, digest)
        except AtollError:
            if host not in self._wanted:
                self._leases[host] = _Lease(monotonic(), digest)
            raise

    async def sweep(self) -> None:
        """Stop hosts whose lease is over; called about once a second, and waits for none of them."""
        now_s = monotonic()
        over = [host for host, lease in self._leases.items() if lease.until_s <= now_s]
        for host in over:
            if host in self._wanted:
                del self._leases[host]
            elif self._peer is not None:
                self._let_go(self._peer, host)

    async def run(self) -> Never:
        """Keep a connection to the supervisor; ask again for all that is wanted when it was away."""
        while True:
            with contextlib.suppress(OSError, AtollError):
                peer = await frames.connect(self._path)
                self._peer = peer
                self._connected.set()
                await self._meet(peer)
                await peer.closed.wait()
            self._peer = None
            self._connected.clear()
            await asyncio.sleep(RECONNECT_S)

    async def _meet(self, peer: frames.Peer) -> None:
        """After a connection: what runs that nobody wants gets a lease, what is wanted is asked for."""
        reply = await peer.call(GetProcesses(), SUPERVISOR_TIMEOUT_S)
        if isinstance(reply, Processes):
            lease = _Lease(monotonic() + UNWANTED_LEASE_S, "")
            for host in _host_ids(reply):
                if host not in self._wanted:
                    self._leases.setdefault(host, lease)
        for host in self._wanted:
            if host not in self._keeping:
                self._keep(host)

    def _keep(self, host: str) -> None:
        task = asyncio.ensure_future(self._until_ready(host))
        self._keeping[host] = task
        task.add_done_callback(lambda _task: self._keeping.pop(host, None))

    async def _until_ready(self, host: str) -> None:
        """Ask for a wanted host until it runs or is not wanted any more."""
        wait_s = RETRY_S
        while (digest := self._wanted.get(host)) is not None:
            try:
                await self._start(host, digest)
                return
            except AtollError as error:
                _log.warning("%s does not start: %s", host, error)
            if host not in self.tried:
                self.tried.add(host)
                self._changed()
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_RETRY_S)

    async def _start(self, host: str, digest: str) -> None:
        await self._have_bundle(digest)
        try:
            await self._ensure(host, digest)
        except AtollError:
            if not await self._repaired(digest):
                raise
            await self._ensure(host, digest)

    async def _ensure(self, host: str, digest: str) -> None:
        peer = await self._supervisor()
        order = EnsureHost(id=host, bundle_dir=str(self._disk.bundle_dir(digest)))
        reply = await peer.call(order, START_TIMEOUT_S)
        if not isinstance(reply, HostReady):
            raise AtollError(f"the supervisor answered {type(reply).__name__}", where=host)
        self.tried.add(host)
        if self.ready.get(host) != reply.socket:
            self.ready[host] = reply.socket
            self._changed()

    async def _have_bundle(self, digest: str) -> None:
        """The bundle on disk, fetched once however many ask."""
        if self._disk.has_bundle(digest):
            return
        await self._fetch_once(digest)

    async def _fetch_once(self, digest: str) -> None:
        task = self._fetching.get(digest)
        if task is None:
            task = asyncio.ensure_future(self._fetch_bundle(digest))
            self._fetching[digest] = task
            task.add_done_callback(lambda _task: self._fetching.pop(digest, None))
        await asyncio.shield(task)

    async def _fetch_bundle(self, digest: str) -> None:
        data = await self._fetch(digest)
        await asyncio.to_thread(self._disk.save_bundle, digest, data)

    async def _repaired(self, digest: str) -> bool:
        """Whether the bundle of a host that does not start was damaged on disk, and now is whole."""
        if digest in self._refetched or not await asyncio.to_thread(self._disk.is_damaged, digest):
            return False
        _log.error("bundle %s is damaged on disk: it is fetched again", digest)
        try:
            await self._fetch_once(digest)
        except AtollError as error:
            _log.error("bundle %s cannot be fetched: %s", digest, error)
            return False
        self._refetched.add(digest)
        return True

    async def _supervisor(self) -> frames.Peer:
        try:
            async with asyncio.timeout(SUPERVISOR_TIMEOUT_S):
                await self._connected.wait()
        except TimeoutError:
            raise AtollError("the PoP's supervisor does not answer", where=str(self._path)) from None
        assert self._peer is not None
        return self._peer

    def _let_go(self, peer: frames.Peer, host: str) -> None:
        """Forget a host, then have it stopped: who wants it from now on asks for it anew."""
        lease = self._leases.pop(host)
        self.ready.pop(host, None)
        self.tried.discard(host)
        task = asyncio.ensure_future(self._stop(peer, host, lease))
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def _stop(self, peer: frames.Peer, host: str, lease: _Lease) -> None:
        try:
            await peer.call(StopHost(id=host), SUPERVISOR_TIMEOUT_S)
        except AtollError as error:
            _log.warning("%s is not stopped, and is told to again: %s", host, error)
            self._leases.setdefault(host, lease)
        self._forget_bundles()

    def _forget_bundles(self) -> None:
        leased = {lease.bundle for lease in self._leases.values()}
        self._disk.forget_bundles(leased.union(self._wanted.values(), self._fetching))


def _host_ids(reply: Processes) -> list[str]:
    names = [process.name for process in reply.processes]
    return [name.removeprefix(HOST_PROCESS) for name in names if name.startswith(HOST_PROCESS)]
