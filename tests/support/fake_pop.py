"""A PoP's other roles for an agent under test: a supervisor of hosts that never run, and edge workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from atoll.config.spec import PopSpec, Snapshot
from atoll.errors import AtollError
from atoll.wire import frames
from atoll.wire.messages import (
    ApplySnapshot,
    EdgeStats,
    EnsureHost,
    GetEdgeStats,
    GetProcesses,
    HostReady,
    Message,
    Ok,
    Processes,
    ProcessInfo,
    StopHost,
)

WAIT_S = 10.0


class Role:
    """Something that serves frames on a path, and can be away."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.AbstractServer | None = None
        self._peers: set[frames.Peer] = set()
        self._news = asyncio.Condition()

    async def start(self) -> None:
        """Listen."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._server = await frames.serve(self._path, self._handle)

    async def stop(self) -> None:
        """Be gone, with every connection."""
        if self._server is not None:
            self._server.close()
        for peer in self._peers:
            peer.close()
        self._peers.clear()
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is looked at after every message."""
        async with asyncio.timeout(WAIT_S), self._news:
            await self._news.wait_for(condition)

    async def _handle(self, peer: frames.Peer, message: Message) -> Message | None:
        self._peers.add(peer)
        try:
            return await self.answer(message)
        finally:
            async with self._news:
                self._news.notify_all()

    async def answer(self, message: Message) -> Message | None:
        """What this role answers."""
        raise NotImplementedError


class FakeSupervisor(Role):
    """Says that hosts run. `refused` maps a host's id to why it does not."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.running: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.stop_asked = asyncio.Event()
        self.stopped: list[str] = []
        self.may_stop = asyncio.Event()  # until then a host that was told to stop goes on
        self.may_stop.set()
        self.orders: list[EnsureHost] = []
        self.generation = 0

    async def answer(self, message: Message) -> Message | None:
        """See `Role`."""
        if isinstance(message, EnsureHost):
            self.orders.append(message)
            if message.id in self.refused:
                raise AtollError(self.refused[message.id], where="index.js:1")
            if not (Path(message.bundle_dir) / "index.js").read_bytes():
                raise AtollError("No event handlers were registered. This script does nothing.")
            self.running[message.id] = f"/fn/{self.generation}/{message.id}"
            return HostReady(id=message.id, socket=self.running[message.id], pid=1, start_ms=1.0)
        if isinstance(message, StopHost):
            self.stop_asked.set()
            await self.may_stop.wait()
            self.stopped.append(message.id)
            self.running.pop(message.id, None)
            return Ok()
        if isinstance(message, GetProcesses):
            hosts = [ProcessInfo(name=f"fn:{host}", pid=1, state="ready") for host in self.running]
            return Processes(processes=tuple(hosts))
        return None


class FakeEdge(Role):
    """Serves snapshots, remembers them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.snapshots: list[Snapshot] = []

    @property
    def latest(self) -> Snapshot:
        """What it serves."""
        return self.snapshots[-1]

    def versions(self) -> dict[str, str]:
        """Function to version, as it serves them."""
        return {f.name: f.version for f in self.latest.functions} if self.snapshots else {}

    async def answer(self, message: Message) -> Message | None:
        """See `Role`."""
        if isinstance(message, ApplySnapshot):
            self.snapshots.append(message.snapshot)
            return Ok(seq=message.snapshot.seq)
        if isinstance(message, GetEdgeStats):
            return EdgeStats(
                seq=self.latest.seq if self.snapshots else 0, requests=7, hits=5, misses=2, stale=0, bypass=0,
                errors=0, connections=1, cache_bytes=0, cache_objects=0,
            )  # fmt: skip
        return None


class FakePop:
    """The roles of one PoP."""

    def __init__(self, pop: PopSpec, run: Path) -> None:
        self.supervisor = FakeSupervisor(run / "supervisor.sock")
        self.edges = [FakeEdge(run / f"edge-{index}.sock") for index in range(pop.workers)]

    async def start(self) -> None:
        """Start all."""
        for role in (self.supervisor, *self.edges):
            await role.start()

    async def stop(self) -> None:
        """Stop all."""
        for role in (self.supervisor, *self.edges):
            await role.stop()

    async def serves(self, name: str, version: str) -> None:
        """Wait until every edge worker serves `version` of a function."""
        for edge in self.edges:
            await edge.until(lambda edge=edge: edge.versions().get(name) == version)  # type: ignore[misc]
